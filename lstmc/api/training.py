"""``lstmc.train``: train a model on data, by one process or several; and the files for ``caffe train``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import ceil, prod
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from lstmc.api.models import AnyModel, DimensionSize, ModelSource, Weights, backend_of, bound_weights
from lstmc.api.net import Net
from lstmc.api.options import CompileOptions, RunOptions, Solver, TrainingOptions, options_of
from lstmc.api.running import png_html
from lstmc.backend import Backend, Compiled, RankPart, Ranks, Settings, offers, target_of
from lstmc.backend.compiled import Trained, TrainingData, TrainingRequest
from lstmc.data import BATCH, Axes, Data, RunData, batch_axes, data_name, fed_graph, read_data, run_data, sizes_of_data
from lstmc.errors import Argument, DataError, ModelFileError, TrainingError
from lstmc.files.arrays import npz_bytes
from lstmc.files.output import Content, write_files
from lstmc.ir import Graph, graph_work
from lstmc.ops import Array, Constant, Input
from lstmc.pipeline import compile_graph
from lstmc.prepare import Counted, deploy_graph, has_loss, share_of_loss, training_graph, training_inputs
from lstmc.runs.events import RECORD, Event, Progress, Recorder, Started, about_data, record, record_file
from lstmc.runs.folder import WEIGHTS
from lstmc.runs.metrics import CURVES, METRICS, CurveDrawing, Metrics, Record, read_metrics, run_seconds
from lstmc.weights import parameters


@dataclass(frozen=True)
class FittedData:
    """A model and its data: its whole graph at ``sizes``, given or from the data, and the ``axes`` of its inputs."""

    axes: Mapping[str, Axes]
    graph: Graph
    sizes: Mapping[str, int]
    run_data: RunData


def fit_data(source: ModelSource, data: Data, options: TrainingOptions) -> FittedData:
    """Fit a model and its data to each other: read the data, and trace the model at the sizes of the arrays. Raises
    :class:`~lstmc.errors.DataError` for data that do not fit."""
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
    """Return the number of updates that ``epochs`` passes over the data need. Raises TrainingError if the solver has a
    max_iter, or for a number that is not above 0."""
    argument = Argument("epochs", f"{epochs:g}")
    names = [text.partition("=")[0] for text in solver] if isinstance(solver, list | tuple) else solver
    if isinstance(names, list | Mapping) and "max_iter" in names:
        raise TrainingError(f"{argument} and the solver's max_iter both say how long to train: expected one of them")
    if not epochs > 0:
        raise TrainingError(f"{argument}: expected a number above 0")
    return ceil(epochs * data.train.rows / (data.train.per_batch * iter_size))


@contextmanager
def ranks_of(backend: Backend, count: int | None, gpu: bool) -> Iterator[Ranks | None]:
    """Yield the processes that train together: ``count`` new ones, or those of an MPI launcher; None if this one is
    alone. Only the first process of a launcher enters the block; the others raise SystemExit when the first leaves it.
    Raises :class:`TrainingError` for an invalid count."""
    if count is not None and count < 1:
        raise TrainingError(f"{Argument('ranks', str(count))}: expected at least one")
    if count == 1 or (count is None and not offers(backend, "ranks")):
        yield None
        return
    with closing(backend.ranks(count, gpu)) as processes:
        yield None if processes.count == 1 else processes


def rank_parts(
    ranks: int, source: ModelSource, fitted: FittedData, batch: str | None, backend: Backend, target: str
) -> tuple[RankPart, ...]:
    """Return the part of the batch of each rank; all parts have about the same size. Raises :class:`TrainingError` if
    the model fixes the size of a batch, if a batch has fewer examples than there are ranks, if an input is drawn for
    the whole batch, and if the model mixes examples."""
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
    for node in graph:
        if isinstance(node.op, Input) and node.op.fill is not None and not isinstance(node.op.fill, Constant):
            raise TrainingError(
                f"{graph.name} cannot be trained by several ranks: {node.name} is drawn for a whole batch", loc=node.loc
            )
    counts = [size // ranks + (rank < size % ranks) for rank in range(ranks)]
    fed = [node.name for node in graph if isinstance(node.op, Input) and node.op.fill is None]
    compiled_by_size: dict[int, tuple[Compiled, Mapping[str, Counted]]] = {}
    for count in set(counts):
        part = fed_graph(training_graph(source.graph({**sizes, dim: count})), fed)
        share = share_of_loss(graph, part, count / size)
        compiled_by_size[count] = compile_graph(share.graph, backend, target, source.name), share.counted
    parts = []
    for start, stop in pairwise(accumulate(counts, initial=0)):
        compiled, counted = compiled_by_size[stop - start]
        parts.append(RankPart(compiled, start, stop, counted))
    return tuple(parts)


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
    """Return why a compiled net has no training net, as a text with marks of arguments; None if it has one."""
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
    """Return the files of a training net by name. Raises :class:`ModelFileError` for a net that is not trained."""
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
    """Write a net with the further files for `caffe train`: the training net, the solver's settings, the data. ``data``
    and ``test_data`` are arrays by the names of the inputs, or a file of them; the other arguments are those of
    :func:`lstmc.train`. Raises :class:`~lstmc.errors.ModelFileError` for a model without a loss, and for a net of one
    step, with selected outputs, or for a target that is not trained.

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


@dataclass(frozen=True, eq=False)
class Run:
    """The result of :func:`lstmc.train`: ``net`` is the deployed model with the trained ``weights``. ``ended`` says
    whether all iterations were made, or the run was stopped; then it can be resumed from ``snapshot``. ``files`` are
    the files in ``folder``. ``parameters`` counts trained numbers; ``flops`` is the work of a forward pass of the
    deployed model for one example (:func:`lstmc.api.training.costs`). In a notebook a run shows its loss curve."""

    folder: Path
    iteration: int
    ended: Literal["finished", "stopped"]
    weights: Mapping[str, Array]
    net: Net
    snapshot: Path
    files: tuple[Path, ...]
    not_drawn: str | None = None  # why there is no loss curve
    parameters: int = 0
    flops: int = 0

    @property
    def metrics(self) -> list[Record]:
        """All measurements in order: ``{"kind": "train", "iteration": 1, "loss": 2.3, ...}``, and tests."""
        return read_metrics(self.folder / METRICS)

    @property
    def seconds(self) -> float:
        """The seconds that updates and tests took, in all processes that continued the run."""
        return run_seconds(self.metrics)

    @property
    def losses(self) -> list[float | None]:
        """The loss of each update; None if it was not finite."""
        return [record["loss"] for record in self.metrics if record["kind"] == "train"]

    @property
    def scores(self) -> dict[str, float | None]:
        """The scores of the last test; empty without a test."""
        tests = [record["scores"] for record in self.metrics if record["kind"] == "test"]
        return dict(tests[-1]) if tests else {}

    def __str__(self) -> str:
        scores = "".join(f", {name} {score:.4g}" for name, score in self.scores.items() if score is not None)
        return f"{self.net.name} in {self.folder}: {self.ended} after {self.iteration} iterations{scores}"

    def __repr__(self) -> str:
        return f"<lstmc.Run {self}>"

    def _repr_html_(self) -> str:
        curve = self.folder / CURVES[0]
        return png_html(str(self), curve.read_bytes() if curve.is_file() else None)


def train(
    model: AnyModel,
    data: Data,
    /,
    *,
    out: str | Path,
    test_data: Data | None = None,
    test_split: float | None = None,
    epochs: float | None = None,
    solver: Solver | None = None,
    weights: Weights | None = None,
    seed: int = 0,
    batch: str | None = None,
    shuffle: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    ranks: int | None = 1,
    gpu: bool = False,
    target: str | None = None,
    backend: str | Backend | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    command: str = "",
    sizes: Mapping[str, int] | None = None,
    **dims: DimensionSize,
) -> Run:
    """Train a model, and write its net with trained weights, its metrics, its loss curve and snapshots.

    Training minimizes the output called ``loss``; other losses and scores are reported as means over the test data.

    Args:
        model: A model that returns a loss, and outputs such as scores.
        data: Arrays by the names of the inputs, or an ``.npz`` or HDF5 file of them: each in its input's shape with
            any number of examples on the batch axis, or with one more axis in front, a whole batch in each row.
        out: The folder of the run.
        test_data: Data to score the model on during training; ``test_split``, as 0.2, takes this part of ``data``.
        epochs: Train for this number of passes over the data, instead of the solver's ``max_iter``.
        solver: Settings of the backend's type, which replace the model's; or a mapping that overrides some of them.
        weights: Initial values of all parameters; by default drawn by their fillers, with ``seed``.
        batch: The dimension that counts examples; by default ``N``.
        shuffle: Draw the examples of each epoch in a new order, by ``seed``.
        resume: Continue the run in ``out`` from its last snapshot; its weights are those of an uninterrupted run.
        overwrite: Begin again in ``out``: an existing run is first moved into ``out/previous/N``.
        ranks: Train by this number of processes, each with a part of every batch, which sum their gradients by MPI, or
            in PyTorch by gloo. None is for a program under an MPI launcher, with Caffe: the launched processes are the
            ranks. In the first process the call returns as usual; the others work inside this call, and raise
            SystemExit at its end.
        gpu: Train on a GPU instead of the CPU.
        progress: A function that gets each :class:`~lstmc.runs.events.Event`: ``progress=print`` prints them. If it
            returns True, the run stops with a snapshot.
        stop: A function, called after each update, that returns whether to stop. By default Ctrl-C (a notebook's
            Interrupt) stops the run with a snapshot, and then KeyboardInterrupt is raised.
        command: The command of the run, for its record.
        sizes: Sizes of dimensions, besides those given as arguments. Sizes other than the batch's follow from the data,
            and need not be given.

    Raises :class:`~lstmc.errors.DataError` for data that do not fit, before anything is trained or written, and
    :class:`~lstmc.errors.TrainingError` if the run cannot start or resume, or its loss diverges.

    >>> import lstmc, tempfile, numpy as np
    >>> N = lstmc.dims("N")
    >>> @lstmc.model
    ... def fits(X=lstmc.Input(N, 3), y=lstmc.Input(N, 1), W=lstmc.Param(1, 3)):
    ...     found = lstmc.linear(X, W)
    ...     return {"found": found, "loss": lstmc.euclidean_loss(found, y)}
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = {"X": X, "y": X @ [[1], [2], [3]]}
    ...     run = lstmc.train(fits, data, N=10, out=folder, solver={"base_lr": 0.1, "max_iter": 200})
    ...     len(run.losses), run.weights["W"].round(3).tolist()
    (200, [[1.0, 2.0, 3.0]])
    """
    given = locals()
    options, run = options_of(TrainingOptions, train, given), options_of(RunOptions, train, given)
    return train_model(model, data, options, run)


def train_model(model: AnyModel, data: Data, options: TrainingOptions, run: RunOptions) -> Run:
    """Train a model: :func:`lstmc.train` with its keywords as two objects."""
    backend = backend_of(options.backend, options.target)
    with ranks_of(backend, run.ranks, options.gpu) as ranks:
        if run.resume and run.overwrite:
            both = Argument("resume"), Argument("overwrite")
            raise TrainingError(f"{both[0]} continues a run and {both[1]} starts it again: give one of them")
        progress, folder = Listener(run.progress), Path(run.out)
        source = model if isinstance(model, ModelSource) else ModelSource.from_model(model)
        target = target_of(backend, options.target)
        settings = solver_settings(backend, source.model.solver, options.solver)
        fitted = fit_data(source, data, options)
        run_data = fitted.run_data
        if options.epochs is not None:
            updates = iterations_of_epochs(options.epochs, options.solver, run_data, settings.iter_size)
            settings = solver_settings(backend, settings, {"max_iter": updates})
        graph = deploy_graph(fitted.graph)
        deployed = compile_graph(graph, backend, target, source.name)
        deployed = replace(deployed, training_inputs=training_inputs(fitted.graph, graph))
        first_weights = bound_weights(fitted.graph, run.weights, options.seed, backend)
        facts = record(
            run.command,
            settings,
            model=source.name,
            options=dict(source.options),
            sizes=fitted.sizes,
            backend=f"{backend.name}: {backend.build()}",
            target=target,
            seed=options.seed,
            shuffle=run_data.shuffle,
            **costs(fitted.graph, fitted.axes),
            **_data_facts(data, options.test_data, run_data),
        )
        compiled = compile_graph(run_data.graph, backend, target, source.name)
        parts = rank_parts(ranks.count, source, fitted, options.batch, backend, target) if ranks else ()
        progress(started_event(settings.max_iter, run_data))
        metrics, drawing = Metrics(folder, run.resume, record_file(facts)), CurveDrawing(folder)
        not_drawn = None
        with interruptible(run.stop) as interrupted:
            request = TrainingRequest(
                folder=folder,
                batches=run_data.train.for_training(options.seed, run_data.shuffle),
                test_batches=None if run_data.test is None else run_data.test.for_scoring(),
                callbacks=Recorder(metrics, drawing, progress),
                stop=lambda: progress.stopped or interrupted(),
                resume=run.resume,
                overwrite=run.overwrite,
                gpu=options.gpu,
                parts=parts,
            )
            try:
                weights = {name: first_weights[name] for name in parameters(compiled.model)}
                trained = (ranks or backend).train(compiled, weights, settings, request)
            finally:  # however it ends, its loss curve is drawn
                metrics.close()
                if metrics.has_lines:
                    not_drawn = drawing.finish()
            all_weights = {**first_weights, **trained.weights}
            compiled_with = CompileOptions(target=target, backend=backend, weights=all_weights, sizes=fitted.sizes)
            net = Net.from_compiled(source, fitted.graph, backend, deployed, all_weights, options=compiled_with)
            result = write_run(folder, trained, net, all_weights, not_drawn, facts)
    if result.ended == "stopped" and run.stop is None and not progress.stopped:
        raise KeyboardInterrupt(f"{result}: resume=True continues from {result.snapshot}")
    return result


def _data_facts(data: Data, test_data: Data | None, run_data: RunData) -> dict[str, Any]:
    test = None
    if run_data.test is not None:
        test = about_data(run_data.test, data_name(data if test_data is None else test_data, "arrays"))
    return {"data": about_data(run_data.train, data_name(data, "arrays")), "test_data": test}


def started_event(iterations: int, data: RunData) -> Started:
    train, test = data.train, data.test
    event = Started(iterations, train.rows, train.of, train.per_batch, data.shuffle)
    if test is None:
        return event
    return replace(event, test_rows=test.rows, test_of=test.of, test_per_batch=test.per_batch)


def costs(graph: Graph, axes: Mapping[str, Axes]) -> dict[str, int]:
    """Return the number of trained ``parameters``, and the ``flops`` of one forward pass of the deployed model for one
    example, over all steps of its scans. A multiply-add is two FLOPs, a function of an element is one, moving elements
    is none (:func:`lstmc.ops.Work`). They are counted in the model as written, so hoisting and fusion do not change
    them. Without a batch axis the FLOPs are those of the whole pass."""
    fed = [node for node in graph if isinstance(node.op, Input) and node.name in axes]
    examples = next((n.types[0].shape[axis] for n in fed if (axis := axes[n.name].batch) is not None), 1)
    count = sum(prod(op.shape) for op in parameters(graph).values() if not op.fixed)
    return {"parameters": count, "flops": round(graph_work(deploy_graph(graph)).flops / examples)}


def write_run(
    folder: Path,
    trained: Trained,
    net: Net,
    weights: Mapping[str, Array],
    not_drawn: str | None,
    facts: Mapping[str, Any],
) -> Run:
    """Write the parameters, the deployed net and the record into the run's folder, and return the run."""
    record_of_it = record_file({**facts, "files": list(net.files)})
    paths = [*write_files(folder, {WEIGHTS: npz_bytes(weights), **net.files, **record_of_it})][:-1]
    paths += [folder / name for name in (RECORD, METRICS, *CURVES)]
    left = tuple(path for path in paths if path.is_file())  # there is no curve where it could not be drawn
    costs_of_it = facts["parameters"], facts["flops"]
    return Run(folder, trained.iteration, trained.ended, weights, net, trained.snapshot, left, not_drawn, *costs_of_it)


class Listener:
    """The ``progress`` of a run: passes events on, and records a request to stop (a result of True)."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self.stopped = progress, False

    def __call__(self, event: Event) -> None:
        if self._progress is not None and self._progress(event) is True:
            self.stopped = True


@contextmanager
def interruptible(stop: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Yield ``stop``, or else a function that is true after the first Ctrl-C in the block, which is caught; a second
    raises KeyboardInterrupt. Only the main thread receives signals; one that the process was started to ignore stays
    ignored."""
    handler = signal.getsignal(signal.SIGINT)
    elsewhere = threading.current_thread() is not threading.main_thread()
    if stop is not None or elsewhere or handler in (signal.SIG_IGN, None):
        yield stop or (lambda: False)
        return
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, handler)
