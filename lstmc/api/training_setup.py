"""Prepare a training: its solver settings, the parts of a batch for processes, and the files for ``caffe train``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil
from pathlib import Path

from lstmc.api.models import ModelSource
from lstmc.api.net import Net
from lstmc.api.options import Solver, TrainingOptions
from lstmc.backend import (
    Backend,
    Compiled,
    RankPart,
    Ranks,
    Settings,
    offers,
)
from lstmc.backend.compiled import TrainingData
from lstmc.data import BATCH, Axes, Data, RunData, batch_axes, fed_graph, read_data, run_data, sizes_of_data
from lstmc.errors import Argument, DataError, ModelFileError, TrainingError
from lstmc.files.output import Content, write_files
from lstmc.ir import Graph
from lstmc.ops import Input
from lstmc.pipeline import compile_graph
from lstmc.prepare import Counted, has_loss, share_of_loss, training_graph


@dataclass(frozen=True)
class FittedData:
    """A model and its data, which fit each other.

    ``graph`` is the whole model at ``sizes``, given or shown by the data; ``axes`` are those of its inputs.
    """

    axes: Mapping[str, Axes]
    graph: Graph
    sizes: Mapping[str, int]
    run_data: RunData


def fit_data(source: ModelSource, data: Data, options: TrainingOptions) -> FittedData:
    """Fit a model and its data to each other: read the data, and trace the model at the sizes that they show.

    Raises :class:`~lstmc.errors.DataError` for data that do not fit.
    """
    axes, arrays = batch_axes(source.model, options.batch), read_data(data)
    shown = sizes_of_data(source.model, axes, arrays, options.sizes)
    sizes = {**options.sizes, **shown}
    graph = source.graph(sizes)
    split = (options.test_data, options.test_split, options.seed, options.shuffle)
    try:
        fitted = run_data(training_graph(graph), axes, data, *split, arrays)
    except DataError as error:
        listed = ", ".join(f"{name}={size}" for name, size in shown.items())
        raise error.located(notes=[f"sizes that the data show: {listed}"] if shown else []) from None
    return FittedData(axes, graph, sizes, fitted)


def iterations_of_epochs(epochs: float, solver: Solver | None, data: RunData, iter_size: int) -> int:
    argument = Argument("epochs", f"{epochs:g}")
    names = [text.partition("=")[0] for text in solver] if isinstance(solver, list | tuple) else solver
    if isinstance(names, list | Mapping) and "max_iter" in names:
        raise TrainingError(f"{argument} and the solver's max_iter both say how long to train: expected one of them")
    if not epochs > 0:
        raise TrainingError(f"{argument}: expected a number above 0")
    return ceil(epochs * data.train.rows / (data.train.per_batch * iter_size))


@contextmanager
def ranks_of(backend: Backend, count: int | None, gpu: bool) -> Iterator[Ranks | None]:
    """Start the processes that train, ``count`` of them or those of an MPI launcher; None if this is the only one.

    Of a launcher's processes only the first comes to the block; the others end when it leaves it, by SystemExit.
    Raises :class:`TrainingError` for a count that is none.
    """
    if count is not None and count < 1:
        argument = Argument("ranks", str(count))
        raise TrainingError(f"{argument}: expected at least one")
    if count == 1 or (count is None and not offers(backend, "ranks")):
        yield None
        return
    with closing(backend.ranks(count, gpu)) as processes:
        yield None if processes.count == 1 else processes


def rank_parts(
    ranks: int, source: ModelSource, fitted: FittedData, batch: str | None, backend: Backend, target: str
) -> tuple[RankPart, ...]:
    """Return a part of the batch for each rank, all of about the same size.

    Raises :class:`TrainingError` where the model does not leave open how large a batch is, where a batch has fewer
    examples than there are ranks, and where its examples are not apart.
    """
    dim, argument = batch or BATCH, Argument("ranks", str(ranks))
    sizes, axes, graph = fitted.sizes, fitted.axes, fitted.run_data.graph
    size = next((graph.node(n).op.shape[a.batch] for n, a in axes.items() if a.batch is not None and n in graph), None)  # type: ignore[attr-defined]
    if size is None or dim not in sizes:
        raise TrainingError(
            f"{argument}: expected a batch that can be divided, by a size of {dim} that is given: {graph.name} has no"
            " input with such an axis"
        )
    if size < ranks:
        raise TrainingError(f"{argument}: a batch has {size} examples, expected at least one for each rank")
    counts = [size // ranks + (rank < size % ranks) for rank in range(ranks)]
    fed = [node.name for node in graph if isinstance(node.op, Input) and node.op.fill is None]
    compiled_by_size: dict[int, tuple[Compiled, Mapping[str, Counted]]] = {}
    for count in set(counts):
        part = fed_graph(training_graph(source.graph({**sizes, dim: count})), fed)
        share = share_of_loss(graph, part, count / size)
        compiled_by_size[count] = compile_graph(share.graph, backend, target, source.name), share.counted
    bounds = pairwise(accumulate(counts, initial=0))
    return tuple(
        RankPart(compiled_by_size[stop - start][0], start, stop, compiled_by_size[stop - start][1])
        for start, stop in bounds
    )


def solver_settings(backend: Backend, of_model: object | None, solver: Solver | None) -> Settings:
    """Return a model's settings overridden by ``solver``; settings of the backend's own type replace them."""
    if solver is None:
        return backend.settings(of_model, ())
    if isinstance(solver, Mapping):
        return backend.settings(of_model, [f"{name}={_text(value)}" for name, value in solver.items()])
    if isinstance(solver, list | tuple):
        return backend.settings(of_model, solver)
    return backend.settings(solver, ())


def _text(value: object) -> str:
    """Return a setting's value as settings are written in text: ``true``, ``100,200``, ``default``."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def why_not_trained(net: Net) -> str | None:
    """Return the reason why a compiled net has no training net; None if it has."""
    if not has_loss(net.graph):
        return f"{net.name} returns no loss"
    if net.compiled.states is not None:
        return f"{Argument('step', 'True')} makes a net that is not trained"
    if net.options.outputs:
        return f"{Argument('outputs')} makes a net that is not trained"
    trainable = net.backend.training_targets
    if net.target in trainable:
        written = offers(net.backend, "emit_training")
        return None if written else f"backend {net.backend.name} trains by lstmc alone: use lstmc train"
    return f"nets for target {net.target} are not trained: those for {', '.join(trainable) or 'none'} are"


def training_files(
    net: Net,
    data: Data | None = None,
    test_data: Data | None = None,
    solver: Solver | None = None,
    batch: str | None = None,
    seed: int = 0,
) -> Mapping[str, Content]:
    """Return the contents of the files of a training net, by name.

    Raises :class:`ModelFileError` for a net that is not trained.
    """
    if reason := why_not_trained(net):
        raise ModelFileError(f"there is no training net: {reason}")
    backend, model = net.backend, net.source.model
    settings = solver_settings(backend, model.solver, solver)
    trained = training_graph(net.graph)
    read: TrainingData | None = None
    if data is not None:
        fitted = run_data(trained, batch_axes(model, batch), data, test_data, None, seed, shuffle=True)
        trained = fitted.graph
        test = None if fitted.test is None else fitted.test.for_scoring()
        read = TrainingData(fitted.train.for_training(seed, fitted.shuffle), test)
    elif test_data is not None:
        test_argument, train_argument = Argument("test_data"), Argument("data")
        raise DataError(f"{test_argument} is to score a net on that is trained on {train_argument}: expected both")
    compiled = compile_graph(trained, net.backend, net.target, net.source.name)
    return backend.emit_training(compiled, settings, read)


def export_training(
    net: Net,
    folder: str | Path = ".",
    *,
    data: Data | None = None,
    test_data: Data | None = None,
    solver: Solver | None = None,
    batch: str | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write a net with what `caffe train` takes besides: the net to be trained, the solver's settings, the data.

    ``data`` and ``test_data`` are arrays by the names of the inputs, or a file of them; the other arguments are those
    of :func:`lstmc.train`. Raises :class:`~lstmc.errors.ModelFileError` for a model without a loss, and for a net of
    one step, of some outputs, or of a target that is not trained.

    >>> import lstmc, tempfile
    >>> @lstmc.model
    ... def fits(X=lstmc.Input(4, 3), y=lstmc.Input(4, 1), W=lstmc.Param(1, 3)):
    ...     found = lstmc.linear(X, W)
    ...     return {"found": found, "loss": lstmc.euclidean_loss(found, y)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(path.name for path in lstmc.export_training(lstmc.compile(fits), folder))[-3:]
    ['fits.solver.prototxt', 'fits.train.manifest.json', 'fits.train.prototxt']
    """
    files = training_files(net, data, test_data, solver, batch, seed)
    return write_files(Path(folder), {**net.files, **files})
