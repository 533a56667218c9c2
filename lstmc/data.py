"""A model's data: arrays checked against its inputs, and the batches of every iteration drawn from them. The batch axis
of an input is the dimension that the model declares as such. All problems are reported at once. The data of a run are
its training and test examples, and their order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstmc.backend.compiled import Batches
from lstmc.dsl import Dim, Model
from lstmc.dsl.dims import Scope
from lstmc.errors import Argument, DataError, DimError, size_argument
from lstmc.files.arrays import AnyArray, read_arrays, value_problem, wrong_names
from lstmc.ir import Builder, Graph, Node
from lstmc.ops import Array, Input
from lstmc.passes import Refs, rewrite

BATCH = "N"  # as Caffe's own documents call the batch axis
# examples: the batch axis is of any length. batches: one more axis in front. whole: the same in each batch.
Form = Literal["examples", "batches", "whole"]
Order = NDArray[np.int64]
Data = Mapping[str, NDArray[Any]] | str | Path  # arrays by the names of inputs, or a file of them


@dataclass(frozen=True)
class Axes:
    """The axes of an input as declared: the sizes as written, and the axis that counts examples, None without one."""

    sizes: tuple[str, ...]
    batch: int | None = None

    def text(self, shape: tuple[int, ...], any_number: str = "") -> str:
        """Return a shape as ``[T=3, N=4, 8]``; with ``any_number`` as text of the batch axis ``[T=3, examples, 8]``."""
        parts = []
        for axis, (declared, size) in enumerate(zip(self.sizes, shape, strict=True)):
            named = str(size) if declared == str(size) else f"{declared}={size}"
            parts.append(any_number if any_number and axis == self.batch else named)
        return f"[{', '.join(parts)}]"


def batch_axes(model: Model, dim: str | None = None) -> dict[str, Axes]:
    """Return the axes of each declared input. The batch axis is the one declared as dimension ``dim``: an axis whose
    size only contains ``dim``, as in ``T*N``, does not count. The default of ``dim`` is N, if there is an N. Raises
    DataError if no input has an axis ``dim``, or an input has two."""
    axes_by_input = {}
    for name, declared in model.inputs.items():
        axes = [i for i, size in enumerate(declared.shape) if isinstance(size, Dim) and size.name == (dim or BATCH)]
        if len(axes) > 1:
            raise DataError(f"{name} of {model.name} has {dim or BATCH} twice: expected one axis that counts examples")
        axes_by_input[name] = Axes(tuple(map(str, declared.shape)), axes[0] if axes else None)
    if dim is not None and all(axes.batch is None for axes in axes_by_input.values()):
        names = [size.name for declared in model.inputs.values() for size in declared.shape if isinstance(size, Dim)]
        listed = ", ".join(dict.fromkeys(names)) or "none"
        raise DataError(f"{Argument('batch', dim)}: no input of {model.name} has an axis {dim}: found {listed}")
    return axes_by_input


def sizes_of_data(
    model: Model, axes: Mapping[str, Axes], arrays: Mapping[str, AnyArray], names: Collection[str]
) -> dict[str, int]:
    """Return the sizes of the model's dimensions that the arrays show, except the dimensions in ``names``. An array
    shows all sizes of its input except the batch size. An array with one more axis in front, which counts batches,
    shows the batch size too. Raises DimError if two arrays show different sizes."""
    scope = Scope()
    for name, declared in model.inputs.items():
        shape = arrays[name].shape if name in arrays else ()
        batches = len(shape) == len(declared.shape) + 1
        example_shape = shape[1:] if batches else shape
        if len(example_shape) != len(declared.shape):
            continue
        for axis, (size, number) in enumerate(zip(declared.shape, example_shape, strict=True)):
            if isinstance(size, Dim) and size.name not in names and (batches or axis != axes[name].batch):
                try:
                    scope.bind(size.name, number, f"in {name} {list(shape)} of the data")
                except DimError as error:
                    raise error.located(declared.loc, model.owner) from None
    return {name: scope.size(Dim(name)) for name in scope.names}


@dataclass(frozen=True)
class InputArray:
    """An input that needs data, and its array."""

    name: str
    op: Input
    axes: Axes
    array: AnyArray

    @property
    def form(self) -> Form | None:
        """Return how the array holds examples, in the words of ``Form``; None if its rank fits none of them."""
        more = self.array.ndim - len(self.op.shape)
        if more == 1:
            return "batches"
        return None if more else "whole" if self.axes.batch is None else "examples"

    @property
    def count(self) -> int:
        """The number of examples or batches."""
        shape: tuple[int, ...] = self.array.shape
        return shape[0 if self.form == "batches" or self.axes.batch is None else self.axes.batch]

    def shape_problem(self) -> str | None:
        """Return the message for an array whose shape does not fit the input, or None."""
        shape = list(self.op.shape)
        if self.form == "batches":
            shape.insert(0, self.count)
        elif self.form == "examples" and self.axes.batch is not None:
            shape[self.axes.batch] = self.count
        if self.form is not None and self.array.shape == tuple(shape):
            return None
        examples, one = self.axes.text(self.op.shape, "examples"), self.axes.text(self.op.shape)
        expected = f"{examples} or [batches, {one[1:]}"
        return f"wrong shape: {self.name} must be {expected}, found {list(self.array.shape)}"


def form_problems(arrays: Iterable[InputArray]) -> Iterator[str]:
    """Yield conflicts between arrays: mixed forms, numbers of examples or batches that differ or are too small."""
    by_form = {form: [g for g in arrays if g.form == form] for form in ("examples", "batches")}
    if all(by_form.values()):
        names = {form: ", ".join(g.name for g in members) for form, members in by_form.items()}
        yield f"mixed: {names['batches']} as whole batches, {names['examples']} as examples: give all in one form"
    for form, members in by_form.items():
        counts = {g.name: g.count for g in members}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            yield f"different numbers of {form}: {listed}"
        elif form == "batches" and 0 in counts.values():
            yield "too few batches: found 0"
        elif form == "examples" and members and (count := members[0].count) < (size := batch_size(members[0])):
            name = members[0].axes.sizes[members[0].axes.batch or 0]
            too_few = f"too few examples: found {count}, a batch has {name} = {size}"
            yield f"{too_few}: make it smaller with {size_argument(name)}"


def batch_size(array: InputArray) -> int:
    """Return the number of examples in a batch, as an input declares it."""
    assert array.axes.batch is not None
    return array.op.shape[array.axes.batch]


@dataclass(frozen=True)
class Dataset:
    """Arrays that fit a model. A *row* is the unit that is drawn: an example, or a whole batch if the arrays hold
    batches. ``rows`` is their number, ``per_batch`` rows make a batch, ``of`` names a row in messages."""

    arrays: tuple[InputArray, ...]
    rows: int
    per_batch: int
    of: str

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the arrays' names, types and elements."""
        digest = hashlib.sha256()
        for one in sorted(self.arrays, key=lambda g: g.name):
            digest.update(repr((one.name, one.array.dtype.str, one.array.shape)).encode())
            digest.update(np.ascontiguousarray(one.array).data)
        return digest.hexdigest()

    def take(self, rows: Order) -> dict[str, Array]:
        """Return the batch of ``per_batch`` rows, in float32."""
        return {one.name: _rows_of(one, rows, whole_batch=True).astype(np.float32) for one in self.arrays}

    def for_training(self, seed: int = 0, shuffle: bool = True) -> Batches:
        """Return endless batches. Each epoch has every row once, in an order that ``seed`` and the epoch's number
        determine, or without ``shuffle`` in their own. First rows of the next epoch complete the last batch."""
        return _Epochs(-(-self.rows // self.per_batch), self, seed, shuffle)

    def for_scoring(self) -> Batches:
        """Return batches in order that count no row twice: last rows that do not fill a batch are left out."""
        whole = self.rows // self.per_batch
        return _Epochs(whole, replace(self, rows=whole * self.per_batch), 0, shuffle=False)

    def split(self, fraction: float, seed: int = 0, shuffle: bool = True) -> tuple[Dataset, Dataset]:
        """Return rows to train on, and a ``fraction`` of the rows to score on: drawn by ``seed``, or the last rows.
        Raises DataError if either part would have less than a batch."""
        order = _order(self.rows, [seed], shuffle)
        cut = self.rows - round(self.rows * fraction)
        parts = [np.sort(order[:cut]), np.sort(order[cut:])]
        if min(map(len, parts)) < self.per_batch:
            counts = " and ".join(str(len(part)) for part in parts)
            argument = Argument("test_split", f"{fraction:g}")
            raise DataError(f"{argument} makes {counts} {self.of}: a batch has {self.per_batch}")
        return self._part(parts[0]), self._part(parts[1])

    def _part(self, rows: Order) -> Dataset:
        arrays = tuple(replace(one, array=_rows_of(one, rows, whole_batch=False)) for one in self.arrays)
        return replace(self, arrays=arrays, rows=len(rows))


def dataset_for(graph: Graph, declared: Mapping[str, Axes], arrays: Mapping[str, AnyArray], source: str) -> Dataset:
    """Return the dataset of a graph; ``source`` names the arrays in errors, ``declared`` is from :func:`batch_axes`.
    Raises DataError with every problem at once: arrays that are missing, extra, of another shape, not numbers, not
    finite, or outside of the domains of the ops that read them."""
    inputs = {node.name: node.op for node in graph if isinstance(node.op, Input)}
    carried = {name: f": it takes the value of {output.name}" for name, output in graph.carried().items()}
    unfilled = {name: op for name, op in inputs.items() if op.fill is None and name not in carried}
    # an input that tracing created was not declared: its sizes are numbers
    needed = {name: (op, declared.get(name, Axes(tuple(map(str, op.shape))))) for name, op in unfilled.items()}
    present = [InputArray(name, op, axes, arrays[name]) for name, (op, axes) in needed.items() if name in arrays]
    expected = {name: axes.text(op.shape, "examples") for name, (op, axes) in needed.items()}
    why_extra = {**dict.fromkeys(inputs, ": the net fills it"), **carried}
    problems = wrong_names(expected, {name: array.shape for name, array in arrays.items()}, why_extra=why_extra)
    shapes = {one.name: one.shape_problem() for one in present}
    fitting = [one for one in present if shapes[one.name] is None]
    problems += filter(None, shapes.values())
    problems += form_problems(fitting)
    # the elements of a file are read only if everything else fits
    read = [one for one in fitting if not problems or isinstance(one.array, np.ndarray)]
    problems += filter(None, (value_problem(one.name, one.array, one.op.values) for one in read))
    if problems:
        if any(shapes.values()) and all(one.axes.batch is None for one in present):
            example = f"as {BATCH} = dims('{BATCH}') is"
            problems.append(f"no input of {graph.name} has an axis that counts examples, {example}")
        raise DataError(f"{source} does not fit {graph.name}", notes=problems)
    present = [replace(one, array=np.asarray(one.array)) for one in present]
    for one in present:
        if one.form in ("batches", "examples"):
            return Dataset(tuple(present), one.count, 1 if one.form == "batches" else batch_size(one), one.form)
    return Dataset(tuple(present), 1, 1, "batches")


def _rows_of(array: InputArray, rows: Order, whole_batch: bool) -> NDArray[Any]:
    """Return some rows of an array; with ``whole_batch`` the rows make one batch, in the input's own shape."""
    if array.form == "batches":
        return np.asarray(array.array)[rows[0] if whole_batch else rows]
    if array.form == "examples" and array.axes.batch is not None:
        return np.take(array.array, rows, array.axes.batch)
    return np.asarray(array.array)


def _order(rows: int, seed: list[int], shuffle: bool) -> Order:
    return np.random.default_rng(seed).permutation(rows) if shuffle else np.arange(rows)


@dataclass
class _Epochs:
    """Batches of the rows of one epoch after another."""

    per_epoch: int
    dataset: Dataset
    seed: int
    shuffle: bool
    orders: dict[int, Order] = field(default_factory=dict)  # of the epochs last asked for: a batch may touch two

    def batch(self, iteration: int) -> dict[str, Array]:
        first = iteration * self.dataset.per_batch
        places = [divmod(at, self.dataset.rows) for at in range(first, first + self.dataset.per_batch)]
        return self.dataset.take(np.array([self._epoch(epoch)[row] for epoch, row in places]))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.dataset.fingerprint} {self.seed} {self.shuffle}".encode()).hexdigest()

    def _epoch(self, number: int) -> Order:
        """Return the order of an epoch's rows. The orders of this epoch and of its neighbours are kept."""
        if number not in self.orders:
            self.orders = {n: order for n, order in self.orders.items() if abs(n - number) == 1}
            self.orders[number] = _order(self.dataset.rows, [self.seed, number], self.shuffle)
        return self.orders[number]


@dataclass(frozen=True)
class RunData:
    """The data of a run, and the graph that takes them."""

    graph: Graph
    train: Dataset
    test: Dataset | None
    shuffle: bool


def data_name(data: Data, otherwise: str) -> str:
    return str(data) if isinstance(data, str | Path) else otherwise


def run_data(
    graph: Graph,
    axes: Mapping[str, Axes],
    data: Data,
    test_data: Data | None,
    test_split: float | None,
    seed: int,
    shuffle: bool,
    arrays: Mapping[str, AnyArray] | None = None,
) -> RunData:
    """Return all data of a run, checked against its training graph. Raises DataError for arrays that do not fit.
    ``arrays`` are the arrays of ``data``, if they were read already. An input with a fill may be among the data; then
    it is fed. If states are carried from batch to batch, nothing is shuffled, and every place in a batch continues in
    the next batch, so examples must fill whole batches."""
    if test_data is not None and test_split is not None:
        both = f"{Argument('test_data')} and {Argument('test_split')} both"
        raise DataError(f"{both} say what to score on: expected one of them")
    if test_split is not None and not 0 < test_split < 1:
        raise DataError(f"{Argument('test_split')} takes a part between 0 and 1, found {test_split:g}")
    carried = list(graph.carried())
    shuffle = shuffle and not carried
    arrays = read_data(data) if arrays is None else arrays
    graph = fed_graph(graph, arrays)
    train, test = dataset_for(graph, axes, arrays, data_name(data, "the data")), None
    if test_data is not None:
        test = dataset_for(graph, axes, read_data(test_data), data_name(test_data, "the test data"))
    elif test_split is not None:
        train, test = train.split(test_split, seed, shuffle)
    if carried and train.rows % train.per_batch:
        raise DataError(
            f"{carried[0]} is carried over from batch to batch: expected a number of examples that whole batches of"
            f" {train.per_batch} make, found {train.rows}"
        )
    return RunData(graph, train, test, shuffle)


def read_data(data: Data) -> Mapping[str, AnyArray]:
    return read_arrays(Path(data)) if isinstance(data, str | Path) else data


def fed_graph(graph: Graph, names: Container[str]) -> Graph:
    """Return the graph without the fills of the inputs ``names``, except carried ones, so that data are fed to them."""

    carried = graph.carried()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Input) or node.name in carried or node.name not in names:
            return None
        return b.add(replace(node.op, fill=None), names=node.names, loc=node.loc)

    return rewrite(graph, visit)
