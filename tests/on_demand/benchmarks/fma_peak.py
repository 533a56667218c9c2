"""The peak of one core, measured, and what an LSTM's products need of it."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from lstmc.loops.native import FLAGS

SOURCE = Path(__file__).with_suffix(".cpp")


def flops_per_second(rounds: int = 200) -> float:
    """The most of ``rounds``, of a millisecond each: products and sums of numbers in registers, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        headers = str(files("lstmc").joinpath("loops"))
        # FMAs by the same flags as generated layers
        subprocess.run(["g++", *FLAGS, f"-I{headers}", "-shared", SOURCE, "-lopenblas", "-o", library], check=True)
        measure = ctypes.CDLL(str(library)).flops_per_second
        measure.restype = ctypes.c_double
        return float(measure(rounds))


def lstm_flops(size: tuple[int, ...]) -> Mapping[str, float]:
    """Of the matrix products of an LSTM from a zero state, T, N, D, H: forward, and forward and backward.

    The first step has no recurrent product, and the gradient of the input is not wanted.
    """
    steps, batch, width, units = size
    of_inputs, of_states, later = steps * width, steps * units, (steps - 1) * units
    forward = of_inputs + later
    scale = 2.0 * batch * 4 * units
    return {"forward": scale * forward, "both": scale * (forward + of_inputs + of_states + later)}
