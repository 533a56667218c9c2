"""The error of a net of the zoo in 8 bits, predicted and in the runtime itself, over a stream like real input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import lstmc
from lstmc.api.compiling import compile_model
from lstmc.api.converting import Conversion
from lstmc.api.low_precision import StreamedModel
from lstmc.backend import load_backend
from lstmc.errors import LstmcError
from lstmc.importers.zoo import Recipe
from lstmc.numerics import effects
from lstmc.numerics.device import Device, read_device
from lstmc.numerics.effects import OutputError, Simulation
from lstmc.numerics.ranges import Ranges
from lstmc.numerics.sequences import StepRunner
from lstmc.ops import Array
from tests.on_demand.real_nets.frames import PLACES, Arrays, Source
from tests.on_demand.real_nets.sound import features

FORMATS = {"litert-a8w8-s16": "tflite", "c-int8-weights": "c"}  # with the target that has them

Row = Mapping[str, Any]


def errors(source: Source, recipe: Recipe, done: Conversion) -> dict[str, Row]:
    """Return the errors of a net that streams in C, by the name of the numbers, or ``why`` there are none.

    An error is the mean of an output's absolute difference from float32, as a part of its root mean square. Ranges are
    of another stream.
    """
    effects.CAUSE_STEPS = 0  # no search for causes
    calibration, data = (features(recipe.name, source, seed) for seed in (1, 2))
    exact = streamed(done.net, data, PLACES["c"])
    rows: dict[str, Row] = {}
    for numbers, target in FORMATS.items():
        try:
            net, device = _compiled(done.net, target, {}), read_device(numbers)
            backend = net.backend.for_integers(device.state is not None) if device.kernels else net.backend
            test, measured = (
                StreamedModel.from_data(net.source, backend, net.options, net.weights, _sequences(each, source))
                for each in (data, calibration)
            )
            ranges = (measured if device.kernels else measured.shortened(2)).ranges()  # floats need none
            assert ranges is not None
            predicted = {each.name: each.relative for each in _predicted(net, test, ranges, device)}
            real = _in_runtime(net, numbers, target, data, ranges)
            names = [name for name in exact if name in predicted]
            rows[numbers] = {
                "predicted": float(np.mean([predicted[name] for name in names])),
                "real": float(np.mean([_relative(real[name], exact[name]) for name in names])),
            }
        except LstmcError as error:
            rows[numbers] = {"why": error.message}
    return rows


def streamed(net: lstmc.Net, data: Arrays, place: str) -> dict[str, Array]:
    """Return the outputs of all frames of a stream."""
    with net.stream(on=place) as step:
        found = [step({name: array[t] for name, array in data.items()}) for t in range(len(next(iter(data.values()))))]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def _predicted(net: lstmc.Net, test: StreamedModel, ranges: Ranges, device: Device) -> tuple[OutputError, ...]:
    compiled = test.compiled(1)
    runner = partial(StepRunner, compiled, net.weights)
    return Simulation(net.name, lambda _, rounding: runner(rounding), test.sequences, ranges, device).report().outputs


def _in_runtime(net: lstmc.Net, numbers: str, target: str, data: Arrays, ranges: Ranges) -> dict[str, Array]:
    """Return the outputs of the net as it is written in these numbers."""
    with TemporaryDirectory() as name:
        path = Path(name, "ranges.json")
        path.write_text(json.dumps(ranges.as_json()))
        options = {"numbers": numbers} | ({"ranges": str(path)} if target == "tflite" else {})
        return streamed(_compiled(net, target, options), data, PLACES[target])


def _compiled(net: lstmc.Net, target: str, options: Mapping[str, str]) -> lstmc.Net:
    backend = load_backend(target).with_options(options)
    return compile_model(net.source, replace(net.options, target=target, backend=backend))


def _sequences(data: Arrays, source: Source) -> Arrays:
    """Return a stream as numbers are simulated on it: the layers of a state dict have an axis of time themselves."""
    return {name: array[:, 0] if source.layers else array for name, array in data.items()}


def _relative(found: Array, exact: Array) -> float:
    return float(np.abs(found - exact).mean() / np.sqrt((exact.astype(np.float64) ** 2).mean()))
