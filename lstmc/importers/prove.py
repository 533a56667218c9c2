"""The written model against the description it was written from: the interpreter against NumPy, both in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmc.backend import Compiled
from lstmc.differential import SCALE_FLOOR, Difference, random_inputs
from lstmc.importers.describe.net import Net
from lstmc.importers.importer import ImportedModel
from lstmc.interp import forward
from lstmc.ops import Array

TOLERANCE = 1e-9  # two ways to compute the same thing in float64


def prove(
    model: ImportedModel, compiled: Compiled, weights: Mapping[str, Array], seed: int = 0
) -> tuple[Difference, ...]:
    """One difference an output, on random inputs of what the written model was compiled to."""
    inputs = random_inputs(compiled, seed)
    interpreted = forward(compiled.model, inputs, weights).outputs
    described = model.described.bound(_sizes(model.net, inputs))
    params = {name: weight.array().astype(np.float64) for name, weight in described.params.items()}
    fed = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    by_numpy = described.evaluate(fed, params)
    return tuple(
        _difference(name, by_numpy[name], to_source(model.net, name, array)) for name, array in interpreted.items()
    )


def to_source(net: Net, name: str, array: Array) -> Array:
    """An input or output of the written model with its axes as the source has them."""
    return np.transpose(array, np.argsort(net.axes[name])) if name in net.axes else array


def _sizes(net: Net, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The numbers that the named sizes of the inputs have in these arrays."""
    return {
        size: array.shape[axis]
        for name, array in inputs.items()
        for axis, size in enumerate(net.inputs[name])
        if isinstance(size, str)
    }


def _difference(name: str, wanted: Array, found: Array) -> Difference:
    gap = float(np.max(np.abs(wanted - found), initial=0.0))
    scale = max(float(np.max(np.abs(wanted), initial=0.0)), SCALE_FLOOR)
    return Difference("output", name, 1, gap, gap / scale, TOLERANCE)
