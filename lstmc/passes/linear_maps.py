"""Linear recurrences over sequences as nodes: chunks in lockstep, doubling, or products with powers of a matrix.

A recurrence h' = a h + b applies an affine map at each step. The maps of two steps, (a1, b1) and (a2, b2), are together
one map (a2 a1, a2 b1 + b2): this product is associative, so steps can be joined in any order. Nothing is divided by a
product of factors: if the product underflows, the value that it multiplies is negligible too.

The matrix that a step applies to a state, such as the outer products of DeltaNet, is known only through the step's
nodes. Run on the rows of the identity, these nodes give the matrix of a chunk. If the matrix is the same at every step,
its powers are weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count
from math import isqrt, prod, sqrt
from types import MappingProxyType
from typing import Self

import numpy as np

from lstmc import ops
from lstmc.ir import Builder, Graph, Ref, broadcast, op_over_time, over_steps, reshaped
from lstmc.ops import Array, Binary, Op, Values
from lstmc.passes.base import Refs, with_role
from lstmc.passes.precompute import LARGEST
from lstmc.patterns import LEAST, Kind, MatrixStep, Recurrence

Factors = Mapping[tuple[int, int], Ref | None]  # None is the neutral factor; a missing factor is zero
Offsets = Mapping[int, Ref]
NO_OFFSETS: Offsets = MappingProxyType({})


class Steps:
    """Adds nodes that compute on sequences of the affine maps of a recurrence's steps. An affine map has an offset for
    each state, and a factor for each pair of states: (the state that results, the state that is multiplied). A factor
    that is the same at every step has one step."""

    def __init__(self, b: Builder, length: int, reverse: bool, recurrence: Recurrence) -> None:
        self.b, self.length, self.reverse, self.recurrence = b, length, reverse, recurrence
        self.maximum = recurrence.kind is Kind.MAXIMUM

    # sequences along the first axis, in the order of time ------------------------------------------------------

    def cut(self, x: Ref, first: int, axis: int = 0) -> tuple[Ref, Ref]:
        """Return the first steps to run, ``first`` in number, and the rest; a constant, of one step, is both parts."""
        size = self.b.type(x).shape[axis]
        if size == 1:
            return x, x
        sizes = (size - first, first) if self.reverse else (first, size - first)
        one, other = self.b.add(ops.Split(axis, sizes), x)
        return (other, one) if self.reverse else (one, other)

    def joined(self, *parts: Ref, axis: int = 0) -> Ref:
        """Return parts, given in the order in which they run, joined in time."""
        ordered = parts[::-1] if self.reverse else parts
        return ordered[0] if len(ordered) == 1 else self.b.add(ops.Concat(axis), *ordered)[0]

    def previous(self, x: Ref, initial: Ref) -> Ref:
        """Return the sequence of the states before each step, from the states after each step."""
        (row,) = self.b.add(ops.Reshape((1, *self.b.type(initial).shape)), initial)
        return self.joined(row, self.cut(x, self.length - 1)[0])

    def last(self, x: Ref, name: str) -> Ref:
        row = self.cut(x, self.length - 1)[1]
        return self.b.add(ops.Reshape(self.b.type(x).shape[1:]), row, names=(name,))[0]

    def _times(self, x: Ref, y: Ref) -> Ref:
        """Return the product of two values; in a recurrence of maxima, where a factor is added, their sum."""
        return self.b.add(ops.Add() if self.maximum else ops.Mul(), x, y)[0]

    def _plus(self, earlier: Ref, later: Ref) -> Ref:
        """Return the sum of two values, or their maximum in a recurrence of maxima."""
        if not self.maximum:
            return self.b.add(ops.Add(), earlier, later)[0]
        return self.b.add(ops.Maximum(), *((earlier, later) if self.recurrence.later else (later, earlier)))[0]

    def _applied(self, factors: Factors, values: Offsets, offsets: Offsets = NO_OFFSETS) -> dict[int, Ref]:
        """Return a dict from each state to its entry of ``factors @ values + offsets``. Zero entries are absent."""
        results = dict[int, Ref]()
        for state in self.recurrence.states:
            pairs = [(factors[state, other], x) for other, x in values.items() if (state, other) in factors]
            terms = [x if factor is None else self._times(factor, x) for factor, x in pairs]
            terms += [offsets[state]] if state in offsets else []
            if terms:
                results[state] = reduce(self._plus, terms)
        return results

    def _product(self, later: Factors, earlier: Factors) -> dict[tuple[int, int], Ref | None]:
        """Return the matrix product later @ earlier. Zero entries are absent, and None is the neutral factor."""
        results: dict[tuple[int, int], Ref | None] = {}
        for (state, middle), x in later.items():
            for (other_middle, other), y in earlier.items():
                if middle != other_middle:
                    continue
                term = y if x is None else x if y is None else self._times(x, y)
                if (state, other) in results:
                    one = results[state, other]
                    term = self._plus(self._number(one, term), self._number(term, one))
                results[state, other] = term
        return results

    def _number(self, x: Ref | None, like: Ref | None) -> Ref:
        """Return a factor as a value: the neutral factor, None, as ones (zeros for maxima) in the shape of ``like``."""
        if x is not None:
            return x
        shape = (1,) if like is None else self.b.type(like).shape
        return self.full(shape, 0.0 if self.maximum else 1.0)

    def _maps(self, sequences: Mapping[Ref, Ref]) -> tuple[Factors, Offsets]:
        """Return the factors and offsets of all steps, as the sequences that hold them. Zero offsets are absent."""
        factors = {key: None if r is None else sequences[r] for key, r in self.recurrence.factors.items()}
        return factors, {s: sequences[r] for s, r in self.recurrence.offsets.items() if r is not None}

    def _zero(self, x: Ref) -> bool:
        op = self.b.node(x.node).op
        return not self.maximum and isinstance(op, ops.Full) and op.value == 0

    def doubling(self, sequences: Mapping[Ref, Ref], initial: Mapping[int, Ref]) -> dict[int, Ref]:
        """Return the states after each step: each step's map is joined with an earlier step's map, log2(T) times."""
        shapes = {s: self.b.type(ref).shape for s, ref in initial.items()}
        begun = {s: self.b.add(ops.Reshape((1, *shapes[s])), r)[0] for s, r in initial.items() if not self._zero(r)}
        return self._doubled(*self._maps(sequences), begun, shapes, self.length)

    def _doubled(
        self, factors: Factors, offsets: Offsets, begun: Offsets, shapes: Mapping[int, tuple[int, ...]], length: int
    ) -> dict[int, Ref]:
        """Return the states after each step, by doubling: round i joins each step's map with that of the 2**i steps
        before. ``begun`` are the initial states that are not zero, as sequences of one step."""
        values = self._begun(factors, offsets, begun, length)
        # the factor of the first step is no longer needed
        factors = {key: None if ref is None else self.cut(ref, 1)[1] for key, ref in factors.items()}
        distance = 1
        while distance < length:
            earlier = {s: self.cut(x, length - distance)[0] for s, x in values.items()}
            cuts = {s: self.cut(x, distance) for s, x in values.items()}
            joined = self._applied(factors, earlier, {s: rest for s, (_, rest) in cuts.items()})
            for state, rest in joined.items():
                head = cuts[state][0] if state in cuts else self.full((distance, *shapes[state]))
                values[state] = self.joined(head, rest)
            if 2 * distance < length:
                left = length - 2 * distance
                late = {k: None if x is None else self.cut(x, distance)[1] for k, x in factors.items()}
                early = {k: None if x is None else self.cut(x, left)[0] for k, x in factors.items()}
                factors = self._product(late, early)
            distance *= 2
        for state in self.recurrence.states:
            if state not in values:
                values[state] = self.full((length, *shapes[state]))
        return values

    def full(self, shape: tuple[int, ...], value: float = 0.0) -> Ref:
        return self.b.add(ops.Full(shape, value))[0]

    def _begun(self, factors: Factors, offsets: Offsets, begun: Offsets, length: int) -> dict[int, Ref]:
        """Return the offsets, with the first step's map applied to the initial states ``begun``."""
        if not begun:
            return dict(offsets)
        cuts = {s: self.cut(x, 1) for s, x in offsets.items()}
        first = {k: None if x is None else self.cut(x, 1)[0] for k, x in factors.items()}
        values = self._applied(first, begun, {s: head for s, (head, _) in cuts.items()})
        for state, head in values.items():
            rest = (length - 1, *self.b.type(head).shape[1:])
            least = LEAST if self.maximum else 0.0
            values[state] = self.joined(head, cuts[state][1] if state in cuts else self.full(rest, least))
        return values

    def chunks(self, sequences: Mapping[Ref, Ref], initial: Mapping[int, Ref]) -> dict[int, Ref]:
        """Return the states after each step. All chunks, runs of neighbouring steps, run at once from zero states. Then
        the states between chunks are computed, and what they contribute is added to each step. Values are matrices, one
        for each place in a chunk, with a row for each chunk and a column for each element of a state."""
        length = chunk_length(self.length)
        count = -(-self.length // length)
        all_factors, all_offsets = self._maps(sequences)
        refs = dict.fromkeys((*all_factors.values(), *all_offsets.values()))
        cut = {ref: self.chunked(ref, count, length) for ref in refs if ref is not None}
        factors: Factors = {}
        values: dict[int, Ref] = {}
        factors_at: list[Factors] = []
        values_at: list[dict[int, Ref]] = []
        for t in self.order(length):
            of_step = {k: None if r is None else cut[r][t] for k, r in all_factors.items()}
            values = self._applied(of_step, values, {s: cut[r][t] for s, r in all_offsets.items()})
            factors = self._product(of_step, factors) if factors_at else of_step
            factors_at.append(factors)
            values_at.append(values)
        starts = self._starts(factors, values, initial, count)
        results = dict[int, Ref]()
        for state, first in initial.items():
            shape = self.b.type(first).shape
            row = (1, self.b.type(first).size)
            matrix = (count, row[1])
            own = [each.get(state) for each in values_at]
            total = self.joined(*(x or self.full(matrix) for x in own), axis=1) if any(own) else None
            for other, start in starts.items():
                parts = [each[state, other] if (state, other) in each else self.full(row) for each in factors_at]
                (begin,) = self.b.add(ops.Tile(1, length), start) if length > 1 else (start,)
                if any(parts):
                    begin = self._times(self._factors_beside(parts, row), begin)
                total = begin if total is None else self._plus(begin, total)
            whole = (count * length, *shape)
            total = self.full(whole) if total is None else self.b.add(ops.Reshape(whole), total)[0]
            results[state] = total if count * length == self.length else self.cut(total, self.length)[0]
        return results

    def _factors_beside(self, parts: Sequence[Ref | None], row: tuple[int, ...]) -> Ref:
        """Return the factors of all places in a chunk side by side: a row for each chunk, or one for all."""
        ones = [self.full(row, 0.0 if self.maximum else 1.0) if x is None else x for x in parts]
        rows = max(self.b.type(x).shape[0] for x in ones)
        return self.joined(*(broadcast(self.b, x, (rows, row[1])) for x in ones), axis=1)

    def order(self, count: int) -> range:
        """Return the indices of ``count`` steps or chunks in the order in which they run."""
        return range(count - 1, -1, -1) if self.reverse else range(count)

    def chunked(self, x: Ref, count: int, length: int, copies: int = 1) -> Refs:
        """Cut the steps, and zeros after them, into chunks. Return a matrix for each place in a chunk, with a row for
        each chunk; the rows are repeated ``copies`` times. A constant is a single row."""
        steps, *shape = self.b.type(x).shape
        if steps == 1:
            return self.b.add(ops.Reshape((1, prod(shape))), x) * length
        if count * length > self.length:
            x = self.joined(x, self.full((count * length - self.length, *shape)))
        columns = self.b.type(x).size // count
        (rows,) = self.b.add(ops.Reshape((count, columns)), x)
        (rows,) = self.b.add(ops.Tile(0, copies), rows) if copies > 1 else (rows,)
        return self.b.add(ops.Split(1, (columns // length,) * length), rows) if length > 1 else (rows,)

    def _starts(
        self, factors: Factors, offsets: Mapping[int, Ref], initial: Mapping[int, Ref], count: int
    ) -> dict[int, Ref]:
        """Return the values of each state at the start of each chunk, a row for each chunk; all-zero states are absent.
        They are computed chunk after chunk, or by doubling if that needs fewer nodes."""
        rows = {s: (1, self.b.type(ref).size) for s, ref in initial.items()}
        current = {s: self.b.add(ops.Reshape(rows[s]), ref)[0] for s, ref in initial.items() if not self._zero(ref)}
        if nodes_between(count) < 2 * count:
            columns = {s: shape[1:] for s, shape in rows.items()}
            ended = self._doubled(factors, offsets, current, columns, count)
            first = {s: current[s] if s in current else self.full(rows[s]) for s in ended}
            return {s: self.joined(first[s], self.cut(x, count - 1)[0]) for s, x in ended.items()}
        refs = [ref for ref in dict.fromkeys((*factors.values(), *offsets.values())) if ref is not None]
        several = {ref: self.b.type(ref).shape[0] > 1 for ref in refs}
        cut = {r: self.b.add(ops.Split(0, (1,) * count), r) if several[r] else (r,) * count for r in refs}
        starts = []
        for c in self.order(count):
            starts.append(current)
            if len(starts) < count:
                of_chunk = {k: None if r is None else cut[r][c] for k, r in factors.items()}
                current = self._applied(of_chunk, current, {s: cut[r][c] for s, r in offsets.items()})
        needed = [s for s in self.recurrence.states if any(s in each for each in starts)]
        return {s: self.joined(*(each.get(s) or self.full(rows[s]) for each in starts)) for s in needed}


def chunk_length(steps: int) -> int:
    """Return the number of steps of a chunk for which the net has the fewest nodes, at least half of sqrt(T)."""
    root = int(sqrt(steps))  # of an open size this is an OverflowError, which keeps T fixed; isqrt would be endless

    def nodes(length: int) -> int:
        count = -(-steps // length)
        return 3 * length + nodes_between(count) + (4 if count * length > steps else 0)

    return min(range(max(1, root // 2), 2 * root + 1), key=nodes)


def nodes_between(chunks: int) -> int:
    """Return about how many nodes compute the states between chunks."""
    return min(2 * chunks, 8 * (chunks - 1).bit_length() + 4)


def recurrence_nodes(steps: int, form: str) -> int:
    """Return about how many nodes compute one state by doubling or in chunks."""
    if form == "doubling":
        return 8 * (steps - 1).bit_length()
    length = chunk_length(steps)
    return 3 * length + nodes_between(-(-steps // length)) + 8


@dataclass(frozen=True)
class MatrixChunks:
    """The sizes of a recurrence in chunks of ``length`` steps, whose states are multiplied by matrices. A state has
    ``places``, each with a matrix of ``columns`` by ``columns`` elements that multiplies its ``rows``. The matrices are
    computed by ``runs``, each of which starts from ``rows`` rows of the identity."""

    length: int
    count: int
    places: int
    rows: int
    columns: int
    step_nodes: int

    @classmethod
    def of(cls, step: MatrixStep, steps: int) -> Self:
        """Choose chunks whose length balances the nodes of a step with the number of chunks."""
        shapes = [step.affine.type(Ref(name)).shape for name in step.affine.arguments("state")]
        rows = prod(shapes[0][axis] for axis in step.shared)
        places = prod(shapes[0][axis] for axis in step.kept) // rows
        columns = sum(map(prod, shapes)) // (rows * places)
        nodes = len(step.affine) - len(step.affine.body_args())
        length = max(1, min(steps, isqrt(5 * steps // (3 * max(nodes, 1)))))
        return cls(length, -(-steps // length), places, rows, columns, nodes)

    @property
    def runs(self) -> int:
        return -(-self.columns // self.rows)

    @property
    def nodes(self) -> int:
        """Return about how many nodes the chunks need."""
        return 3 * self.step_nodes * self.length + 5 * self.count + 20

    @property
    def work(self) -> int:
        """Return how many elements the products with the matrices of chunks have."""
        return 3 * self.count * self.places * self.rows * self.columns**2


class MatrixSteps:
    """Adds nodes that compute a recurrence by matrices; ``operands`` are the sequences of ``step.operands``."""

    def __init__(self, steps: Steps, step: MatrixStep, operands: Sequence[Ref]) -> None:
        self.steps, self.operands = steps, operands
        self.b, self.cut = steps.b, MatrixChunks.of(step, steps.length)
        states = step.affine.arguments("state")
        self.affine, self.linear = (with_role(body, range(len(states)), "x") for body in (step.affine, step.linear))
        self.shapes = [step.affine.type(Ref(name)).shape for name in states]
        self.sizes = [prod(shape) for shape in self.shapes]
        self.mapped = [isinstance(a.op, ops.Arg) and a.op.role == "x" for a in step.affine.body_args()[len(states) :]]
        apart = [axis for axis in step.kept if axis not in step.shared]
        mixed = [axis for axis in range(len(self.shapes[0])) if axis not in step.kept]
        self.order = (*apart, *step.shared, *mixed)  # of axes; with shared axes all states have one shape

    def chunks(self, initial: Mapping[int, Ref]) -> dict[int, Ref] | None:
        """Return the states after each step, or None if an op has no form for all chunks at once. All chunks run in
        lockstep, once from zero and once from the rows of the identity. This gives the states between chunks, from
        which all chunks run again."""
        cut, zeros = self.cut, [self.steps.full((self.cut.count, *shape)) for shape in self.shapes]
        sequences = self._sequences(1)
        ends = self._run(self.affine, cut.count, zeros, sequences)
        matrices = self._run(self.linear, cut.count * cut.runs, self._identity(), self._sequences(cut.runs))
        if not ends or not matrices:
            return None
        starts = self._starts([initial[state] for state in initial], ends[-1], matrices[-1])
        values = self._run(self.affine, cut.count, starts, sequences)
        results = {}
        for state, shape, size, *own in zip(initial, self.shapes, self.sizes, *values, strict=True):
            columns = [self._reshaped(x, (cut.count, size)) for x in own]
            total = self._cut(self.steps.joined(*columns, axis=1), size)
            results[state] = self._reshaped(total, (self.steps.length, *shape))
        return results

    def _cut(self, rows: Ref, size: int) -> Ref:
        """Return the steps in ``rows``, a chunk of steps of ``size`` elements each, without the padding after the last.
        This is cut from the last row, not from all steps: MNN 3.6.1 computes a cut from all steps wrongly."""
        length, rest = self.cut.length, self.steps.length - (self.cut.count - 1) * self.cut.length
        if rest == length:
            return self._reshaped(rows, (self.steps.length, size))
        whole, last = self.steps.cut(rows, self.cut.count - 1)
        last = self.steps.cut(last, rest * size, axis=1)[0]
        steps = self._reshaped(whole, ((self.cut.count - 1) * length, size))
        return self.steps.joined(steps, self._reshaped(last, (rest, size)))

    def _sequences(self, runs: int) -> list[Refs]:
        """Return for each operand its value at each place in a chunk: of all chunks at once, repeated for each run."""
        lanes, length = self.cut.count * runs, self.cut.length

        def places(ref: Ref) -> Refs:
            chunks, shape = self.steps.chunked(ref, self.cut.count, length, runs), self.b.type(ref).shape[1:]
            return tuple(self._reshaped(x, (lanes, *shape)) for x in chunks)

        operands = zip(self.operands, self.mapped, strict=True)
        return [places(ref) if mapped else (ref,) * length for ref, mapped in operands]

    def _run(self, body: Graph, lanes: int, states: Sequence[Ref], sequences: Sequence[Refs]) -> list[Sequence[Ref]]:
        """Run ``body`` on ``lanes`` chunks at once. Return each step's states, or [] if an op has no such form."""
        names = [f"{body.name}/{output.name}" for output in body.outputs]
        values: list[Sequence[Ref]] = []
        for t in self.steps.order(self.cut.length):
            following = all_steps(self.b, body, lanes, [*states, *(sequence[t] for sequence in sequences)], names)
            if following is None:
                return []
            states = following
            values.append(states)
        return values

    def _identity(self) -> list[Ref]:
        """Return the first states of all runs; each run starts from other rows of the identity."""
        cut, first, states = self.cut, 0, []
        for shape, size in zip(self.shapes, self.sizes, strict=True):
            columns, axes = size // (cut.places * cut.rows), self._axes(shape)
            rows = np.eye(cut.runs * cut.rows, cut.columns)[:, first : first + columns]
            first += columns
            runs = np.repeat(rows.reshape(cut.runs, 1, cut.rows, columns), cut.places, axis=1)
            array = runs.reshape(cut.runs, 1, *(shape[axis] for axis in axes))
            fixed = self._fixed(array.transpose(0, 1, *(2 + axes.index(axis) for axis in range(len(shape)))))
            copies = broadcast(self.b, fixed, (cut.runs, cut.count, *shape))
            states.append(self._reshaped(copies, (cut.runs * cut.count, *shape)))
        return states

    def _starts(self, initial: Sequence[Ref], ends: Sequence[Ref], matrices: Sequence[Ref]) -> list[Ref]:
        """Return the states at the start of each chunk: the start before, times that chunk's matrix, plus its end."""
        cut, b = self.cut, self.b
        rows, columns = (cut.places, cut.rows, cut.columns), cut.columns
        current = self._ordered(initial, ())
        of_chunks = self._pieces(self._ordered(ends, (cut.count,)), rows)
        lead = (cut.runs, cut.count)
        whole = [self._reshaped(x, (*lead, *shape)) for x, shape in zip(matrices, self.shapes, strict=True)]
        runs = self._ordered(whole, lead)
        moved = self._moved(runs, (1, 2, 0, 3, 4)) if cut.runs > 1 else runs
        square = self._reshaped(moved, (cut.count, cut.places, cut.runs * cut.rows, columns))
        if cut.runs * cut.rows > columns:
            square = b.add(ops.Split(2, (columns, cut.runs * cut.rows - columns)), square)[0]
        squares = self._pieces(square, (cut.places, 1, columns, columns))
        starts = []
        for c in self.steps.order(cut.count):
            starts.append(self._reshaped(current, (1, *rows)))
            if len(starts) < cut.count:
                (wide,) = b.add(ops.Tile(3, columns), self._reshaped(current, (*rows, 1)))
                square = squares[c] if 1 in rows[:2] else broadcast(b, squares[c], (*rows, columns))
                (total,) = b.add(ops.Sum(2), *b.add(ops.Mul(), wide, square))
                (current,) = b.add(ops.Add(), total, of_chunks[c])
        joined = self.steps.joined(*starts)
        widths = tuple(size // (cut.places * cut.rows) for size in self.sizes)
        parts = b.add(ops.Split(3, widths), joined) if len(widths) > 1 else (joined,)
        return [self._disordered(x, shape) for x, shape in zip(parts, self.shapes, strict=True)]

    def _pieces(self, x: Ref, shape: tuple[int, ...]) -> Refs:
        count = self.cut.count
        pieces = self.b.add(ops.Split(0, (1,) * count), x) if count > 1 else (x,)
        return tuple(self._reshaped(piece, shape) for piece in pieces)

    def _ordered(self, states: Sequence[Ref], lead: tuple[int, ...]) -> Ref:
        """Return all states side by side as [*lead, places, rows, columns]; ``lead`` are axes before a state's axes."""
        first, parts = len(lead), []
        for x, shape, size in zip(states, self.shapes, self.sizes, strict=True):
            moved = self._moved(x, (*range(first), *(first + axis for axis in self._axes(shape))))
            places, rows = self.cut.places, self.cut.rows
            parts.append(self._reshaped(moved, (*lead, places, rows, size // (places * rows))))
        return self._beside(parts)

    def _axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.order if len(self.order) == len(shape) else tuple(range(len(shape)))

    def _disordered(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        """Return a value [count, places, rows, columns] as a state of all chunks, in the state's shape."""
        axes = self._axes(shape)
        moved = self._reshaped(x, (self.cut.count, *(shape[axis] for axis in axes)))
        return self._moved(moved, (0, *(1 + axes.index(axis) for axis in range(len(shape)))))

    def _moved(self, x: Ref, order: Sequence[int]) -> Ref:
        for op in ops.Transpose.to_order(order):
            (x,) = self.b.add(op, x)
        return x

    def products(self, initial: Mapping[int, Ref]) -> dict[int, Ref] | None:
        """Return the states after each step, by products with powers of the matrix: within groups of steps, then
        between groups. Return None if an op has no form for all steps at once, or if the matrix is too large."""
        length, size = self.steps.length, sum(self.sizes)
        names = [f"{self.affine.name}/{output.name}" for output in self.affine.outputs]
        identity = np.split(np.eye(size), np.cumsum(self.sizes)[:-1], axis=1)
        rows = [self._fixed(x.reshape(size, *shape)) for x, shape in zip(identity, self.shapes, strict=True)]
        images = all_steps(self.b, self.linear, size, [*rows, *self.operands], names)
        zeros = [self.steps.full((length, *shape)) for shape in self.shapes]
        offsets = all_steps(self.b, self.affine, length, [*zeros, *self.operands], names)
        radix = product_radix(size, length)
        if images is None or offsets is None or not radix:
            return None
        begin = self._rows(initial.values(), 1)
        total = self._solved(self._rows(offsets, length), self._rows(images, size), begin, radix)
        pieces = self.b.add(ops.Split(1, tuple(self.sizes)), total) if len(self.sizes) > 1 else (total,)
        states = zip(initial, pieces, self.shapes, strict=True)
        return {state: self._reshaped(x, (length, *shape)) for state, x, shape in states}

    def _rows(self, states: Iterable[Ref], count: int) -> Ref:
        """Return ``count`` values of each state as rows of a matrix."""
        return self._beside([self._reshaped(x, (count, n)) for x, n in zip(states, self.sizes, strict=True)])

    def _solved(self, x: Ref, image: Ref, start: Ref, radix: int) -> Ref:
        """Return the states s of all steps, where a step is s -> s @ image + x. One product with a block-triangular
        matrix of powers of ``image`` solves ``radix`` steps; the ends of these groups are solved in the same way."""
        steps, size = self.b.type(x).shape
        length = min(radix, steps)
        count = -(-steps // length)
        powers = self.b.add(ops.Transpose(0), image)  # A, A^2, ...
        for _ in range(length - 1):
            powers += self.b.add(ops.Linear(1), powers[-1], image)
        one, zero = self._fixed(np.eye(size)), self.steps.full((size, size))
        backward = (*powers[-2::-1], one)
        lines = [self.steps.joined(*backward[i:], *(zero,) * i, axis=1) for i in reversed(range(length))]
        if count * length > steps:
            x = self.steps.joined(x, self.steps.full((count * length - steps, size)))
        (own,) = self.b.add(ops.Linear(1), self._reshaped(x, (count, length * size)), self.steps.joined(*lines))
        if count > 1:
            ends = self.steps.cut(own, (length - 1) * size, axis=1)[1] if length > 1 else own
            between = self._solved(ends, self.b.add(ops.Transpose(0), powers[-1])[0], start, radix)
            start = self.steps.joined(start, self.steps.cut(between, count - 1)[0])
        (begin,) = self.b.add(ops.Linear(1), start, self.steps.joined(*powers))
        total = self._reshaped(self.b.add(ops.Add(), own, begin)[0], (count * length, size))
        return total if count * length == steps else self.steps.cut(total, steps)[0]

    def _fixed(self, array: Array) -> Ref:
        fill = Values.of(array)
        return self.b.add(ops.Param(fill.shape, fill, 0.0, 0.0), names=(f"{self.affine.name}/rows",))[0]

    def _reshaped(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        return reshaped(self.b, x, ops.Reshape(shape))

    def _beside(self, parts: Sequence[Ref]) -> Ref:
        return parts[0] if len(parts) == 1 else self.b.add(ops.Concat(self.b.type(parts[0]).rank - 1), *parts)[0]


def product_radix(size: int, steps: int) -> int:
    """Return how many steps one product joins for states of ``size`` elements; 0 if two steps are already too large."""
    most = isqrt(LARGEST) // size
    if most < 2:
        return 0
    levels = next(n for n in count(1) if most**n >= steps)
    return next(radix for radix in count(2) if radix**levels >= steps)


def product_nodes(steps: int, radix: int) -> int:
    """Return about how many nodes products need, without the nodes that compute weights."""
    return 10 + 9 * next(n for n in count(1) if radix**n >= steps)


def all_steps(b: Builder, body: Graph, length: int, operands: Sequence[Ref], names: Sequence[str]) -> Refs | None:
    """Add a body without states as nodes on all steps at once, and return its results. Operands that broadcasting would
    not align over time are repeated. Return None, and leave unread nodes, if an op has no form for all steps."""
    outer: dict[Ref, Ref] = {}
    mapped: set[Ref] = set()
    titles = {output.ref: name for output, name in zip(body.outputs, names, strict=True)}
    arguments = iter(operands)
    for node in body:
        refs, args = node.refs, body.args(node.name)
        if isinstance(node.op, ops.Arg):
            outer[refs[0]] = next(arguments)
            mapped.update(refs if node.op.role == "x" else ())
            continue
        op: Op | None = node.op
        values = [outer[ref] for ref in args]
        of_steps = [ref in mapped for ref in args]
        if any(of_steps):
            types = [body.type(ref) for ref in args]
            op = op_over_time(node.op, length, types, of_steps)
            if op is None and not isinstance(node.op, Binary):
                whole = zip(values, of_steps, [over_steps(type_, length).shape for type_ in types], strict=True)
                values = [x if is_mapped else broadcast(b, x, shape) for x, is_mapped, shape in whole]
                op = op_over_time(node.op, length, types, [True] * len(types))
            elif op is None:
                op, large = node.op, over_steps(node.types[0], length).shape
                aligned = [(length, *(1,) * (node.types[0].rank - t.rank), *t.shape) for t in types]
                whole = zip(values, of_steps, aligned, strict=True)
                values = [broadcast(b, b.add(ops.Reshape(s), x)[0], large) if m else x for x, m, s in whole]
            mapped.update(refs)
        if op is None:
            return None
        shown = [titles.get(ref) or f"{body.name}/{name}" for ref, name in zip(refs, node.names, strict=True)]
        outer.update(zip(refs, b.add(op, *values, names=shown, loc=node.loc), strict=True))
    results = [output.ref for output in body.outputs]
    shapes = {ref: over_steps(body.type(ref), length).shape for ref in results}
    return tuple([outer[ref] if ref in mapped else broadcast(b, outer[ref], shapes[ref]) for ref in results])
