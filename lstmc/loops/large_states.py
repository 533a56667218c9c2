"""The memory of large states: recomputed instead of kept for every step, updated in place, computed part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from lstmc.ir import Graph, Ref
from lstmc.loops.index import Digit, Index, counter, offset_of
from lstmc.loops.loop_code import CHEAP, ELEMENT, MOVES, Values
from lstmc.loops.memory import Array, Call, Loop, Place, Store, sum_lines
from lstmc.ops import Arg, Full, Linear

C = TypeVar("C", bound=Call)
W = TypeVar("W", bound=Call | Loop)
Mask = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
WINDOW = 2**17
"""The largest number of floats of a row that the steps of a chunk recompute: half of a second-level cache of 1 MiB."""
FEWEST, MOST = 4, 64  # steps of a chunk


class Recomputation:
    """The values of a body that are larger than all their operands, so that recomputing them moves less memory.

    Examples are an outer product, and a state to which an outer product is added. ``states`` maps each such state to
    its value after the step: such states are stored after every ``chunk`` steps, and the steps between are recomputed.
    ``larger`` are all such values, except results of cheap ops. ``chunk`` is 0 if there is no such state, and larger if
    states are computed in several ``parts``.
    """

    def __init__(self, body: Graph, following: Mapping[Ref, Ref], outputs: Iterable[Ref], parts: int = 1) -> None:
        self._body, self._values = body, Values(body, {})
        # stored for every step anyway: outputs, and products' operands, because the gradients of weights read all steps
        whole = {self._values.origin(ref)[0] for ref in outputs}
        whole |= {self._values.origin(body.args(node.name)[0])[0] for node in body if isinstance(node.op, Linear)}
        elementwise = {state: after for state, after in following.items() if type(body.node(after.node).op) in ELEMENT}
        self.states = {state: after for state, after in elementwise.items() if not {state, after} & whole}
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
        """Return the values of elementwise ops with more elements than the values that they can be recomputed from."""
        larger = set()
        reads: dict[str, frozenset[Ref]] = {}  # node -> the values that must be kept for every step to recompute it
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
    works: Sequence[C | Loop], before: Array, after: Array, buffer: Callable[[Array], Array], serial: bool = False
) -> list[C | Loop]:
    """Return the loops and calls of a step with the new state ``after`` in the memory of the old state ``before``. If
    an old element is read after it would be overwritten, the new state is computed in ``buffer``, and copied at the
    end. With ``serial`` a loop computes one element after the other, so that it may move elements of the state to the
    front in place."""
    ordered = [*works] if _may_be_one(works, before, after) else _shifted(works, before, after) if serial else None
    if ordered is not None:
        return [with_array(work, after, before) for work in ordered]
    own = buffer(before)
    copy = Loop(after.size, after.size, {"p0": (Place(own), False), "p1": (Place(before), True)})
    value, element = (copy.element(pointer, counter(after.size)) for pointer in copy.pointers)
    copy.lines.append(Store(element, value, False, False))
    copy.comments.append(f"{before.name} = {own.name}")
    return [*(with_array(work, after, own) for work in works), copy]


def _may_be_one(works: Sequence[Call | Loop], before: Array, after: Array) -> bool:
    """Return whether no element of ``before`` is read after the same element of ``after`` is written."""
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


def _shifted(works: Sequence[C | Loop], before: Array, after: Array) -> list[C | Loop] | None:
    """Return loops and calls in an order in which no element is read after it is overwritten: loops that only copy run
    as late as possible. Return None if there is no such order."""
    changed = {work.y.array for work in works if isinstance(work, Call)}
    loops = [work for work in works if isinstance(work, Loop)]
    changed |= {place.array for loop in loops for place, is_written in loop.pointers.values() if is_written}
    copies = [loop for loop in loops if _only_copies(loop, before, after, changed)]
    rest = [work for work in works if work not in copies]
    uses = [_Uses.of(work, before, after) for work in rest]
    places: list[list[Loop]] = [[] for _ in range(len(rest) + 1)]
    for copy in sorted(copies, key=lambda copy: int(_Uses.of(copy, before, after).written.argmax())):
        own = _Uses.of(copy, before, after)
        waiting = (at for at, use in enumerate(uses) if (use.written & own.old | use.new & own.written).any())
        places[next(waiting, len(rest))].append(copy)
    ordered: list[C | Loop] = [*places[0]]
    for work, behind in zip(rest, places[1:], strict=True):
        ordered += [work, *behind]
    overwritten = np.zeros(before.size, bool)
    for work in ordered:
        own = _Uses.of(work, before, after)
        inside = work in copies or (isinstance(work, Loop) and same_elements(work, before, after))
        if (own.old & overwritten).any() or (not inside and (own.old & own.written).any()):
            return None
        overwritten |= own.written
    return ordered


class _Uses(NamedTuple):
    """Masks of the elements that a loop or call reads of the old state, and uses and writes of the new state."""

    old: Mask
    new: Mask
    written: Mask  # the elements of ``new`` that the loop or call writes

    @classmethod
    def of(cls, work: Call | Loop, before: Array, after: Array) -> _Uses:
        """Return the elements that a loop uses. A call uses all elements of an array or none."""
        uses = cls(*np.zeros((3, before.size), bool))
        if isinstance(work, Call):
            read = [place.array for place in work.operands]
            for mask, used in zip(uses, (before in read, after in read, work.y.array == after), strict=True):
                mask[:] = used
            return uses
        for pointer, index in work.elements_by_count():
            place, is_written = work.pointers[pointer]
            if place.array in (before, after):
                for mask in (uses.old,) if place.array == before else (uses.new, uses.written)[: 1 + is_written]:
                    mask[_elements(work, place, index)] = True
        return uses


def _elements(loop: Loop, place: Place, index: Index) -> IntArray:
    return place.offset + index.at(np.arange(loop.count))


def _only_copies(loop: Loop, before: Array, after: Array, changed: Set[Array]) -> bool:
    """Return whether a loop only copies elements of an array that does not change. A copy from ``before`` may write an
    element only if the loop has read it already."""
    used = [(*loop.pointers[pointer], index) for pointer, index in loop.elements_by_count()]
    read = [(place, index) for place, is_written, index in used if not is_written and place.array not in changed]
    written = [(place, index) for place, is_written, index in used if is_written and place.array == after]
    if loop.summed or len(used) != 2 or not len(read) == len(written) == 1:
        return False
    if read[0][0].array != before:
        return True
    turns = np.full((2, before.size), -1)
    for turn, (place, index) in zip(turns, (*read, *written), strict=True):
        turn[_elements(loop, place, index)] = np.arange(loop.count)
    return bool((turns[0] <= turns[1])[turns.min(0) >= 0].all())


def same_elements(loop: Loop, before: Array, after: Array) -> bool:
    """Return whether a loop can update a state in place: each turn reads only element i of ``before``, and does not
    read it after element i of ``after`` is written."""
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


@dataclass(frozen=True)
class Phases:
    """The loops of a step in three phases: ``before`` runs for all steps; ``inside``, the loops on large states, for
    all steps of one part of the states, then of the next part; ``after`` for all steps."""

    before: tuple[Loop, ...]
    inside: tuple[Loop, ...]
    after: tuple[Loop, ...]


def in_phases(works: Sequence[Loop], large: Set[Array], carried: Set[Array]) -> Phases | None:
    """Return the loops of a step in three phases. ``inside`` has the loops that read a ``large`` array, and the
    loops between two such loops. ``carried`` arrays hold values from step to step. Return None if two phases would use
    an array that has room for only one step."""
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
    """Return the numbers reachable from ``start``, and ``start`` itself."""
    reached, stack = set(start), [*start]
    while stack:
        new = edges[stack.pop()] - reached
        reached |= new
        stack += new
    return reached


def crossing(phases: Iterable[Phases]) -> set[Array]:
    """Return the buffers with room for one step that loops of several phases use."""
    uses: dict[Array, set[int]] = {}
    for each in phases:
        for which, works in enumerate((each.before, each.inside, each.after)):
            for work in works:
                for place, _ in work.pointers.values():
                    uses.setdefault(place.array, set()).add(which)
    return {a for a, of in uses.items() if len(of) > 1 and a.kind == "buffer" and not (a.time or a.window)}


class _Whole(Exception):
    """Raised for a loop that cannot be divided into parts."""


def in_parts(phases: Sequence[Phases], parts: int, buffer: Callable[[Array], Array]) -> list[Phases] | None:
    """Return ``phases``, with each loop that is ``inside`` on one of ``parts`` equal parts of its elements. A sum over
    all parts gets a ``buffer`` with the sum of each part. Return None if a loop needs an element of another part."""
    uses: list[_Use] = []
    try:
        of_all = {array for each in phases for loop in each.inside for array in _sums_of_all(loop, parts)}
        divided = [_with_parts(each, parts, of_all, uses, buffer) for each in phases]
    except _Whole:
        return None
    of: dict[Array, list[_Use]] = {}
    for use in dict.fromkeys(uses):
        of.setdefault(use.array, []).append(use)
    meet = (a.meets(b, parts) for same in of.values() for a, b in product(same, same) if a.written)
    return None if any(meet) else divided


def _sums_of_all(loop: Loop, parts: int) -> Iterator[Array]:
    """Yield each array to which several parts of a loop add. Raise _Whole if parts write one element without a sum."""
    for (pointer, index), (_, own) in zip(loop.elements_by_count(), loop.elements, strict=True):
        place, written = loop.pointers[pointer]
        if written and own is None and _repeats(_cut(index, loop.count, parts)[1], parts) > 1:
            if loop.summed is None:
                raise _Whole
            yield place.array


def _with_parts(
    phases: Phases, parts: int, of_all: Set[Array], uses: list[_Use], buffer: Callable[[Array], Array]
) -> Phases:
    """Return the phases of a pass, with each loop that is ``inside`` on one part. ``of_all`` are arrays to whose
    elements several parts add; what a part uses is appended to ``uses``. Raise _Whole if a loop cannot be divided."""
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
        part_of_loop = loop.with_places(elements, size=size, count=loop.count // parts, axis=axis)
        if loop.summed:
            part_of_loop.lines = sum_lines(axis[0], *loop.summed)
        inside.append(part_of_loop)
    return Phases(phases.before, tuple(inside), (*sums, *phases.after))


class _Use(NamedTuple):
    """The elements of an array that part n uses: ``first + part.at(n)`` to ``last + part.at(n)``."""

    array: Array
    written: bool
    part: Index
    first: int
    last: int

    def meets(self, other: _Use, parts: int) -> bool:
        """Return whether two different parts may use one element: one part by this use, the other by ``other``."""
        if self.first > other.last + other.part.largest or other.first > self.last + self.part.largest:
            return False
        begins = sorted(self.part.at(part) for part in range(parts))
        least = min(after - before for before, after in pairwise(begins))
        return self.part != other.part or max(self.last, other.last) - min(self.first, other.first) >= least


def _cut(index: Index, count: int, parts: int) -> tuple[Index, Index]:
    """Return the index of an element in the first part of a loop, and the index by which part n is displaced. Raise
    _Whole if the index is not a sum of the two."""
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
    """Return the index at which part n of consecutive parts of ``size`` elements begins."""
    return Index((Digit(1, parts, size),))


def _repeats(part: Index, parts: int) -> int:
    """Return how many consecutive parts begin at the same place."""
    return part.digits[0].divisor if part.digits else parts


def _sum_of_parts(parts: Array, whole: Place, loop: Loop, repeats: int, inner: int) -> Loop:
    """Return the loop that adds ``repeats`` sums of parts for each element of ``whole``, the result of ``loop``."""
    sum_ = Loop(loop.size, loop.size * repeats, {"p0": (Place(parts), False), "p1": (whole, True)}, independent=False)
    sum_.axis, sum_.arithmetic = (repeats, inner), True
    sum_.summed = sum_.element("p0", counter(parts.size)), sum_.element("p1", None)
    sum_.lines += sum_lines(sum_.axis[0], *sum_.summed)
    return sum_
