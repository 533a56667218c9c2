"""``lstmc import``: a trained model of another framework becomes a model that a person can read and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lstmc.cli.console import out, table
from lstmc.importers import ImportedModel, import_file
from lstmc.output import write_files

SourceArgument = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A trained model: .pt, .pth, TorchScript or .safetensors.")
]
ActivationOption = Annotated[
    Literal["tanh", "relu"] | None,
    typer.Option("--activation", help="Of plain RNNs in a state dict, which does not say it."),
]
FolderOption = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the files go.")]


def import_command(source: SourceArgument, folder: FolderOption, activation: ActivationOption = None) -> None:
    """Import a trained model: model.py in lstmc's language, weights.npz, and import.json. Nothing in it is run."""
    model = import_file(source, activation=activation)
    report(model, write_files(folder, model.files()))
    told = "".join(f" -D {name}=SIZE" for name in named_sizes(model))
    out.print(
        f"\nlstmc compile {folder / 'model.py'} --weights {folder / 'weights.npz'}{told} -o {folder}", style="dim"
    )


def named_sizes(model: ImportedModel) -> list[str]:
    """The dimensions that the source leaves open."""
    return [*dict.fromkeys(s for shape in model.net.inputs.values() for s in shape if isinstance(s, str))]


def report(model: ImportedModel, paths: list[Path]) -> None:
    """What was written, and what a person should know of it."""
    wrote = table(f"{model.net.origin} ({model.kind})", "file", "bytes", right=("bytes",))
    for path in paths:
        wrote.add_row(str(path), f"{path.stat().st_size:,}")
    out.print(wrote)
    made = table("", "parameter", "shape", "made of")
    for name, weight in model.net.params.items():
        made.add_row(name, " x ".join(map(str, weight.shape)), weight.recipe)
    out.print(made)
    for note in model.net.notes:
        out.print(f"\n{note}")
