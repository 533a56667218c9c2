"""The plan of a step: its loops, its ops with special loops, and the memory of each array. A step is one row in the
sense of :mod:`lstmc.loops`. Values that are not the caller's and not weights share scratch memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from lstmc import ops
from lstmc.ir import Graph, Node, Output, Ref
from lstmc.loops.index import Shape, counter
from lstmc.loops.large_states import in_place, same_elements
from lstmc.loops.loop_code import LoopCode
from lstmc.loops.memory import Array, Call, Loop, Place, Sink
from lstmc.loops.schedule import Schedule
from lstmc.numerics.sequences import constants
from lstmc.ops import Linear, Op
from lstmc.prepare import StatePair
from lstmc.text import Names
from lstmc.types import TensorType
from lstmc_c.elements import Use, View
from lstmc_c.ops import MOVES, GroupedProduct, LaneProduct, Turns, accumulated, grouped, with_turns
from lstmc_c.rules import with_direct_windows, with_fewer_joins, with_rows_that_are_read

CALLS = (
    *(Linear, LaneProduct, GroupedProduct, Turns, ops.Conv, ops.Embed),
    *(ops.MaxPool, ops.AvePool, ops.Max, ops.Largest, ops.Softmax),
)


def use_of(op: Op, slot: int, type_: TensorType) -> Use:
    """Return the use of an op's operand ``slot``, a weight: it decides the order in which the weight is stored."""
    if slot == 1 and isinstance(op, LaneProduct | GroupedProduct):
        return "lanes" if isinstance(op, LaneProduct) else "groups"
    if slot == 1 and isinstance(op, ops.Conv) and type_.shape[:2] != (op.group, 1):
        return "windows"
    if slot == 1 and isinstance(op, Linear | ops.Conv | ops.Embed):
        return "panel" if isinstance(op, Linear) else "matrix"
    return "bias" if slot == 2 and isinstance(op, Linear | LaneProduct | ops.Conv) else "value"


@dataclass
class Operation(Call):
    """An op with special loops: it reads ``reads``, and writes its result as contiguous elements."""

    node: Node
    y: Place
    shape: Shape
    reads: tuple[View, ...]

    @property
    def op(self) -> Op:
        return self.node.op

    @property
    def operands(self) -> tuple[Place, ...]:
        return tuple(view.place for view in self.reads)

    def moved(self, to: Callable[[Place], Place]) -> Operation:
        reads = tuple(replace(view, place=to(view.place)) for view in self.reads)
        return replace(self, y=to(self.y), reads=reads)


Work = Operation | Loop


@dataclass
class Plan:
    """A step of a net in C: its loops and operations (``works``) in the order in which they run, and their arrays.
    ``states`` maps each input that is a state to the output that is its next value. ``inner`` has the plan of each
    loop's body. Scratch memory has ``work`` elements, and ``scratch`` more elements for ops while they run."""

    graph: Graph
    states: dict[str, str]
    integers: bool = False  # each value has a scale of its own, so no value is stored as a part of another value
    places: dict[tuple[str, str], Array] = field(default_factory=dict)  # arrays of the caller, by their kinds and names
    weights: dict[tuple[Ref, Use], None] = field(default_factory=dict)  # weights that are read, and their uses
    works: list[Work] = field(default_factory=list)
    inner: dict[Turns, Plan] = field(default_factory=dict)
    offsets: dict[Array, int] = field(default_factory=dict)  # offsets in the scratch memory
    work: int = 0
    scratch: int = 0

    @property
    def outputs(self) -> list[Output]:
        """The outputs other than states."""
        return [output for output in self.graph.outputs if output.name not in self.states.values()]

    @property
    def inputs(self) -> list[Node]:
        """The inputs other than states that a node of the step reads."""
        return [node for node in self.graph if ("input", node.name) in self.places]

    @classmethod
    def of(
        cls, graph: Graph, states: Sequence[StatePair], integers: bool = False, turn: bool = False, exact: bool = False
    ) -> Plan:
        """Return a plan of arrays, without loops. ``turn``: for a loop's body; ``exact``: for weights in float32."""
        if exact:
            graph = with_fewer_joins(with_rows_that_are_read(with_direct_windows(with_fewer_joins(graph))))
        if not integers:
            graph = accumulated(graph if turn else grouped(with_turns(graph)))
        plan = cls(graph, {pair.before: pair.after for pair in states}, integers)
        fixed, places = constants(graph), plan.places
        needed = graph.needed([*(output.ref for output in graph.outputs), *map(Ref, plan.states)]) - fixed
        running = [node for node in graph if node.name in needed]
        for node in running:
            if isinstance(node.op, ops.Input):
                kind = "state" if node.name in plan.states else "input"
                places[kind, node.name] = Array("bottom", len(places), node.name, node.types[0].size, True, False)
        read = [use for node in running for use in plan._uses(node)]
        read += [(output.ref, "value") for output in graph.outputs]
        order = {node.name: at for at, node in enumerate(graph)}
        for ref, use in sorted(read, key=lambda pair: (order[pair[0].node], pair[0].out)):
            if ref.node in fixed and (use != "value" or not isinstance(graph.node(ref.node).op, ops.Full)):
                plan.weights[ref, use] = None
                name = graph.value_name(ref)
                places["weight", name] = Array("weight", order[ref.node], name, graph.type(ref).size, False, False)
        for output in graph.outputs:
            kind = "next" if output.name in plan.states.values() else "output"
            size = graph.type(output.ref).size
            places[kind, output.name] = Array("top", len(places), output.name, size, True, False)
        return plan

    def _uses(self, node: Node) -> Iterator[tuple[Ref, Use]]:
        """Yield the operands of a node with their uses. Operands of a loop have the uses inside of its body."""
        args = self.graph.args(node.name)
        if not isinstance(node.op, Turns):
            yield from ((ref, use_of(node.op, slot, self.graph.type(ref))) for slot, ref in enumerate(args))
            return
        inner = self.inner[node.op] = Plan.of(node.op.body, node.op.states, turn=True)
        operands = {leaf.name: ref for leaf, ref in zip(node.op.leaves, args, strict=True)}
        yield from ((operands[leaf.name], "value") for leaf in node.op.leaves if isinstance(leaf.op, ops.Input))
        yield from ((operands[ref.node], use) for ref, use in inner.weights)

    def schedule(self, code: Callable[[Step], LoopCode]) -> None:
        """Plan the loops, whose lines ``code`` writes, and the operations in their order, and the scratch memory. The
        next value of a state is computed beside the state, and replaces the state at the end, or in place."""
        sources = {ref: Place(self.places["weight", self.graph.value_name(ref)]) for ref, _ in self.weights}
        for (kind, name), array in self.places.items():
            if kind in ("input", "state"):
                sources[Ref(name)] = Place(array)
        step = Step(self, sources, code)
        following = {output.name: output.ref for output in self.graph.outputs}
        sinks = [Sink(output.ref, Place(self.places["output", output.name])) for output in self.outputs]
        replaced = dict[Ref, Ref]()
        for before, after in self.states.items():
            ref = following[after]
            if step.values.origin(ref) != (Ref(before), counter(self.graph.type(ref).size)):
                replaced[Ref(before)] = ref
                sinks.append(Sink(ref, Place(self.places["next", after])))
        self.works, _ = step.work(sinks, (), replaced)
        for state in replaced:
            old, new = self.places["state", state.node], self.places["next", self.states[state.node]]
            self.works = in_place(
                self.works, old, new, lambda old: step.buffer(f"{old.name}_next", old.size, False).array, serial=True
            )
        self._allocate()

    def _allocate(self) -> None:
        """Give each array of scratch memory, the largest first, the lowest place that is free while it is in use."""
        spans: dict[Array, tuple[int, int]] = {}
        for at, work in enumerate(self.works):
            for array in _buffers(work):
                spans[array] = spans.get(array, (at, at))[0], at
        over: dict[Array, Array] = {}  # array -> the dead array in whose place it is computed
        for at, work in enumerate(self.works):
            ends = [array for array in _buffers(work) if spans[array][1] == at]
            for new in (array for array in _buffers(work) if spans[array][0] == at):
                old = next((old for old in ends if old not in over.values() and _in_place(work, old, new)), None)
                if old is not None:
                    over[new] = old
        for new, old in over.items():
            root = old
            while root in over:
                root = over[root]
            spans[root] = spans[root][0], spans.pop(new)[1]
        taken: list[tuple[int, int, int, int]] = []  # first and last use, begin and end
        for array in sorted(spans, key=lambda array: (-array.size, spans[array])):
            start, stop = spans[array]
            begin = 0
            for _, _, low, high in sorted(
                (t for t in taken if t[0] <= stop and start <= t[1]), key=lambda used: used[2]
            ):
                if begin + array.size <= low:
                    break
                begin = max(begin, high)
            taken.append((start, stop, begin, begin + array.size))
            self.offsets[array] = begin
            self.work = max(self.work, begin + array.size)
        for new, old in over.items():
            self.offsets[new] = self.offsets[old]


def _buffers(work: Work) -> list[Array]:
    places = [place for place, _ in work.pointers.values()] if isinstance(work, Loop) else [*work.operands, work.y]
    return [*dict.fromkeys(place.array for place in places if place.array.kind == "buffer")]


def _in_place(work: Work, old: Array, new: Array) -> bool:
    """Return whether ``new`` may have the memory of ``old``: ``work`` reads each element before it writes there."""
    if old == new or old.size != new.size:
        return False
    if isinstance(work, Loop):
        written = {place.array for place, is_written in work.pointers.values() if is_written}
        return new in written and old not in written and same_elements(work, old, new)
    added = work.reads[2:] if isinstance(work.op, Linear) else ()
    others = [view.place.array for view in work.reads if view not in added]
    return old not in others and any(view == View.of(Place(old), work.shape) for view in added) and work.y == Place(new)


class Step(Schedule[Operation]):
    """The schedule of a step, which is one row."""

    moves, calls, one_row = MOVES, CALLS, True

    def __init__(self, plan: Plan, sources: dict[Ref, Place], code: Callable[[Step], LoopCode]) -> None:
        self._code, self._integers = code, plan.integers
        super().__init__(plan.graph, sources, [], Names())

    def loop_code(self) -> LoopCode:
        return self._code(self)

    def is_within(self, node: Node, reader: Node) -> bool:
        """Return whether a node is computed inside its reader: not if its elements are then computed several times."""
        return isinstance(reader.op, ops.Sum) or node.types[0].size == reader.types[0].size

    def _pieces(self, node: Node, sink: Sink) -> None:
        """Plan the copies of a join's operands. In integers each has its own copy, because each has another scale."""
        if not self._integers:
            return super()._pieces(node, sink)
        for slot, (ref, index) in enumerate(zip(self.graph.args(node.name), self._places(node), strict=True)):
            base, _ = self.values.origin(ref)
            if self.values.computed(base):
                self.in_memory(base)
            self.copies.append((self._after(ref), Sink(ref, sink.place, node=node, slot=slot), index))
        return None

    def call(self, node: Node) -> Operation:
        """Return the operation of a node whose op has special loops."""
        args = self.graph.args(node.name)
        if isinstance(node.op, Turns):  # its parameters are weights of its body
            args = args[: sum(isinstance(leaf.op, ops.Input) for leaf in node.op.leaves)]
        reads = tuple(self._view(node.op, slot, ref) for slot, ref in enumerate(args))
        return Operation(node, self.in_memory(Ref(node.name)), node.types[0].shape, reads)

    def _view(self, op: Op, slot: int, ref: Ref) -> View:
        """Return operand ``slot`` as an op's code reads it, copied if its last ``dense`` axes are not one block."""
        shape, dense = self.graph.type(ref).shape, 0
        match op, slot:
            case Linear(axis=axis), 0:
                shape, dense = (*shape[:axis], prod(shape[axis:])), 1
            case LaneProduct(axis=axis), 0:
                shape, dense = (*shape[:axis], prod(shape[axis:-1]), shape[-1]), 2
            case GroupedProduct(), 0:
                dense = 1
            case ops.Conv(), 0:
                shape = (prod(shape[:-3]), *shape[-3:])
            case (Linear() | LaneProduct(), 2) | (GroupedProduct(), 1) | (Turns() | ops.Conv(), _):
                dense = len(shape)
            case ((ops.MaxPool() | ops.AvePool()), _):
                shape = (prod(shape[:-2]), *shape[-2:])
        base, index = self.values.origin(ref)
        use = use_of(op, slot, self.graph.type(ref))
        literal = self.values.constant(base) is not None and use == "value"
        strides = None if literal else index.strides(shape)
        if strides is not None:
            view = View(self.in_memory(base).moved(index.offset), shape, strides)
            if view.dense(dense):
                return replace(view, use=use) if view.of_weight else view
        place = self.buffer(self.graph.value_name(ref), prod(shape), False)
        self._store(Sink(ref, place))
        return View.of(place, shape)
