"""The data of a run: its training and test examples, and their order."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lstmc.data.dataset import Axes, Dataset, dataset_for
from lstmc.errors import Argument, DataError
from lstmc.files.arrays import AnyArray, read_arrays
from lstmc.ir import Builder, Graph, Node
from lstmc.ops import Input
from lstmc.passes import Refs, rewrite

Data = Mapping[str, NDArray[Any]] | str | Path  # arrays by the names of inputs, or a file of them


@dataclass(frozen=True)
class RunData:
    """The data of a run, and the graph that takes them."""

    graph: Graph
    train: Dataset
    test: Dataset | None
    shuffle: bool


def data_name(data: Data, otherwise: str) -> str:
    """Return the name of data in errors and records: the file, or ``otherwise``."""
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
    """Return all data of a run, checked against its training graph. Raises :class:`DataError` for what does not fit.

    ``arrays`` are those of ``data``, where they were read already.

    An input with a fill may be among the data; then it is fed.

    Where states are carried from batch to batch nothing is shuffled, and every place in the batch goes on from one
    batch to the next, so examples must come in whole batches.
    """
    if test_data is not None and test_split is not None:
        both = Argument("test_data"), Argument("test_split")
        raise DataError(f"{both[0]} and {both[1]} both say what to score on: expected one of them", arguments=both)
    if test_split is not None and not 0 < test_split < 1:
        argument = Argument("test_split")
        raise DataError(f"{argument} takes a part between 0 and 1, found {test_split:g}", arguments=(argument,))
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
    """Return the arrays of some data by name; of a file their elements are read where they are needed."""
    return read_arrays(Path(data)) if isinstance(data, str | Path) else data


def fed_graph(graph: Graph, names: Container[str]) -> Graph:
    """Return the graph in which inputs with data are fed, also those that have a fill."""

    carried = graph.carried()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Input) or node.name in carried or node.name not in names:
            return None
        return b.add(replace(node.op, fill=None), names=node.names, loc=node.loc)

    return rewrite(graph, visit)
