"""Validation of the written model against its source: the net as it was read, and the source's own runtime."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from lstmc.backend import Compiled
from lstmc.importers.importer import ImportedModel
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.sizes import OpenSize
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import SourceCheck
from lstmc.importers.write.model import traced
from lstmc.interp import forward
from lstmc.ops import Array
from lstmc.process.status import report_activity
from lstmc.verification.arrays import inputs_of_domain
from lstmc.verification.conditioning import SCALE_FLOOR
from lstmc.verification.report import Difference

TOLERANCE = 1e-9  # two ways to compute the same thing in float64
RUNTIME_TOLERANCE = 1e-5  # what runs the source does it in float32
LATE = "it gives the last step alone, which comes late: the net as it was read is compared, some steps before the last"


def check_net(
    model: ImportedModel, compiled: Compiled, weights: Mapping[str, Array], seed: int = 0
) -> tuple[Difference, ...]:
    """Return one difference an output between the written model and the imported net, on random inputs.

    Sizes that the source has as numbers must be these (``Net.sizes``).
    """
    report_activity("comparing the model with its source's description")
    inputs, _ = inputs_of_domain(compiled, weights, seed)
    interpreted = forward(compiled.model, inputs, weights).outputs
    fed = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    earlier = {} if model.net.earlier is None else evaluate(model.net.earlier, fed)
    return _differences(model.net, {**evaluate(model.described, fed), **earlier}, interpreted, earlier, TOLERANCE)


def evaluate(net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Evaluate a net's model text by the interpreter, in float64, and return the outputs."""
    graph = traced(net, _sizes(net, inputs))
    return forward(graph, inputs, {name: weight.array() for name, weight in net.params.items()}).outputs


def check_source(
    model: ImportedModel, compiled: Compiled, weights: Mapping[str, Array], seed: int = 0
) -> SourceCheck | None:
    """Compare the model with the source's runtime; None for a source without one."""
    if model.runtime is None:
        return None
    report_activity(f"comparing the model with its source, by {model.runtime.name}")
    reason = model.runtime.unavailable()
    if reason is not None:
        return SourceCheck(model.runtime.name, (), reason)
    inputs, _ = inputs_of_domain(compiled, weights, seed)
    fed = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    try:
        expected = model.runtime.run(fed)
    except SourceError as error:
        return SourceCheck(model.runtime.name, (), error.message)
    interpreted = forward(compiled.model, inputs, weights).outputs
    differences = _differences(model.net, expected, interpreted, (), RUNTIME_TOLERANCE)
    return SourceCheck(model.runtime.name, differences, None if differences else LATE)


def _differences(
    net: Net, expected: Mapping[str, Array], actual: Mapping[str, Array], in_step: Collection[str], tolerance: float
) -> tuple[Difference, ...]:
    """Compare the outputs; those ``in_step`` are of the same steps already."""
    differences = []
    for name, array in actual.items():
        pair = expected[name], to_source(net, name, array)
        arrays = pair if name in in_step else _in_step(net, name, *pair)
        if arrays is not None:
            differences.append(difference(name, *arrays, tolerance))
    return tuple(differences)


def _in_step(net: Net, name: str, expected: Array, actual: Array) -> tuple[Array, Array] | None:
    """Return an output of the source and of the model, aligned where the model's is delayed.

    None where it is late and has no axis of time: the model's is that of fewer steps than the source's own.
    """
    lag = net.delays.get(name, 0)
    if not lag:
        return expected, actual
    shape = net.shapes[net.outputs[name]]
    places = [axis for axis, size in enumerate(shape) if size in net.time]
    if len(places) != 1:
        return None
    axis = net.axes[name][places[0]] if name in net.axes else places[0]
    actual = actual[(slice(None),) * axis + (slice(lag, None),)]
    count = min(expected.shape[axis], actual.shape[axis])
    return expected.take(range(count), axis), actual.take(range(count), axis)


def to_source(net: Net, name: str, array: Array) -> Array:
    """Return an input or output of the written model with the source's order of axes."""
    return np.transpose(array, np.argsort(net.axes[name])) if name in net.axes else array


def _sizes(net: Net, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Return the numbers of the inputs' open sizes in these arrays."""
    return {
        size.name: array.shape[axis]
        for name, array in inputs.items()
        for axis, size in enumerate(net.inputs[name])
        if isinstance(size, OpenSize)
    }


def difference(name: str, expected: Array, actual: Array, tolerance: float) -> Difference:
    """Return how far an output is from the expected one, relative to the largest number of that."""
    gap = float(np.max(np.abs(expected - actual), initial=0.0))
    scale = max(float(np.max(np.abs(expected), initial=0.0)), SCALE_FLOOR)
    return Difference("output", name, 1, gap, gap / scale, tolerance)
