"""The functions of a written net, called as its user calls them: open, reset, steps without feeding states, a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import Compiled
from lstmc.ir import Ref, Rounding, values_over_time
from lstmc.manifest import Manifest
from lstmc.numerics.integers import IntegerRounding
from lstmc.ops import Array
from lstmc.prepare import StatePair
from lstmc.verification.arrays import random_inputs

STEPS = 3
Bytes = NDArray[np.uint8]
Pair = tuple[NDArray[Any], NDArray[Any]]


class Functions(Protocol):
    """The functions of a net, on arrays of float by the names of its blobs."""

    weights: Bytes

    def forward(self, blobs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the results of a step from the states among ``blobs``."""
        ...

    def stream(self, function: str, blobs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the states after a reset, and the results of all steps after it: by ``steps`` or as a ``block``."""
        ...

    def opens(self, content: Bytes) -> bool:
        """Return whether the net takes this content, in bytes, as its weights."""
        ...


def blobs_of_each_step(compiled: Compiled, manifest: Manifest) -> frozenset[str]:
    """Return the blobs with a value for each step, of which a block has all, one after the other."""
    over_time = values_over_time(compiled.model)
    inputs = {name: entry.place for name, entry in manifest.inputs.items() if Ref(name) in over_time}
    states = {state.output for state in (manifest.states or {}).values()}
    refs = {output.name: output.ref for output in compiled.model.outputs if output.name not in states}
    outputs = {name: place for name, place in manifest.outputs.items() if refs.get(name) in over_time}
    return frozenset(blob for place in (*inputs.values(), *outputs.values()) for blob in place.names)


def compared_functions(
    compiled: Compiled, manifest: Manifest, net: Functions, weights: Mapping[str, Array], rounding: Rounding | None
) -> dict[str, Pair]:
    """Return what each function should give, and what it gives, by the end of its name: equal to the bit.

    ``open`` takes the file of weights and no damaged one, ``reset`` sets the first states; ``steps`` after it, which
    feed no states, and a ``block`` give what steps do that are fed with the states.
    """
    found = {"open": _opened(net)} if len(net.weights) else {}
    each = blobs_of_each_step(compiled, manifest)
    fed = [random_inputs(compiled, seed) for seed in range(STEPS)]
    steps = [
        {blob: part for name, entry in manifest.inputs.items() for blob, part in entry.place.fed(inputs[name])}
        for inputs in fed
    ]
    together = {blob: np.stack([step[blob] for step in steps]) if blob in each else steps[0][blob] for blob in steps[0]}
    streams = {function: net.stream(function, together) for function in ("steps", "block")}
    first = streams["steps"][0]
    if compiled.states:
        found["reset"] = _joined(_first_states(compiled.states, manifest, first, weights, rounding))
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
    return found


def _first_states(
    states: Iterable[StatePair],
    manifest: Manifest,
    found: Mapping[str, Array],
    weights: Mapping[str, Array],
    rounding: Rounding | None,
) -> Iterator[list[Array]]:
    """Yield the first value of each state by the model, if it has one, and that which a reset sets."""
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
