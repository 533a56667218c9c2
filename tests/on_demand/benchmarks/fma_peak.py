"""The peak of one core and the bandwidth of its caches, measured, and what an LSTM's products need of them."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np

from lstmc.loops.native import FLAGS

SOURCE = Path(__file__).with_suffix(".cpp")
ALIGNED = 16  # floats of a cache line
LEAST = 2**12  # floats, for which the first cache has room


def flops_per_second(rounds: int = 200) -> float:
    """The most of ``rounds``, of a millisecond each: products and sums of numbers in registers, one thread."""
    return _measured("flops_per_second", rounds)


def bytes_per_second(floats: int, rounds: int = 200) -> float:
    """The most of ``rounds``: loads from an array of so many floats, read again and again, one thread."""
    floats = max(floats, LEAST)
    numbers = np.ones(floats + ALIGNED, np.float32)  # untouched zeros are one page
    address = -(-numbers.ctypes.data // (4 * ALIGNED)) * 4 * ALIGNED
    return _measured("bytes_per_second", ctypes.c_void_p(address), ctypes.c_long(floats), rounds)


def _measured(function: str, *arguments: object) -> float:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        headers = str(files("lstmc").joinpath("loops"))
        # FMAs by the same flags as generated layers
        subprocess.run(["g++", *FLAGS, f"-I{headers}", "-shared", SOURCE, "-lopenblas", "-o", library], check=True)
        measure = getattr(ctypes.CDLL(str(library)), function)
        measure.restype = ctypes.c_double
        return float(measure(*arguments))


def lstm_flops(size: tuple[int, ...]) -> Mapping[str, float]:
    """Of the matrix products of an LSTM from a zero state, T, N, D, H: forward, and forward and backward.

    The first step has no recurrent product, and the gradient of the input is not wanted.
    """
    steps, batch, width, units = size
    of_inputs, of_states, later = steps * width, steps * units, (steps - 1) * units
    forward = of_inputs + later
    scale = 2.0 * batch * 4 * units
    return {"forward": scale * forward, "both": scale * (forward + of_inputs + of_states + later)}


def lstm_weight_seconds(size: tuple[int, ...]) -> Mapping[str, float]:
    """The time to read an LSTM's recurrent weights in each step but the first, T, N, D, H: forward; and once more back.

    No step of one row takes less: it reads each weight for one product.
    """
    steps, _, _, units = size
    floats = 4 * units * units
    forward = (steps - 1) * 4 * floats / bytes_per_second(floats)
    return {"forward": forward, "both": 2 * forward}
