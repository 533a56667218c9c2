"""``lstmc numbers`` and ``verify --numbers``: the numbers of a net over streams of data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api.low_precision import PLAIN, StreamedModel
from lstmc.api.models import bound_weights, trace_model
from lstmc.cli import options as opts
from lstmc.cli.commands import Command, Group, interruptible, option, typer_command
from lstmc.cli.console import Form, out, output, print_files, table
from lstmc.errors import DataError
from lstmc.files.output import write_files
from lstmc.numerics.calibration import CALIBRATIONS, STEPS, calibration_for
from lstmc.numerics.device import device_names, device_of, read_device
from lstmc.numerics.effects import NumbersReport
from lstmc.numerics.ranges import Ranges

DataOption = Annotated[
    Path,
    option(
        "--data FILE",
        "Stream these arrays (.npz or HDF5), by the inputs' names: [T, N, ...], with any number of steps and of"
        " sequences.",
    ),
]


def ranges_command(
    *,
    model: opts.ModelArguments,
    weights: opts.WeightArguments,
    target: opts.TargetArguments,
    data: DataOption,
    batch: opts.BatchOption = None,
    outputs: opts.OutputsOption = None,
    form: opts.FormOption = None,
    to: Annotated[
        Path | None, option("-o --output FILE.json", "Write the ranges into this file, also over time.")
    ] = None,
) -> None:
    """Stream data through a net of one step, and print the range of every value, state, gate and parameter.

    T and N are those of the data; other sizes that the data show need not be given. States go from step to step, in
    float32. With -o the same command continues an interrupted one. Exits with 1 if a value is not finite.

    Examples:

    ```console
    lstmc numbers ranges tagger.py --data x.npz --weights w.npz
    lstmc numbers ranges --cell gru -D H=64 --data x.h5 -o ranges.json
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
        out.print(f"wrote {to}")
    if any(each.not_finite for each in ranges):
        raise typer.Exit(1)


def golden_command(
    *,
    model: opts.ModelArguments,
    weights: opts.WeightArguments,
    target: opts.TargetArguments,
    data: DataOption,
    folder: Annotated[Path, option("-o --output DIR", "Write the kit into this folder.")] = Path("kit"),
    steps: Annotated[int, option("--steps INT", "Take this number of steps.", parser=opts.whole_from_0)] = 20,
    form: opts.FormOption = None,
) -> None:
    """Write a kit for a board: a net of one step, its inputs, every blob and state of some steps, and a comparer.

    The comparer, compare.py, needs NumPy alone. It names the first layer in which a device is off, and what kind of
    mistake it looks like: a state that is not carried, an axis order, a missing scale, a rounding. N is 1, or as given.
    `python kit/compare.py device.npz` runs it.

    Examples:

    ```console
    lstmc numbers golden tagger.py --data x.npz --target rknn -o kit
    lstmc numbers golden --cell gru -D H=64 --data x.npz --steps 100
    ```
    """
    streamed = streamed_model(model, weights, target, data, None, None, form)
    width = opts.parse_sizes(model.sizes or []).get(streamed.batch or "", 1)
    print_files(write_files(folder, streamed.golden(min(steps, streamed.sequences.steps), width)))


def calibrate_command(
    *,
    model: opts.ModelArguments,
    weights: opts.WeightArguments,
    target: opts.TargetArguments,
    data: DataOption,
    quantiser: Annotated[
        str, option("--quantiser NAME", f"Write the form of this quantiser: {', '.join(CALIBRATIONS)}.")
    ],
    folder: Annotated[Path, option("-o --output DIR", "Write the files into this folder.")] = Path("calibration"),
    steps: Annotated[int, option("--steps INT", "Take this number of steps.", parser=opts.whole_from_0)] = 200,
) -> None:
    """Write a net of one step, and the calibration data of a quantiser: steps of the data with their true states.

    Each state is what float32 has there, not zeros and not noise, which cost a factor of ten. The program quantize.py,
    written too, runs the quantiser in its own Python.

    Examples:

    ```console
    lstmc numbers calibrate tagger.py --data x.npz --quantiser rknn -o cal
    lstmc numbers calibrate --cell gru -D H=64 --data x.npz --quantiser tpu-mlir
    ```
    """
    chosen = calibration_for(quantiser)
    target = replace(target, target=target.target or chosen.target)
    form = chosen.form if target.target == chosen.target else None
    streamed = streamed_model(model, weights, target, data, None, None, form, chosen.numbers)
    files = streamed.calibration(chosen, max(steps, 1))
    own = {name: content for name, content in files.items() if "/" not in name}
    inner = {name.partition("/")[2]: content for name, content in files.items() if "/" in name}
    if inner:
        write_files(folder / STEPS, inner)
    more = [(f"{folder / STEPS}: {len(inner)} files", sum(map(len, inner.values())))] if inner else []
    print_files(write_files(folder, own), *more)


def streamed_model(
    model: opts.ModelArguments,
    weights: opts.WeightArguments,
    target: opts.TargetArguments,
    data: Path,
    batch: str | None,
    outputs: list[str] | None = None,
    form: str | None = None,
    numbers: str | None = None,
) -> StreamedModel:
    """Return the model of these arguments, with its parameters and the data to stream through it."""
    options = opts.compile_options(target, model.sizes, weights, outputs=outputs, form=form, numbers=numbers)
    source, backend = model.source(), options.resolved_backend()
    streamed = StreamedModel.from_data(source, backend, options, {}, data, batch)
    _, whole = trace_model(source, streamed.sizes, step=True)
    return streamed.with_weights(bound_weights(whole, options.weights, options.seed, backend))


numbers_app = typer.Typer(
    cls=Group,
    help="Prepare a net for int8 or fixed point: ranges over data, calibration data, and a kit for the board.",
    no_args_is_help=True,
)
for _name, _command in (("ranges", ranges_command), ("calibrate", calibrate_command), ("golden", golden_command)):
    numbers_app.command(_name, cls=Command)(typer_command(_command))


@dataclass(frozen=True)
class NumbersArguments:
    """The number format of a device, and the data that are streamed through a net in this format."""

    numbers: Annotated[
        str | None,
        option(
            "--numbers NAME|FILE.toml",
            "Simulate numbers instead, over --data: int8, a8w8, a16w8, int16, fp16, bf16, or those of a device, as"
            " rknn-int8.",
            autocompletion=opts.completion(device_names),
        ),
    ] = None
    data: Annotated[
        Path | None, option("--data FILE", "Stream these arrays [T, N, ...] (.npz or HDF5) for --numbers.")
    ] = None
    calibration: Annotated[
        Path | None, option("--calibration FILE", "Measure the ranges for --numbers on these arrays. Default: --data.")
    ] = None
    reader: Annotated[
        str | None,
        option(
            "--reader NAME",
            "Quantise the net for --numbers by this program's own quantiser, and run it there too.",
            autocompletion=opts.completion(lambda: CALIBRATIONS),
        ),
    ] = None


def verify_numbers(
    numbers: NumbersArguments,
    model: opts.ModelArguments,
    weights: opts.WeightArguments,
    target: opts.TargetArguments,
    variant: opts.VariantArguments,
) -> None:
    """Print a model's error in a device's low precision. Exits with 1 if a sum of integers may overflow."""
    if numbers.numbers is None or numbers.data is None:
        missing = "--data FILE" if numbers.numbers else "--numbers NAME"
        hint = f"; to run the net as it is: --on {numbers.reader}" if numbers.reader and not numbers.numbers else ""
        raise DataError(f"--numbers and --data belong together: expected {missing} too{hint}")
    device = read_device(numbers.numbers) if numbers.reader is None else device_of(numbers.numbers, numbers.reader)
    target = replace(target, target=target.target or device.target)
    form = variant.form or (device.form if target.target == device.target else None)
    streams = [
        streamed_model(model, weights, target, data, None, variant.outputs, form, device.source)
        for data in (numbers.data, numbers.calibration)
        if data is not None
    ]
    report = streams[0].numbers(device, streams[-1], in_reader=numbers.reader is not None)
    print_numbers(report)
    if report.overflows:
        raise typer.Exit(1)


def print_numbers(report: NumbersReport) -> None:
    """Print the errors of a net in a device's numbers, their causes, and what to change."""
    net = f"{report.net} in {report.device.name}: {report.sequences} sequences of {report.steps} steps"
    marks = sorted({0, *(report.steps * part // 4 for part in (1, 2, 3)), report.steps - 1})
    steps, own = [f"step {t + 1}" for t in marks], ("output", "mean", "largest", "relative")
    texts = dict.fromkeys(("mean", "largest", "predicted", *steps), ".2g") | {"relative": ".2%"}
    errors = table(f"{net}, error against float32", *own, *steps, key="errors", texts=texts)
    for each in report.outputs:
        errors.add_row(each.name, each.mean, each.largest, each.relative, *(each.by_step[t] for t in marks))
    columns, texts = (*own, "predicted", "predicted / mean", "different values"), texts | {"predicted / mean": ".2f"}
    reader = table("in the reader itself, error against float32", *columns, key="reader", texts=texts)
    for one in report.reader:
        error = one.error
        reader.add_row(error.name, error.mean, error.largest, error.relative, one.predicted, one.ratio, one.values)
    title, texts = "another element of the output is the largest", dict.fromkeys(("share of steps", *steps), ".1%")
    choices = table(title, "output", *texts, key="choices", texts=texts)
    for each in report.outputs:
        if any(each.other_choices):
            share = sum(each.other_choices) / report.steps
            choices.add_row(each.name, share, *(each.other_choices[t] for t in marks))
    states = table("states", "state", "format", "distance", "stalled", key="states", texts={"stalled": ".1%"})
    for state in report.states:
        states.add_row(state.name, state.format, state.distance, state.stalled)
    guilty = table("kept in float32 alone", "value", "what", "mends", key="guilty", texts={"mends": ".0%"})
    listed = report.guilty if output.verbose or output.form is Form.JSON else report.guilty[:5]
    for guilt in listed:
        guilty.add_row(guilt.name, guilt.kind, guilt.mends)
    clipped = table("outside of the calibrated range", "value", "elements", key="clipped", texts={"elements": ".2%"})
    for name, share in sorted(report.clipped.items(), key=lambda item: -item[1])[: None if output.verbose else 5]:
        clipped.add_row(name, share)
    for rows in (errors, choices, reader, states, guilty, clipped):
        if rows:
            out.print(rows)
    _print_advice(report)


def _print_advice(report: NumbersReport) -> None:
    """Print the changes that were measured, the advice, and with ``-v`` the rules of the device."""
    output.fact("by_step", {each.name: list(each.by_step) for each in report.outputs})
    output.fact("accumulated_bits", dict(report.accumulated))
    output.fact("changes", {each.text: each.error for each in report.changes})
    output.fact("advice", report.advice)
    output.fact("rules", [asdict(rule) for rule in report.device.rules])
    for change in report.changes:
        if change.text == PLAIN:
            out.print(f"{change.text}: {change.error:.2g} times the error")
    for line in report.advice or ["no change of the numbers that was tried leaves 80 % of the error or less"]:
        out.print(line)
    if output.verbose:
        for rule in report.device.rules:
            out.print(f"rule: {rule.text} ({rule.source})")


def print_ranges(ranges: Ranges) -> None:
    """Print a table of ranges, a row for each value."""
    title = f"{ranges.net}: {ranges.sequences} sequences of {ranges.steps} steps"
    texts = dict.fromkeys(("least", "0.1 %", "median", "99.9 %", "greatest", "mean"), ".4g")
    texts |= dict.fromkeys(("zero", "saturated"), ".1%")
    rows = table(title, "value", "kind", *texts, "not finite", key="ranges", texts=texts)
    for each in ranges:
        figures = each.least, *(each.percentiles[place] for place in (0.1, 50.0, 99.9)), each.greatest, each.mean
        saturated = "" if each.saturated is None else each.saturated
        rows.add_row(each.name, each.kind, *figures, each.zero, saturated, each.not_finite)
    output.fact("sequences", ranges.sequences)
    output.fact("steps", ranges.steps)
    out.print(rows)
