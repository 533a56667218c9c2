"""``lstmc weights``: the user's parameters, out of a net that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import read_weights
from lstmc.cli.console import out, said, table
from lstmc.cli.flags import Command, Group
from lstmc.cli.options import WriterOption
from lstmc.cli.output_options import speaking
from lstmc.npz import npz_bytes
from lstmc.output import write_files
from lstmc.types import shape_text

weights_app = typer.Typer(
    cls=Group, help="Read parameters back, by the names and shapes of the model.", no_args_is_help=True
)


@weights_app.callback()
def _weights() -> None:
    """Without this, typer would make a single sub-command the command itself."""


def extract_command(
    trained: Annotated[Path, typer.Argument(metavar="FILE", help="A .caffemodel or .onnx, as written or trained.")],
    to: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.npz", help="Where the parameters go.")],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="Default: NET.manifest.json beside the net.")
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
    found, absent = read_weights(trained, manifest, backend)
    write_files(to.parent, {to.name: npz_bytes(found)})
    made = table(f"wrote {to}", "parameter", "shape", key="parameters")
    for name, array in found.items():
        made.add_row(name, shape_text(array.shape))
    out.print(made)
    said.fact("absent", list(absent))
    if absent:
        out.print(f"\nno step of this net uses {', '.join(absent)}: left out")


weights_app.command("extract", cls=Command)(speaking(extract_command))
