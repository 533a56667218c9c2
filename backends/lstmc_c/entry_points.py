"""The functions of a written net, called as users call them: open, reset, steps without feeding states, a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import Compiled
from lstmc.ir import Ref, Rounding, values_over_time
from lstmc.manifest import Manifest
from lstmc.numerics.device import Grid
from lstmc.numerics.integers import IntegerRounding
from lstmc.ops import Array
from lstmc.prepare import StatePair
from lstmc.verification.differential import random_inputs
from lstmc_c.artifact import is_frame
from lstmc_c.numbers import integer_type

STEPS = 3
Bytes = NDArray[np.uint8]
Pair = tuple[NDArray[Any], NDArray[Any]]


class Functions(Protocol):
    """The functions of a net, on arrays of float by the names of its blobs."""

    weights: Bytes

    def forward(self, blobs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the results of a step from the states among ``blobs``."""

    def stream(self, function: str, blobs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the states after a reset, and the results of all steps after it: by ``steps`` or as a ``block``."""

    def converted(self, function: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
        """Return the result of a function that converts numbers to integers, or integers to numbers."""

    def opens(self, content: Bytes) -> bool:
        """Return whether the net takes this content, in bytes, as its weights."""


def blobs_of_each_step(compiled: Compiled, manifest: Manifest) -> frozenset[str]:
    """Return the blobs with a value for each step; a block takes these values one after the other."""
    over_time, frame = values_over_time(compiled.model), is_frame(compiled.model)
    before = {state.input for state in (manifest.states or {}).values()}
    inputs = {
        name: entry.place
        for name, entry in manifest.inputs.items()
        if name not in before and (frame or Ref(name) in over_time)
    }
    states = {state.output for state in (manifest.states or {}).values()}
    refs = {output.name: output.ref for output in compiled.model.outputs if output.name not in states}
    outputs = {
        name: place for name, place in manifest.outputs.items() if name in refs and (frame or refs[name] in over_time)
    }
    return frozenset(blob for place in (*inputs.values(), *outputs.values()) for blob in place.names)


def compared_functions(
    compiled: Compiled, manifest: Manifest, net: Functions, weights: Mapping[str, Array], rounding: Rounding | None
) -> dict[str, Pair]:
    """Return the expected and the actual result of each function, by the end of its name; they must be equal to the
    bit. ``open`` accepts the file of weights and no damaged file; ``reset`` sets the first states; ``steps`` after it,
    without fed states, and a ``block`` give the results of steps with fed states."""
    found = {"open": _opened(net)} if len(net.weights) else {}
    each = blobs_of_each_step(compiled, manifest)
    fed = [random_inputs(compiled, seed) for seed in range(STEPS)]
    steps = [manifest.fed(inputs) for inputs in fed]
    together = {blob: np.stack([step[blob] for step in steps]) if blob in each else steps[0][blob] for blob in steps[0]}
    streams = {function: net.stream(function, together) for function in ("steps", "block")}
    first = streams["steps"][0]
    if compiled.states:
        found["reset"] = _joined(first_states(compiled.states, manifest, first, weights, rounding))
    wanted, states = dict[str, list[Array]](), dict(first)
    for step in steps:
        results = net.forward({**steps[0], **{b: a for b, a in step.items() if b in each}, **states})
        states = {blob: results[blob] for blob in states}
        for blob, array in results.items():
            wanted.setdefault(blob, []).append(array)
    for function, (_, results) in streams.items():
        found[function] = _joined(
            [(np.stack(arrays if blob in each else arrays[-1:]), results[blob]) for blob, arrays in wanted.items()]
        )
    return found | (_conversions(compiled, manifest, net, rounding) if isinstance(rounding, IntegerRounding) else {})


def _conversions(compiled: Compiled, manifest: Manifest, net: Functions, rounding: IntegerRounding) -> dict[str, Pair]:
    """Return pairs for the functions that round inputs and for those that scale outputs."""
    states = {name for state in (manifest.states or {}).values() for name in (state.input, state.output)}
    places = [("quantize", name, Ref(name), entry.place) for name, entry in manifest.inputs.items()]
    places += [("dequantize", o.name, o.ref, manifest.outputs[o.name]) for o in compiled.expanded.outputs]
    return {
        f"{verb}_{blob}": (_quantized if verb == "quantize" else _dequantized)(net, f"{verb}_{blob}", grid)
        for verb, name, ref, place in places
        if name not in states and (grid := rounding.grid(ref)) is not None
        for blob in place.names
    }


def _quantized(net: Functions, function: str, grid: Grid) -> Pair:
    """Return how far integers are off the quotients, if by more than a half and the rounding of float32."""
    most, quotients = grid.high, np.r_[np.linspace(-1.5, 1.5, 1001), np.inf, -np.inf, np.nan]
    numbers = (grid.scale * most * quotients).astype(np.float32)
    integers = net.converted(function, numbers, integer_type(most).removesuffix("_t"))
    off = np.abs(integers - np.clip(np.nan_to_num(numbers / np.float64(grid.scale), nan=-np.inf), -most, most))
    return np.zeros(len(off)), np.where(off <= 0.51, 0.0, off)


def _dequantized(net: Functions, function: str, grid: Grid) -> Pair:
    integers = np.linspace(-grid.high, grid.high, 255).astype(integer_type(grid.high).removesuffix("_t"))
    return (grid.scale * integers.astype(np.float64)).astype(np.float32), net.converted(function, integers, "float32")


def first_states(
    states: Iterable[StatePair],
    manifest: Manifest,
    found: Mapping[str, Array],
    weights: Mapping[str, Array],
    rounding: Rounding | None,
) -> Iterator[list[Array]]:
    """Yield the first value of each state by the model, if it has one, and the value that a reset sets."""
    for state in states:
        (blob,) = manifest.inputs[state.before].place.names
        first = state.first(weights)
        both = [found[blob] if isinstance(first, str) else np.full(found[blob].shape, first, np.float32), found[blob]]
        grid = rounding.grid(Ref(state.before)) if isinstance(rounding, IntegerRounding) else None
        yield both if grid is None else [grid.rounded(array.astype(np.float64)) for array in both]


def _joined(pairs: Iterable[Sequence[Array]]) -> Pair:
    """Return arrays as one pair; of the same numbers, NaN among them, as zeros."""
    wanted, found = (np.concatenate([np.ravel(array) for array in arrays]) for arrays in zip(*pairs, strict=True))
    same = np.array_equal(wanted, found, equal_nan=True)
    return (np.zeros(1), np.zeros(1)) if same else (wanted, found)


def _opened(net: Functions) -> Pair:
    """Return whether files should open, and whether they do: damaged, short, at an odd address, and the right one."""
    others = [np.r_[np.uint8(0), net.weights][1:], net.weights[:-4].copy()]
    for at in (0, 4, 8, -1):
        others.append(net.weights.copy())
        others[-1][at] ^= 1
    opened = [net.opens(content) for content in (*others, net.weights)]
    return np.arange(len(opened)) == len(others), np.array(opened)
