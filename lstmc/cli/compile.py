"""``lstmc compile``: from a model to files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lstmc.backend import Artifact, Backend, Compiled, Trains, load_backend, target_of
from lstmc.cli.console import out, table
from lstmc.cli.options import (
    BackendOption,
    BatchOption,
    CellOption,
    FileArgument,
    OutputsOption,
    SeedOption,
    SizesOption,
    SolverOption,
    StepOption,
    TargetOption,
    TuneOption,
    WeightsOption,
    named_model,
    parse_sizes,
)
from lstmc.errors import ModelFileError
from lstmc.ir import Graph, Ref
from lstmc.model_file import ModelSource
from lstmc.ops import Array
from lstmc.output import write_files
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph, has_loss
from lstmc.runs.training_files import TrainingOptions, training_files
from lstmc.tune import RULE, tune
from lstmc.weights import initial_weights, parameters, read_weights


@dataclass(frozen=True)
class Build:
    """Everything one model became. ``graph`` is all of it, ``compiled`` what is deployed or verified of it."""

    source: ModelSource
    graph: Graph
    backend: Backend
    compiled: Compiled
    weights: dict[str, Array]
    artifact: Artifact


def build(
    file: str | None,
    cell: str | None,
    sizes: list[str] | None,
    weights: Path | None,
    seed: int,
    backend: str,
    target: str | None,
    dump_dir: Path | None = None,
    step: bool = False,
    outputs: list[str] | None = None,
    tuned: bool = False,
    losses: bool = False,
) -> Build:
    """What ``compile`` and ``verify`` share: find, trace, compile, bind weights, emit. Writes nothing but dumps.

    Losses and scores are in the net only with ``losses``, for a target that is trained.
    """
    source = named_model(file, cell)
    whole, loaded = source.graph(parse_sizes(sizes or [])), load_backend(backend)
    bound = initial_weights(whole, seed) if weights is None else read_weights(weights, whole)
    trains = losses and not step and target_of(loaded, target) in training_targets(loaded)
    # deployed first: what only losses read, as labels, is fed to no net of other outputs
    graph = _only(whole if trains else deploy_graph(whole), outputs)
    bound_here = {name: bound[name] for name in parameters(graph)}
    form = _tuned_form(graph, loaded, target_of(loaded, target), bound_here, step) if tuned else None
    compiled = compile_graph(graph, loaded, target, source.name, dump_dir, step=step, form=form)
    return Build(source, whole, loaded, compiled, bound_here, loaded.emit(compiled, bound_here))


def training_targets(backend: Backend) -> tuple[str, ...]:
    """The targets of a backend whose nets can be trained."""
    return backend.training_targets if isinstance(backend, Trains) else ()


def _only(graph: Graph, names: list[str] | None) -> Graph:
    """The graph with the outputs that ``--read`` names."""
    known = [output.name for output in graph.outputs]
    for name in names or []:
        if name not in known:
            raise ModelFileError(f"--read {name}: {graph.name} has no such output: found {', '.join(known)}")
    return graph.returning(list(dict.fromkeys(names))) if names else graph


def _tuned_form(graph: Graph, backend: Backend, target: str, weights: dict[str, Array], step: bool) -> str | None:
    """The fastest form, after saying what was measured; None stands for the target's own rule."""
    tuning = tune(graph, backend, target, weights, step)
    out.print("forms, as measured before" if tuning.remembered else "forms, measured now")
    made = table("", "form", "ms", right=("ms",))
    for form, seconds in tuning.seconds.items():
        made.add_row(form, f"{seconds * 1e3:.3f}")
    out.print(made)
    return None if tuning.form == RULE else tuning.form


def compile_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    backend: BackendOption = "caffe",
    target: TargetOption = None,
    step: StepOption = False,
    outputs: OutputsOption = None,
    tuned: TuneOption = False,
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the files go.")] = Path(),
    solver: SolverOption = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="Write the training net for these arrays, as HDF5.")
    ] = None,
    test_data: Annotated[
        Path | None, typer.Option("--test-data", metavar="DATA", help="And these for its phase TEST.")
    ] = None,
    batch: BatchOption = None,
    dump_dir: Annotated[
        Path | None, typer.Option("--dump-dir", metavar="DIR", help="The graph after each pass, as text.")
    ] = None,
) -> None:
    """Compile a model, and write its net, its weights and its manifest.

    A model that returns a loss gets a second net, to be trained, and a solver's settings: `caffe train` takes both.
    """
    built = build(file, cell, sizes, weights, seed, backend, target, dump_dir, step, outputs, tuned)
    files = dict(built.artifact.files)
    options = TrainingOptions(solver or (), data, test_data, batch)
    why_not = _why_not(built, step, outputs)
    if why_not is None:
        assert isinstance(built.backend, Trains)
        target = built.compiled.target
        files |= training_files(built.source, built.graph, built.backend, target, options, seed, folder)
    elif options.given:
        raise ModelFileError(f"--solver, --data, --test-data and --batch are for training, but {why_not}")
    paths = write_files(folder, files)
    wrote = table("wrote", "file", "bytes", right=("bytes",))
    for path in paths:
        wrote.add_row(str(path), f"{path.stat().st_size:,}")
    out.print(wrote)
    model = built.compiled.model
    params = parameters(model)
    count = sum(array.size for array in built.weights.values())
    out.print(f"\n{built.artifact.layers} layers, {len(params)} parameters, {count:,} weights\n")
    out.print(_blobs("feed", built.artifact.inputs, built.compiled.expanded))
    out.print(_blobs("read", built.artifact.outputs, built.compiled.expanded))


def _why_not(built: Build, step: bool, outputs: list[str] | None) -> str | None:
    """Why there is no training net, or None where there is one."""
    if not has_loss(built.graph):
        return f"{built.compiled.name} returns no loss"
    if step or outputs:
        return f"{'--step' if step else '--read'} makes a net that is not trained"
    known = training_targets(built.backend)
    if built.compiled.target in known:
        return None
    return f"nets for target {built.compiled.target} are not trained: those for {', '.join(known) or 'none'} are"


def _blobs(title: str, names: dict[str, str], graph: Graph) -> object:
    refs = {name: Ref(node.name, i) for node in graph for i, name in enumerate(node.names)}
    made = table(title, "name", "blob", "shape")
    for name, blob in names.items():
        first = refs.get(blob.partition(" ... ")[0])
        made.add_row(name, blob, "" if first is None else " x ".join(map(str, graph.type(first).shape)))
    return made
