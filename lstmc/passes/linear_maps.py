"""Linear recurrences over sequences as nodes: chunks in lockstep, or doubling.

A recurrence h' = a h + b applies an affine map at each step. The maps of two steps, (a1, b1) and (a2, b2), are together
one map (a2 a1, a2 b1 + b2): this product is associative, so steps can be joined in any order. Nothing is divided by a
product of factors: if the product underflows, the value that it multiplies is negligible too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from types import MappingProxyType

from lstmc.ir import Builder, Ref, broadcast
from lstmc.ops import Add, Concat, Full, Maximum, Mul, Reshape, Split, Tile
from lstmc.passes.base import Refs
from lstmc.patterns import LEAST, Kind, Recurrence

Factors = Mapping[tuple[int, int], Ref | None]  # None is the neutral factor; a missing factor is zero
Offsets = Mapping[int, Ref]
NO_OFFSETS: Offsets = MappingProxyType({})


@dataclass(frozen=True)
class Map:
    """The affine map of some steps: offsets, and factors by pairs of states, the result's and the multiplied one.

    A factor that is the same at every step has one step.
    """

    factors: Factors
    offsets: Offsets


class Steps:
    """Nodes on sequences of the maps of a recurrence."""

    def __init__(self, b: Builder, length: int, reverse: bool, recurrence: Recurrence) -> None:
        self.b, self.length, self.reverse, self.recurrence = b, length, reverse, recurrence
        self.maximum = recurrence.kind is Kind.MAXIMUM

    # sequences along the first axis, in the order of time ------------------------------------------------------

    def cut(self, x: Ref, first: int, axis: int = 0) -> tuple[Ref, Ref]:
        """Return the first steps, in the order in which they run, and the rest; a single step is repeated as needed."""
        size = self.b.type(x).shape[axis]
        if size == 1:
            return x, x
        sizes = (size - first, first) if self.reverse else (first, size - first)
        one, other = self.b.add(Split(axis, sizes), x)
        return (other, one) if self.reverse else (one, other)

    def joined(self, *parts: Ref, axis: int = 0) -> Ref:
        """Return parts, given in the order in which they run, joined in time."""
        ordered = parts[::-1] if self.reverse else parts
        return ordered[0] if len(ordered) == 1 else self.b.add(Concat(axis), *ordered)[0]

    def previous(self, x: Ref, initial: Ref) -> Ref:
        """Return the sequence of the states before each step, from the states after each step."""
        (row,) = self.b.add(Reshape((1, *self.b.type(initial).shape)), initial)
        return self.joined(row, self.cut(x, self.length - 1)[0])

    def last(self, x: Ref, name: str) -> Ref:
        """Return the value at the step that runs last."""
        row = self.cut(x, self.length - 1)[1]
        return self.b.add(Reshape(self.b.type(x).shape[1:]), row, names=(name,))[0]

    # maps ------------------------------------------------------------------------------------------------------

    def _times(self, x: Ref | None, y: Ref | None) -> Ref | None:
        if x is None or y is None:
            return y if x is None else x
        return self.b.add(Add() if self.maximum else Mul(), x, y)[0]

    def _plus(self, earlier: Ref, later: Ref) -> Ref:
        if not self.maximum:
            return self.b.add(Add(), earlier, later)[0]
        return self.b.add(Maximum(), *((earlier, later) if self.recurrence.later else (later, earlier)))[0]

    def _applied(self, factors: Factors, values: Offsets, offsets: Offsets = NO_OFFSETS) -> dict[int, Ref]:
        """Return factors @ values + offsets."""
        results = dict[int, Ref]()
        for state in self.recurrence.states:
            terms = [
                self._times(factors[state, other], value)
                for other, value in values.items()
                if (state, other) in factors
            ]
            terms += [offsets[state]] if state in offsets else []
            if terms:
                total, *rest = terms
                for term in rest:
                    assert total is not None
                    assert term is not None
                    total = self._plus(total, term)
                assert total is not None
                results[state] = total
        return results

    def _product(self, later: Factors, earlier: Factors) -> dict[tuple[int, int], Ref | None]:
        """Return later @ earlier."""
        results: dict[tuple[int, int], Ref | None] = {}
        for (state, middle), x in later.items():
            for (other_middle, other), y in earlier.items():
                if middle != other_middle:
                    continue
                term = self._times(x, y)
                if (state, other) in results:
                    one = results[state, other]
                    term = self._plus(self._number(one, term), self._number(term, one))
                results[state, other] = term
        return results

    def _number(self, x: Ref | None, like: Ref | None) -> Ref:
        """Return a factor as a value; the neutral factor in the shape of ``like``."""
        if x is not None:
            return x
        shape = (1,) if like is None else self.b.type(like).shape
        return self.b.add(Full(shape, 0.0 if self.maximum else 1.0))[0]

    def _maps(self, sequences: Mapping[Ref, Ref]) -> Map:
        factors = {key: None if r is None else sequences[r] for key, r in self.recurrence.factors.items()}
        return Map(factors, {s: sequences[r] for s, r in self.recurrence.offsets.items() if r is not None})

    def _zero(self, x: Ref) -> bool:
        """Return whether the initial value of a state adds nothing."""
        op = self.b.node(x.node).op
        return not self.maximum and isinstance(op, Full) and op.value == 0

    # forms -----------------------------------------------------------------------------------------------------

    def doubling(self, sequences: Mapping[Ref, Ref], initial: Mapping[int, Ref]) -> dict[int, Ref]:
        """Return the states after each step: log2(T) times each step is joined with an earlier step."""
        shapes = {s: self.b.type(ref).shape for s, ref in initial.items()}
        begun = {s: self.b.add(Reshape((1, *shapes[s])), r)[0] for s, r in initial.items() if not self._zero(r)}
        return self._doubled(self._maps(sequences), begun, shapes, self.length)

    def _doubled(
        self, steps: Map, begun: Offsets, shapes: Mapping[int, tuple[int, ...]], length: int
    ) -> dict[int, Ref]:
        """Return the states after each step, by doubling; ``begun`` are nonzero first states, as steps."""
        values, factors = self._begun(steps, begun, length), dict(steps.factors)
        for key, ref in factors.items():  # the factor of the first step is no longer needed
            factors[key] = None if ref is None else self.cut(ref, 1)[1]
        distance = 1
        while distance < length:
            earlier = {s: self.cut(x, length - distance)[0] for s, x in values.items()}
            cuts = {s: self.cut(x, distance) for s, x in values.items()}
            joined = self._applied(factors, earlier, {s: rest for s, (_, rest) in cuts.items()})
            for state, rest in joined.items():
                head = cuts[state][0] if state in cuts else self._zeros((distance, *shapes[state]))
                values[state] = self.joined(head, rest)
            if 2 * distance < length:
                left = length - 2 * distance
                late = {k: None if x is None else self.cut(x, distance)[1] for k, x in factors.items()}
                early = {k: None if x is None else self.cut(x, left)[0] for k, x in factors.items()}
                factors = self._product(late, early)
            distance *= 2
        for state in self.recurrence.states:
            if state not in values:
                values[state] = self._zeros((length, *shapes[state]))
        return values

    def _zeros(self, shape: tuple[int, ...]) -> Ref:
        return self.b.add(Full(shape, 0.0))[0]

    def _begun(self, steps: Map, begun: Offsets, length: int) -> dict[int, Ref]:
        """Return the offsets with the initial states' contribution to the first step."""
        if not begun:
            return dict(steps.offsets)
        if length == 1:
            return self._applied(steps.factors, begun, steps.offsets)
        cuts = {s: self.cut(x, 1) for s, x in steps.offsets.items()}
        first = {k: None if x is None else self.cut(x, 1)[0] for k, x in steps.factors.items()}
        values = self._applied(first, begun, {s: head for s, (head, _) in cuts.items()})
        for state, head in values.items():
            rest = (length - 1, *self.b.type(head).shape[1:])
            if state in cuts:
                values[state] = self.joined(head, cuts[state][1])
            else:
                values[state] = self.joined(head, self._least(rest) if self.maximum else self._zeros(rest))
        return values

    def _least(self, shape: tuple[int, ...]) -> Ref:
        return self.b.add(Full(shape, LEAST))[0]

    def chunks(self, sequences: Mapping[Ref, Ref], initial: Mapping[int, Ref]) -> dict[int, Ref]:
        """Return the states after each step: chunks in lockstep, the states between them, and a correction.

        Each place in a chunk has a matrix, with a row for each chunk and a column for each element of a state.
        """
        length = chunk_length(self.length)
        count = -(-self.length // length)
        steps = self._maps(sequences)
        refs = dict.fromkeys((*steps.factors.values(), *steps.offsets.values()))
        cut = {ref: self.chunked(ref, count, length) for ref in refs if ref is not None}
        factors: Factors = {}
        values: dict[int, Ref] = {}
        all_factors: list[Factors] = []
        all_values: list[dict[int, Ref]] = []
        for t in self.order(length):
            of_step = {k: None if r is None else cut[r][t] for k, r in steps.factors.items()}
            values = self._applied(of_step, values, {s: cut[r][t] for s, r in steps.offsets.items()})
            factors = self._product(of_step, factors) if all_factors else of_step
            all_factors.append(factors)
            all_values.append(values)
        starts = self._starts(factors, values, initial, count)
        results = dict[int, Ref]()
        for state, first in initial.items():
            shape = self.b.type(first).shape
            row = (1, self.b.type(first).size)
            matrix = (count, row[1])
            own = [each.get(state) for each in all_values]
            total = self._beside(own, matrix) if any(own) else None
            for other, start in starts.items():
                parts = [each[state, other] if (state, other) in each else self._zeros(row) for each in all_factors]
                (begin,) = self.b.add(Tile(1, length), start) if length > 1 else (start,)
                if any(parts):
                    (begin,) = self.b.add(Add() if self.maximum else Mul(), self._factors_beside(parts, row), begin)
                total = begin if total is None else self._plus(begin, total)
            whole = (count * length, *shape)
            total = self._zeros(whole) if total is None else self.b.add(Reshape(whole), total)[0]
            results[state] = total if count * length == self.length else self.cut(total, self.length)[0]
        return results

    def _beside(self, parts: Sequence[Ref | None], shape: tuple[int, ...]) -> Ref:
        return self.joined(*(self._zeros(shape) if x is None else x for x in parts), axis=1)

    def _factors_beside(self, parts: Sequence[Ref | None], row: tuple[int, ...]) -> Ref:
        """Return the factors of each place in a chunk, side by side: a row for each chunk, or one row for all
        chunks."""
        ones = [self.b.add(Full(row, 0.0 if self.maximum else 1.0))[0] if x is None else x for x in parts]
        rows = max(self.b.type(x).shape[0] for x in ones)
        return self.joined(*(broadcast(self.b, x, (rows, row[1])) for x in ones), axis=1)

    def order(self, count: int) -> range:
        return range(count - 1, -1, -1) if self.reverse else range(count)

    def chunked(self, x: Ref, count: int, length: int, copies: int = 1) -> Refs:
        """Return the steps of all chunks, in copies: for each place in a chunk a matrix with a row for each chunk."""
        steps, *shape = self.b.type(x).shape
        if steps == 1:
            return self.b.add(Reshape((1, prod(shape))), x) * length
        if count * length > self.length:
            x = self.joined(x, self._zeros((count * length - self.length, *shape)))
        columns = self.b.type(x).size // count
        (rows,) = self.b.add(Reshape((count, columns)), x)
        (rows,) = self.b.add(Tile(0, copies), rows) if copies > 1 else (rows,)
        return self.b.add(Split(1, (columns // length,) * length), rows) if length > 1 else (rows,)

    def _starts(
        self, factors: Factors, offsets: Mapping[int, Ref], initial: Mapping[int, Ref], count: int
    ) -> dict[int, Ref]:
        """Return the states at the start of each chunk as rows, without states that are all zero.

        They are computed one chunk after the other, or by doubling if that is fewer nodes.
        """
        rows = {s: (1, self.b.type(ref).size) for s, ref in initial.items()}
        current = {s: self.b.add(Reshape(rows[s]), ref)[0] for s, ref in initial.items() if not self._zero(ref)}
        if nodes_between(count) < 2 * count:
            columns = {s: shape[1:] for s, shape in rows.items()}
            ended = self._doubled(Map(factors, offsets), current, columns, count)
            first = {s: current[s] if s in current else self._zeros(rows[s]) for s in ended}
            return {s: self.joined(first[s], self.cut(x, count - 1)[0]) for s, x in ended.items()}
        cut = {
            ref: self.b.add(Split(0, (1,) * count), ref) if self.b.type(ref).shape[0] > 1 else (ref,) * count
            for ref in dict.fromkeys((*factors.values(), *offsets.values()))
            if ref is not None
        }
        starts = []
        for c in self.order(count):
            starts.append(current)
            if len(starts) < count:
                of_chunk = {k: None if r is None else cut[r][c] for k, r in factors.items()}
                current = self._applied(of_chunk, current, {s: cut[r][c] for s, r in offsets.items()})
        needed = [s for s in self.recurrence.states if any(s in each for each in starts)]
        return {s: self.joined(*(each.get(s) or self._zeros(rows[s]) for each in starts)) for s in needed}


def chunk_length(steps: int) -> int:
    """Return the number of steps of a chunk: the number with the fewest nodes in all, but at least half of sqrt(T)."""
    root = int(sqrt(steps))  # of an open size this is an OverflowError, which keeps T fixed; isqrt would be endless

    def nodes(length: int) -> int:
        count = -(-steps // length)
        return 3 * length + nodes_between(count) + (4 if count * length > steps else 0)

    return min(range(max(1, root // 2), 2 * root + 1), key=nodes)


def nodes_between(chunks: int) -> int:
    """Return about how many nodes compute the states between chunks."""
    return min(2 * chunks, 8 * (chunks - 1).bit_length() + 4)


def recurrence_nodes(steps: int, form: str) -> int:
    """Return about how many nodes a form of one state has."""
    if form == "doubling":
        return 8 * (steps - 1).bit_length()
    length = chunk_length(steps)
    return 3 * length + nodes_between(-(-steps // length)) + 8
