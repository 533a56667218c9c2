"""``lstmc run``: a compiled net on arrays from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lstmc.api import load, place
from lstmc.cli.console import out, table
from lstmc.cli.options import GpuOption, NetArgument, TrainedOption, WriterOption
from lstmc.data import read_arrays
from lstmc.npz import npz_bytes
from lstmc.ops import Array
from lstmc.output import write_files
from lstmc.types import shape_text


def run_command(
    net: NetArgument,
    inputs: Annotated[
        Path, typer.Option("--inputs", metavar="FILE", help="Arrays (.npz or HDF5) by the names of the inputs.")
    ],
    to: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.npz", help="Where the outputs go, by their names.")
    ] = None,
    weights: TrainedOption = None,
    gpu: GpuOption = False,
    backend: WriterOption = None,
) -> None:
    """Run a compiled net forward, and print what comes out. Names and shapes are the model's.

    Examples:

    ```console
    lstmc run net/tagger.prototxt --inputs x.npz -o y.npz
    lstmc run net/tagger.prototxt --inputs x.npz --weights new.caffemodel --json
    ```
    """
    loaded = load(net, weights=weights, backend=backend)
    found = loaded.run(read_arrays(inputs), on=place(loaded.backend.name, gpu))
    if to is not None:
        write_files(to.parent, {to.name: npz_bytes(found)})
    out.print(_summary(found))
    if to is not None:
        out.print(f"wrote {to}")


def _summary(arrays: dict[str, Array]) -> object:
    made = table("", "output", "shape", "min", "mean", "max", key="outputs")
    for name, array in arrays.items():
        figures = (float(np.min(array)), float(np.mean(array)), float(np.max(array)))
        made.add_row(name, shape_text(array.shape), *figures)
    return made
