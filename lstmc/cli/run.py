"""``lstmc run``: a written net on arrays, and its parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lstmc.api import SavedNet, load, place
from lstmc.backend import find_backends
from lstmc.cli.commands import advanced, argument, interruptible, option
from lstmc.cli.console import out, output, table
from lstmc.cli.options import GpuOption, WorkerArguments, completion
from lstmc.errors import DataError, OutputError
from lstmc.files.arrays import AnyArray, npz_bytes, read_arrays
from lstmc.files.output import write_files
from lstmc.manifest import manifest_path, read_manifest
from lstmc.nets.batches import SUFFIXES, NetUse, run_bulk
from lstmc.ops import Array
from lstmc.types import shape_text


def run_command(
    *,
    net: Annotated[
        Path, argument("NET", "A net that lstmc wrote, NAME.prototxt or NAME.onnx, its manifest and weights beside it.")
    ],
    inputs: Annotated[
        Path | None,
        option("--inputs FILE", "Feed these arrays (.npz or HDF5), by the inputs' names; or a folder of such."),
    ] = None,
    to: Annotated[
        Path | None, option("-o --output FILE", "Write the outputs, by their names, into this .npz, .h5 or folder.")
    ] = None,
    weights: Annotated[
        Path | None,
        option(
            "--weights FILE", "Take the parameters from this .caffemodel or .onnx. Default: the file beside the net."
        ),
    ] = None,
    save_weights: Annotated[
        Path | None, option("--save-weights FILE.npz", "Write the parameters, by the model's names, into this file.")
    ] = None,
    gpu: GpuOption = False,
    backend: Annotated[
        str | None,
        advanced(
            "--backend NAME",
            "Read the net by this backend. Default: the one that wrote it.",
            autocompletion=completion(find_backends),
        ),
    ] = None,
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
        _check_npz(save_weights)
        _save_weights(save_weights, *loaded.read_weights())
    if inputs is None:
        if save_weights is None:
            raise DataError("expected the inputs, --inputs FILE, or a file for the parameters, --save-weights FILE.npz")
        return
    if os.path.isdir(inputs) or (to is not None and to.suffix in SUFFIXES):
        _run_bulk(loaded, inputs, to, gpu, workers)
        return
    if workers != WorkerArguments():
        raise OutputError("--scheduler and --workers are for outputs of any size: expected -o FILE.h5, or a folder")
    _run_once(loaded, inputs, to, gpu)


def _run_once(loaded: SavedNet, inputs: Path, to: Path | None, gpu: bool) -> None:
    """Run a net on the arrays of one file, print its outputs, and write them."""
    if to is not None:
        _check_npz(to)
    arrays = read_arrays(inputs)
    try:
        outputs = loaded.run(arrays, on=place(loaded.backend.name, gpu))
    except DataError as error:
        raise error.located(notes=[ANY_NUMBER] if _of_other_batch(loaded, arrays) else []) from None
    if to is not None:
        write_files(to.parent, {to.name: npz_bytes(outputs)})
    rows = table("", "output", "shape", "min", "mean", "max", key="outputs")
    for name, array in outputs.items():
        rows.add_row(name, shape_text(array.shape), float(np.min(array)), float(np.mean(array)), float(np.max(array)))
    out.print(rows)
    if to is not None:
        out.print(f"wrote {to}")


def _check_npz(to: Path) -> None:
    """Raise :class:`OutputError` unless the name ends in .npz; devices such as /dev/stdout are allowed."""
    if to.suffix != ".npz" and not (to.exists() and not to.is_file()):
        raise OutputError(f"{to}: the arrays are written as .npz: expected a name ending in .npz")


ANY_NUMBER = "any number of examples is run in batches with -o FILE.h5, or with folders: --inputs FOLDER -o FOLDER"


def _of_other_batch(net: SavedNet, arrays: Mapping[str, AnyArray]) -> bool:
    """Return whether the arrays may hold another number of examples: each differs in one axis at most, and one does."""
    entries = read_manifest(manifest_path(net.path)).inputs
    shapes = {name: entry.place.at({}) for name, entry in entries.items() if not entry.filled}
    pairs = [(array.shape, shapes[name]) for name, array in arrays.items() if name in shapes]
    differences = [
        sum(a != b for a, b in zip(actual, shape, strict=True)) if len(actual) == len(shape) else len(shape) + 1
        for actual, shape in pairs
    ]
    return max(differences, default=0) == 1 and set(shapes) <= set(arrays)


def _save_weights(to: Path, weights: dict[str, Array], absent: Sequence[str]) -> None:
    """Write the parameters into an .npz file, and print their names, their shapes, and the ``absent`` ones."""
    write_files(to.parent, {to.name: npz_bytes(weights)})
    rows = [(name, shape_text(array.shape)) for name, array in weights.items()]
    out.print(table(f"wrote {to}", "parameter", "shape", key="parameters", rows=rows))
    output.fact("absent", list(absent))
    if absent:
        out.print(f"\nno step of this net uses {', '.join(absent)}: left out")


def _run_bulk(net: SavedNet, inputs: Path, to: Path | None, gpu: bool, workers: WorkerArguments) -> None:
    """Run a net over files of arrays, and print a table of them. Exit with 1 if a file has a problem."""
    if to is None:
        raise OutputError("the outputs of a folder go into another one: expected -o FOLDER")
    weights = None if net.trained is None else str(net.trained.absolute())
    use = NetUse(str(net.path.absolute()), net.backend.name, weights, gpu)
    files = table("", "inputs", "outputs", "examples", "problem", key="files")
    problems = False
    with interruptible() as interruption:
        for each in run_bulk(use, inputs, to, **vars(workers), stop=interruption.requested):
            files.add_row(str(each.source), str(each.to), each.examples, each.problem)
            problems = problems or bool(each.problem)
    out.print(files)
    if interruption.requested():
        out.print("stopped: run the same command again to continue")
        raise typer.Exit(interruption.exit_code)
    if problems:
        raise typer.Exit(1)
