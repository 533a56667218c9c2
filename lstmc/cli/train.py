"""``lstmc train``: a model and data in, a run out: its net with trained weights, its metrics, its loss curve."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lstmc.arrays import npz_bytes
from lstmc.backend import Backend, Compiled, Settings, Trains, load_backend, require, target_of
from lstmc.cli.console import out, table
from lstmc.cli.interruption import Interruption, interruptible
from lstmc.cli.options import (
    BackendOption,
    BatchOption,
    GpuOption,
    SeedOption,
    SizesOption,
    SolverOption,
    TargetOption,
    WeightsOption,
    parse_sizes,
)
from lstmc.cli.progress import Bar, Display, Lines, Observer, Work
from lstmc.data import batch_axes
from lstmc.data.run_data import RunData, read_data
from lstmc.model_file import model_in
from lstmc.ops import Array
from lstmc.output import write_files
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph, training_graph
from lstmc.runs.curve_drawing import CURVES, CurveDrawing
from lstmc.runs.metrics import METRICS, Metrics, Record
from lstmc.runs.record import RECORD, about_data, record, record_file
from lstmc.training import Trained, TrainingRun
from lstmc.weights import initial_weights, parameters, read_weights


def train_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE[:MODEL]", help="A Python file with a @model that returns a loss.")
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="DATA", help="Arrays (.npz or HDF5) by the names of the inputs.")
    ],
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The folder that the run goes into.")],
    test_data: Annotated[
        Path | None, typer.Option("--test-data", metavar="DATA", help="Arrays to score the model on while it trains.")
    ] = None,
    test_split: Annotated[
        float | None, typer.Option("--test-split", metavar="PART", help="Or such a part of --data, as 0.2.")
    ] = None,
    sizes: SizesOption = None,
    solver: SolverOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    batch: BatchOption = None,
    no_shuffle: Annotated[bool, typer.Option("--no-shuffle", help="Take examples in the order they have.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN from its last snapshot.")] = False,
    gpu: GpuOption = False,
    target: TargetOption = None,
    backend: BackendOption = "caffe",
) -> None:
    """Train a model. Its output called loss is made small; its other losses and scores are reported for test data.

    An array of DATA has the shape of its input, with any number of examples on the axis N; or one more axis in
    front, a batch in each row. Ctrl-C, SIGTERM and a closed terminal write a snapshot and end the run: --resume goes
    on with it.
    """
    source = model_in(file)
    graph = source.graph(parse_sizes(sizes or []))
    trained, loaded = training_graph(graph), load_backend(backend)
    trainer = require(loaded, Trains)
    settings = trainer.settings(source.model.solver, solver or [])
    name = target_of(loaded, target)
    given = read_data(trained, batch_axes(source.model, batch), data, test_data, test_split, seed, not no_shuffle)
    deployed = compile_graph(deploy_graph(graph), loaded, name, source.name)
    first = initial_weights(graph, seed) if weights is None else read_weights(weights, graph)
    facts = record(
        command(),
        settings,
        model=source.name,
        sizes=sizes or [],
        backend=f"{backend}: {trainer.build()}",
        target=name,
        seed=seed,
        shuffle=given.shuffle,
        data=about_data(given.train, data),
        test_data=None if given.test is None else about_data(given.test, test_data or data),
    )
    compiled = compile_graph(given.graph, loaded, name, source.name)
    run = Run(folder, given, first, settings, seed, resume, gpu, facts)
    run.say_what_it_is()
    with interruptible() as interruption:
        ended = run.train(trainer, compiled, interruption)
    _write_results(loaded, deployed, {**first, **ended.weights}, folder)
    if ended.ended == "stopped":
        out.print(f"stopped after {ended.iteration} iterations, with the snapshot {ended.snapshot}", markup=False)
        out.print(f"go on with: {command('--resume')}", markup=False, soft_wrap=True)
        raise typer.Exit(interruption.exit_code)
    out.print(f"finished after {ended.iteration} iterations")


def command(*more: str) -> str:
    """The command that runs, without --resume, and ``more`` words at its end: as one types it."""
    return shlex.join(["lstmc", *[word for word in sys.argv[1:] if word != "--resume"], *more])


@dataclass(frozen=True)
class Run:
    """One run, from what it is given to where its parameters ended."""

    folder: Path
    data: RunData
    weights: dict[str, Array]  # all parameters' first values
    settings: Settings
    seed: int
    resume: bool
    gpu: bool
    facts: Record  # to be written down when it begins

    def train(self, backend: Trains, compiled: Compiled, interruption: Interruption) -> Trained:
        """The training itself. However it ends, its loss curve is drawn."""
        work = Work(self.settings.max_iter, *self.data.amount)
        display: Display = Bar(out, work) if out.is_terminal else Lines(out, work)
        metrics, drawing = Metrics(self.folder, self.resume, record_file(self.facts)), CurveDrawing(self.folder)
        run = TrainingRun(
            folder=self.folder,
            batches=self.data.train.for_training(self.seed, self.data.shuffle),
            test_batches=None if self.data.test is None else self.data.test.for_scoring(),
            observer=Observer(display, metrics, drawing),
            stop=interruption.asked,
            resume=self.resume,
            gpu=self.gpu,
        )
        try:
            weights = {name: self.weights[name] for name in parameters(compiled.model)}
            return backend.train(compiled, weights, self.settings, run)
        finally:
            display.close()
            metrics.close()
            if metrics.has_lines and (problem := drawing.finish()):
                out.print(problem, markup=False)

    def say_what_it_is(self) -> None:
        """How much data there is, how often it will be seen, and what scores are means over."""
        train, test = self.data.train, self.data.test
        batches = f" in batches of {train.per_batch}" if train.of == "examples" else ""
        order = "shuffled" if self.data.shuffle else "in order"
        epochs = self.settings.max_iter * train.per_batch / train.rows
        out.print(
            f"training on {train.rows} {train.of}{batches}, {order}: {self.settings.max_iter} iterations,"
            f" {epochs:.3g} epochs"
        )
        if test is not None:
            left_out = test.rows % test.per_batch
            whole = f" of {test.rows}" if left_out else ""
            rest = ": the others fill no batch" if left_out else ""
            out.print(f"test scores are means over {test.rows - left_out}{whole} {test.of}{rest}")


def _write_results(backend: Backend, deployed: Compiled, weights: dict[str, Array], folder: Path) -> None:
    """The parameters by name, and the net as it is used, with them; a table of all that the run left."""
    files = {"weights.npz": npz_bytes(weights)}
    files |= backend.emit(deployed, {name: weights[name] for name in parameters(deployed.model)}).files
    paths = [*write_files(folder, files), *(folder / name for name in (RECORD, METRICS, *CURVES))]
    wrote = table("wrote", "file", "bytes", right=("bytes",))
    for path in paths:
        if path.is_file():  # without matplotlib's help there is no curve
            wrote.add_row(str(path), f"{path.stat().st_size:,}")
    out.print(wrote)
