"""The plan of a generated layer: blobs, buffers, the work of each step, products over all steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lstmc.errors import BackendError, PassError
from lstmc.ir import Ref, Scan
from lstmc.loops.loop_code import CHEAP, MOVES
from lstmc.loops.memory import Array, Kind, Names, Place, Sink, Work
from lstmc.loops.rows import Rows, rows_of
from lstmc.loops.schedule import Schedule, check_ops
from lstmc.ops import Add, Linear, Reshape, Sum, Transpose
from lstmc.passes import Cse, Simplify, backward_body


@dataclass(frozen=True)
class Outer:
    """One product for all steps: it adds ct^T x to a gradient [outs, ins], over the rows of all steps.

    Without x it adds the sum of the rows to a gradient [outs].
    """

    ct: Place
    x: Place | None
    into: Place
    outs: int
    ins: int
    lead: int


@dataclass(frozen=True)
class State:
    """A state: where it is kept from the first step on, its operand or its number, and its gradient's two buffers."""

    name: str
    kept: Place
    bottom: Array | None
    value: float
    top: Array
    gradient: tuple[Array, Array]
    bottom_diff: Array | None
    top_diff: Array


@dataclass(frozen=True)
class Plan:
    """A layer for a scan, whatever N and T are, unless the rows are not independent."""

    name: str
    rows: Rows
    reverse: bool
    shapes: dict[str, tuple[int, ...]]  # of each array that is a blob: its shape behind T and N
    bottoms: tuple[Array, ...]
    weights: tuple[Array, ...]
    outputs: tuple[Array, ...]
    states: tuple[State, ...]
    buffers: tuple[Array, ...]
    gradients: tuple[Array, ...]  # of bottoms and weights that are no state's
    top_diffs: tuple[Array, ...]  # of outputs
    forward: tuple[Work, ...]
    backward: tuple[Work, ...]
    outers: tuple[Outer, ...]
    again: tuple[str, ...]  # what the backward pass computes again of the forward one

    @property
    def tops(self) -> tuple[Array, ...]:
        return (*self.outputs, *(state.top for state in self.states))


def plan_of(scan: Scan, initial: tuple[float | None, ...]) -> Plan:
    """The plan of a scan. Raises :class:`BackendError` for what there is no code for, with the reason."""
    return _Planner(scan, initial).plan()


class _Planner:
    def __init__(self, scan: Scan, initial: tuple[float | None, ...]) -> None:
        self.scan, self.initial = scan, initial
        self.rows = rows_of(scan)
        self.body = self.rows.body
        check_ops(self.body)
        try:
            back = backward_body(self.body)
        except PassError as error:
            raise BackendError(error.message, loc=error.loc) from None
        self.back = Cse().run(Simplify().run(back).graph).graph
        self.names = Names()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.made: list[Array] = []
        self.top_diffs: list[Array] = []

    def array(self, kind: Kind, number: int, name: str, ref: Ref, rows: bool, time: bool, prefix: str = "") -> Array:
        unique = self.names.unique(prefix + name)
        type_ = self.body.type(ref)
        self.shapes[unique] = type_.shape
        return Array(kind, number, unique, type_.size, rows, time)

    def plan(self) -> Plan:
        args = self.body.body_args()
        before, after = (1, 0) if self.scan.reverse else (0, 1)
        sources: dict[Ref, Place] = {}
        bottoms: list[Array] = []
        weights: list[Array] = []
        states: list[State] = []
        gradients: dict[str, Array] = {}
        outputs = tuple(
            self.array("top", i, o.name or "y", o.ref, True, True)
            for i, o in enumerate(self.body.outputs[: len(self.body.outputs) - len(self.initial)])
        )
        values = iter(self.initial)
        for slot, (arg, mapped) in enumerate(zip(args, self.rows.mapped, strict=True)):
            role, ref, rows = self.scan.role(slot), Ref(arg.name), mapped
            if role == "weight":
                array = self.array("weight", len(weights), arg.name, ref, False, False)
                weights.append(array)
            elif role == "state":
                value = next(values)
                states.append(self._state(ref, value, len(bottoms), len(outputs) + len(states), rows))
                if states[-1].bottom is not None:
                    bottoms.append(states[-1].bottom)
                sources[ref] = Place(states[-1].kept.array, 0, before)
                continue
            else:
                array = self.array("bottom", len(bottoms), arg.name, ref, rows, role == "x")
                bottoms.append(array)
            sources[ref] = Place(array)
            kind: Kind = "weight_diff" if role == "weight" else "bottom_diff"
            gradients[arg.name] = self.array(kind, array.number, arg.name, ref, array.rows, array.time, "d_")
        following = self.body.outputs[len(outputs) :]
        sinks = [Sink(o.ref, Place(array)) for o, array in zip(self.body.outputs, outputs, strict=False)]
        sinks += [Sink(o.ref, Place(s.kept.array, 0, after)) for o, s in zip(following, states, strict=True)]
        forward = Schedule(self.body, sources, self.made, self.names)
        kept = self._kept(sources, {sink.ref: sink.place for sink in sinks})
        sinks += [Sink(ref, place) for ref, place in kept.items() if ref not in {sink.ref for sink in sinks}]
        steps, _ = forward.work(sinks, ())
        back = self._backward(sources, kept, outputs, states, gradients)
        return Plan(
            self.scan.body.name,
            self.rows,
            self.scan.reverse,
            self.shapes,
            tuple(bottoms),
            tuple(weights),
            outputs,
            tuple(states),
            tuple(self.made),
            tuple(gradients.values()),
            tuple(self.top_diffs),
            tuple(steps),
            *back,
        )

    def _state(self, ref: Ref, value: float | None, bottom: int, top: int, rows: bool) -> State:
        name = ref.node
        size = self.body.type(ref).size
        kept = Array("buffer", len(self.made), self.names.unique(f"{name}_kept"), size, rows, True, 1)
        self.made.append(kept)
        first = None if value is not None else self.array("bottom", bottom, name, ref, rows, False, "first_")
        last = self.array("top", top, name, ref, rows, False, "last_")
        pair = []
        for which in ("before", "after"):
            pair.append(Array("buffer", len(self.made), self.names.unique(f"d_{name}_{which}"), kept.size, rows, False))
            self.made.append(pair[-1])
        d_first = self.array("bottom_diff", bottom, name, ref, rows, False, "d_first_") if first else None
        d_last = self.array("top_diff", top, name, ref, rows, False, "d_last_")
        return State(name, Place(kept), first, value or 0.0, last, (pair[0], pair[1]), d_first, d_last)

    def _kept(self, sources: dict[Ref, Place], stored: dict[Ref, Place]) -> dict[Ref, Place]:
        """What the backward pass reads of the forward one: computed by what is dear, each kept for every step."""
        own, needed = {node.name for node in self.body}, self.back.needed()
        found: dict[Ref, Place] = {}
        wanted = [
            ref
            for node in self.back
            if node.name not in own and node.name in needed
            for ref in self.back.args(node.name)
            if ref.node in own
        ]
        stack = list(dict.fromkeys(wanted))
        while stack:
            ref = stack.pop()
            node = self.back.node(ref.node)
            if ref in sources or ref in found:
                continue
            if isinstance(node.op, (*MOVES, *CHEAP)):
                stack += self.back.args(node.name)
            elif self.back.args(node.name):
                if ref in stored and stored[ref].array.time:
                    found[ref] = stored[ref]
                else:
                    array = Array(
                        "buffer",
                        len(self.made),
                        self.names.unique(f"{node.name}_kept"),
                        self.body.type(ref).size,
                        True,
                        True,
                    )
                    self.made.append(array)
                    found[ref] = Place(array)
        return found

    def _backward(
        self,
        sources: dict[Ref, Place],
        kept: dict[Ref, Place],
        outputs: tuple[Array, ...],
        states: list[State],
        gradients: dict[str, Array],
    ) -> tuple[tuple[Work, ...], tuple[Outer, ...], tuple[str, ...]]:
        args = self.back.body_args()
        count = len(self.body.body_args())
        known = dict(sources) | kept
        for arg, array in zip(args[count:], outputs, strict=False):
            given = Array("top_diff", array.number, self.names.unique(f"d_{array.name}"), array.size, True, True)
            self.top_diffs.append(given)
            known[Ref(arg.name)] = Place(given)
        for arg, state in zip(args[count + len(outputs) :], states, strict=True):
            known[Ref(arg.name)] = Place(state.gradient[0])
        sinks: list[Sink] = []
        outers: list[tuple[Outer, Ref, Ref | None]] = []
        results = iter(self.back.outputs)
        for slot, arg in enumerate(self.body.body_args()):
            if self.scan.role(slot) == "state":
                continue
            into = gradients[arg.name]
            whole = next(results).ref
            summed = not (into.time and into.rows)
            for ref in self._parts(whole) if summed else (whole,):
                outer = self._outer(ref, Place(into)) if not (into.rows or into.time) else None
                if outer is not None:
                    outers.append(outer)
                elif self.back.node(ref.node).op.name != "full" or (into.time and into.rows):
                    sinks.append(Sink(ref, Place(into), summed))
        sinks = self._without_sums(sinks, outers)
        for state in states:
            sinks.append(Sink(next(results).ref, Place(state.gradient[1])))
        schedule = Schedule(self.back, known, self.made, self.names)
        steps, places = schedule.work(sinks, [(ct, o.outs, x, o.ins) for o, ct, x in outers])
        done = tuple(
            Outer(ct, x, o.into, o.outs, o.ins, o.lead) for (o, _, _), (ct, x) in zip(outers, places, strict=True)
        )
        own = {node.name for node in self.body}
        run = [node.name for group in schedule.groups for node in group.nodes]
        again = tuple(name for name in (*run, *sorted(schedule.within)) if name in own)
        return tuple(steps), done, again

    def _parts(self, ref: Ref) -> Iterator[Ref]:
        """The summands of what a step adds to a gradient."""
        node = self.back.node(ref.node)
        args = self.back.args(node.name)
        if isinstance(node.op, Add) and all(self.back.type(arg) == node.types[0] for arg in args):
            for arg in args:
                yield from self._parts(arg)
        else:
            yield ref

    def _without_sums(self, sinks: list[Sink], outers: list[tuple[Outer, Ref, Ref | None]]) -> list[Sink]:
        """The sinks but for sums of rows that are there for all steps anyway, as an operand of a product: as those of
        a bias beside the weights. ``outers`` gains these."""
        there = {ct for _, ct, _ in outers}
        left = []
        for sink in sinks:
            node = self.back.node(sink.ref.node)
            (rows,) = self.back.args(node.name) if isinstance(node.op, Sum) else (None,)
            if rows in there and sink.add and isinstance(node.op, Sum) and node.op.axis == 0:
                lead, outs = self.back.type(rows).shape
                outers.append((Outer(sink.place, None, sink.place, outs, 1, lead), rows, None))
            else:
                left.append(sink)
        return left

    def _outer(self, ref: Ref, into: Place) -> tuple[Outer, Ref, Ref] | None:
        """A summand that is a product of this step's rows alone: dW = ct^T x."""
        node = self.back.node(ref.node)
        if isinstance(node.op, Reshape):
            return self._outer(self.back.args(node.name)[0], into)
        if isinstance(node.op, Transpose):  # of a matrix that is used as it is transposed
            turned = self._outer(self.back.args(node.name)[0], into)
            return turned and (replace(turned[0], outs=turned[0].ins, ins=turned[0].outs), turned[2], turned[1])
        if not isinstance(node.op, Linear):
            return None
        sides = [self.back.node(arg.node) for arg in self.back.args(node.name)]
        outs, ins = node.types[0].shape
        found = []
        for side, width in zip(sides, (outs, ins), strict=True):
            if isinstance(side.op, Transpose):
                found.append(self.back.args(side.name)[0])
            elif width == 1 or side.types[0].shape[1] == 1:
                found.append(Ref(side.name))
            else:
                return None
        lead = sides[0].types[0].shape[1]
        nowhere = Place(into.array)
        return Outer(nowhere, nowhere, into, outs, ins, lead), found[0], found[1]
