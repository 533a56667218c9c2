"""The plan of a step: the order of computation, loops of several ops, and the memory of each value.

A value is a view of an array (``views.py``). The caller's arrays hold inputs, outputs and states, constant arrays hold
weights, and all other values share one array of scratch memory by their lifetimes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from lstmc.ir import Graph, Node, Output, Ref
from lstmc.numerics.sequences import constants
from lstmc.ops import Add, AvePool, Conv, Embed, Full, Input, Linear, MaxPool, Op
from lstmc.prepare import StatePair
from lstmc_c.elements import MOVES, Shape, View, copies, moved


@dataclass(frozen=True, eq=False)
class Item:
    """A value, or a part of one, to compute: an op on views, or a copy of one view (``op`` is None)."""

    op: Op | None
    result: View
    reads: tuple[View, ...]
    node: Node

    @property
    def base(self) -> Ref:
        return self.result.base


@dataclass(frozen=True, eq=False)
class Move:
    """A copy at the end of a step, to an output or to a state; ``target`` is the view of all of it."""

    target: View
    source: View


Memory = Literal["input", "output", "state", "weight", "work", "loop"]
# As what a weight is read: the matrix of a product, in panels; another matrix of numbers of its own; what is added to
# the sums of a product; or a value as any other.
Use = Literal["panel", "matrix", "bias", "value"]


def use_of(op: Op | None, slot: int) -> Use:
    """Return the kind of use of a weight as this operand of an op."""
    if slot == 1 and isinstance(op, Linear | Conv | Embed):
        return "panel" if isinstance(op, Linear) else "matrix"
    return "bias" if slot == 2 and isinstance(op, Linear | Conv) else "value"


@dataclass(frozen=True)
class Place:
    """The memory of a value: an array and the element where it begins; ``loop`` is a variable of its loop."""

    memory: Memory
    name: str = ""
    offset: int = 0


@dataclass
class Plan:
    """A step. Each group of items is a nest of loops over elements, or one op with its own loops.

    ``states`` are the inputs that are states, each with the output that is its next value. ``first_moves`` read states
    as they were before the step, ``last_moves`` overwrite states. ``work`` is the size of the scratch memory.
    """

    graph: Graph
    states: dict[str, str]
    views: dict[Ref, View] = field(default_factory=dict)
    numbers: dict[Ref, float] = field(default_factory=dict)  # values that are one number, arrays in products alone
    weights: dict[tuple[Ref, Use], None] = field(default_factory=dict)  # those that are read, and as what
    groups: list[list[Item]] = field(default_factory=list)
    first_moves: list[Move] = field(default_factory=list)
    last_moves: list[Move] = field(default_factory=list)
    places: dict[Ref, Place] = field(default_factory=dict)
    work: int = 0
    scratch: int = 0  # more of it, behind, for ops that need some while they are computed

    @property
    def outputs(self) -> list[Output]:
        """The outputs that are no states."""
        return [output for output in self.graph.outputs if output.name not in self.states.values()]

    @property
    def inputs(self) -> list[Node]:
        """The inputs that are no states, and that something reads."""
        inputs = (node for node in self.graph if isinstance(node.op, Input))
        return [node for node in inputs if Ref(node.name) in self.views and node.name not in self.states]


def plan_step(
    graph: Graph, states: Sequence[StatePair], elementwise: Collection[type[Op]], integers: bool = False
) -> Plan:
    """Return the plan of a step. An op in ``elementwise`` computes each element of its result from one of each
    operand. With ``integers`` each value has a scale of its own, so none is a part of another."""
    plan = Plan(graph, {pair.before: pair.after for pair in states})
    builder = _Planner(plan, tuple(elementwise), integers)
    builder.items()
    builder.group()
    builder.place()
    return plan


class _Planner:
    def __init__(self, plan: Plan, elementwise: tuple[type[Op], ...], integers: bool) -> None:
        self.plan, self.elementwise, self.integers = plan, elementwise, integers
        self.listed: list[Item] = []
        self.part_of: dict[Ref, tuple[Ref, int]] = {}  # a value that is computed where a concat has it
        self.writers: dict[Ref, int] = defaultdict(int)  # the number of items of each base

    # what is computed ------------------------------------------------------------------------------------------------

    def items(self) -> None:
        """Assign a view to each value, and list the ops to compute."""
        plan, graph = self.plan, self.plan.graph
        constant = self.constant = constants(graph)
        needed = self._needed(constant)
        self.readers = graph.readers()
        views = plan.views
        for node in graph:
            if node.name not in needed:
                continue
            results = [View.of(Ref(node.name, out), type_.shape) for out, type_ in enumerate(node.types)]
            if isinstance(node.op, Full):
                plan.numbers[results[0].base] = node.op.value
            elif not isinstance(node.op, Input) and node.name not in constant:
                operands = [views[ref] for ref in graph.args(node.name)]
                same = moved(node.op, operands)
                if same is None:
                    self._compute(node, operands, results[0])
                else:
                    results = list(same)
            views.update((Ref(node.name, out), view) for out, view in enumerate(results))
        read = [(view.base, use_of(item.op, i)) for item in self.listed for i, view in enumerate(item.reads)]
        read += [(views[output.ref].base, "value") for output in graph.outputs]
        order = {ref: i for i, ref in enumerate(views)}
        weights = [
            (ref, use) for ref, use in read if ref.node in constant and (ref not in plan.numbers or use != "value")
        ]
        plan.weights = dict.fromkeys(sorted(weights, key=lambda pair: order[pair[0]]))

    def _needed(self, constant: Collection[str]) -> set[str]:
        """Return the nodes that a step depends on: constants, but nothing that they are computed from."""
        needed = {output.ref.node for output in self.plan.graph.outputs} | set(self.plan.states)
        stack = list(needed)
        while stack:
            name = stack.pop()
            for ref in () if name in constant else self.plan.graph.args(name):
                if ref.node not in needed:
                    needed.add(ref.node)
                    stack.append(ref.node)
        return needed

    def _compute(self, node: Node, operands: list[View], result: View) -> None:
        parts = copies(node.op, operands, result)
        if parts is not None:
            for source, to in parts:
                if self.integers or not self._computed_in_concat(source, to):
                    self._add(Item(None, to, (source,), node))
            return
        if not self.integers and isinstance(node.op, Add) and self._accumulates_into(node, operands, result):
            return
        match node.op:
            case Linear(axis=axis):
                x = operands[0]
                ins = prod(x.shape[axis:])
                operands[0] = self._fit(node, x, (*x.shape[:axis], ins), 1)
                operands[2:] = [self._fit(node, b, b.shape, 1, slot=2) for b in operands[2:]]
            case Conv():
                operands[0] = self._fit(node, operands[0], (-1, *operands[0].shape[-3:]))
                operands[1:] = [self._fit(node, w, w.shape, len(w.shape), slot=1) for w in operands[1:]]
            case MaxPool() | AvePool():
                operands[0] = self._fit(node, operands[0], (-1, *operands[0].shape[-2:]))
        if isinstance(node.op, self.elementwise):
            operands = [view.broadcast(result.shape) for view in operands]
        self._add(Item(node.op, result, tuple(operands), node))

    def _accumulates_into(self, node: Node, operands: Sequence[View], result: View) -> bool:
        """Have a product accumulate into a sum's other operand, if nothing else reads that; return whether it does."""
        args = self.plan.graph.args(node.name)
        for i, ref in enumerate(args):
            view, other = operands[i], operands[1 - i]
            products = [item for item in self.listed if item.base == view.base]
            same = view.shape == other.shape == result.shape
            if not (same and self._read_once(ref) and view.is_whole and len(products) == 1):
                continue
            (product,) = products
            matrix = product.reads[1].base.node if isinstance(product.op, Linear) else ""
            rows = result.reshaped(product.result.shape)
            added = other.reshaped(product.result.shape)
            if len(product.reads) == 2 and matrix in self.constant and rows and added and added.dense(1):
                if added.base.node in self.constant or added.base == view.base:  # a bias is rounded as weights are
                    continue
                self.listed.remove(product)
                self.writers[view.base] -= 1
                self._add(Item(product.op, rows, (*product.reads, added), product.node))
                return True
        return False

    def _read_once(self, ref: Ref) -> bool:
        """Return whether a value, and each value that it is a view of, has one reader."""
        while self.readers[ref] == 1:
            node = self.plan.graph.node(ref.node)
            if not isinstance(node.op, MOVES):
                return True
            if len(self.plan.graph.args(node.name)) != 1:
                return False
            (ref,) = self.plan.graph.args(node.name)
        return False

    def _fit(self, node: Node, view: View, shape: Shape, dense: int = 0, slot: int = 0) -> View:
        """Return a view of an operand in another shape, whose last axes are ``dense``; of a copy if necessary."""
        fitting = view.reshaped(shape)
        literal = view.base in self.plan.numbers and use_of(node.op, slot) == "value"
        if fitting is not None and fitting.dense(dense) and not (dense and literal):
            return fitting
        copy = View.of(Ref(node.name, -1 - len(self.listed)), view.shape)
        self._add(Item(None, copy, (view,), node))
        fitting = copy.reshaped(shape)
        assert fitting is not None
        return fitting

    def _add(self, item: Item) -> None:
        self.listed.append(item)
        for base in self._wholes(item.base):
            self.writers[base] += 1

    def _wholes(self, base: Ref) -> list[Ref]:
        """Return a base and the bases that contain it."""
        wholes = [base]
        while wholes[-1] in self.part_of:
            wholes.append(self.part_of[wholes[-1]][0])
        return wholes

    def _computed_in_concat(self, source: View, to: View) -> bool:
        """Have an operand of a concat be computed inside the result; return whether it can be."""
        base = source.base
        if not (source.is_whole and to.dense(to.cells.ndim) and self.writers[base]) or base in self.part_of:
            return False
        count = self.writers[base]
        self.part_of[base] = to.base, to.offset
        for whole in self._wholes(base)[1:]:
            self.writers[whole] += count
        return True

    # in which order --------------------------------------------------------------------------------------------------

    def _is_elementwise(self, item: Item) -> bool:
        return item.op is None or isinstance(item.op, self.elementwise)

    def group(self) -> None:
        """Order the items in groups: each op on elements joins the first loop that has its size and its operands."""
        left = dict(self.writers)
        pending = self.listed
        while pending:
            group, rest, inside = [pending[0]], list[Item](), {pending[0].base}
            size = _loop(pending[0])
            for item in pending[1:]:
                joins = self._is_elementwise(group[0]) and self._is_elementwise(item) and _loop(item) == size
                if joins and all(
                    not left.get(view.base) or (view.base in inside and self._in_iteration(view, group))
                    for view in item.reads
                ):
                    group.append(item)
                    inside.add(item.base)
                else:
                    rest.append(item)
            for item in group:
                for base in self._wholes(item.base):
                    left[base] -= 1
            self.plan.groups.append(group)
            pending = rest

    def _in_iteration(self, view: View, group: Sequence[Item]) -> bool:
        """Return whether a loop reads only the element of a value that the same iteration computes."""
        return view.is_whole and all(item.result.is_whole and item.op for item in group if item.base == view.base)

    # where it is stored ----------------------------------------------------------------------------------------------

    def place(self) -> None:
        """Give each value its memory."""
        plan, graph = self.plan, self.plan.graph
        for node in graph:
            ref = Ref(node.name)
            if isinstance(node.op, Input):
                plan.places[ref] = Place("state" if node.name in plan.states else "input", node.name)
        plan.places.update({ref: Place("weight", graph.value_name(ref)) for ref, _ in plan.weights})
        self.written: dict[Ref, int] = {}
        self.read: dict[Ref, int] = {}
        self.old_reads: dict[Ref, list[tuple[int, bool]]] = defaultdict(list)
        for at, group in enumerate(plan.groups):
            own = {item.base for item in group}
            for item in group:
                for base in self._wholes(item.base):
                    self.written.setdefault(base, at)
                for view in item.reads:
                    same = view.is_whole and self._is_elementwise(item)
                    self.old_reads[view.base].append((at, same))
                    if view.base not in own:
                        self.read[view.base] = at
        self._place_results()
        in_loops = {item.base for item in self.listed if self._is_elementwise(item)}
        for base in self.written:
            alone = base not in self.read and base not in self.part_of and base not in plan.places
            if alone and base in in_loops:
                plan.places[base] = Place("loop")
        self._allocate()

    def _place_results(self) -> None:
        """Have states and outputs be computed where the caller has them; list the copies of the others."""
        plan = self.plan
        end = len(plan.groups)
        next_values = {output.name: output.ref for output in plan.graph.outputs}
        pairs = [(Ref(before), plan.views[next_values[after]]) for before, after in plan.states.items()]
        results = {(o.name, plan.views[o.ref].base) for o in plan.outputs}
        kept = {source.base for state, source in pairs if source.base != state or not source.is_whole}
        kept |= {base for _, base in results}
        for state, source in pairs:
            if state not in kept and self._free(source) and self._after_reads(state, source.base):
                plan.places[source.base] = plan.places[state]
        moves: list[Move] = []
        for output in plan.outputs:
            source = plan.views[output.ref]
            if self._free(source):
                plan.places[source.base] = Place("output", output.name)
            elif plan.places.get(source.base) != Place("output", output.name):
                moves.append(Move(View.of(Ref(output.name, -1), source.shape), source))
                plan.places[moves[-1].target.base] = Place("output", output.name)
        for state, source in pairs:
            target = plan.views[state]
            if plan.places.get(source.base) == plan.places[state] and source.is_whole:
                continue
            if source.base.node in plan.states:  # another state, as it was before the step
                copy = View.of(Ref(state.node, -2), source.shape)
                moves.append(Move(copy, source))
                self.written[copy.base], self.read[copy.base] = end, end + 1
                source = copy
            plan.last_moves.append(Move(target, source))
        plan.first_moves = moves
        for move in moves:
            self.read[move.source.base] = max(end, self.read.get(move.source.base, 0))
        for move in plan.last_moves:
            self.read[move.source.base] = end + 1

    def _free(self, source: View) -> bool:
        """Return whether a result is a computed value whose memory is still to be chosen."""
        base = source.base
        return source.is_whole and base in self.written and base not in self.part_of and base not in self.plan.places

    def _after_reads(self, state: Ref, base: Ref) -> bool:
        """Return whether a value can overwrite a state: all readers come before, or read the same element."""
        whole = [item for group in self.plan.groups for item in group if base in self._wholes(item.base)]
        start = min(at for at, group in enumerate(self.plan.groups) if any(item in whole for item in group))
        one = len(whole) == 1 and self._is_elementwise(whole[0])
        return all(at < start or (at == start and same and one) for at, same in self.old_reads[state])

    def _allocate(self) -> None:
        """Share the scratch memory: the largest array first, each at the lowest place that is free in its lifetime."""
        plan = self.plan
        spans: dict[Ref, tuple[int, int]] = {}
        for base, first in self.written.items():
            for whole in self._wholes(base):
                start, stop = spans.get(whole, (first, first))
                last = max(first, self.read.get(base, first), self.read.get(whole, first))
                spans[whole] = min(start, first), max(stop, last)
        views = (
            *plan.views.values(),
            *(item.result for item in self.listed),
            *(move.target for move in plan.first_moves),
        )
        sizes = {view.base: view.whole.size for view in views}
        over = self._overwritten_operands(spans, sizes)
        for base, old in over.items():
            (start, stop), (first, last) = spans[old], spans.pop(base)
            spans[old] = min(start, first), max(stop, last)
        taken: list[tuple[int, int, int, int]] = []  # first and last use, begin and end
        for base in sorted(spans, key=lambda base: (-sizes[base], spans[base])):
            if base in self.part_of or base in plan.places:
                continue
            start, stop = spans[base]
            begin = 0
            for _, _, low, high in sorted(
                (t for t in taken if t[0] <= stop and start <= t[1]), key=lambda used: used[2]
            ):
                if begin + sizes[base] <= low:
                    break
                begin = max(begin, high)
            taken.append((start, stop, begin, begin + sizes[base]))
            plan.places[base] = Place("work", "", begin)
            plan.work = max(plan.work, begin + sizes[base])
        plan.places.update({base: plan.places[old] for base, old in over.items()})
        for base in self.part_of:
            parts = self._wholes(base)
            root = plan.places[parts[-1]]
            offset = root.offset + sum(self.part_of[part][1] for part in parts[:-1])
            plan.places[base] = Place(root.memory, root.name, offset)

    def _overwritten_operands(self, spans: dict[Ref, tuple[int, int]], sizes: dict[Ref, int]) -> dict[Ref, Ref]:
        """Return for each value that can be computed in place the operand that it overwrites, which is read no more."""
        wholes = {whole for whole, _ in self.part_of.values()}
        ends = {base: stop for base, (_, stop) in spans.items()}
        free = {base for base in spans if base not in (self.plan.places.keys() | self.part_of.keys() | wholes)}
        over: dict[Ref, Ref] = {}
        for at, group in enumerate(self.plan.groups):
            same = {view.base for item in group for i, view in enumerate(item.reads) if self._reads_first(item, i)}
            same -= {view.base for item in group for i, view in enumerate(item.reads) if not self._reads_first(item, i)}
            for item in group:
                for view in item.reads if item.base in free and self.writers[item.base] == 1 else ():
                    old = view.base
                    if old in free & same and ends[old] == at and sizes[old] == sizes[item.base]:
                        over[item.base] = over.get(old, old)
                        same.remove(old)
                        break
        return over

    def _reads_first(self, item: Item, operand: int) -> bool:
        """Return whether an op reads each element of an operand before it writes that element of its result."""
        in_order = self._is_elementwise(item) or (isinstance(item.op, Linear) and operand == 2)
        return in_order and item.reads[operand].is_whole and item.result.is_whole


def _loop(item: Item) -> Shape:
    """Return the shape that an item's loops run over, without axes of one element."""
    return tuple(size for size in item.result.shape if size > 1)
