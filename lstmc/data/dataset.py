"""A model's data: arrays that fit its inputs, and the batches of every iteration drawn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.data.checks import BATCH, Axes, Given, axes_of, batch_size, form_problems, missing_and_extra
from lstmc.data.request import Batches
from lstmc.errors import Argument, DataError, size_argument
from lstmc.files.arrays import AnyArray
from lstmc.ir import Graph
from lstmc.ops import Array, Input

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Arrays that fit a model. A *row* is what is drawn: an example, or a whole batch where the arrays hold those.

    ``rows`` counts them, ``per_batch`` of them make a batch (1 where a row is one), ``of`` is what a row is called.
    """

    given: tuple[Given, ...]
    rows: int
    per_batch: int
    of: str

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all names, types and elements: other data have another one."""
        digest = hashlib.sha256()
        for one in sorted(self.given, key=lambda g: g.name):
            digest.update(repr((one.name, one.array.dtype.str, one.array.shape)).encode())
            digest.update(np.ascontiguousarray(one.array).data)
        return digest.hexdigest()

    def take(self, rows: Order) -> dict[str, Array]:
        """The batch, in float32, that is made of ``per_batch`` rows."""
        return {one.name: _rows_of(one, rows, whole_batch=True).astype(np.float32) for one in self.given}

    def for_training(self, seed: int = 0, shuffle: bool = True) -> Batches:
        """Batches without end, in epochs: each shows every row once, in an order that ``seed`` and its number give.

        A batch that an epoch's last rows do not fill goes on with the first of the next epoch. Without ``shuffle``
        rows come in the order they have.
        """
        return _Epochs(-(-self.rows // self.per_batch), self, seed, shuffle)

    def for_scoring(self) -> Batches:
        """Batches in order that count no row twice: the last rows are left out where they do not fill one."""
        return _InOrder(self.rows // self.per_batch, self)

    def split(self, fraction: float, seed: int = 0, shuffle: bool = True) -> tuple[Dataset, Dataset]:
        """Rows to train on, and ``fraction`` of them to score on: drawn by ``seed``, or the last ones.

        Raises :class:`DataError` where one of the two would have less than a batch.
        """
        order = _order(self.rows, [seed], shuffle)
        cut = self.rows - round(self.rows * fraction)
        parts = [np.sort(order[:cut]), np.sort(order[cut:])]
        if min(map(len, parts)) < self.per_batch:
            counts = " and ".join(str(len(part)) for part in parts)
            argument = Argument("test_split", f"{fraction:g}")
            raise DataError(f"{argument} makes {counts} {self.of}: a batch has {self.per_batch}", arguments=(argument,))
        train, test = (
            replace(
                self,
                given=tuple(replace(one, array=_rows_of(one, part, whole_batch=False)) for one in self.given),
                rows=len(part),
            )
            for part in parts
        )
        return train, test


def needed_inputs(graph: Graph, declared: Mapping[str, Axes]) -> dict[str, tuple[Input, Axes]]:
    """The inputs of a graph that data is needed for: those that the net does not fill and no output goes on into."""
    carried = graph.carried()
    return {
        node.name: (node.op, axes_of(node.name, node.op, declared))
        for node in graph
        if isinstance(node.op, Input) and node.op.fill is None and node.name not in carried
    }


def dataset_for(graph: Graph, declared: Mapping[str, Axes], arrays: Mapping[str, AnyArray], source: str) -> Dataset:
    """The data of a graph; ``source`` names the arrays in errors, ``declared`` is from :func:`batch_axes`.

    Raises :class:`DataError` that names every problem at once: what is missing, extra, of another shape, not
    numbers, not finite, or not what the ops that read it take. Elements of a file are looked at where all else fits.
    """
    needed = needed_inputs(graph, declared)
    carried = {name: output.name for name, output in graph.carried().items()}
    inputs = {node.name: carried.get(node.name) for node in graph if isinstance(node.op, Input)}
    given = [Given(name, op, axes, arrays[name]) for name, (op, axes) in needed.items() if name in arrays]
    problems = list(missing_and_extra(needed, inputs, arrays))
    shapes = {one.name: one.shape_problem() for one in given}
    fitting = [one for one in given if shapes[one.name] is None]
    problems += filter(None, shapes.values())
    problems += form_problems(fitting)
    # how many examples a file has only the file says: its elements are read once all else fits
    read = [one for one in fitting if not problems or isinstance(one.array, np.ndarray)]
    problems += filter(None, (one.element_problem() for one in read))
    if problems:
        if any(shapes.values()) and all(one.axes.batch is None for one in given):
            problems.append(
                f"no input of {graph.name} has an axis that counts examples, as {BATCH} = dims('{BATCH}') is"
            )
        sizes = [size_argument(one.axes.sizes[one.axes.batch]) for one in given if one.axes.batch is not None]
        raise DataError(f"{source} does not fit {graph.name}", notes=problems, arguments=sizes)
    given = [replace(one, array=np.asarray(one.array)) for one in given]
    for one in given:
        if one.form == "batches":
            return Dataset(tuple(given), one.count, 1, "batches")
        if one.form == "examples":
            return Dataset(tuple(given), one.count, batch_size(one), "examples")
    return Dataset(tuple(given), 1, 1, "batches")


def _rows_of(given: Given, rows: Order, whole_batch: bool) -> NDArray[Any]:
    """Some rows of an array; ``whole_batch``: in the input's own shape."""
    if given.form == "batches":
        return np.asarray(given.array)[rows[0] if whole_batch else rows]
    if given.form == "examples" and given.axes.batch is not None:
        return np.take(given.array, rows, given.axes.batch)
    return np.asarray(given.array)


def _order(rows: int, seed: list[int], shuffle: bool) -> Order:
    return np.random.default_rng(seed).permutation(rows) if shuffle else np.arange(rows)


@dataclass
class _Epochs:
    """See :meth:`Dataset.for_training`."""

    per_epoch: int
    dataset: Dataset
    seed: int
    shuffle: bool
    orders: dict[int, Order] = field(default_factory=dict)  # of the epochs last asked for: a batch may touch two

    def batch(self, iteration: int) -> dict[str, Array]:
        """The batch of an iteration, counted from 0: it depends on nothing that was asked before."""
        first = iteration * self.dataset.per_batch
        places = [divmod(at, self.dataset.rows) for at in range(first, first + self.dataset.per_batch)]
        return self.dataset.take(np.array([self._epoch(epoch)[row] for epoch, row in places]))

    @property
    def fingerprint(self) -> str:
        """A hash that batches of other data, or in another order, do not have."""
        return hashlib.sha256(f"{self.dataset.fingerprint} {self.seed} {self.shuffle}".encode()).hexdigest()

    def _epoch(self, number: int) -> Order:
        if number not in self.orders:
            self.orders = {n: order for n, order in self.orders.items() if abs(n - number) == 1}
            self.orders[number] = _order(self.dataset.rows, [self.seed, number], self.shuffle)
        return self.orders[number]


@dataclass
class _InOrder:
    """See :meth:`Dataset.for_scoring`."""

    per_epoch: int
    dataset: Dataset

    def batch(self, iteration: int) -> dict[str, Array]:
        """The batch of an iteration, counted from 0, and from the start again after the last."""
        first = iteration % self.per_epoch * self.dataset.per_batch
        return self.dataset.take(np.arange(first, first + self.dataset.per_batch))

    @property
    def fingerprint(self) -> str:
        """A hash that other data do not have."""
        return self.dataset.fingerprint
