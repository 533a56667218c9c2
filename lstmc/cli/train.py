"""``lstmc train``: a model and data in, a run out: its net with trained weights, its metrics, its loss curve."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import RunOptions, train_model
from lstmc.api.models import model_in
from lstmc.cli.arguments import DeviceArguments, ExampleArguments, SettingsArguments, training_options
from lstmc.cli.console import err, out, output, table
from lstmc.cli.options import (
    ADVANCED,
    OverwriteOption,
    TensorboardOption,
    WeightsOption,
    number_from_0,
    parse_options,
    say_which_cells,
    whole_from_0,
)
from lstmc.cli.progress import interruptible, run_display
from lstmc.files.output import PREVIOUS
from lstmc.runs.events import Event, EventFiles, Progress


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """One run of a training: its first weights, where it starts, and where it runs."""

    weights: WeightsOption = None
    examples: ExampleArguments
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN from its last snapshot.")] = False
    overwrite: OverwriteOption = False
    tensorboard: TensorboardOption = False
    ranks: Annotated[
        int | None,
        typer.Option(
            "--ranks",
            metavar="INT",
            help="Train in this number of processes, by MPI, each with a part of every batch. Default: the processes of"
            " the MPI launcher.",
            rich_help_panel=ADVANCED,
            parser=whole_from_0,
        ),
    ] = None
    device: DeviceArguments


def train_command(
    *,
    file: Annotated[
        str, typer.Argument(metavar="FILE[:MODEL]", help="A Python file with a @model that returns a loss.")
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="DATA", help="Train on these arrays (.npz or HDF5), by the inputs' names.")
    ],
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="Write the run into this folder.")],
    test_data: Annotated[
        Path | None, typer.Option("--test-data", metavar="DATA", help="Test the model on these arrays while it trains.")
    ] = None,
    test_split: Annotated[
        float | None,
        typer.Option(
            "--test-split", metavar="PART", help="Test on this part of --data instead, as 0.2.", parser=number_from_0
        ),
    ] = None,
    settings: SettingsArguments,
    run: RunArguments,
) -> None:
    """Train a model. It minimizes the output called loss; other losses and metrics are reported for test data.

    An array of DATA has the shape of its input, with any number of examples on the axis N, or one more axis in front
    that counts whole batches. -D need not give sizes that the arrays show. Ctrl-C, SIGTERM and a closed terminal write
    a snapshot and end the run; --resume continues it.

    Examples:

    ```console
    lstmc train model.py --data train.npz -D N=60 -o run --epochs 10
    lstmc train model.py --data d.npz --test-split 0.2 -D N=60 -o run --gpu
    lstmc train model.py --data d.npz -D N=60 -o run --solver max_iter=2000
    lstmc train model.py --data train.npz -D N=60 -o run --resume
    ```
    """
    with interruptible() as interruption, run_display(out, err) as progress, ExitStack() as stack:
        listeners: list[Progress] = [progress]
        if run.tensorboard:
            listeners.append(stack.enter_context(closing(EventFiles(folder))))
        model, model_options = model_in(file), parse_options(settings.options or [])
        say_which_cells(model, [model_options])
        run_options = RunOptions(
            out=folder,
            weights=run.weights,
            resume=run.resume,
            overwrite=run.overwrite,
            ranks=run.ranks,
            progress=lambda event: notify(event, listeners),
            stop=interruption.requested,
            command=command(),
        )
        model = model.with_options(model_options)
        options = training_options(settings, run.examples, run.device, test_data=test_data, test_split=test_split)
        result = train_model(model, data, options, run_options)
    if run.overwrite and (folder / PREVIOUS).is_dir():
        out.print(f"earlier runs are in {folder / PREVIOUS}", markup=False, soft_wrap=True)
    if result.not_drawn:
        out.print(result.not_drawn, markup=False)
    wrote = table("wrote", "file", "bytes", key="files")
    for path in result.files:
        wrote.add_row(str(path), path.stat().st_size)
    out.print(wrote)
    output.fact("ended", result.ended)
    output.fact("iteration", result.iteration)
    if result.ended == "stopped":
        out.print(f"stopped after {result.iteration} iterations, with the snapshot {result.snapshot}", markup=False)
        out.print(f"resume with: {command('--resume')}", markup=False, soft_wrap=True)
        raise typer.Exit(interruption.exit_code)
    out.print(f"finished after {result.iteration} iterations")


def notify(event: Event, listeners: Sequence[Progress]) -> None:
    """Pass an event to each listener; none of them stops the run."""
    for listener in listeners:
        listener(event)


def command(*more: str) -> str:
    """Return the running command as one types it, without --resume and --overwrite, with ``more`` words at its end."""
    begins = ("--resume", "--overwrite")
    return shlex.join(["lstmc", *[word for word in sys.argv[1:] if word not in begins], *more])
