"""Ops that exist only in plans: scans inside a step as loops, and products in groups or added to a value, for sums.
Equal scans that do not depend on each other are lanes of one loop. Lanes of a value are its last axis, so that the
elementwise ops of all lanes are ops on vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from lstmc import ops
from lstmc.errors import ShapeError
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, topological_order
from lstmc.loops.index import Shape, counter
from lstmc.loops.loop_code import Values
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Arrays, Linear, Op
from lstmc.ops.base import Types
from lstmc.passes.base import Refs, rewrite
from lstmc.prepare import StatePair
from lstmc.types import TensorType

WIDTH = 16  # floats of a vector; the lanes of a loop are a part of them
# ops that stay as they are if their operands have one more axis, the last, for the lanes
ANY_LANES: tuple[type[Op], ...] = (
    *(ops.Pointwise, ops.Binary, ops.Split, ops.Concat, ops.Transpose, ops.Sum, ops.Max, ops.Softmax),
    *(ops.Tile, ops.StopGradient),
)


class Written(Op):
    """An op that exists only in plans, and is never evaluated."""

    def eval(self, *args: Array) -> Arrays:
        raise NotImplementedError

    def vjp(self, cts: Arrays, outs: Arrays, *args: Array) -> tuple[Array | None, ...]:
        raise NotImplementedError

    @classmethod
    def sample(cls, draw: ops.Draw) -> ops.Sample:
        raise NotImplementedError


@dataclass(frozen=True)
class LaneProduct(Written):
    """A product for each lane: y[o, l] = sum of w[o lanes + l, i] x[i, l], i over the axes ``axis`` to -2 of x."""

    name = "linear"
    operands = ("x", "w", "b")
    axis: int = 1

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        outs = w.shape[0] // x.shape[-1]
        if not self.axis < x.rank or prod(x.shape[self.axis : -1]) != w.shape[1]:
            raise ShapeError(f"linear: x is {x}, w is {w}")
        return (TensorType((*x.shape[: self.axis], outs, x.shape[-1]), x.dtype),)


@dataclass(frozen=True, eq=False)
class Turns(Written):
    """A loop inside a step: its result has the results of ``length`` iterations of ``body``, one after another. The
    first operands are the body's inputs, the others its parameters. ``sequences`` maps inputs and outputs of each
    iteration to whether they run backwards; ``states`` pairs inputs with the outputs that they take."""

    name = "scan"
    operands = ("*args",)
    __eq__, __hash__ = object.__eq__, object.__hash__
    body: Graph
    length: int
    sequences: Mapping[tuple[str, str], bool]
    states: tuple[StatePair, ...]

    @property
    def leaves(self) -> list[Node]:
        """The nodes of the body that represent the operands."""
        leaves = [node for node in self.body if isinstance(node.op, ops.Input | ops.Param)]
        return sorted(leaves, key=lambda node: isinstance(node.op, ops.Param))

    def sizes(self) -> list[int]:
        """Return how many elements each output of the body has in the result."""
        outputs = self.body.outputs
        times = [self.length if ("output", o.name) in self.sequences else 1 for o in outputs]
        return [self.body.type(o.ref).size * count for o, count in zip(outputs, times, strict=True)]

    def infer(self, *args: TensorType) -> Types:
        return (TensorType((sum(self.sizes()),)),)


def with_turns(graph: Graph) -> Graph:
    """Return a step in which scans are loops. Several scans with equal bodies become lanes of one loop."""
    fixed = constants(graph)
    found = [loop for scans in _equal_scans(graph, fixed) for loop in _joined(graph, scans, fixed)]
    first = {node.name: loop.nodes[0].name for loop in found for node in loop.nodes}
    before: dict[str, list[str]] = {}
    for node in graph:
        needed = [first.get(ref.node, ref.node) for ref in graph.args(node.name)]
        before.setdefault(first.get(node.name, node.name), []).extend(needed)
    rebuild, loops = Rebuild(graph), {loop.nodes[0].name: loop for loop in found}
    for name in topological_order(before) if found else before:
        if name in loops:
            loops[name].put(rebuild)
        else:
            rebuild.copy(graph.node(name))
    return rebuild.finish()


def _equal_scans(graph: Graph, fixed: frozenset[str]) -> list[list[Node]]:
    """Return the scans in groups: scans with the same body that do not depend on each other."""
    level: dict[str, int] = {}  # how many scans are one after the other up to a node
    groups: dict[object, list[Node]] = {}
    for node in graph:
        at = max((level[ref.node] for ref in graph.args(node.name)), default=0)
        level[node.name] = at + isinstance(node.op, Scan)
        if isinstance(node.op, Scan) and node.name not in fixed:
            groups.setdefault((at, *_form(node.op)), []).append(node)
    return [*groups.values()]


def _form(scan: Scan) -> tuple[object, ...]:
    """Return a key that is equal for scans that can be lanes of one loop; its own if a state fills a vector."""
    body = scan.body
    if any(body.type(output.ref).size >= WIDTH for output in scan.next_states):
        return (id(scan),)
    position = {node.name: at for at, node in enumerate(body)}
    nodes = [(n.op, n.types, [(position[r.node], r.out) for r in body.args(n.name)]) for n in body]
    return scan.length, repr(nodes), repr([(position[o.ref.node], o.ref.out) for o in body.outputs])


def _joined(graph: Graph, scans: list[Node], fixed: frozenset[str]) -> Iterator[_Loop]:
    """Yield loops of scans with equal bodies: a power of two of them as lanes, or each alone if an op has no lanes."""
    while scans:
        lanes = min(WIDTH, 1 << (len(scans).bit_length() - 1))
        try:
            loop = _Loop(graph, scans[:lanes], fixed)
        except ShapeError:
            lanes, loop = 1, _Loop(graph, scans[:1], fixed)
        yield loop
        scans = scans[lanes:]


@dataclass
class _Leaf:
    """A leaf of a loop's body, and the value ``ref`` of the scan's body for which it stands: in one ``lane``, in all
    lanes (None), or, if ``is_matrix``, the matrices of all lanes as one matrix."""

    name: str
    ref: Ref
    lane: int | None = None
    is_matrix: bool = False


class _Loop:
    """The loop of one scan, or of scans with equal bodies as its lanes. The first scan's body stands for all bodies."""

    def __init__(self, graph: Graph, nodes: Sequence[Node], fixed: frozenset[str]) -> None:
        self.graph, self.nodes, self.lanes = graph, nodes, len(nodes)
        self.scans = [node.op for node in nodes if isinstance(node.op, Scan)]
        self.scan, self.body = self.scans[0], self.scans[0].body
        self.slots = {arg.name: slot for slot, arg in enumerate(self.body.body_args())}  # the scans' operands
        self.b, self.new = Builder(self.body.name), dict[Ref, Ref]()  # the loop's body, its values by the scan's
        self.leaves: list[_Leaf] = []
        self.sequences: dict[tuple[str, str], bool] = {}  # as in Turns
        self.read = set(graph.readers()) | {output.ref for output in graph.outputs}  # values of the graph
        self.fixed = self._fixed(fixed)  # nodes of the scan's body
        self._constants: dict[tuple[Ref, bool], Ref] = {}  # leaves by fixed value, and whether it is a matrix
        for node in self.body:
            if node.name not in self.fixed:
                self._add(node)
        self.outputs: list[tuple[int | None, int, Output]] = []  # the lane, the result, and what it is called
        self._finish()

    def _fixed(self, outside: frozenset[str]) -> set[str]:
        """Return the body's nodes that are known before the loop and equal in each iteration, in every lane."""
        fixed = set[str]()
        for node in self.body:
            is_fixed = all(ref.node in fixed for ref in self.body.args(node.name))
            if isinstance(node.op, ops.Arg):
                slot = self.slots[node.name]
                known = all(self.graph.args(each.name)[slot].node in outside for each in self.nodes)
                is_fixed = known and self.scan.role(slot) not in ("x", "state")
            fixed |= {node.name} if is_fixed else set()
        return fixed

    def _wide(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.lanes == 1 else (*shape, self.lanes)

    def _leaf(self, op: Op, name: str, ref: Ref, lane: int | None = None, is_matrix: bool = False) -> Ref:
        (leaf,) = self.b.add(op, names=(name,))
        self.leaves.append(_Leaf(leaf.node, ref, lane, is_matrix))
        return leaf

    def _add(self, node: Node) -> None:
        """Add a node that differs between iterations to the body. Raises ShapeError if its op cannot have lanes."""
        if isinstance(node.op, ops.Arg):
            self.new[Ref(node.name)] = self._argument(node, node.op)
            return
        op, args = node.op, self.body.args(node.name)
        product = self.lanes > 1 and isinstance(op, Linear)
        operands = [self._value(ref, op, slot, product and slot == 1) for slot, ref in enumerate(args)]
        if product and isinstance(op, Linear):
            if args[1].node not in self.fixed:
                raise ShapeError("a product of two values has no lanes")
            op = LaneProduct(op.axis)
        elif self.lanes > 1 and isinstance(op, ops.Reshape):
            op = ops.Reshape(self._wide(op.shape))
        elif self.lanes > 1 and not isinstance(op, ANY_LANES):
            raise ShapeError(f"{op.name} has no lanes")
        refs = self.b.add(op, *operands, names=node.names, loc=node.loc)
        if [self.b.type(ref).shape for ref in refs] != [self._wide(type_.shape) for type_ in node.types]:
            raise ShapeError(f"{op.name} has other axes with lanes")
        self.new.update((Ref(node.name, out), ref) for out, ref in enumerate(refs))

    def _argument(self, arg: Node, op: ops.Arg) -> Ref:
        """Return a body's argument in the loop. A sequence has an input for each lane, joined along their axis."""
        if op.role != "x":
            return self._leaf(ops.Input(self._wide(op.shape)), arg.name, Ref(arg.name))
        lanes = [self._leaf(ops.Input(op.shape), arg.name, Ref(arg.name), lane) for lane in range(self.lanes)]
        self.sequences |= {("input", leaf.node): scan.reverse for leaf, scan in zip(lanes, self.scans, strict=True)}
        return _side_by_side(self.b, lanes)

    def _value(self, ref: Ref, op: Op, slot: int, is_matrix: bool) -> Ref:
        """Return a value as operand ``slot`` of an op in the loop. A fixed value becomes a number or a leaf."""
        if ref.node not in self.fixed:
            return self.new[ref]
        number = self._number(ref, self.nodes)
        if number is not None and not (slot and isinstance(op, Linear | ops.Conv | ops.Embed)):
            return self.b.add(ops.Full(self._wide(self.body.type(ref).shape), number))[0]
        key = ref, is_matrix
        if key not in self._constants:
            shape = self.body.type(ref).shape
            shape = (shape[0] * self.lanes, *shape[1:]) if is_matrix else self._wide(shape)
            name = self.body.value_name(ref)
            self._constants[key] = self._leaf(ops.Param(shape), name, ref, is_matrix=is_matrix)
        return self._constants[key]

    def _finish(self) -> None:
        """End the body with an output for each result and lane that something reads, and with the next states."""
        count = len(self.scan.step_outputs)
        for out, output in enumerate(self.scan.step_outputs):
            for lane, ref in enumerate(self._of_lanes(output.ref)):
                if Ref(self.nodes[lane].name, out) in self.read:
                    name = f"output_{out}_{lane}"
                    self.outputs.append((lane, out, Output(name, ref)))
                    self.sequences["output", name] = self.scans[lane].reverse
        pairs = []
        names = [arg.name for slot, arg in enumerate(self.body.body_args()) if self.scan.role(slot) == "state"]
        for at, (name, output) in enumerate(zip(names, self.scan.next_states, strict=True)):
            leaf = self.new[Ref(name)].node
            after = self._value(output.ref, ops.StopGradient(), 0, False)
            self.outputs.append((None, count + at, Output(f"next_{at}", after)))
            pairs.append(StatePair(leaf, leaf, f"next_{at}", 0.0))
        self.op = Turns(
            self.b.finish([output for _, _, output in self.outputs]), self.scan.length, self.sequences, tuple(pairs)
        )

    def _of_lanes(self, ref: Ref) -> Refs:
        """Return a value for each lane. A fixed value becomes a number, or a leaf of the new body."""
        shape, name = self.body.type(ref).shape, self.body.value_name(ref)
        if ref.node not in self.fixed:
            return _one_by_one(self.b, self.new[ref], self.lanes, shape)
        numbers = [self._number(ref, [node]) for node in self.nodes]
        return tuple(
            self._leaf(ops.Param(shape), name, ref, lane) if number is None else self.b.add(ops.Full(shape, number))[0]
            for lane, number in enumerate(numbers)
        )

    def _number(self, ref: Ref, nodes: Sequence[Node]) -> float | None:
        """Return the number that fills a value of the body in all of these scans, or None if there is none."""
        inside = self.body.node(ref.node)
        if not isinstance(inside.op, ops.Arg):
            return _same_number([inside.op])
        outer = [self.graph.args(node.name)[self.slots[inside.name]] for node in nodes]
        return _same_number([self.graph.node(each.node).op for each in outer])

    def put(self, rebuild: Rebuild) -> None:
        """Add the loop to a graph that is being rebuilt, and a Split of its only result into the scans' results."""
        b, known = rebuild.builder, dict[tuple[int, Ref], Ref]()
        leaves, node = {leaf.name: leaf for leaf in self.leaves}, self.nodes[0]
        operands = [self._operand(rebuild, leaves[each.name], known) for each in self.op.leaves]
        (whole,) = b.add(self.op, *operands, names=(f"{self.body.name}/loop",), loc=node.loc)
        parts = b.add(ops.Split(0, tuple(self.op.sizes())), whole)
        for part, (lane, out, _) in zip(parts, self.outputs, strict=True):
            type_ = node.types[out]
            if lane is not None:
                rebuild.new[Ref(self.nodes[lane].name, out)] = self._named(b, part, self.nodes[lane], out, type_.shape)
                continue
            (joined,) = b.add(ops.Reshape(self._wide(type_.shape)), part)
            for each, ref in zip(self.nodes, _one_by_one(b, joined, self.lanes, type_.shape), strict=True):
                rebuild.new[Ref(each.name, out)] = self._named(b, ref, each, out, type_.shape)

    @staticmethod
    def _named(b: Builder, ref: Ref, node: Node, out: int, shape: tuple[int, ...]) -> Ref:
        return b.add(ops.Reshape(shape), ref, names=(node.names[out],), loc=node.loc)[0]

    def _operand(self, rebuild: Rebuild, leaf: _Leaf, known: dict[tuple[int, Ref], Ref]) -> Ref:
        """Return the outer value of a leaf. Several lanes are joined: matrices row by row, others along a last axis."""
        lanes = range(self.lanes) if leaf.lane is None else (leaf.lane,)
        values = [self._outside(rebuild, lane, leaf.ref, known) for lane in lanes]
        if not leaf.is_matrix:
            return _side_by_side(rebuild.builder, values)
        b = rebuild.builder
        outs, ins = self.body.type(leaf.ref).shape
        rows = [b.add(ops.Reshape((outs, 1, ins)), value)[0] for value in values]
        (all_,) = b.add(ops.Concat(1), *rows)
        return b.add(ops.Reshape((outs * self.lanes, ins)), all_, names=(f"{self.body.name}/{leaf.name}",))[0]

    def _outside(self, rebuild: Rebuild, lane: int, ref: Ref, known: dict[tuple[int, Ref], Ref]) -> Ref:
        """Return a lane's value known before the loop: an operand of the scan, or (``known``) computed from some."""
        body, outer = self.scans[lane].body, self.nodes[lane]
        inner = [*body][[each.name for each in self.body].index(ref.node)]
        if isinstance(inner.op, ops.Arg):
            return rebuild.new[self.graph.args(outer.name)[body.arguments().index(inner.name)]]
        key = lane, Ref(ref.node)
        if key not in known:
            args = [self._outside(rebuild, lane, arg, known) for arg in self.body.args(ref.node)]
            names = [f"{body.name}/{name}" for name in inner.names]
            known[key] = rebuild.builder.add(inner.op, *args, names=names, loc=inner.loc)[0]
        return Ref(known[key].node, ref.out)


def _same_number(values: Sequence[Op]) -> float | None:
    numbers = {op.value if isinstance(op, ops.Full) else None for op in values}
    return numbers.pop() if len(numbers) == 1 else None


def _side_by_side(b: Builder, lanes: Sequence[Ref]) -> Ref:
    """Return values, one for each lane, joined along a new last axis. Equal constants become one constant."""
    if len(lanes) == 1:
        return lanes[0]
    shape = b.type(lanes[0]).shape
    number = _same_number([b.node(ref.node).op for ref in lanes])
    if number is not None:
        return b.add(ops.Full((*shape, len(lanes)), number))[0]
    return b.add(ops.Concat(len(shape)), *[b.add(ops.Reshape((*shape, 1)), ref)[0] for ref in lanes])[0]


def _one_by_one(b: Builder, whole: Ref, lanes: int, shape: tuple[int, ...]) -> Refs:
    """Return the value of each lane, in ``shape``, from the value of all lanes."""
    if lanes == 1:
        return (whole,)
    parts = b.add(ops.Split(len(shape), (1,) * lanes), whole)
    return tuple(b.add(ops.Reshape(shape), part)[0] for part in parts)


MOVES: tuple[type[Op], ...] = (*(op for op in ops.CORE if op.moves), ops.Dropout, ops.Precomputed, ops.StopGradient)


@dataclass(frozen=True)
class Accumulated(Linear):
    """A product that is added to its operand ``b``, which has the shape of the result."""

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        return super().infer(x, w)


def accumulated(graph: Graph) -> Graph:
    """linear(x, W) + y => a product whose sums start from y, for a constant W, if only the sum reads linear(x, W)."""
    fixed, values, readers = constants(graph), Values(graph, {}, MOVES), graph.readers()

    def read_once(ref: Ref) -> bool:
        while readers[ref] == 1 and values.moves(graph.node(ref.node)):
            (ref,) = graph.args(ref.node)
        return readers[ref] == 1

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return the results of a sum as one op with its product. Return None for any other node."""
        if not isinstance(node.op, ops.Add):
            return None
        whole = counter(node.types[0].size)
        refs = graph.args(node.name)
        for ref, other, added in zip(refs, refs[::-1], args[::-1], strict=True):
            base, index = values.origin(ref)
            product = graph.node(base.node)
            operands = graph.args(product.name)
            same = graph.type(ref) == graph.type(other) == node.types[0]
            same = same and index == whole and graph.type(base).size == node.types[0].size
            unfit = product.name in fixed or len(operands) != 2 or operands[1].node not in fixed
            if not same or unfit or type(product.op) is not Linear:
                continue
            if other.node in fixed or values.origin(other)[0] == base or not read_once(ref):
                continue  # a constant is a bias, which is rounded like weights
            op = Accumulated(product.op.axis)
            if product.types == node.types:
                return b.add(op, *b.args(product.name), added, names=node.names, loc=product.loc)
            (added,) = b.add(ops.Reshape(product.types[0].shape), added)
            sums = b.add(op, *b.args(product.name), added, names=(f"{product.name}/sum",), loc=product.loc)
            return b.add(ops.Reshape(node.types[0].shape), *sums, names=node.names, loc=node.loc)
        return None

    return rewrite(graph, visit)


@dataclass(frozen=True)
class GroupedProduct(Written):
    """A product of each group with its own matrix: y[n, g, o] = sum of w[g, o, i] x[n, g, i]."""

    name = "grouped_linear"
    operands = ("x", "w")

    def infer(self, x: TensorType, w: TensorType) -> Types:
        if (x.rank, w.rank) != (3, 3) or (x.shape[1], x.shape[2]) != (w.shape[0], w.shape[2]):
            raise ShapeError(f"{self.name}: x is {x}, w is {w}")
        return (TensorType((*x.shape[:2], w.shape[1]), x.dtype),)


@dataclass(frozen=True)
class _Groups:
    """The sizes of a product of groups, each with its own matrix [outs, ins], or [ins, outs] if ``turned``."""

    rows: int
    groups: int
    ins: int
    outs: int
    turned: bool

    @classmethod
    def of(cls, shape: Shape, axis: int, x: Shape, w: Shape) -> _Groups | None:
        """Return the sizes of a sum of x * w along an axis as a product of groups; ``x`` and ``w`` are strides along
        each axis of ``shape``. Return None if it is no such product, or has one output a group, which gains nothing."""
        axes = [at for at, size in enumerate(shape) if size > 1 and at != axis]
        kinds = [(bool(x[at]), bool(w[at])) for at in axes]
        order = ((True, False), (True, True), (False, True))  # x and w move along axes of: rows, groups, outs
        if not {*kinds} <= {*order} or sorted(kinds, key=order.index) != kinds:
            return None
        parts = [[at for at, kind in zip(axes, kinds, strict=True) if kind == each] for each in order]
        rows, groups, outs = (prod(shape[at] for at in part) for part in parts)
        ins = shape[axis]
        of_x = [*parts[0], *parts[1], axis]
        of_w = [[*parts[1], *last] for last in ([*parts[2], axis], [axis, *parts[2]])]
        dense = [at for at, one in enumerate(of_w) if _dense(shape, one, w)]
        if outs == 1 or not dense or not _dense(shape, of_x, x):
            return None
        return cls(rows, groups, ins, outs, dense[0] == 1)


def _dense(shape: Shape, axes: list[int], strides: Shape) -> bool:
    """Return whether the elements along these axes, the last axis innermost, lie one after another in memory."""
    return all(strides[at] == prod(shape[inner] for inner in axes[place + 1 :]) for place, at in enumerate(axes))


def grouped(graph: Graph) -> Graph:
    """sum(x * W) => a product of each group, for a constant W: a linear layer of groups, as einsum "ngi,gio->ngo"."""
    fixed, readers = constants(graph), graph.readers()
    values = Values(graph, {}, (ops.Reshape, ops.Tile, ops.StopGradient))
    rebuild = Rebuild(graph)

    def product_of(node: Node) -> Refs | None:
        """Return a product that replaces the sum of a node. Return None if the node is no sum of this kind."""
        if not isinstance(node.op, ops.Sum) or node.name in fixed:
            return None
        (ref,) = graph.args(node.name)
        both = graph.node(ref.node)
        if not isinstance(both.op, ops.Mul) or readers[ref] > 1:
            return None
        (w, of_w), (x, of_x) = sorted(values.reads(both), key=lambda read: read[0].node not in fixed)
        shape = both.types[0].shape
        at_x, at_w = of_x.strides(shape), of_w.strides(shape)
        if x.node in fixed or w.node not in fixed or at_x is None or at_w is None:
            return None
        g = _Groups.of(shape, node.op.axis, at_x, at_w)
        if g is None or graph.type(x).size * g.outs != graph.type(w).size * g.rows or of_x.offset or of_w.offset:
            return None
        b = rebuild.builder
        (rows,) = b.add(ops.Reshape((g.rows, g.groups, g.ins)), rebuild.new[x])
        matrices = (g.groups, g.ins, g.outs) if g.turned else (g.groups, g.outs, g.ins)
        (matrix,) = b.add(ops.Reshape(matrices), rebuild.new[w], names=(f"{node.name}/matrices",))
        if g.turned:
            (matrix,) = b.add(ops.Transpose(1), matrix, names=(f"{node.name}/turned",))
        (sums,) = b.add(GroupedProduct(), rows, matrix, names=(f"{node.name}/groups",), loc=node.loc)
        return b.add(ops.Reshape(node.types[0].shape), sums, names=node.names, loc=node.loc)

    for node in graph:
        if (found := product_of(node)) is None:
            rebuild.copy(node)
        else:
            rebuild.put(node, found)
    return rebuild.finish()
