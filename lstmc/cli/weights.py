"""``lstmc weights``: the user's parameters, out of a net that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import trained_weights
from lstmc.cli.console import renamed
from lstmc.cli.commands import Command, Group
from lstmc.cli.options import WriterOption
from lstmc.cli.output_options import speaking
from lstmc.cli.run import print_saved_weights

weights_app = typer.Typer(
    cls=Group, help="Read parameters back, by the names and shapes of the model.", no_args_is_help=True
)


@weights_app.callback()
def _weights() -> None:
    """Without this, typer would make a single sub-command the command itself."""


def extract_command(
    trained: Annotated[Path, typer.Argument(metavar="FILE", help="A .caffemodel or .onnx, as written or trained.")],
    to: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.npz", help="Write the parameters into this file.")
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", metavar="FILE", help="Read this manifest. Default: NET.manifest.json beside the net."
        ),
    ] = None,
    backend: WriterOption = None,
) -> None:
    """Write the model's parameters from a trained net. Parameters that the compiler packed are unpacked, exactly.

    Examples:

    ```console
    lstmc weights extract trained.caffemodel -o w.npz
    lstmc weights extract old.caffemodel --manifest net.manifest.json -o w.npz
    ```
    """
    renamed("weights extract", "run NET --weights FILE --save-weights FILE.npz")
    print_saved_weights(to, *trained_weights(trained, manifest, backend))


weights_app.command("extract", cls=Command)(speaking(extract_command))
