"""Values that a layer recomputes in its backward pass instead of keeping them for every step;
states updated in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from lstmc.ir import Graph, Ref
from lstmc.loops.index import counter, offset_of
from lstmc.loops.loop_code import CHEAP, ELEMENT, MOVES, Values
from lstmc.loops.memory import Array, Loop, Place, Product, Store, Work
from lstmc.ops import Arg, Full, Linear

WINDOW = 2**17
"""Floats of a row that the steps of a chunk compute again, at most: half of a second cache of 1 MiB."""
FEWEST, MOST = 4, 64  # steps of a chunk


class Recomputation:
    """The values of a body that are larger than all their operands, so that recomputing them moves less memory.

    An outer product is, and a state that one is added to. ``states`` has those of the states, with what they are after
    a step: they are kept each ``chunk`` steps, and computed again in between. ``larger`` are all such values, but for
    those that are cheap; ``chunk`` is 0 where no state is one.
    """

    def __init__(self, body: Graph, following: Mapping[Ref, Ref], outputs: Iterable[Ref]) -> None:
        self._body, self._values = body, Values(body, {})
        # an output holds every step anyway; so does the operand of a product, whose weights' gradient reads all steps
        whole = {self._values.origin(ref)[0] for ref in outputs}
        whole |= {self._values.origin(body.args(node.name)[0])[0] for node in body if isinstance(node.op, Linear)}
        self.states = {
            state: after
            for state, after in following.items()
            if type(body.node(after.node).op) in ELEMENT and not {state, after} & whole
        }
        larger = self._larger()
        while self.states and not set(self.states.values()) <= larger:
            self.states = {state: after for state, after in self.states.items() if after in larger}
            larger = self._larger()
        dear = larger if self.states else set()
        self.larger = {ref for ref in dear if not isinstance(body.node(ref.node).op, CHEAP)}
        floats = self._floats({*self.states, *self.larger})
        self.chunk = max(FEWEST, min(MOST, WINDOW // floats)) if self.states else 0

    def _floats(self, refs: Iterable[Ref]) -> int:
        return sum(self._body.type(ref).size for ref in refs)

    def _larger(self) -> set[Ref]:
        """Return the values of elementwise ops with more elements than what they are computed from in the end."""
        larger = set()
        reads: dict[str, frozenset[Ref]] = {}  # of each node: what has to be there of every step to compute it again
        for node in self._body:
            ref, own = Ref(node.name), frozenset([Ref(node.name)])
            read = frozenset[Ref]().union(*(reads[arg.node] for arg in self._body.args(node.name)))
            if isinstance(node.op, Arg):
                read = own if node.op.role in ("x", "state") and ref not in self.states else read
            elif type(node.op) in ELEMENT and node.types[0].size > self._floats(read):
                larger.add(ref)
            elif not isinstance(node.op, (*MOVES, *CHEAP, Full)):
                read = own
            reads[node.name] = read
        return larger


def in_place(works: Sequence[Work], before: Array, after: Array, buffer: Callable[[Array], Array]) -> list[Work]:
    """Return the work of a step with a state ``after`` it in the memory of the state ``before`` it.

    Where something needs the old elements when new ones are there already, the new ones have a ``buffer`` of their own,
    and are copied at the end.
    """
    if _may_be_one(works, before, after):
        return [_with_array(work, after, before) for work in works]
    own = buffer(before)
    copy = Loop(after.size, after.size, {"p0": (Place(own), False), "p1": (Place(before), True)})
    value, element = (copy.element(pointer, counter(after.size)) for pointer in copy.pointers)
    copy.lines.append(Store(element, value, False, False))
    copy.comments.append(f"{before.name} = {own.name}")
    return [*(_with_array(work, after, own) for work in works), copy]


def _may_be_one(works: Sequence[Work], before: Array, after: Array) -> bool:
    """Return whether nothing reads an element of ``before`` once that of ``after`` is written."""
    written = False
    for work in works:
        if isinstance(work, Product):
            if before in (place.array for place in (work.x, work.b) if place) and (written or work.y.array == after):
                return False
            written = written or work.y.array == after
            continue
        own = [work.pointers[pointer][0].array for pointer, _ in work.elements]
        if before in own and (written or (after in own and not _same_elements(work, before, after))):
            return False
        written = written or any(is_written and place.array == after for place, is_written in work.pointers.values())
    return True


def _same_elements(loop: Loop, before: Array, after: Array) -> bool:
    """Return whether each element of ``after`` is written by what read that of ``before`` alone, and last."""
    seen = False
    for pointer, index in loop.elements:
        place, _ = loop.pointers[pointer]
        if place.array in (before, after) and (
            place.offset or index is None or offset_of(index, before.size) != 0 or (seen and place.array == before)
        ):
            return False
        seen = seen or place.array == after
    return loop.independent


def _with_array(work: Work, old: Array, new: Array) -> Work:
    def moved(place: Place) -> Place:
        return replace(place, array=new) if place.array == old else place

    if isinstance(work, Product):
        return replace(work, x=moved(work.x), y=moved(work.y), b=work.b and moved(work.b))
    places = {name: moved(place) for name, (place, _) in work.pointers.items()}
    names = {place: f"p{i}" for i, place in enumerate(dict.fromkeys(places.values()))}  # two may have become one
    written = {places[name] for name, (_, is_written) in work.pointers.items() if is_written}
    pointers = {name: (place, place in written) for place, name in names.items()}
    return replace(work, pointers=pointers, elements=[(names[places[name]], index) for name, index in work.elements])
