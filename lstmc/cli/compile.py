"""``lstmc compile``: from a model to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import Net, compile_model, training_files, why_not_trained
from lstmc.api.models import ModelSource
from lstmc.cli.arguments import ModelArguments, TargetArguments, VariantArguments, WeightArguments, compile_options
from lstmc.cli.console import out, output, table
from lstmc.cli.options import ADVANCED, BatchOption, ExampleOption, SolverOption
from lstmc.cli.streams import complete_numbers
from lstmc.errors import BackendError
from lstmc.files.output import Content, write_files
from lstmc.ir import Graph, Ref, node_count
from lstmc.nets.tune import Tuning
from lstmc.numerics import read_device
from lstmc.runs.folder import WEIGHTS
from lstmc.types import shape_text


@dataclass(frozen=True)
class ExportArguments:
    """The solver and the data of a training net."""

    solver: SolverOption = None
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Write the training net for these arrays, as HDF5.",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    test_data: Annotated[
        Path | None,
        typer.Option(
            "--test-data",
            metavar="DATA",
            help="Write test data for the training net, as HDF5.",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    batch: BatchOption = None


@dataclass(frozen=True)
class PassArguments:
    """The device whose precision the passes optimise for, and the folder for the graphs between passes."""

    numbers: Annotated[
        str | None,
        typer.Option(
            "--numbers",
            metavar="NAME|FILE.toml",
            help="Optimise the net for a device's low precision, as rknn-int8, without changing its meaning."
            " Its target is the default.",
            autocompletion=complete_numbers,
        ),
    ] = None
    dump_dir: Annotated[
        Path | None,
        typer.Option(
            "--dump-dir",
            metavar="DIR",
            help="Write the graph after each pass into this folder, as text.",
            rich_help_panel=ADVANCED,
        ),
    ] = None


def compile_command(
    *,
    model: ModelArguments,
    weights: WeightArguments,
    target: TargetArguments,
    variant: VariantArguments,
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Write the files into this folder.")
    ] = Path(),
    training: ExportArguments,
    example: ExampleOption = None,
    passes: PassArguments,
) -> None:
    """Compile a model, and write its net, its weights and its manifest.

    For a model that returns a loss it also writes a net to train and the solver's settings, for `caffe train`.

    Examples:

    ```console
    lstmc compile model.py -D T=20 -D N=8 -o net
    lstmc compile --cell gru -D T=20 -D N=1 -D D=32 -D H=64 --target flat -o net
    lstmc compile model.py -D T=20 -D N=1 --step -o step
    lstmc compile model.py -D N=1 --step --target opencv --example python
    lstmc compile model.py:tagger -D T=20 -D N=8 --weights w.npz --tune -v
    lstmc compile model.py --step --numbers rknn-int8 -o step
    ```
    """
    source = model.source()
    if passes.numbers is not None:
        target = replace(target, target=target.target or read_device(passes.numbers).target)
    options = compile_options(target, model.sizes, weights, variant, **vars(passes))
    net = compile_model(source, options)
    if net.tuning is not None:
        print_tuning(net.tuning)
    print_passes(net)
    files: dict[str, Content] = dict(net.files)
    if why_not_trained(net) is None or any(vars(training).values()):
        files |= training_files(net, seed=weights.seed, **vars(training))
    if example is not None:
        files |= net.example(example)
    lacking = _add_built(net, files)
    paths = write_files(folder, files)
    wrote = table("wrote", "file", "bytes", key="files")
    for path in paths:
        wrote.add_row(str(path), path.stat().st_size)
    out.print(wrote)
    if lacking is not None:
        out.print("\n".join([f"not built: {lacking.message}", *lacking.notes]), markup=False, soft_wrap=True)
    more = _unused_weights(source, weights, net) if model.file is not None else []
    _print_summary(net, [*more, *net.compiled.delay_notes(), *_numbers_notes(net), *_rolled_notes(net)])


def _numbers_notes(net: Net) -> list[str]:
    """Return a note on the rewrites for a device's numbers."""
    if net.options.numbers is None:
        return []
    count = sum(net.numbers_changes.values())
    changed = f"updates of states as h + u (n - h): {count}" if count else "nothing is written otherwise"
    return [f"for {net.options.numbers}: {changed}"]


def _rolled_notes(net: Net) -> list[str]:
    """Return a note on each scan that the model has written out step by step."""
    return [
        f"{steps} steps that were written out became scan {name}; to see it as Python:"
        " lstmc show --after roll_up --python"
        for name, steps in net.rolled_up.items()
    ]


def _add_built(net: Net, files: dict[str, Content]) -> BackendError | None:
    """Add the files that are built for this machine; return the error if they cannot be built."""
    try:
        files |= net.built({name: content for name, content in files.items() if isinstance(content, bytes)})
    except BackendError as error:
        return error
    return None


def print_passes(net: Net) -> None:
    """Print the nodes after each pass, its rules, and its time."""
    rows = table("passes", "pass", "nodes", "ms", "rules used", key="passes", texts={"ms": ".1f"})
    for name, snapshot in zip(net.passes, net.compiled.history[1:], strict=True):
        rules = [rule if times == 1 else f"{rule} x {times}" for rule, times in snapshot.counts.items()]
        rows.add_row(name, node_count(snapshot.graph), snapshot.seconds * 1e3, rules)
    if output.verbose:
        out.print(rows)


def print_tuning(tuning: Tuning) -> None:
    """Print the measured time of each form."""
    out.print("forms, as measured before" if tuning.remembered else "forms, measured now")
    rows = table("", "form", "ms", key="forms", texts={"ms": ".3f"})
    for form, seconds in tuning.seconds.items():
        rows.add_row(form, seconds * 1e3)
    out.print(rows)


def _unused_weights(source: ModelSource, weights: WeightArguments, net: Net) -> list[str]:
    """Return a note where the model's file has weights beside it, as an imported model has, and the net has others."""
    path = Path(source.name.rpartition(":")[0]).parent / WEIGHTS
    if weights.weights is not None or not net.weights or not path.is_file():
        return []
    return [f"parameters start from their fills: {path} is not used. To use it: --weights {path}"]


def _print_summary(net: Net, more: Sequence[str]) -> None:
    notes = [*net.artifact.notes, *more]
    count = sum(array.size for array in net.weights.values())
    output.fact("layers", net.artifact.layers)
    output.fact("parameters", len(net.weights))
    output.fact("weights", count)
    out.print(f"\n{net.artifact.layers} layers, {len(net.weights)} parameters, {count:,} weights\n")
    out.print(_blobs("feed", net.artifact.inputs, net.compiled.expanded))
    out.print(_blobs("read", net.artifact.outputs, net.compiled.expanded))
    output.fact("notes", notes)
    for note in notes:
        out.print(note, markup=False, soft_wrap=True)


def _blobs(title: str, names: dict[str, str], graph: Graph) -> object:
    first_blobs = {blob: blob.partition(" ... ")[0] for blob in names.values()}
    refs = {output.name: output.ref for output in graph.outputs}  # where a net calls them so
    blobs = set(first_blobs.values())  # of millions of names
    refs |= {name: Ref(node.name, i) for node in graph for i, name in enumerate(node.names) if name in blobs}
    rows = table(title, "name", "blob", "shape", key=title)
    for name, blob in names.items():
        first = refs.get(first_blobs[blob])
        rows.add_row(name, blob, "" if first is None else shape_text(graph.type(first).shape))
    return rows
