"""The loops of a step as C++ for a CPU: nested by the axes of values, and neighbours in one nest where they may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from lstmc.loops.index import Axis, Index, nest_of
from lstmc.loops.memory import Loop, Place, Product, Work, with_elements
from lstmc.loops.vectors import fits_vectors, in_vectors


@dataclass(frozen=True)
class Nest:
    """Loops over equally many elements, fused: a value written by one is in a register for the following ones.

    A sum is in the nest of what computes its operand: a state is updated and read in one pass over its elements.
    ``own`` are the arrays that nothing else uses.
    """

    loops: tuple[Loop, ...]
    own: frozenset[str] = frozenset()

    @property
    def pointers(self) -> dict[str, tuple[Place, bool]]:
        """Return the places of all loops by the pointers' names, and whether they are written."""
        names = self.names()
        by_name = {name: (place, False) for place, name in names.items()}
        for loop in self.loops:
            for place, written in loop.pointers.values():
                by_name[names[place]] = place, by_name[names[place]][1] or written
        return by_name

    def names(self) -> dict[Place, str]:
        """Return the pointers' names for the places of all loops."""
        places = dict.fromkeys(place for loop in self.loops for place, _ in loop.pointers.values())
        return {place: f"p{i}" for i, place in enumerate(places)}

    def axes(self) -> tuple[Axis, ...]:
        """The nested loops, the outermost first; none where indices need divisions, or no order of them fits all."""
        bounds = [bound for loop in self.loops if loop.summed for bound in (loop.axis[1], loop.axis[0] * loop.axis[1])]
        indices = [index for loop in self.loops for _, index in loop.elements_by_count()]
        return nest_of(self.loops[0].count, indices, bounds)

    @property
    def flat(self) -> bool:
        """Whether one loop over ``j`` is enough."""
        (first, *others), axes = self.loops, self.axes()
        return not others and (len(axes) < 2 or not (first.independent or first.summed))

    def lines(self) -> list[str]:
        """Return the lines for all elements of a row."""
        if self.flat:
            (loop,) = self.loops
            head = f"for (int j = 0; j < {loop.size}; ++j) {{"
            pragma = ["#pragma GCC ivdep"] if loop.independent else []
            return [*pragma, head, *(f"  {line}" for line in loop.by_counter()), "}"]
        axes, names = self.axes(), self.names()
        return (
            in_vectors(self.loops, axes, names, self.own)
            if fits_vectors(self.loops, axes)
            else self._by_element(axes, names)
        )

    def _by_element(self, axes: tuple[Axis, ...], names: Mapping[Place, str]) -> list[str]:
        zeros: list[str] = []
        body: list[str] = []
        sums: list[str] = []  # the results of sums along the innermost axes
        along = axes
        for loop in self.loops:
            texts = [
                f"{names[loop.pointers[pointer][0]]}[{index.in_nest(axes)}]"
                for pointer, index in loop.elements_by_count()
            ]
            if not loop.summed:
                body += [str(with_elements(line, texts.__getitem__)) for line in loop.lines]
                continue
            x, y = (with_elements(element, texts.__getitem__) for element in loop.summed)
            length, inner = loop.axis
            if inner == 1:
                along = tuple(axis for axis in axes if axis.divisor < length)
                body.append(f"s{len(sums)} += {x};")
                sums.append(y)
            else:
                result = y.partition("[")[0]
                zeros += [f"for (int j = 0; j < {loop.size}; ++j) {result}[j] = 0.0f;"]
                body.append(f"{y} += {x};")
        names_of_sums = [f"s{i}" for i in range(len(sums))]
        reduction = f"#pragma omp simd reduction(+ : {', '.join(names_of_sums)})"
        inside = _nested(along, body, reduction if sums else "#pragma GCC ivdep")
        if sums:
            begun = f"float {', '.join(f'{name} = 0.0f' for name in names_of_sums)};"
            inside = [begun, *inside, *(f"{y} = {name};" for name, y in zip(names_of_sums, sums, strict=True))]
        return [*zeros, *_nested(axes[: len(axes) - len(along)], inside)]


def nests(works: Iterable[Work], carried: Set[str]) -> list[Product | Nest]:
    """Return the work of a step in its order, with neighbouring loops in one nest where that computes the same.

    ``carried`` are the buffers that hold something from step to step.
    """
    merged: list[Product | Nest] = []
    for work in works:
        if isinstance(work, Product):
            merged.append(work)
            continue
        last = merged[-1] if merged else None
        if isinstance(last, Nest) and _go_together(last.loops, work):
            merged[-1] = Nest((*last.loops, work))
        else:
            merged.append(Nest((work,)))
    uses = Counter(name for work in merged for name in {*_buffers(work)})
    alone = {name for name, count in uses.items() if count == 1} - carried
    return [
        replace(work, own=frozenset(alone & {*_buffers(work)})) if isinstance(work, Nest) else work for work in merged
    ]


def _buffers(work: Product | Nest) -> Iterable[str]:
    """Return the buffers of a step that it uses."""
    places = (work.x, work.y) if isinstance(work, Product) else work.names()
    return (p.array.name for p in places if p.array.kind == "buffer" and not p.array.time and not p.array.window)


def _go_together(loops: Sequence[Loop], loop: Loop) -> bool:
    """Return whether a loop may run element by element with those before it."""
    every = (*loops, loop)
    sums = [each for each in every if each.summed]
    if len({each.count for each in every}) > 1 or not all(each.independent or each.summed for each in every):
        return False
    if not sums or len({each.axis[0] for each in sums if each.axis[1] == 1}) > 1:
        return False
    if any(_is_unfusable(before, loop) for before in loops):
        return False
    return bool(Nest(every).axes())


def _is_unfusable(first: Loop, second: Loop) -> bool:
    """Return whether two loops cannot be fused: one needs a sum of the other, or another element than the one just
    written.
    """
    return any(
        one.array == other.array
        and one.shift == other.shift
        and (written or read_after)
        and (one != other or index != after or sum_ or other_sum)
        for one, index, written, sum_ in _uses(first)
        for other, after, read_after, other_sum in _uses(second)
    )


def _uses(loop: Loop) -> list[tuple[Place, Index, bool, bool]]:
    """Each element that a loop uses: its place and index, whether the place is written, and whether that is a sum."""
    places = [loop.pointers[pointer] for pointer, _ in loop.elements]
    return [
        (place, index, written, raw is None)
        for (place, written), (_, index), (_, raw) in zip(places, loop.elements_by_count(), loop.elements, strict=True)
    ]


def _nested(axes: Sequence[Axis], lines: list[str], pragma: str = "") -> list[str]:
    """Lines in loops, the first axis outermost; a pragma for the innermost."""
    for axis in reversed(axes):
        head = f"for (int {axis.counter} = 0; {axis.counter} < {axis.size}; ++{axis.counter}) {{"
        body = [line if line.startswith("#") else f"  {line}" for line in lines]
        lines, pragma = [*filter(None, [pragma]), head, *body, "}"], ""
    return lines
