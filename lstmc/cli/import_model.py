"""``lstmc import`` and ``lstmc convert``: trained models of other frameworks as models to edit, and as nets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from lstmc.api import convert
from lstmc.cli.console import out, renamed, table
from lstmc.cli.options import (
    BackendOption,
    ChoicesOption,
    PlacesOption,
    SeedOption,
    SizesOption,
    TargetOption,
    chosen_backend,
    parse_sizes,
)
from lstmc.cli.verify import print_report, print_verification
from lstmc.files.output import write_files
from lstmc.importers import ImportedModel, SourceError, import_file
from lstmc.ops import Array
from lstmc.text import number, whole
from lstmc.types import shape_text
from lstmc.verification.differential import Report

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="A trained model: .pt, .pth, .pt2, .safetensors, .onnx, .keras, .h5, .prototxt."
    ),
]
ActivationOption = Annotated[
    Literal["tanh", "relu"] | None,
    typer.Option("--activation", help="Set the activation of nn.RNN layers, which a state dict does not record."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE.json", help="Read the architecture of Keras weights from model.to_json()'s file."
    ),
]
TrainedOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE.caffemodel", help="Read the trained weights of a prototxt from this file."),
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=SIZES", help="Fix the shape of a graph's input, as x=1,576. Repeatable."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--constant", metavar="NAME=NUMBER", help="Make a graph's input a constant, as sr=16000. Repeatable."),
]
RecurrentOnlyOption = Annotated[
    bool,
    typer.Option("--recurrent-only", help="Import only the recurrent layers of a PyTorch file, by their names."),
]
StreamedOption = Annotated[
    bool,
    typer.Option(
        "--step",
        help="Import a model to stream: convolutions over time see past frames alone, and outputs come later.",
    ),
]
WholeOption = Annotated[
    bool,
    typer.Option("--whole", help="Import all layers of a prototxt, so that the net has only layers of the target."),
]
FolderOption = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Write the files into this folder.")]


def import_command(
    source: SourceArgument,
    folder: FolderOption,
    activation: ActivationOption = None,
    config: ConfigOption = None,
    weights: TrainedOption = None,
    shapes: ShapeOption = None,
    values: SetOption = None,
    recurrent_only: RecurrentOnlyOption = False,
    step: StreamedOption = False,
) -> None:
    """Import a trained model: model.py in lstmc's language, weights.npz, and import.json.

    No code in the file is executed.

    Examples:

    ```console
    lstmc import tagger.pt -o tagger
    lstmc import keywords.pt2 --step -o keywords
    lstmc import vad.onnx --shape x=1,576 --constant sr=16000 -o vad
    lstmc import old.prototxt --weights old.caffemodel -o old
    ```
    """
    renamed("import", "convert --no-compile")
    _import(source, folder, activation, config, weights, shapes, values, recurrent_only, step)


def _import(
    source: Path,
    folder: Path,
    activation: Literal["tanh", "relu"] | None,
    config: Path | None,
    weights: Path | None,
    shapes: list[str] | None,
    values: list[str] | None,
    recurrent_only: bool,
    step: bool,
    whole: bool = False,
) -> None:
    """Write model.py, weights.npz and import.json, and print the command that compiles them."""
    model = import_file(
        source,
        activation=activation,
        config=config,
        weights=weights,
        shapes=parse_shapes(shapes),
        values=parse_values(values),
        recurrent_only=recurrent_only,
        step=step,
    )
    model = model.whole() if whole else model
    report(model, write_files(folder, model.files()))
    told = "".join(f" -D {name}=SIZE" for name in named_sizes(model))
    out.print(
        f"\nlstmc compile {folder / 'model.py'} --weights {folder / 'weights.npz'}{told}{' --step' if step else ''}"
        f" -o {folder}",
        style="dim",
    )


def convert_command(
    source: SourceArgument,
    folder: FolderOption,
    sizes: SizesOption = None,
    backend: BackendOption = None,
    choices: ChoicesOption = None,
    target: TargetOption = None,
    activation: ActivationOption = None,
    config: ConfigOption = None,
    weights: TrainedOption = None,
    shapes: ShapeOption = None,
    values: SetOption = None,
    recurrent_only: RecurrentOnlyOption = False,
    step: StreamedOption = False,
    whole: WholeOption = False,
    on: PlacesOption = None,
    seed: SeedOption = 0,
    no_compile: Annotated[
        bool,
        typer.Option("--no-compile", help="Write only model.py in lstmc's language, weights.npz and import.json."),
    ] = False,
) -> None:
    """Convert a trained model to a net, and compare the net with the model, and the model with its source.

    No code in the file is executed. Exits with 1 if a difference is larger than its tolerance.

    Examples:

    ```console
    lstmc convert tagger.pt -o net -D T=20 -D N=1 --target flat
    lstmc convert keywords.pt2 -o net --step --target opencv
    lstmc convert model.keras -o net -D T=20 -D N=8 --on interpreter
    lstmc convert vad.onnx --shape x=1,576 --constant sr=16000 -o vad
    lstmc convert old.prototxt --weights old.caffemodel -o net --target noslice
    ```
    """
    if no_compile:
        if sizes or target or on or choices:
            raise SourceError("--no-compile writes no net: expected no -D, --target, --on and --backend-option with it")
        _import(source, folder, activation, config, weights, shapes, values, recurrent_only, step, whole)
        return
    done = convert(
        source,
        folder,
        sizes=parse_sizes(sizes or []),
        backend=chosen_backend(backend, target, choices),
        target=target,
        activation=activation,
        config=config,
        weights=weights,
        shapes=parse_shapes(shapes),
        values=parse_values(values),
        recurrent_only=recurrent_only,
        step=step,
        whole=whole,
        on=on,
        seed=seed,
    )
    report(done.model, [*done.paths])
    print_report(Report("model.py by NumPy", done.proof), "NumPy on the source's own description")
    if done.source is not None and done.source.not_run is not None:
        out.print(f"\nnot compared with {done.source.runtime}: {done.source.not_run}", style="dim")
    elif done.source is not None:
        checked = Report(f"model.py by {done.source.runtime}", done.source.differences)
        print_report(checked, f"{done.source.runtime} on the source itself")
    print_verification(done.verification)
    for note in done.net.artifact.notes:
        out.print(note, markup=False, soft_wrap=True)
    for remark in done.remarks:
        out.print(f"\n{remark}")
    for finding in done.findings:
        line = f"layer {finding.layer} ({finding.type}) was copied, and target {done.net.target} does not accept it"
        out.print(f"\n{line}: {finding.reason}", style="red", markup=False, soft_wrap=True)
    if not done.passed:
        raise typer.Exit(1)


def parse_shapes(given: list[str] | None) -> dict[str, tuple[int, ...]]:
    """``["x=1,576"]`` as shapes by name."""
    found = {}
    for text in given or ():
        name, _, sizes = text.rpartition("=")
        shape = tuple(whole(size) or 0 for size in sizes.split(","))
        if not name or min(shape) < 1:
            raise SourceError(f"--shape takes NAME=SIZES, as in --shape x=1,576, found {text!r}")
        found[name] = shape
    return found


def parse_values(given: list[str] | None) -> dict[str, Array]:
    """``["sr=16000"]`` as constants by name."""
    found = {}
    for text in given or ():
        name, _, written = text.rpartition("=")
        value = number(written)
        if not name or value is None:
            raise SourceError(f"--constant takes NAME=NUMBER, as in --constant sr=16000, found {text!r}")
        found[name] = np.asarray(int(value) if value.is_integer() else value)
    return found


def named_sizes(model: ImportedModel) -> list[str]:
    """The dimensions that the source leaves open."""
    shapes = model.net.inputs.values()
    return [*dict.fromkeys(s for shape in shapes for s in shape if isinstance(s, str) and s not in model.net.sizes)]


def report(model: ImportedModel, paths: list[Path]) -> None:
    """What was written, and what a person should know of it."""
    wrote = table(f"{model.net.origin} ({model.kind})", "file", "bytes", key="files")
    for path in paths:
        wrote.add_row(str(path), path.stat().st_size)
    out.print(wrote)
    made = table("", "parameter", "shape", "made of", key="parameters")
    for name, weight in model.net.params.items():
        made.add_row(name, shape_text(weight.shape), weight.recipe)
    out.print(made)
    for note in model.net.notes:
        out.print(f"\n{note}")
