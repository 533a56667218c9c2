"""``lstmc run``: a compiled net on arrays from a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lstmc.api import SavedNet, load, place
from lstmc.bulk import SUFFIXES, NetUse, run_bulk
from lstmc.cli.arguments import WorkerArguments
from lstmc.cli.console import out, said, table
from lstmc.cli.interruption import interruptible
from lstmc.cli.options import GpuOption, NetArgument, TrainedOption, WriterOption
from lstmc.data import read_arrays
from lstmc.errors import DataError, OutputError
from lstmc.files.arrays import npz_bytes
from lstmc.files.output import write_files
from lstmc.ops import Array
from lstmc.types import shape_text


def run_command(
    *,
    net: NetArgument,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="FILE",
            help="Feed these arrays (.npz or HDF5), by the inputs' names; or a folder of such.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the outputs, by their names, into this .npz, .h5 or folder."
        ),
    ] = None,
    weights: TrainedOption = None,
    save_weights: Annotated[
        Path | None,
        typer.Option(
            "--save-weights", metavar="FILE.npz", help="Write the parameters, by the model's names, into this file."
        ),
    ] = None,
    gpu: GpuOption = False,
    backend: WriterOption = None,
    workers: WorkerArguments,
) -> None:
    """Run a compiled net forward, and print its outputs. Names and shapes are the model's.

    With an output that ends in .h5, the inputs may have any number of examples, also more than fit into memory: they
    are run in batches, and the same command continues an interrupted run. The same holds for each file of a folder.
    Exits with 1 if a file of a folder does not fit.

    Examples:

    ```console
    lstmc run net/tagger.prototxt --inputs x.npz -o y.npz
    lstmc run net/tagger.prototxt --inputs x.npz --weights new.caffemodel --json
    lstmc run net/tagger.prototxt --weights new.caffemodel --save-weights w.npz
    lstmc run net/tagger.prototxt --inputs big.h5 -o out.h5 --workers 4
    ```
    """
    loaded = load(net, weights=weights, backend=backend)
    if save_weights is not None:
        found, absent = loaded.read_weights()
        print_saved_weights(save_weights, found, absent)
    if inputs is None:
        if save_weights is None:
            raise DataError("expected the inputs, --inputs FILE, or a file for the parameters, --save-weights FILE.npz")
        return
    if os.path.isdir(inputs) or (to is not None and to.suffix in SUFFIXES):
        _run_bulk(loaded, inputs, to, gpu, workers)
        return
    if workers != WorkerArguments():
        raise OutputError("--scheduler and --workers are for outputs of any size: expected -o FILE.h5, or a folder")
    outputs = loaded.run(read_arrays(inputs), on=place(loaded.backend.name, gpu))
    if to is not None:
        write_files(to.parent, {to.name: npz_bytes(outputs)})
    out.print(_summary(outputs))
    if to is not None:
        out.print(f"wrote {to}")


def print_saved_weights(to: Path, weights: dict[str, Array], absent: Sequence[str]) -> None:
    """Write the parameters of a net into an .npz file, and print their names and shapes."""
    write_files(to.parent, {to.name: npz_bytes(weights)})
    made = table(f"wrote {to}", "parameter", "shape", key="parameters")
    for name, array in weights.items():
        made.add_row(name, shape_text(array.shape))
    out.print(made)
    said.fact("absent", list(absent))
    if absent:
        out.print(f"\nno step of this net uses {', '.join(absent)}: left out", markup=False, soft_wrap=True)


def _run_bulk(net: SavedNet, inputs: Path, to: Path | None, gpu: bool, workers: WorkerArguments) -> None:
    if to is None:
        raise OutputError("the outputs of a folder go into another one: expected -o FOLDER")
    weights = None if net.trained is None else str(net.trained.absolute())
    use = NetUse(str(net.path.absolute()), net.backend.name, weights, gpu)
    files = table("", "inputs", "outputs", "examples", "problem", key="files")
    problems = False
    with interruptible() as interruption:
        for each in run_bulk(use, inputs, to, **vars(workers), stop=interruption.asked):
            files.add_row(str(each.source), str(each.to), each.examples, each.problem)
            problems = problems or bool(each.problem)
    out.print(files)
    if interruption.asked():
        out.print("stopped: run the same command again to continue")
        raise typer.Exit(interruption.exit_code)
    if problems:
        raise typer.Exit(1)


def _summary(arrays: dict[str, Array]) -> object:
    made = table("", "output", "shape", "min", "mean", "max", key="outputs")
    for name, array in arrays.items():
        figures = (float(np.min(array)), float(np.mean(array)), float(np.max(array)))
        made.add_row(name, shape_text(array.shape), *figures)
    return made
