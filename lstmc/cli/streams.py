"""``lstmc ranges``: the numbers of a net over streams of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api.low_precision import StreamedModel
from lstmc.api.models import bound_weights, trace_model
from lstmc.cli.arguments import ModelArguments, TargetArguments, WeightArguments, compile_options
from lstmc.cli.console import out, output, table
from lstmc.cli.options import BatchOption, FormOption, OutputsOption
from lstmc.cli.progress import interruptible
from lstmc.files.output import write_files
from lstmc.numerics import Ranges

DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Stream these arrays (.npz or HDF5), by the inputs' names: [T, N, ...], with any number of steps and of"
        " sequences.",
    ),
]


def ranges_command(
    *,
    model: ModelArguments,
    weights: WeightArguments,
    target: TargetArguments,
    data: DataOption,
    batch: BatchOption = None,
    outputs: OutputsOption = None,
    form: FormOption = None,
    to: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.json", help="Write the ranges into this file, also over time."),
    ] = None,
) -> None:
    """Stream data through a net of one step, and print the range of every value, state, gate and parameter.

    T and N are those of the data; other sizes that the data show need not be given. States go from step to step, in
    float32. With -o the same command continues an interrupted one. Exits with 1 if a value is not finite.

    Examples:

    ```console
    lstmc ranges tagger.py --data x.npz --weights w.npz
    lstmc ranges --cell gru -D H=64 --data x.h5 --target rknn -o ranges.json
    ```
    """
    streamed = streamed_model(model, weights, target, data, batch, outputs, form)
    snapshot = None if to is None else to.with_name(f"{to.name}.partial")
    with interruptible() as interruption:
        ranges = streamed.ranges(snapshot, interruption.requested)
    if ranges is None:
        out.print("stopped: run the same command again to continue" if snapshot else "stopped")
        raise typer.Exit(interruption.exit_code)
    print_ranges(ranges)
    if to is not None:
        write_files(to.parent, {to.name: json.dumps(ranges.as_json(), indent=1).encode()})
        out.print(f"wrote {to}", markup=False, soft_wrap=True)
    if any(each.not_finite for each in ranges):
        raise typer.Exit(1)


def streamed_model(
    model: ModelArguments,
    weights: WeightArguments,
    target: TargetArguments,
    data: Path,
    batch: str | None,
    outputs: list[str] | None = None,
    form: str | None = None,
) -> StreamedModel:
    """Return the model that the arguments name, with its parameters and its data."""
    options = compile_options(target, model.sizes, weights, outputs=outputs, form=form)
    source, backend = model.source(), options.resolved_backend()
    streamed = StreamedModel.from_data(source, backend, options, {}, data, batch)
    _, whole = trace_model(source, streamed.sizes, step=True)
    return streamed.with_weights(bound_weights(whole, options.weights, options.seed, backend))


def print_ranges(ranges: Ranges) -> None:
    """Print a table of ranges, a row for each value."""
    rows = table(
        f"{ranges.net}: {ranges.sequences} sequences of {ranges.steps} steps",
        *("value", "kind", "least", "0.1 %", "median", "99.9 %", "greatest", "mean", "zero", "saturated", "not finite"),
        key="ranges",
        texts={"zero": ".1%", "saturated": ".1%"}
        | dict.fromkeys(("least", "0.1 %", "median", "99.9 %", "greatest", "mean"), ".4g"),
    )
    for each in ranges:
        low, middle, high = (each.percentiles[place] for place in (0.1, 50.0, 99.9))
        rows.add_row(
            *(each.name, each.kind, each.least, low, middle, high, each.greatest, each.mean, each.zero),
            "" if each.saturated is None else each.saturated,
            each.not_finite,
        )
    output.fact("sequences", ranges.sequences)
    output.fact("steps", ranges.steps)
    out.print(rows)
