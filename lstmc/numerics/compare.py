"""Compare a device's results with the golden values beside this file. It needs NumPy only.

    python compare.py DEVICE [--tolerance 0.001]

DEVICE is an .npz file of arrays [steps, ...] by the names of blobs, as golden.npz has them, or a folder of .npy files
(gru/t000/h.npy for the blob gru/t000/h). Blobs may be missing, and so may last steps. It prints the first wrong layer
and the probable kind of mistake; it exits with 1 if there is one. The tolerance is relative to the greatest absolute
value of a blob.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]  # by the names of blobs
Layer = Mapping[str, Any]
Same = Callable[[Array, Array], bool]  # within the tolerance
FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "a hard sigmoid of slope 0.2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "a hard sigmoid of slope 1/6": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "a hard tanh": lambda x: np.clip(x, -1, 1),
    "no function": lambda x: x,
}


@dataclass(frozen=True)
class Off:
    """The first layer with an error: its step, its size, and its likely cause.

    ``unseen`` are blobs that the layer depends on and that the device did not return: the mistake may be before them.
    """

    layer: str
    type: str
    blob: str
    step: int
    error: float
    mistake: str
    unseen: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"first layer off: {self.layer} ({self.type}), blob {self.blob}, from step {self.step} on"]
        lines += [f"  error {self.error:.3g} of the greatest value; it looks like {self.mistake}"]
        lines += [f"  not compared before it: {', '.join(self.unseen)}"] if self.unseen else []
        return "\n".join(lines)


def read(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file, or of a folder of .npy files, by name."""
    if path.is_dir():
        files = sorted(path.rglob("*.npy"))
        return {file.relative_to(path).with_suffix("").as_posix(): np.load(file) for file in files}
    with np.load(path) as arrays:
        return dict(arrays)


def compare(net: Mapping[str, Any], golden: Arrays, device: Arrays, tolerance: float = 1e-3) -> Off | None:
    """Return the first wrong layer, in the order of steps and then of layers; None if all are within the tolerance."""
    return _Comparison(net, golden, device, tolerance).off()


@dataclass(frozen=True)
class _Comparison:
    """The golden values of a net, the values of a device, and the tolerance."""

    net: Mapping[str, Any]
    golden: Arrays
    device: Arrays
    tolerance: float

    def off(self) -> Off | None:
        """Return the first layer with a blob of another shape, or else with an error above the tolerance, or None."""
        golden, device = self.golden, self.device
        layers = self.net["layers"]
        common = [(layer, blob) for layer in layers for blob in layer["writes"] if blob in device and blob in golden]
        for layer, blob in common:
            if device[blob].shape[1:] != golden[blob].shape[1:]:
                mistake = _of_shape(golden[blob], device[blob])
                return Off(layer["name"], layer["type"], blob, 0, float("nan"), mistake, self._unseen(layer))
        steps = min((len(device[blob]) for _, blob in common), default=0)
        for step in range(min([steps, *(len(golden[blob]) for _, blob in common)])):
            for layer, blob in common:
                error = self._error(blob, step)
                if not error <= self.tolerance:
                    mistake = self._mistake(layer, blob, step)
                    return Off(layer["name"], layer["type"], blob, step, error, mistake, self._unseen(layer))
        return None

    def _error(self, blob: str, step: int) -> float:
        """Return the largest error of a blob at a step, relative to the greatest golden value of the blob."""
        golden = self.golden[blob]
        size = float(np.abs(golden).max()) or 1.0
        return float(np.abs(self.device[blob][step].astype(np.float64) - golden[step]).max() / size)

    def _unseen(self, layer: Layer) -> tuple[str, ...]:
        """Return the blobs that the device did not return and that a layer depends on, back to blobs that the device
        returned."""
        writers = {blob: each for each in self.net["layers"] for blob in each["writes"]}
        unseen: dict[str, None] = {}
        waiting = [blob for blob in layer["reads"] if blob not in self.device]
        while waiting:
            blob = waiting.pop()
            if blob not in unseen:
                unseen[blob] = None
                waiting += [each for each in writers.get(blob, {"reads": []})["reads"] if each not in self.device]
        return tuple(unseen)

    def _mistake(self, layer: Layer, blob: str, step: int) -> str:
        """Return in words the simplest mistake that turns the golden values of a blob into the device's values."""
        golden, device = self.golden, self.device
        g, d = golden[blob].astype(np.float64), device[blob].astype(np.float64)
        count = min(len(g), len(d))
        g, d = g[:count], d[:count]
        size = float(np.abs(g).max()) or 1.0

        def same(one: Array, other: Array) -> bool:
            return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) <= self.tolerance * size)

        state = self._state(layer, blob, step, g, d, same)
        if state:
            return state
        good = self._good_steps(layer, step, count)
        g, d = g[good], d[good]  # steps whose operands are right: an error there comes from this layer
        read = [golden[name][:count][good].astype(np.float64) for name in layer["reads"] if name in golden]
        for mistake in (*_orders(g, d, same), *_values(g, d, same, size), *_of_time(golden[blob], device[blob], same)):
            return mistake
        if len(read) == 1 and read[0].shape == d.shape:
            for name, function in FUNCTIONS.items():
                with np.errstate(over="ignore"):
                    if same(function(read[0]), d):
                        return f"another function: {name}"
        for mistake in _numbers(g, d, size):
            return mistake
        return "other weights, or another computation: no simple mistake explains it"

    def _good_steps(self, layer: Layer, step: int, count: int) -> list[int]:
        """Return the steps at which all known operands of a layer are right. If there are none, return the step
        itself."""
        present = [name for name in layer["reads"] if name in self.device and name in self.golden]
        steps = [t for t in range(count) if all(self._error(name, t) <= self.tolerance for name in present)]
        if len(present) < len(layer["reads"]):  # an unknown blob may be wrong after the first mistake
            steps = [t for t in steps if t <= step]
        return steps or [step]

    def _state(self, layer: Layer, blob: str, step: int, g: Array, d: Array, same: Same) -> str:
        """Return what is wrong with a state: the state is not carried, starts at another value, or is a step late.
        Return an empty text if the blob is no state with such a mistake."""
        for state in self.net["states"]:
            if blob == state["before"]:
                if step == 0:
                    return f"a state that does not start at its initial value: {state['name']}"
                if same(d[step], g[0]) and all(same(row, g[0]) for row in d[1:]):
                    return f"a state that is not carried: {state['name']} is at its initial value in every step"
                after = self.device.get(state["after"])
                if after is not None and len(d) > 2 and same(d[2:], after[: len(d) - 2].astype(np.float64)):
                    return f"a state that is a step late: {state['name']}"
                return f"a state that differs from the result of the step before: {state['name']}"
            alone = step == 1 and [state["before"]] == list(layer["reads"]) and state["before"] not in self.device
            if alone and same(d[0], g[0]) and same(d[1], g[0]):
                return f"a state that is not carried: {state['name']} is at its initial value in every step"
        return ""


def _of_shape(g: Array, d: Array) -> str:
    """Return in words why a device's blob has another shape than the golden blob."""
    if d[0].size != g[0].size:
        return f"another size: expected {list(g.shape[1:])}, found {list(d.shape[1:])}"
    for order in itertools.permutations(range(g.ndim - 1)):
        turned = g[:1].transpose(0, *(axis + 1 for axis in order))
        if turned.shape[1:] == d.shape[1:] and np.allclose(turned, d[:1], atol=1e-3 * float(np.abs(g).max())):
            return f"an axis order: the axes are {list(order)} of the golden ones"
    if np.allclose(g[:1].reshape(-1), d[:1].reshape(-1), atol=1e-3 * float(np.abs(g).max())):
        return f"another shape of the same elements: expected {list(g.shape[1:])}, found {list(d.shape[1:])}"
    return f"an axis order: expected {list(g.shape[1:])}, found {list(d.shape[1:])}"


def _values(g: Array, d: Array, same: Same, size: float) -> Iterator[str]:
    """Yield mistakes of values: not finite, never written, a scale, an offset, a limit."""
    if not np.isfinite(d).all():
        yield f"an overflow: {np.count_nonzero(~np.isfinite(d))} elements are not finite"
        return
    if np.abs(d).max() <= 1e-6 * size:
        yield "a blob that is never written: all elements are zero"
        return
    factor = float((d * g).sum() / ((g * g).sum() or 1.0))
    if same(factor * g, d):
        yield "a sign" if abs(factor + 1) < 0.02 else f"a missing or wrong scale: {factor:.4g} times the golden values"
    columns = tuple(range(g.ndim - 1))
    offset = (d - g).mean(axis=columns)
    if same(g + offset, d) and g.size > offset.size:
        varied = not same(np.broadcast_to(g.mean(axis=columns), g.shape), g)
        constant = "an offset, or a scale or a rounding: the golden values that can be compared are constant"
        yield "an offset: a bias that is missing, or added twice" if varied else constant
    factors = (d * g).sum(axis=columns) / np.maximum((g * g).sum(axis=columns), 1e-30)
    if same(g * factors, d) and g.size > factors.size:
        yield "a missing or wrong scale for each channel"
    low, high = d.min(), d.max()
    if same(np.clip(g, low, high), d):
        yield f"a limit: values saturate at {low:.4g} to {high:.4g}"


def _orders(g: Array, d: Array, same: Same) -> Iterator[str]:
    """Yield mistakes of order: axes, gates or channels are permuted, or an axis is reversed."""
    for order in itertools.permutations(range(1, g.ndim)):
        turned = g.transpose(0, *order).reshape(g.shape)
        if order != tuple(range(1, g.ndim)) and same(turned, d):
            yield f"an axis order: the axes are {[axis - 1 for axis in order]} of the golden ones"
    for axis in range(1, g.ndim):
        if same(np.flip(g, axis), d):
            yield f"a reversed axis: {axis - 1}"
    width = g.shape[-1]
    for parts in [parts for parts in range(2, 9) if width % parts == 0]:
        blocks = np.split(g, parts, axis=-1)
        for order in itertools.permutations(range(parts)) if parts <= 4 else []:
            if order != tuple(range(parts)) and same(np.concatenate([blocks[i] for i in order], axis=-1), d):
                yield f"an order of gates: the {parts} parts are {list(order)} of the golden ones"
    columns = d.reshape(-1, width)
    golden = g.reshape(-1, width)
    nearest = [int(np.abs(golden - columns[:, [i]]).max(axis=0).argmin()) for i in range(width)]
    if sorted(nearest) == list(range(width)) and same(golden[:, nearest], columns):
        yield "an order of channels"
    for axis in range(1, g.ndim - 1):
        for shift in range(1, g.shape[axis]):
            if same(np.roll(g, shift, axis), d):
                yield "an order of sequences"


def _of_time(golden: Array, device: Array, same: Same) -> Iterator[str]:
    """Yield mistakes of time: values that are a step late, a step early, or in reverse order."""
    count = min(len(golden), len(device))
    g, d = golden[:count].astype(np.float64), device[:count].astype(np.float64)
    if count > 2:
        if same(g[:-1], d[1:]):
            yield "a step late"
        if same(g[1:], d[:-1]):
            yield "a step early"
        if same(g[::-1], d):
            yield "time that runs backwards"


def _numbers(g: Array, d: Array, size: float) -> Iterator[str]:
    """Yield mistakes of precision: values that are right except that they lie on a grid."""
    error = float(np.abs(d - g).max())
    distinct = np.unique(d)
    apart = float(np.diff(distinct)[np.diff(distinct) > 1e-6 * size].min(initial=np.inf))
    places = distinct / apart
    if 0.4 * apart < error < 0.6 * apart and np.abs(places - np.rint(places)).max() < 0.02:
        yield f"a rounding: all values are multiples of {apart:.3g}"
    elif error <= 0.2 * size and len(distinct) < 0.5 * d.size:
        yield f"a rounding: {len(distinct)} different values, the nearest of them {apart:.3g} apart"
    elif error <= 0.02 * size and abs(float((d - g).mean())) < 0.2 * float(np.abs(d - g).mean()):
        yield f"a rounding: errors of {float(np.abs(d - g).mean()) / size:.2g} of the greatest value, without a pattern"


def main() -> int:
    """Compare a device's blobs with the kit's, print the result, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("device", type=Path, help="an .npz file, or a folder of .npy files")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative to the greatest value of a blob")
    arguments = parser.parse_args()
    kit = Path(__file__).parent
    net, golden, device = (
        json.loads((kit / "net.json").read_text(encoding="utf-8")),
        read(kit / "golden.npz"),
        read(arguments.device),
    )
    common = [blob for blob in golden if blob in device]
    if not common:
        print(f"no blob of the kit is in {arguments.device}: expected some of {', '.join(golden)}")
        return 2
    off = compare(net, golden, device, arguments.tolerance)
    print(off or f"all {len(common)} blobs that were compared agree ({len(golden) - len(common)} are missing)")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
