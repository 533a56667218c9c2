"""``lstmc.train``: train a model on data, by one process or several."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from lstmc.api.models import AnyModel, DimensionSize, ModelSource, Weights, backend_of, bound_weights
from lstmc.api.net import Net
from lstmc.api.options import CompileOptions, RunOptions, Solver, TrainingOptions, options_of
from lstmc.api.running import png_html
from lstmc.api.training_setup import fit_data, iterations_of_epochs, rank_parts, ranks_of, solver_settings
from lstmc.backend import Backend, target_of
from lstmc.backend.compiled import Trained, TrainingRequest
from lstmc.data import Axes, Data, RunData, data_name
from lstmc.errors import Argument, TrainingError
from lstmc.files.arrays import npz_bytes
from lstmc.files.output import write_files
from lstmc.ir import Graph, graph_work
from lstmc.ops import Array, Input
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph, training_inputs
from lstmc.runs.drawing import CURVES, CurveDrawing
from lstmc.runs.events import RECORD, Event, Progress, Recorder, Started, about_data, record, record_file
from lstmc.runs.folder import WEIGHTS
from lstmc.runs.metrics import METRICS, Metrics, Record, read_metrics, run_seconds
from lstmc.weights import parameters


@dataclass(frozen=True, eq=False)
class Run:
    """The result of :func:`lstmc.train`: ``net`` is the deployed model with the trained ``weights``.

    ``ended`` says whether all iterations were made, or the run was stopped; then it can be resumed from ``snapshot``.
    ``files`` are those that it left in ``folder``. ``parameters`` counts what was trained; ``flops`` are of one forward
    pass of the deployed model for one example (:func:`lstmc.api.training_run.costs`). In a notebook a run shows its
    loss curve.
    """

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
        """The loss of each update; None where it was no number."""
        return [record["loss"] for record in self.metrics if record["kind"] == "train"]

    @property
    def scores(self) -> dict[str, float | None]:
        """The scores of the last test; none where nothing was tested."""
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

    Its output called ``loss`` is made small; its other losses and scores are means over the test data.

    Args:
        model: A model that returns a loss and what it is for, such as its scores.
        data: Arrays by the names of the inputs, or an ``.npz`` or HDF5 file of them: each in its input's shape with
            any number of examples on the batch axis, or with one more axis in front, a whole batch in each row.
        out: The folder that the run goes into.
        test_data: Data to score the model on while it trains; ``test_split`` takes such a part of ``data``, as 0.2.
        epochs: Train until every example was seen so often, in place of the solver's ``max_iter``.
        solver: Settings of the backend's own type, in place of the model's; or a mapping of some, put over them.
        weights: First values of all parameters; without them they are drawn by their fillers, by ``seed``.
        batch: The dimension that counts examples; ``N`` if not given.
        shuffle: Draw the examples of each epoch in a new order, by ``seed``.
        resume: Go on with the run in ``out`` from its last snapshot, to the weights that an undisturbed run ends with.
        overwrite: Begin anew in ``out``: a run that is there is moved into ``out/previous/N`` first.
        ranks: Train by so many processes, each with a part of every batch, which add their gradients up: by MPI, or in
            PyTorch by gloo. None is for a program under an MPI launcher: its processes are the ranks, with Caffe. The
            first goes on as always; the others work for it inside this call, and leave it by SystemExit at the end.
        gpu: Train on a GPU instead of the CPU.
        progress: Is told each :class:`~lstmc.runs.events.Event` as it happens: ``progress=print`` prints them. The
            run is stopped, with a snapshot, where it returns True.
        stop: Is asked after each update whether to stop. Without it Ctrl-C (a notebook's Interrupt) stops the run
            with a snapshot, after which KeyboardInterrupt is raised.
        command: What made the run, for its record.
        sizes: Sizes of dimensions, besides those given as arguments. Sizes that the data show, all but the batch's,
            need not be given.

    Raises :class:`~lstmc.errors.DataError` for data that do not fit, before anything is trained or written, and
    :class:`~lstmc.errors.TrainingError` where the run cannot start or go on, or its loss runs away.

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
            )
            try:
                weights = {name: first_weights[name] for name in parameters(compiled.model)}
                trained = (
                    ranks.train(compiled, parts, weights, settings, request)
                    if ranks
                    else backend.train(compiled, weights, settings, request)
                )
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
    """Return the data and the test data for the record of a run."""
    test = None
    if run_data.test is not None:
        test = about_data(run_data.test, data_name(data if test_data is None else test_data, "arrays"))
    return {"data": about_data(run_data.train, data_name(data, "arrays")), "test_data": test}


def started_event(iterations: int, data: RunData) -> Started:
    """Return the event before the first update."""
    train, test = data.train, data.test
    event = Started(iterations, train.rows, train.of, train.per_batch, data.shuffle)
    if test is None:
        return event
    return replace(event, test_rows=test.rows, test_of=test.of, test_per_batch=test.per_batch)


def costs(graph: Graph, axes: Mapping[str, Axes]) -> dict[str, int]:
    """Return the ``parameters`` that are trained, and the ``flops`` of one forward pass of the deployed model for one
    example, with all steps of its scans.

    A product and a sum are two FLOPs, a function of an element is one, moving elements is none
    (:func:`lstmc.ops.Work`). They are those of the model as written: what the compiler hoists or fuses does not change
    them. Without a batch axis they are of the whole pass.
    """
    examples = next(
        (
            n.op.shape[axes[n.name].batch or 0]
            for n in graph
            if isinstance(n.op, Input) and n.name in axes and axes[n.name].batch is not None
        ),
        1,
    )
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
    """Write the parameters and the deployed net, and return the run."""
    record_of_it = record_file({**facts, "files": list(net.files)})
    paths = [*write_files(folder, {WEIGHTS: npz_bytes(weights), **net.files, **record_of_it})][:-1]
    paths += [folder / name for name in (RECORD, METRICS, *CURVES)]
    left = tuple(path for path in paths if path.is_file())  # there is no curve where it could not be drawn
    return Run(
        folder,
        trained.iteration,
        trained.ended,
        weights,
        net,
        trained.snapshot,
        left,
        not_drawn,
        parameters=facts["parameters"],
        flops=facts["flops"],
    )


class Listener:
    """The ``progress`` of a run: passes events on, and records a request to stop (a result of True)."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self.stopped = progress, False

    def __call__(self, event: Event) -> None:
        if self._progress is not None and self._progress(event) is True:
            self.stopped = True


@contextmanager
def interruptible(stop: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Catch the first Ctrl-C in the block, and yield a function that says whether to stop: by ``stop``, or by Ctrl-C.

    Signals come to the main thread alone, and one that the process was started to ignore stays ignored.
    """
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
