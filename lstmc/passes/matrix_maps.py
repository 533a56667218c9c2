"""Linear recurrences with matrices over sequences as nodes: chunks in lockstep, and products with powers of the matrix.

The matrix that a step applies to a state, such as the outer products of DeltaNet, is known only through the step's
nodes. Run on the rows of the identity, these nodes give the matrix of a chunk. If the matrix is the same at every step,
its powers are weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isqrt, prod
from typing import Self

import numpy as np

from lstmc import ops
from lstmc.ir import Builder, Graph, Ref, broadcast, op_over_time, over_steps, reshaped
from lstmc.ops import Array, Binary, Op, Values
from lstmc.passes.base import Refs, with_role
from lstmc.passes.linear_maps import Steps
from lstmc.passes.precompute import LARGEST
from lstmc.patterns import MatrixStep, state_arguments


@dataclass(frozen=True)
class MatrixChunks:
    """The partition of states that matrices update: ``length`` steps in a chunk.

    A state has ``places``, each with a matrix of ``columns`` by ``columns`` elements, which its ``rows`` share.
    ``runs`` of all rows compute the matrices.
    """

    length: int
    count: int
    places: int
    rows: int
    columns: int
    step_nodes: int

    @classmethod
    def of(cls, step: MatrixStep, steps: int) -> Self:
        """Return the chunks of so many steps."""
        shapes = [step.affine.type(Ref(name)).shape for name in state_arguments(step.affine)]
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
        """Return the number of elements of the products with the matrices of chunks."""
        return 3 * self.count * self.places * self.rows * self.columns**2


class MatrixSteps:
    """Nodes on sequences of the steps of a recurrence; ``operands`` are the sequences of a step's operands, in its
    order."""

    def __init__(self, steps: Steps, step: MatrixStep, operands: Sequence[Ref]) -> None:
        self.steps, self.operands = steps, operands
        self.b, self.cut = steps.b, MatrixChunks.of(step, steps.length)
        states = state_arguments(step.affine)
        self.affine, self.linear = (with_role(body, range(len(states)), "x") for body in (step.affine, step.linear))
        self.shapes = [step.affine.type(Ref(name)).shape for name in states]
        self.sizes = [prod(shape) for shape in self.shapes]
        self.mapped = [isinstance(a.op, ops.Arg) and a.op.role == "x" for a in step.affine.body_args()[len(states) :]]
        apart = [axis for axis in step.kept if axis not in step.shared]
        mixed = [axis for axis in range(len(self.shapes[0])) if axis not in step.kept]
        self.order = (*apart, *step.shared, *mixed)  # of axes; with shared axes all states have one shape

    # chunks ------------------------------------------------------------------------------------------------------

    def chunks(self, initial: Mapping[int, Ref]) -> dict[int, Ref] | None:
        """Return the states after each step; None if an op has no form for all chunks at once. All chunks run in
        lockstep, from zero and from the rows of the identity. Then the states between chunks are computed, and from
        them the chunks."""
        cut, zeros = self.cut, [self._zeros((self.cut.count, *shape)) for shape in self.shapes]
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
        """Return chunks of ``size`` elements as steps, without the padding after the last step.

        They are cut from the last row, not from all steps: MNN 3.6.1 computes a cut from all steps wrongly.
        """
        length, rest = self.cut.length, self.steps.length - (self.cut.count - 1) * self.cut.length
        if rest == length:
            return self._reshaped(rows, (self.steps.length, size))
        whole, last = self.steps.cut(rows, self.cut.count - 1)
        last = self.steps.cut(last, rest * size, axis=1)[0]
        return self.steps.joined(
            self._reshaped(whole, ((self.cut.count - 1) * length, size)), self._reshaped(last, (rest, size))
        )

    def _sequences(self, runs: int) -> list[Refs]:
        """Return each operand at each place in a chunk: for all chunks, repeated for all runs."""
        lanes, length = self.cut.count * runs, self.cut.length
        return [
            tuple(
                self._reshaped(x, (lanes, *self.b.type(ref).shape[1:]))
                for x in self.steps.chunked(ref, self.cut.count, length, runs)
            )
            if mapped
            else (ref,) * length
            for ref, mapped in zip(self.operands, self.mapped, strict=True)
        ]

    def _run(self, body: Graph, lanes: int, states: Sequence[Ref], sequences: Sequence[Refs]) -> list[Sequence[Ref]]:
        """Return the states after each step of a chunk; none if an op has no form."""
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
        """Return states with the next rows of the identity, as many as one run has."""
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
        """Return the states at the start of each chunk."""
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
        """Return states, with axes ``lead`` before theirs, side by side as [*lead, places, rows, columns]."""
        first, parts = len(lead), []
        for x, shape, size in zip(states, self.shapes, self.sizes, strict=True):
            moved = self._moved(x, (*range(first), *(first + axis for axis in self._axes(shape))))
            places, rows = self.cut.places, self.cut.rows
            parts.append(self._reshaped(moved, (*lead, places, rows, size // (places * rows))))
        return self._beside(parts)

    def _axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.order if len(self.order) == len(shape) else tuple(range(len(shape)))

    def _disordered(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        """Return [count, places, rows, columns] as states of all chunks."""
        axes = self._axes(shape)
        moved = self._reshaped(x, (self.cut.count, *(shape[axis] for axis in axes)))
        return self._moved(moved, (0, *(1 + axes.index(axis) for axis in range(len(shape)))))

    def _moved(self, x: Ref, order: Sequence[int]) -> Ref:
        for op in ops.Transpose.to_order(order):
            (x,) = self.b.add(op, x)
        return x

    # products ----------------------------------------------------------------------------------------------------

    def products(self, initial: Mapping[int, Ref]) -> dict[int, Ref] | None:
        """Return the states after each step by products with powers of the matrix: within groups of steps, then between
        groups. None if an op has no form for all steps at once, or if the matrix is too large."""
        length, size = self.steps.length, sum(self.sizes)
        names = [f"{self.affine.name}/{output.name}" for output in self.affine.outputs]
        identity = np.split(np.eye(size), np.cumsum(self.sizes)[:-1], axis=1)
        rows = [self._fixed(x.reshape(size, *shape)) for x, shape in zip(identity, self.shapes, strict=True)]
        images = all_steps(self.b, self.linear, size, [*rows, *self.operands], names)
        zeros = [self._zeros((length, *shape)) for shape in self.shapes]
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
        """Return the states after each step of rows x, where a step is s -> s @ image + x."""
        steps, size = self.b.type(x).shape
        length = min(radix, steps)
        count = -(-steps // length)
        powers = self.b.add(ops.Transpose(0), image)  # A, A^2, ...
        for _ in range(length - 1):
            powers += self.b.add(ops.Linear(1), powers[-1], image)
        one, zero = self._fixed(np.eye(size)), self._zeros((size, size))
        backward = (*powers[-2::-1], one)
        lines = [self.steps.joined(*backward[i:], *(zero,) * i, axis=1) for i in reversed(range(length))]
        if count * length > steps:
            x = self.steps.joined(x, self._zeros((count * length - steps, size)))
        (own,) = self.b.add(ops.Linear(1), self._reshaped(x, (count, length * size)), self.steps.joined(*lines))
        if count > 1:
            ends = self.steps.cut(own, (length - 1) * size, axis=1)[1] if length > 1 else own
            between = self._solved(ends, self.b.add(ops.Transpose(0), powers[-1])[0], start, radix)
            start = self.steps.joined(start, self.steps.cut(between, count - 1)[0])
        (begin,) = self.b.add(ops.Linear(1), start, self.steps.joined(*powers))
        total = self._reshaped(self.b.add(ops.Add(), own, begin)[0], (count * length, size))
        return total if count * length == steps else self.steps.cut(total, steps)[0]

    # values ------------------------------------------------------------------------------------------------------

    def _zeros(self, shape: tuple[int, ...]) -> Ref:
        return self.b.add(ops.Full(shape, 0.0))[0]

    def _fixed(self, array: Array) -> Ref:
        fill = Values.of(array)
        return self.b.add(ops.Param(fill.shape, fill, 0.0, 0.0), names=(f"{self.affine.name}/rows",))[0]

    def _reshaped(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        return reshaped(self.b, x, ops.Reshape(shape))

    def _beside(self, parts: Sequence[Ref]) -> Ref:
        """Return parts joined along the last axis."""
        return parts[0] if len(parts) == 1 else self.b.add(ops.Concat(self.b.type(parts[0]).rank - 1), *parts)[0]


def product_radix(size: int, steps: int) -> int:
    """Return how many steps one product joins, for states of ``size`` elements; 0 if two steps are too many."""
    most = isqrt(LARGEST) // size
    if most < 2:
        return 0
    levels = next(n for n in count(1) if most**n >= steps)
    return next(radix for radix in count(2) if radix**levels >= steps)


def product_nodes(steps: int, radix: int) -> int:
    """Return about how many nodes products need, without the nodes that compute weights."""
    return 10 + 9 * next(n for n in count(1) if radix**n >= steps)


def all_steps(b: Builder, body: Graph, length: int, operands: Sequence[Ref], names: Sequence[str]) -> Refs | None:
    """Add the nodes of a body without states on all steps at once, and return its results.

    Operands that broadcasting would not align over time are repeated. Returns None, and leaves nodes that nothing
    reads, if an op has no form for all steps.
    """
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
                values = [
                    value if is_mapped else broadcast(b, value, over_steps(type_, length).shape)
                    for value, type_, is_mapped in zip(values, types, of_steps, strict=True)
                ]
                op = op_over_time(node.op, length, types, [True] * len(types))
            elif op is None:
                whole = over_steps(node.types[0], length).shape
                own = [(length, *(1,) * (node.types[0].rank - t.rank), *t.shape) for t in types]
                values = [
                    broadcast(b, b.add(ops.Reshape(shape), ref)[0], whole) if is_mapped else ref
                    for ref, shape, is_mapped in zip(values, own, of_steps, strict=True)
                ]
                op = node.op
            mapped.update(refs)
        if op is None:
            return None
        shown = [titles.get(ref) or f"{body.name}/{name}" for ref, name in zip(refs, node.names, strict=True)]
        outer.update(zip(refs, b.add(op, *values, names=shown, loc=node.loc), strict=True))
    repeated = [
        outer[o.ref] if o.ref in mapped else broadcast(b, outer[o.ref], over_steps(body.type(o.ref), length).shape)
        for o in body.outputs
    ]
    return tuple(repeated)
