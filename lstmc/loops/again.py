"""How a pass goes over large states: recomputing values instead of keeping them for every step, in place, and with all
steps of one part of the states before the next part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import NamedTuple, TypeVar, cast

from lstmc.ir import Graph, Ref
from lstmc.loops.index import Digit, Index, counter, offset_of
from lstmc.loops.loop_code import CHEAP, ELEMENT, MOVES, Values
from lstmc.loops.memory import Array, Call, Loop, Place, Store, sum_lines
from lstmc.ops import Arg, Full, Linear

C = TypeVar("C", bound=Call)
W = TypeVar("W", bound=Call | Loop)
WINDOW = 2**17
"""Floats of a row that the steps of a chunk compute again, at most: half of a second cache of 1 MiB."""
FEWEST, MOST = 4, 64  # steps of a chunk


class Recomputation:
    """The values of a body that are larger than all their operands, so that recomputing them moves less memory.

    An outer product is, and a state that one is added to. ``states`` has those of the states, with what they are after
    a step: they are kept each ``chunk`` steps, and computed again in between. ``larger`` are all such values, but for
    those that are cheap; ``chunk`` is 0 where no state is one, and longer where states are in ``parts``.
    """

    def __init__(self, body: Graph, following: Mapping[Ref, Ref], outputs: Iterable[Ref], parts: int = 1) -> None:
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
        self.chunk = max(FEWEST, min(MOST, WINDOW * parts // floats)) if self.states else 0

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


def in_place(
    works: Sequence[C | Loop], before: Array, after: Array, buffer: Callable[[Array], Array]
) -> list[C | Loop]:
    """Return the work of a step with a state ``after`` it in the memory of the state ``before`` it.

    Where something needs the old elements when new ones are there already, the new ones have a ``buffer`` of their own,
    and are copied at the end.
    """
    if _may_be_one(works, before, after):
        return [with_array(work, after, before) for work in works]
    own = buffer(before)
    copy = Loop(after.size, after.size, {"p0": (Place(own), False), "p1": (Place(before), True)})
    value, element = (copy.element(pointer, counter(after.size)) for pointer in copy.pointers)
    copy.lines.append(Store(element, value, False, False))
    copy.comments.append(f"{before.name} = {own.name}")
    return [*(with_array(work, after, own) for work in works), copy]


def _may_be_one(works: Sequence[Call | Loop], before: Array, after: Array) -> bool:
    """Return whether nothing reads an element of ``before`` once that of ``after`` is written."""
    written = False
    for work in works:
        if isinstance(work, Call):
            if before in (place.array for place in work.operands) and (written or work.y.array == after):
                return False
            written = written or work.y.array == after
            continue
        own = [work.pointers[pointer][0].array for pointer, _ in work.elements]
        if before in own and (written or (after in own and not same_elements(work, before, after))):
            return False
        written = written or any(is_written and place.array == after for place, is_written in work.pointers.values())
    return True


def same_elements(loop: Loop, before: Array, after: Array) -> bool:
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


def with_array(work: W, old: Array, new: Array) -> W:
    moved = work.moved(lambda place: replace(place, array=new) if place.array == old else place)
    return cast(W, moved)


FIRST_CACHE = 2**12  # floats of the states of a part: 16 KiB, as a backward pass has a gradient beside each
MOST_PARTS = 64


@dataclass(frozen=True)
class Phases:
    """The loops of a step as three: over all steps ``before``, then over the steps of each part, over all steps
    ``after``.

    ``before`` has what the loops on large states need, and ``after`` what needs these.
    """

    before: tuple[Loop, ...]
    inside: tuple[Loop, ...]
    after: tuple[Loop, ...]


def in_phases(works: Sequence[Loop], large: Set[Array], carried: Set[Array]) -> Phases | None:
    """Return the loops of a step by whether they are on the way from one of ``large`` arrays to another.

    ``carried`` hold something from step to step. None where some array of one step has one place for two phases.
    """
    reads = [frozenset(place.array for place, _ in work.pointers.values()) for work in works]
    writes = [frozenset(place.array for place, written in work.pointers.values() if written) for work in works]
    order = range(len(works))
    needs = [{b for b in order if b != a and writes[b] & (reads[a] if b < a else reads[a] & carried)} for a in order]
    needed_by = [{a for a in order if b in needs[a]} for b in order]
    on_large = {at for at in order if reads[at] & large}
    before = _reached(on_large, needs)
    inside = before & _reached(on_large, needed_by)
    phase = [1 if at in inside else 0 if at in before else 2 for at in order]
    for array in frozenset[Array]().union(*writes):
        several = len({phase[at] for at in order if array in reads[at]}) > 1
        if several and not array.time and (array.window or array in carried):
            return None
    return Phases(*(tuple(work for work, of in zip(works, phase, strict=True) if of == which) for which in range(3)))


def _reached(start: Set[int], edges: Sequence[Set[int]]) -> set[int]:
    """Return the numbers that are reached from some, and these."""
    reached, stack = set(start), [*start]
    while stack:
        new = edges[stack.pop()] - reached
        reached |= new
        stack += new
    return reached


def crossing(phases: Iterable[Phases]) -> set[Array]:
    """Return the buffers of one step that one phase writes, and another one uses."""
    uses: dict[Array, set[int]] = {}
    for each in phases:
        for which, works in enumerate((each.before, each.inside, each.after)):
            for work in works:
                for place, _ in work.pointers.values():
                    uses.setdefault(place.array, set()).add(which)
    return {a for a, of in uses.items() if len(of) > 1 and a.kind == "buffer" and not (a.time or a.window)}


class _Whole(Exception):
    """Raised for a loop that has no parts."""


def in_parts(phases: Sequence[Phases], parts: int, buffer: Callable[[Array], Array]) -> list[Phases] | None:
    """Return the phases with the loops inside on one of so many parts of their elements, in their order.

    None where a loop needs an element of another part. A sum of all parts gets a ``buffer`` of what each adds.
    """
    uses: list[_Use] = []
    try:
        of_all = {array for each in phases for loop in each.inside for array in _sums_of_all(loop, parts)}
        in_parts = [_with_parts(each, parts, of_all, uses, buffer) for each in phases]
    except _Whole:
        return None
    of: dict[Array, list[_Use]] = {}
    for use in dict.fromkeys(uses):
        of.setdefault(use.array, []).append(use)
    meet = (a.meets(b, parts) for same in of.values() for a, b in product(same, same) if a.written)
    return None if any(meet) else in_parts


def _sums_of_all(loop: Loop, parts: int) -> Iterator[Array]:
    """Yield the array to which several parts of a loop's elements add."""
    for (pointer, index), (_, own) in zip(loop.elements_by_count(), loop.elements, strict=True):
        place, written = loop.pointers[pointer]
        if written and own is None and _repeats(_cut(index, loop.count, parts)[1], parts) > 1:
            if loop.summed is None:
                raise _Whole
            yield place.array


def _with_parts(
    phases: Phases, parts: int, of_all: Set[Array], uses: list[_Use], buffer: Callable[[Array], Array]
) -> Phases:
    inside: list[Loop] = []
    sums: list[Loop] = []
    for loop in phases.inside:
        elements: list[tuple[Place, Index | None]] = []
        axis, size = loop.axis, loop.size // parts
        for (pointer, index), (_, own) in zip(loop.elements_by_count(), loop.elements, strict=True):
            (place, is_written), (within, part) = loop.pointers[pointer], _cut(index, loop.count, parts)
            array, repeats = place.array, _repeats(part, parts) if is_written else 1
            whole, last = array.size // parts, place.offset + within.largest
            equal = part == _begins(parts, whole) and last < whole
            if own is None and repeats > 1:
                axis, size = (axis[0] // repeats, axis[1]), loop.size * repeats // parts
                each = buffer(replace(array, size=size * parts))
                sums.append(_sum_of_parts(each, place, loop, repeats, size))
                place = Place(each, part=_begins(parts, size), parts=parts)
            elif array in of_all or (not equal and (array.window or (is_written and not array.time))):
                raise _Whole
            else:
                uses.append(_Use(array, is_written, part, place.offset + within.offset, last))
                if array.window:
                    place = replace(place, array=replace(array, size=whole))
                else:
                    place = replace(place, part=part, parts=parts)
            elements.append((place, None if own is None else within))
        names = {place: f"p{i}" for i, place in enumerate(dict.fromkeys(place for place, _ in elements))}
        written_places = {
            place for (place, _), (p, _) in zip(elements, loop.elements, strict=True) if loop.pointers[p][1]
        }
        part_of_loop = replace(
            loop,
            size=size,
            count=loop.count // parts,
            pointers={name: (place, place in written_places) for place, name in names.items()},
            axis=axis,
            elements=[(names[place], index) for place, index in elements],
        )
        if loop.summed:
            part_of_loop.lines = sum_lines(axis[0], *loop.summed)
        inside.append(part_of_loop)
    return Phases(phases.before, tuple(inside), (*sums, *phases.after))


class _Use(NamedTuple):
    """The elements of an array that part n uses: from ``first`` to ``last``, both plus ``part.at(n)``."""

    array: Array
    written: bool
    part: Index
    first: int
    last: int

    def meets(self, other: _Use, parts: int) -> bool:
        """Return whether two different parts may share an element, one by each use."""
        if self.first > other.last + other.part.largest or other.first > self.last + self.part.largest:
            return False
        begins = sorted(self.part.at(part) for part in range(parts))
        least = min(after - before for before, after in pairwise(begins))
        return self.part != other.part or max(self.last, other.last) - min(self.first, other.first) >= least


def _cut(index: Index, count: int, parts: int) -> tuple[Index, Index]:
    """Return an index within a part of a loop's elements, and where each part begins, by its number."""
    unit = count // parts
    low: list[Digit] = []
    high: list[Digit] = []
    for digit in index.digits:
        inside = unit // digit.divisor
        if digit.of is not None or count % parts:
            raise _Whole
        if digit.divisor % unit == 0:
            high.append(replace(digit, divisor=digit.divisor // unit))
        elif unit % (digit.divisor * digit.size) == 0:
            low.append(digit)
        elif not inside or unit % digit.divisor or digit.size % inside:
            raise _Whole
        else:
            low.append(replace(digit, size=inside))
            high.append(Digit(1, digit.size // inside, digit.stride * inside))
    return Index() + Index(tuple(low), index.offset), Index() + Index(tuple(high))


def _begins(parts: int, size: int) -> Index:
    """Return where parts of one size begin that follow each other."""
    return Index((Digit(1, parts, size),))


def _repeats(part: Index, parts: int) -> int:
    """Return how many parts after each other begin at the same place."""
    return part.digits[0].divisor if part.digits else parts


def _sum_of_parts(parts: Array, whole: Place, loop: Loop, repeats: int, inner: int) -> Loop:
    """Return the loop that adds up partial sums: ``repeats`` parts for each element of ``whole``."""
    sum_ = Loop(loop.size, loop.size * repeats, {"p0": (Place(parts), False), "p1": (whole, True)}, independent=False)
    sum_.axis, sum_.arithmetic = (repeats, inner), True
    sum_.summed = sum_.element("p0", counter(parts.size)), sum_.element("p1", None)
    sum_.lines += sum_lines(sum_.axis[0], *sum_.summed)
    return sum_
