"""Single operators of TFLite: every integer that each set of kernels gives is the interpreter's."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import exp, log

import numpy as np
import pytest

from lstmc.interp import forward
from lstmc.ir import Builder
from lstmc.manifest import parse_manifest
from lstmc.ops import Abs, Array, Exp, Input, Log, Max, Maximum, Op, Power, Sigmoid, Softmax, Sum
from lstmc.pipeline import compile_graph
from lstmc_tflite import TfliteBackend
from lstmc_tflite.net import read_net
from lstmc_tflite.numbers import Numbers
from tests.backends.lstmc_tflite.streams import KERNELS
from tests.quick_sample import one_in

SHAPE = (300, 6)
# An op, the range of what it reads, and that of its result, which is less than some of it: those are clipped.
FUNCTIONS: dict[str, tuple[Op, tuple[float, float], tuple[float, float]]] = {
    "abs": (Abs(), (-3, 2), (0, 2.5)),
    "exp": (Exp(), (-6, 1.5), (0, exp(1.3))),
    "log": (Log(), (0, 5), (-3, log(5))),
    "max": (Max(1), (-2, 3), (-2, 3)),
    "maximum": (Maximum(), (-2, 3), (-1, 3)),
    "maximum of other scales": (Maximum(), (-2, 3), (-1, 90)),
    "quotient": (Power(-1.0), (-2, 3), (-9, 3)),  # and of zero: infinity
    "quotient with a low zero point": (Power(-1.0), (-2, 3), (-1, 20)),
    "rsqrt": (Power(-0.5), (0, 4), (0, 3)),
    "sigmoid near a half": (Sigmoid(), (-1, 127 / 128), (0, 1)),  # of -1/128: 127.50006 / 256
    "softmax": (Softmax(1), (-5, 3), (0, 1)),
    "softmax along the first axis": (Softmax(0), (-5, 3), (0, 1)),
    "square": (Power(2.0), (-2, 3), (0, 7)),
    "sum": (Sum(1), (-2, 3), (-9, 12)),
    "sum along the first axis": (Sum(0), (-2, 3), (-9, 200)),
}
TARGETS = ("tflite", "tflite-micro", "ethos-u")
# What is in float32, as the runtime has no integers, or a table of 16 bits that is too coarse.
QUOTIENTS = [title for title in FUNCTIONS if title.startswith("quotient")]
IN_FLOATS = {
    "a8w8": {*product(TARGETS, QUOTIENTS), *product(["tflite-micro"], ["exp", "log"])},
    "a16w8": {
        *product(TARGETS, QUOTIENTS),
        ("tflite", "rsqrt"),
        *product(["tflite-micro"], ["exp", "log", "max", "rsqrt"]),
    },
}
CASES = [case for case in product(FUNCTIONS, TARGETS, IN_FLOATS) if case[1] != "ethos-u" or case[0] not in QUOTIENTS]


@pytest.mark.parametrize("case", one_in(26, CASES, 13), ids=" ".join)
def test_every_integer_of_a_function_is_the_interpreters(case: tuple[str, str, str]) -> None:
    title, target, numbers = case
    op, limits, result = FUNCTIONS[title]
    names = ("x0", "x1")[: 2 if isinstance(op, Maximum) else 1]
    b = Builder("function")
    refs = [b.add(Input(SHAPE), names=(name,))[0] for name in names]
    graph = b.finish([("y", b.add(op, *refs, names=("y",))[0])])
    found = {"x0": limits, "x1": (limits[0], limits[1] / 3), "y": result}
    backend = TfliteBackend(numbers=Numbers.of(numbers, found))
    compiled = replace(compile_graph(graph, backend, target), states=())
    artifact = backend.emit(compiled, {})
    content, manifest = artifact.files[artifact.net], parse_manifest(artifact.files["function.manifest.json"])
    floats = any(operator.code == "DEQUANTIZE" for operator in read_net(content).operators)
    assert floats == ((target, title) in IN_FLOATS[numbers])
    inputs = {name: _every(*found[name], seed) for seed, name in enumerate(names)}
    for kernels, load in KERNELS.items():
        if (kernels == "tflm") == (target == "tflite-micro"):
            rounding = backend.numbers.rounding(compiled, kernels)
            assert rounding is not None
            wanted = forward(compiled.expanded, inputs, {}, np.float32, rounding=rounding).outputs["y"]
            got = load(content).forward(manifest.fed(inputs), manifest.output_blobs)
            grid = rounding.grid(compiled.expanded.outputs[0].ref)
            assert grid is not None
            assert np.array_equal(*(np.rint(y / grid.scale) for y in (wanted, manifest.outputs["y"].read(got)))), (
                kernels
            )
            assert np.unique(wanted).size > 5


def _every(low: float, high: float, seed: int) -> Array:
    """Return numbers of a range, among them all of 8 bits."""
    numbers = np.resize(np.linspace(low, high, 256), SHAPE)
    return np.random.default_rng(seed).permutation(numbers.ravel()).reshape(SHAPE).astype(np.float32)
