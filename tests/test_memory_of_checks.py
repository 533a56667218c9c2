"""The memory of a comparison: arrays are compared in pieces, and what is no longer needed is dropped."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from lstmc.verification.conditioning import RandomRounding, absolute_gap, relative_gap

ELEMENTS = 2**21
MOST = 22  # times the weights, above what an empty net takes; 20 are measured


def peak_of(compute: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_arrays_are_compared_in_pieces() -> None:
    a, b = (np.full(ELEMENTS, value, np.float32) for value in (1.0, 1.5))
    assert (absolute_gap(a, b), relative_gap(a, b)) == (0.5, 0.5 / 1.5)
    assert peak_of(lambda: relative_gap(a, b)) < a.nbytes
    b[-1] = np.nan
    assert np.isnan(absolute_gap(a, b))
    assert absolute_gap(np.zeros((2, 0)), np.zeros(0)) == 0
    with pytest.raises(ValueError, match="reshape"):
        absolute_gap(np.zeros(3), np.zeros(4))


def test_numbers_are_rounded_in_pieces() -> None:
    array = np.random.default_rng(0).normal(size=(2, ELEMENTS // 2))
    rounding = RandomRounding(0, np.float32)
    moved = rounding.moved(array)
    assert moved.shape == array.shape
    assert moved.dtype == np.float32
    assert 0 < relative_gap(moved, array) < 1e-6
    assert peak_of(lambda: rounding.moved(array)) < 1.5 * array.nbytes


@pytest.mark.slow
def test_a_conversion_takes_few_times_the_weights(tmp_path: Path) -> None:
    used = [_converted(tmp_path, units) for units in (8, 1000)]
    (least, _), (most, weights) = used
    assert (most - least) / weights < MOST


def _converted(folder: Path, units: int) -> tuple[int, int]:
    """Convert an LSTM of ONNX in a process of its own, and return its memory and that of the weights."""
    rng, shapes = np.random.default_rng(0), {"W": (1, 4 * units, 16), "R": (1, 4 * units, units), "B": (1, 8 * units)}
    weights = {name: (0.05 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    value, path = onnx.helper.make_tensor_value_info, folder / f"lstm_{units}.onnx"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("LSTM", ["x", *weights], ["y"], hidden_size=units)], "net",
        [value("x", 1, [5, 1, 16])], [value("y", 1, [5, 1, 1, units])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    command = [sys.executable, "-m", "lstmc", "convert", str(path), "--target", "flat", "-o", str(folder / str(units))]
    said = folder / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, process.returncode, used = os.wait4(process.pid, 0)
    assert process.returncode == 0, said.read_text()
    return used.ru_maxrss * 1024, sum(array.nbytes for array in weights.values())
