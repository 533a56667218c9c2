"""What changes of a net, or of a device's numbers, leave of the error: two tables of docs/numbers.md.

    python -m tests.on_demand.benchmarks.numbers_changes [--steps 1000] rknn-int8 tpu-mlir-int8
    python -m tests.on_demand.benchmarks.numbers_changes --reader rknn-int8 tpu-mlir-int8

GRUs, an LSTM, and a GRU whose update gate moves the state by 0.02 of what is new, of 32 units and 16 inputs, with
typical weights, over streams as of numbers_error. Each number is the mean error; ranges are of another stream. The
first table is predicted; ``--reader`` measures in the programs themselves what can be compiled.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

import lstmc
from lstmc.api.low_precision import StreamedModel
from lstmc.errors import BackendError
from lstmc.numerics import effects
from lstmc.numerics.device import Device, State, read_device
from lstmc.numerics.effects import Simulation
from lstmc.numerics.ranges import Ranges
from lstmc.numerics.sequences import StepRunner
from lstmc.ops import Array
from tests.on_demand.benchmarks.numbers_error import stream

N, D, H = lstmc.dims("N D H")
SIZES = {"T": 1, "N": 1, "D": 16, "H": 32}
SLOW = 4.0  # the bias of z: sigmoid(-4) is 0.018
APART = "noslice"  # the target whose nets have a product for each gate
IN_READERS = [("GRU", "gru", False), ("slow GRU", "gru", True), ("gru_reset_after", "gru_reset_after", False)]
IN_READERS += [("LSTM", "lstm", False)]
FORMS = [("as written", None, False), ("`--numbers`", None, True), ("and gates apart", APART, True)]


@lstmc.cell
def gru_high_low(
    x: lstmc.Value = lstmc.Input(N, D),
    h: lstmc.Value = lstmc.State(N, H),
    low: lstmc.Value = lstmc.State(N, H),
    *,
    W_x: lstmc.Value = lstmc.Param(3 * H, D, fill=lstmc.xavier()),
    b: lstmc.Value = lstmc.Param(3 * H, fill=lstmc.constant(0)),
    W_h: lstmc.Value = lstmc.Param(2 * H, H, fill=lstmc.xavier()),
    U: lstmc.Value = lstmc.Param(H, H, fill=lstmc.xavier()),
) -> tuple[lstmc.Value, dict[str, lstmc.Value]]:
    """Return a GRU that keeps what rounding its state leaves over, which without rounding is 0."""
    x_z, x_r, x_n = lstmc.split(lstmc.linear(x, W_x, b), 3)
    h_z, h_r = lstmc.split(lstmc.linear(h, W_h), 2)
    n = lstmc.tanh(x_n + lstmc.linear(lstmc.sigmoid(x_r + h_r) * h, U))
    change = low + lstmc.sigmoid(-(x_z + h_z)) * (n - h)
    new = h + change
    moved = new - h
    return new, {"h": new, "low": change - moved}


def with_fine_ranges(ranges: Ranges, device: Device) -> Ranges:
    """Return the ranges of ``gru_high_low`` as 8 bits need them: the low state has little more than a step of the
    high one, and the numbers of what moved have whole such steps among them."""
    values = {each.name.removeprefix("gru_high_low/").removeprefix("t000/"): each for each in ranges}
    half = (254 if device.values.symmetric else 255) / 2
    high = max(values["h"].magnitude, values["h_in"].magnitude)
    step = high / half
    change = values["change"].magnitude + step
    moved = high / max(1, high // change)
    limits = {"h": high, "h_in": high, "change": change, "moved": moved, "low/negated": moved}
    limits |= {"low": 0.6 * step, "low_in": 0.6 * step}
    found = {part: replace(values[part], least=-most, greatest=most) for part, most in limits.items() if part in values}
    return replace(ranges, values={**ranges.values, **{each.name: each for each in found.values()}})


def weights_of(net: lstmc.Net, slow: bool) -> dict[str, Array]:
    """Return weights of a cell, equal for equal names; ``slow``: z is near 0.982."""
    rng = np.random.default_rng(5)
    drawn = dict[str, Array]()
    for key, array in sorted(net.weights.items()):
        part = key.rpartition("/")[2]
        noise = 0.1 * rng.standard_normal(array.shape)
        drawn[key] = noise if array.ndim == 1 else (rng.random(array.shape) * 2 - 1) * np.sqrt(3 / array.shape[1])
        if part == "b" and slow:
            drawn[key][: SIZES["H"]] += SLOW
    return {key: array.astype(np.float32) for key, array in drawn.items()}


def net_of(cell: object, device: Device, slow: bool, target: str | None, numbers: str | None) -> lstmc.Net:
    """Return the net of one step of a cell, with its weights."""
    options = {"target": target or device.target, "form": device.form, "step": True, **SIZES}
    net = lstmc.compile(cell, **options)  # type: ignore[arg-type]
    return lstmc.compile(cell, weights=weights_of(net, slow), numbers=numbers, **options)  # type: ignore[arg-type]


def streams(steps: int) -> list[dict[str, Array]]:
    """Return the data of a test and those of the calibration."""
    return [{"x": stream((1, SIZES["D"]), steps, np.random.default_rng(seed))} for seed in (2, 1)]


def error_of(
    cell: object, device: Device, steps: int, slow: bool, target: str | None = None, numbers: str | None = None
) -> float:
    """Return the mean error of a cell's output that the rules of a device predict."""
    net = net_of(cell, device, slow, target, numbers)
    test, calibration = (
        StreamedModel.from_data(net.source, net.backend, net.options, net.weights, data) for data in streams(steps)
    )
    ranges = calibration.ranges()
    assert ranges is not None
    if cell is gru_high_low:
        ranges = with_fine_ranges(ranges, device)
    compiled = test.compiled(1)
    simulation = Simulation(
        net.name, lambda _, rounding: StepRunner(compiled, net.weights, rounding), test.sequences, ranges, device
    )
    return simulation.report().outputs[0].mean


def in_reader(name: str, cell: str, steps: int, slow: bool, target: str | None, numbers: str | None) -> str:
    """Return two columns of a table: the mean error of a cell's output in the reader, and the predicted one as
    a multiple of it; a dash where it does not run the net."""
    device = read_device(name)
    assert device.quantiser is not None, "numbers of a reader's quantiser"
    data, calibration = streams(steps)
    net = net_of(cell, device, slow, target, numbers)
    try:
        first = net.verify_numbers(name, data, calibration=calibration, reader=device.quantiser.name).reader[0]
    except BackendError as error:
        print(cell, target, name, error, file=sys.stderr)
        return "- | "
    return f"{first.error.mean:.4f} | {first.ratio:.2f}"


def print_readers(names: list[str], steps: int) -> None:
    """Print the table of nets as written, with ``--numbers``, and with gates apart, in the readers."""
    print("| mean error |", *(f"{name} | predicted / real |" for name in names))
    print("|---|" + "---|---|" * len(names))
    for title, cell, slow in IN_READERS:
        for text, target, changed in FORMS:
            columns = [in_reader(name, cell, steps, slow, target, name if changed else None) for name in names]
            print(f"| {title}, {text} | {' | '.join(columns)} |", flush=True)


def changes(name: str) -> Iterator[tuple[str, Callable[[bool, int], float]]]:
    """Yield each change with a function of a slow net or not, and of steps."""
    device = read_device(name)
    more = replace(device, values=replace(device.values, headroom=effects.HEADROOM))
    wide = replace(device, state=State("int16"))
    yield "as written", lambda slow, steps: error_of("gru", device, steps, slow)
    yield "`h + u (n - h)`", lambda slow, steps: error_of("gru", device, steps, slow, numbers=name)
    yield "and gates apart", lambda slow, steps: error_of("gru", device, steps, slow, APART, name)
    yield "and 25 % headroom", lambda slow, steps: error_of("gru", more, steps, slow, numbers=name)
    yield "and states in 16 bits", lambda slow, steps: error_of("gru", wide, steps, slow, numbers=name)
    yield "and a low part of the state, in 8 bits", lambda slow, steps: error_of(gru_high_low, device, steps, slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", default=["rknn-int8", "tpu-mlir-int8"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--reader", action="store_true", help="in the programs themselves")
    options = parser.parse_args()
    effects.CAUSE_STEPS = 0  # no search for causes
    if options.reader:
        print_readers(options.numbers, options.steps)
        return
    columns = [(name, slow) for name in options.numbers for slow in (False, True)]
    print("| mean error, predicted |", *(f"{name}, {'slow GRU' if slow else 'GRU'} |" for name, slow in columns))
    print("|---|" + "---|" * len(columns))
    rows = {name: dict(changes(name)) for name in options.numbers}
    for text in rows[options.numbers[0]]:
        figures = (f"{rows[name][text](slow, options.steps):.4f} |" for name, slow in columns)
        print(f"| {text} |", *figures, flush=True)


if __name__ == "__main__":
    main()
