"""``lstmc convert``: trained models of other frameworks as models to edit and nets. ``lstmc inspect``: about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import typer

import lstmc
from lstmc.api import convert_model
from lstmc.cli import options as opts
from lstmc.cli.commands import argument, option
from lstmc.cli.compile import print_proof, print_report, print_verification
from lstmc.cli.console import out, output, print_files, table
from lstmc.files.output import write_files
from lstmc.importers import TOLERANCE, ImportedModel, SourceError, import_file
from lstmc.importers.zoo import PREFIX, recipe_of, recipes
from lstmc.ops import Array
from lstmc.text import number, whole
from lstmc.types import shape_text
from lstmc.verification.differential import ill_conditioned
from lstmc.verification.report import LEAST_TOLERANCE, Report

SourceArgument = Annotated[
    Path,
    argument(
        "SOURCE",
        "A trained model: .pt, .pth, .pt2, .safetensors, .onnx, .tflite, .keras, .h5, .prototxt; or zoo:NAME, a"
        " published net (zoo: lists them).",
    ),
]
ConfigOption = Annotated[
    Path | None,
    option("--config FILE.json", "Read the architecture of a Keras model from this file of model.to_json()."),
]
TrainedOption = Annotated[
    Path | None, option("--weights FILE.caffemodel", "Read the trained weights of a prototxt from this file.")
]
ShapeOption = Annotated[
    list[str] | None, option("--shape NAME=SIZES", "Fix the shape of a graph's input, as x=1,576. Repeatable.")
]
SetOption = Annotated[
    list[str] | None, option("--constant NAME=NUMBER", "Make a graph's input a constant, as sr=16000. Repeatable.")
]


@dataclass(frozen=True)
class ImportArguments:
    """Facts that a source does not record, and the part of the source that is imported."""

    activation: Annotated[
        Literal["tanh", "relu"] | None,
        option("--activation", "Set the activation of nn.RNN layers, which a state dict does not record."),
    ] = None
    config: ConfigOption = None
    weights: TrainedOption = None
    shapes: ShapeOption = None
    values: SetOption = None
    recurrent_only: Annotated[
        bool, option("--recurrent-only", "Import only the recurrent layers of a PyTorch file, by their names.")
    ] = False
    step: Annotated[
        bool,
        option(
            "--step", "Import a model to stream: convolutions over time see past frames alone, and outputs come later."
        ),
    ] = False
    states: Annotated[
        list[str] | None,
        option(
            "--state IN=OUT",
            "Make input IN of a net of one frame a state, with output OUT as its next value; IN= says that it is none."
            " States that can be proved are found without. Repeatable.",
        ),
    ] = None
    time: Annotated[
        list[str] | None,
        option(
            "--time IN=AXIS",
            "Import one frame of a sequence: axis AXIS of input IN, counted from 0, is time. Repeatable.",
        ),
    ] = None

    name: Annotated[
        str | None,
        option("--name", "Set the model's name, net by default. Nets of one program in C need different names."),
    ] = None

    def imported(self, source: Path) -> ImportedModel:
        """Import a trained model with these arguments."""
        parsed = {
            "shapes": parse_shapes(self.shapes),
            "values": parse_constants(self.values),
            "states": parse_named(self.states, "--state takes IN=OUT, as in --state h_in=h_out", str),
            "time": parse_named(self.time, "--time takes IN=AXIS, as in --time x=2", whole),
        }
        own = {name: value for name, value in vars(self).items() if name != "name"}
        return import_file(source, **{**own, **parsed})


def write_model(model: ImportedModel, folder: Path, step: bool) -> None:
    """Write model.py, weights.npz and import.json, and print the command that compiles them."""
    report(model, write_files(folder, model.files()))
    sizes = "".join(f" -D {name}=SIZE" for name in model.net.open_sizes() if name not in model.net.sizes)
    out.print(
        f"\nlstmc compile {folder / 'model.py'} --weights {folder / 'weights.npz'}{sizes}{' --step' if step else ''}"
        f" -o {folder}",
        style="dim",
    )


@dataclass(frozen=True)
class ConversionArguments:
    """The files to write for a converted model, and how its net is compared with it."""

    whole: Annotated[
        bool,
        option(
            "--whole",
            "Import all layers of a prototxt, so that the net has only layers of the target. --step implies it.",
        ),
    ] = False
    example: opts.ExampleOption = None
    no_compile: Annotated[
        bool, option("--no-compile", "Write only model.py in lstmc's language, weights.npz and import.json.")
    ] = False
    on: opts.PlacesOption = None
    seed: Annotated[int, opts.seed_option("for the inputs of the comparisons")] = 0
    prove: opts.ProveOption = False


def convert_command(
    *,
    source: SourceArgument,
    folder: Annotated[Path | None, option("-o --output DIR", "Write the files into this folder.")] = None,
    sizes: opts.SizesOption = None,
    target: opts.TargetArguments,
    arguments: ImportArguments,
    choices: ConversionArguments,
) -> None:
    """Convert a trained model to a net, and compare the net with the model, and the model with its source.

    No code in the file is executed. Exits with 1 if a difference is larger than its tolerance.

    Examples:

    ```console
    lstmc convert tagger.pt -o net -D T=20 -D N=1 --target flat
    lstmc convert keywords.pt2 -o net --step --target opencv --example python
    lstmc convert model.keras -o net -D T=20 -D N=8 --on interpreter
    lstmc convert vad.onnx --shape x=1,576 --constant sr=16000 -o vad
    lstmc convert frame.onnx --state h_in=h_out -o net --target c
    lstmc convert old.prototxt --weights old.caffemodel -o net --target noslice
    lstmc convert zoo:gtcrn -o net --backend c --example wav
    ```
    """
    if str(source) == PREFIX:
        print_zoo()
        return
    if folder is None:
        raise typer.BadParameter("the files need a folder: -o DIR")
    if choices.no_compile:
        if sizes or target.target or choices.on or target.choices or choices.example:
            raise SourceError(
                "--no-compile writes no net: expected no -D, --target, --on, --example and --backend-option with it"
            )
        model = arguments.imported(source)
        write_model((model.whole() if choices.whole else model).named(arguments.name), folder, arguments.step)
        return
    options = opts.compile_options(target, sizes, step=arguments.step, seed=choices.seed)
    result = convert_model(
        arguments.imported(source), folder, options, choices.on, choices.whole, choices.prove, arguments.name
    )
    recipe, program = recipe_of(source), list[Path]()
    for language in choices.example or ():
        program += write_files(folder, result.net.example(recipe.example(language) if recipe else language))
    report(result.model, [*result.paths, *program])
    by_numpy = Report("model.py by NumPy", result.described)
    _print_compared(by_numpy, "the source's own description", TOLERANCE, "float64")
    if result.proof is not None:
        print_proof(result.proof, "model.py and the source's own description", "source_proof")
    if result.source is not None and result.source.not_run is not None:
        out.print(f"\nnot compared with {result.source.runtime}: {result.source.not_run}", style="dim")
    elif result.source is not None:
        checked = Report(f"model.py by {result.source.runtime}", result.source.differences)
        _print_compared(checked, f"{result.source.runtime} on the source itself", LEAST_TOLERANCE, "float32")
    print_verification(result.verification)
    for check in result.whole:
        if check.not_run is not None:
            out.print(f"the whole net in {check.runtime}: not compared: {check.not_run}")
        else:
            print_report(Report(f"the whole net in {check.runtime}", check.differences), "the source in Caffe")
    for note in result.net.artifact.notes:
        out.print(note)
    for remark in result.remarks:
        out.print(f"\n{remark}")
    for finding in result.findings:
        line = f"layer {finding.layer} ({finding.type}) was copied, and target {result.net.target} does not accept it"
        out.print(f"\n{line}: {finding.reason}", style="red")
    if not result.passed:
        raise typer.Exit(1)


def _print_compared(report: Report, against: str, usual: float, dtype: str) -> None:
    """Print a comparison, with a remark on each output that only rounding excuses: past the ``usual`` tolerance."""
    print_report(report, against)
    for compared in report.differences:
        if compared.passed and compared.relative > usual:
            out.print(ill_conditioned(compared, dtype))


def print_zoo() -> None:
    """Print the published nets."""
    nets = [(f"{PREFIX}{name}", net.title, ", ".join(net.targets), net.licence) for name, net in recipes().items()]
    out.print(table("", "net", "what it is", "targets", "licence", key="zoo", rows=nets))


Parsed = TypeVar("Parsed")


def parse_named(texts: list[str] | None, usage: str, parse: Callable[[str], Parsed | None]) -> dict[str, Parsed]:
    """Parse texts as ``["x=1,576"]`` into values by name. Raises :class:`SourceError`, which begins with ``usage``, for
    a text without a name, and if ``parse`` returns None."""
    values = {}
    for text in texts or ():
        name, _, value = text.rpartition("=")
        parsed = parse(value)
        if not name or parsed is None:
            raise SourceError(f"{usage}, found {text!r}")
        values[name] = parsed
    return values


def parse_shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Parse shapes by name, from texts as ``["x=1,576"]``."""

    def shape(text: str) -> tuple[int, ...] | None:
        sizes = tuple(whole(size) or 0 for size in text.split(","))
        return sizes if min(sizes) >= 1 else None

    return parse_named(texts, "--shape takes NAME=SIZES, as in --shape x=1,576", shape)


def parse_constants(texts: list[str] | None) -> dict[str, Array]:
    """Parse constants by name, from texts as ``["sr=16000"]``."""

    def constant(text: str) -> Array | None:
        value = number(text)
        return None if value is None else np.asarray(int(value) if value.is_integer() else value)

    return parse_named(texts, "--constant takes NAME=NUMBER, as in --constant sr=16000", constant)


def report(model: ImportedModel, paths: list[Path]) -> None:
    """Print the written files, the parameters, and notes on the model."""
    print_files(paths, title=f"{model.net.origin} ({model.kind})")
    rows = [(name, shape_text(weight.shape), weight.recipe) for name, weight in model.net.params.items()]
    if parameters := table("", "parameter", "shape", "made of", key="parameters", rows=rows):
        out.print(parameters)
    for note in model.net.notes:
        out.print(f"\n{note}")


ForOption = Annotated[
    str, option("--for RUNTIMES", "List the nodes that these runtimes do not take, as rknn,opencv: by their lists.")
]


def inspect_command(
    source: SourceArgument,
    runtimes: ForOption = "",
    shapes: ShapeOption = None,
    values: SetOption = None,
    config: ConfigOption = None,
    weights: TrainedOption = None,
) -> None:
    """Say what a trained model is: inputs, recurrent layers, states that are carried or lost, operators not read.

    Nothing is run, and nothing is written. Exits with 1 if a stream would lose a state, or an operator is not read.

    Examples:

    ```console
    lstmc inspect vad.onnx
    lstmc inspect denoiser.onnx --for rknn,webgpu
    lstmc inspect spotter.tflite --for vela,tflm
    lstmc inspect tagger.pt2 --json
    ```
    """
    if str(source) == PREFIX:
        print_zoo()
        return
    found = lstmc.inspect(
        source,
        runtimes=[name for name in runtimes.split(",") if name],
        shapes=parse_shapes(shapes),
        values=parse_constants(values),
        config=config,
        weights=weights,
    )
    for name, fact in found.facts().items():
        output.fact(name, fact)
    out.print(str(found))
    if found.lost:
        raise typer.Exit(1)
