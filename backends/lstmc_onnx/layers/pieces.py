"""Parts of weights: each weight is cut once, at all places where something is wanted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from lstmc.ir import NEGATE, Builder, Graph, Ref
from lstmc.ops import Concat, Full, Reshape, Split
from lstmc.patterns import Matrix, Place

Range = tuple[int, int]


class Pieces:
    """Cuts weights of ``graph`` in the graph that is being built; ``need`` gives what stands for a value there."""

    def __init__(self, graph: Graph, b: Builder, need: Callable[[Ref], Ref], wanted: Iterable[Matrix | Place]) -> None:
        self.graph, self.b, self.need = graph, b, need
        self._cuts: dict[tuple[Ref, Range | None], set[int]] = {}
        self._made: dict[tuple[Ref, Range | None], dict[Range, Ref]] = {}
        for at in wanted:
            rows = self._rows(at)
            self._cuts.setdefault((at.ref, None), set()).update(rows)
            if isinstance(at, Matrix):
                self._cuts.setdefault((at.ref, rows), set()).update(at.columns)

    def part(self, at: Matrix | Place, negated: bool = False) -> Ref:
        """Rows, and columns, of a matrix; or a part of a vector, [H]."""
        rows = self._rows(at)
        axis = 0 if isinstance(at, Matrix) else self._rank(at) - 1
        found = self._cut(self.need(at.ref), at.ref, None, rows, axis)
        if isinstance(at, Matrix):
            found = self._cut(found, at.ref, rows, at.columns, 1)
        elif self._rank(at) > 1:
            (found,) = self.b.add(Reshape((rows[1] - rows[0],)), found)
        return self.b.add(NEGATE, found)[0] if negated else found

    def zeros(self, *shape: int) -> Ref:
        return self.b.add(Full(shape))[0]

    def join(self, parts: list[Ref], axis: int) -> Ref:
        return parts[0] if len(parts) == 1 else self.b.add(Concat(axis), *parts)[0]

    def _rank(self, at: Matrix | Place) -> int:
        return self.graph.type(at.ref).rank

    def _rows(self, at: Matrix | Place) -> Range:
        rows = at.rows if isinstance(at, Matrix) else at.columns
        assert rows is not None
        return rows

    def _cut(self, x: Ref, ref: Ref, rows: Range | None, wanted: Range, axis: int) -> Ref:
        """Part of x along an axis: of what stands for ``ref``, or for some rows of it."""
        key = ref, rows
        if key not in self._made:
            size = self.b.type(x).shape[axis]
            bounds = sorted({0, size, *self._cuts[key]})
            ranges = list(pairwise(bounds))
            pieces = (x,) if len(ranges) == 1 else self.b.add(Split(axis, tuple(e - s for s, e in ranges)), x)
            self._made[key] = dict(zip(ranges, pieces, strict=True))
        inside = [piece for (start, end), piece in self._made[key].items() if wanted[0] <= start and end <= wanted[1]]
        return self.join(inside, axis)
