"""Products of generated layers in bf16 and int8: the code on each kind of processor, and the interpreter's numbers."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lstmc
from lstmc import Input, Param, State, cell, dims, linear, model, scan
from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.dsl.model import CellModel
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.loops.layer import GeneratedScan, other_ties, product_numbers
from lstmc.loops.low_precision import ProductNumbers, rounded_rows, to_format
from lstmc.loops.memory import CPU, LOW, functions
from lstmc.loops.native import FLAGS, loops
from lstmc.numerics.device import read_device
from lstmc.numerics.rounding import DeviceRounding
from lstmc.ops import Input as InputOp
from lstmc.ops import IntegerRange
from lstmc.ops import Param as ParamOp
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check, random_arrays
from lstmc.verification.native import NativeExecutor, with_native_loops
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from tests.loops.test_products import BEYOND, WIDTHS, at, drawn
from tests.random_models.models import seeded_model

pytestmark = pytest.mark.caffe  # g++ is there where Caffe is
NUMBERS = ("cpu-bf16", "cpu-int8")
T, N = dims("T N")

PROBE = """
{functions}
template <class Of>
static void low(int rows, int outs, int ins, const float* x, int ldx, const float* w, float* panels, bool turned,
                const float* b, float* y, int ldy) {{
  low_product<Of>(rows, outs, ins, x, ldx, nullptr, pack_low<Of>(outs, ins, w, turned, panels), turned, b, y, ldy);
}}
extern "C" void bf16(int rows, int outs, int ins, const float* x, int ldx, const float* w, float* panels, bool turned,
                     const float* b, float* y, int ldy) {{
  low<Bf16>(rows, outs, ins, x, ldx, w, panels, turned, b, y, ldy);
}}
extern "C" void int8(int rows, int outs, int ins, const float* x, int ldx, const float* w, float* panels, bool turned,
                     const float* b, float* y, int ldy) {{
  low<Int8>(rows, outs, ins, x, ldx, w, panels, turned, b, y, ldy);
}}
"""
ROWS, OUTS, INS = (1, 2, 4, 11, 23), (1, 31, 32, 45), (1, 3, 4, 17, 64, 101)


@pytest.fixture(scope="module", params=WIDTHS)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions as this processor has them, and by plain code, as one without AVX-512."""
    folder: Path = tmp_path_factory.mktemp("low")
    (folder / "probe.cpp").write_text(PROBE.format(functions=functions(CPU + LOW)))
    flags = [flag.replace("-march=native", f"-march={request.param}") for flag in FLAGS]
    subprocess.run(["g++", *flags, "-shared", "probe.cpp", "-lopenblas", "-o", "probe.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "probe.so"))


@pytest.mark.parametrize("format", ["bf16", "int8"])
def test_products_are_those_of_rounded_rows(probe: ctypes.CDLL, format: str) -> None:
    rng, floats = np.random.default_rng(0), {"bf16": lambda ins: (ins + 1) // 2, "int8": lambda ins: (ins + 3) // 4 + 1}
    for (rows, outs, ins), turned in product(product(ROWS, OUTS, INS), (True, False)):
        x, w = drawn(rng, rows, ins + BEYOND), drawn(rng, *((outs, ins) if turned else (ins, outs)))
        b = drawn(rng, outs) if rows % 2 else None
        panels = np.full((outs + 31) // 32 * 32 * floats[format](ins) + 1, 7, np.float32)
        y = np.full((rows, outs + BEYOND), 7, np.float32)
        call = (rows, outs, ins, at(x), ins + BEYOND, at(w), at(panels), ctypes.c_bool(turned), at(b), at(y))
        getattr(probe, format)(*call, outs + BEYOND)
        left, right = (rounded_rows(each, 1, format) for each in (x[:, :ins], w if turned else w.T))
        wanted = left.astype(np.float64) @ right.T + (0 if b is None else b)
        message = f"{rows} rows, {outs} outs, {ins} ins, transposed {turned}"
        np.testing.assert_allclose(y[:, :outs], wanted, rtol=0, atol=2e-6 * max(ins, 4), err_msg=message)
        assert (y[:, outs:] == 7).all(), message
        assert panels[-1] == 7, message


@pytest.mark.parametrize("format", ["bf16", "int8"])
def test_a_row_that_is_not_finite_is_so_alone(probe: ctypes.CDLL, format: str) -> None:
    x = np.ones((4, 5), np.float32)
    x[1, 2], x[2, 3], x[3] = np.nan, np.inf, 0
    w, y, panels = np.ones((3, 5), np.float32), np.empty((4, 3), np.float32), np.empty(32 * 3, np.float32)
    getattr(probe, format)(4, 3, 5, at(x), 5, at(w), at(panels), ctypes.c_bool(True), at(None), at(y), 3)
    assert (y[0] == 5).all()
    assert not np.isfinite(y[1:3]).any()
    assert (y[3] == 0).all()


NANS = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)  # quiet ones, and all others


@np.errstate(invalid="ignore")  # NumPy's casts of a NaN that signals
@pytest.mark.parametrize("format", ["bf16", "int8"])
def test_a_nan_in_any_place_is_in_every_result_of_its_row(probe: ctypes.CDLL, format: str) -> None:
    rng = np.random.default_rng(0)
    for (rows, outs, ins), bits in product(product(ROWS, OUTS, INS), NANS):
        x, w, row = drawn(rng, rows, ins), drawn(rng, outs, ins), rng.integers(rows)
        x.view(np.uint32)[row, rng.integers(ins)] = bits
        panels, y = np.empty((outs + 31) // 32 * 32 * (ins + 4), np.float32), np.empty((rows, outs), np.float32)
        call = (rows, outs, ins, at(x), ins, at(w), at(panels), ctypes.c_bool(True), at(None), at(y), outs)
        getattr(probe, format)(*call)
        assert (np.isnan(y).all(axis=1) == (np.arange(rows) == row)).all(), (rows, outs, ins, hex(bits))
        assert np.isnan(y).sum() == outs
        assert (np.isnan(rounded_rows(x, 1, format)).any(axis=1) == (np.arange(rows) == row)).all()


FUNCTIONS: list[Any] = [
    lstmc.sigmoid, lstmc.tanh, lstmc.relu, lstmc.leaky_relu, lstmc.elu, lstmc.gelu, lstmc.silu, lstmc.softplus,
    lstmc.softsign, lstmc.exp, lstmc.abs, lstmc.square, lstmc.hard_sigmoid, lstmc.hard_tanh, lstmc.sin, lstmc.cos,
    lstmc.erf, lstmc.floor, lstmc.log_sigmoid, lstmc.softmax, lstmc.log_softmax, lstmc.rms_norm, lstmc.layer_norm,
    lambda x: lstmc.clip(x, -0.5, 0.5), lambda x: lstmc.log(1 + lstmc.abs(x)), lambda x: lstmc.sqrt(1 + lstmc.abs(x)),
    lambda x: lstmc.rsqrt(1 + x * x), lambda x: lstmc.maximum(x, 0.1), lambda x: lstmc.minimum(x, 0.1),
    lambda x: x / (2 + x * x), lambda x: lstmc.maximum(x, lstmc.tanh(x)), lambda x: lstmc.minimum(lstmc.tanh(x), x),
    *(lambda x, f=f: f(x, axis=-1, keepdims=True) for f in (lstmc.max, lstmc.min, lstmc.sum, lstmc.mean, lstmc.var)),
]  # fmt: skip


@cell
def each_function(x=Input(N, 6), h=State(N, 6), *, W=Param(6, 6, fill=lstmc.gaussian(0, 0.4))):  # type: ignore[no-untyped-def]
    v = x + 0.5 * h  # of the loop: what reads x alone is computed in front of it
    following = lstmc.tanh(linear(h, W) + lstmc.relu(linear(v, W)))
    return lstmc.concat(following, *(f(v) for f in FUNCTIONS), axis=1), {"h": following}


def functions_over_time() -> Graph:
    return CellModel(each_function).graph(T=3, N=2)


@pytest.mark.slow
@pytest.mark.parametrize("graph", [seeded_model(3).graph, functions_over_time])  # products in their loops
@pytest.mark.parametrize("numbers", ["float32", *NUMBERS])
@np.errstate(invalid="ignore")
def test_a_nan_of_an_input_reaches_the_outputs_that_it_reaches_in_the_model(
    numbers: str, graph: Callable[[], Graph]
) -> None:
    model, rng = graph(), np.random.default_rng(3)
    found = compile_graph(model, CaffeBackend().with_options({"numbers": numbers}), "caffe-fused")
    assert any(isinstance(node.op, GeneratedScan) for node in found.expanded)
    native, weights = with_native_loops(found.expanded), initial_weights(model)
    inputs = {name: np.asarray(array, np.float32) for name, array in random_arrays(found, weights, 3).inputs.items()}
    whole = {n.name for n in model if isinstance(n.op, InputOp) and isinstance(n.op.values, IntegerRange)}
    reached = 0
    for name, bits in product(inputs.keys() - whole, NANS):
        array = inputs[name].copy()
        array.view(np.uint32).flat[rng.integers(array.size)] = bits
        given = {**inputs, name: array}
        wanted, layers = forward(found.model, given, weights), forward(native, given, weights, np.float32)
        for output, value in wanted.outputs.items():
            reached += np.isnan(value).any()
            lost = np.isnan(value) & ~np.isnan(layers.outputs[output])
            assert not lost.any(), (name, output, hex(bits), np.argwhere(lost)[:3])
    assert reached


def compiled(made: lstmc.Model | str, numbers: str, **sizes: int) -> lstmc.Net:
    backend = CaffeBackend().with_options({"numbers": numbers})
    return lstmc.compile(made, target="caffe-fused", backend=backend, **sizes)


SIZES = {"T": 4, "N": 3, "D": 7, "H": 35}


@pytest.mark.parametrize(("made", "numbers"), [("lstm", "cpu-bf16"), ("gru", "cpu-int8")])
def test_a_layer_is_the_interpreters(made: str, numbers: str) -> None:
    """Outputs, and the gradients of float32 at rounded numbers."""
    report = compiled(made, numbers, **SIZES).verify(on=["native"])
    assert report.passed, str(report)
    assert "its numbers move" in str(report)


def test_weights_are_packed_again_when_they_change() -> None:
    """In Caffe's phase TEST panels are kept from pass to pass."""
    graph = compiled("gru", "cpu-int8", **SIZES).compiled.expanded
    (node,) = [node for node in graph if isinstance(node.op, GeneratedScan)]
    (loop,) = loops([node.op.plan()], "")
    sizes = SIZES["T"], SIZES["N"]
    rng, found = np.random.default_rng(0), []
    bottoms, weights, tops = (
        [drawn(rng, *blob.at(*sizes)) for blob in blobs] for blobs in (loop.bottoms, loop.weights, loop.tops)
    )
    workspace, count = np.empty(loop.workspace_floats(*sizes), np.float32), len(loop.buffers)
    before, seen, after = np.zeros((3, count), np.uint64)  # its own rows alone are written to
    for factor in (1, 1, 2, 1):
        weights[0] *= factor
        addresses = [[array.ctypes.data for array in arrays] for arrays in (bottoms, weights, tops)]
        loop.forward(sizes, *addresses, workspace.ctypes.data, at(seen))
        found.append(tops[0].copy())
    assert seen.any()
    assert not before.any()
    assert not after.any()
    assert (found[0] == found[1]).all()
    assert np.abs(found[1] - found[2]).max() > 1e-2
    assert (found[2] == found[3]).all()


def test_a_weight_that_is_off_is_found() -> None:
    """What may be rounded to either of two numbers leaves the comparison as sharp as in float32."""
    net = compiled("gru", "cpu-int8", **SIZES)
    weights = {name: np.array(array) for name, array in net.weights.items()}
    matrix = next(array for array in weights.values() if array.ndim == 2)
    matrix[0, 0] += 0.02 * np.abs(matrix[0]).max()

    class Off(NativeExecutor):
        def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
            return super().run(compiled, artifact, replace(arrays, weights=weights))

    assert not check(net.compiled, net.artifact, net.weights, Off()).passed


@pytest.mark.slow
def test_a_random_model() -> None:
    backend, graph = CaffeBackend().with_options({"numbers": "cpu-int8"}), seeded_model(1).graph()
    found, weights = compile_graph(graph, backend, "caffe-fused"), initial_weights(graph)
    report = check(found, backend.emit(found, weights), weights, NativeExecutor(), seed=1)
    assert all(d.passed or d.kind == "numbers" for d in report.differences)  # an unstable model moves far


@cell
def turned(h=State(N, 2), *, W=Param(2, 2)):
    h = linear(h, W)
    return h, {"h": h}


@model
def turned_once(h0=Input(N, 2)):
    return {"y": scan(turned(), length=T, init={"h": h0})[0]}


def test_bf16_is_pytorchs() -> None:
    upper = np.arange(0x7F80, dtype=np.uint32)[:, None] << 16  # all that are finite
    numbers = (upper + np.uint32([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])).view(np.float32)
    np.testing.assert_array_equal(to_format(numbers, "bf16"), torch.from_numpy(numbers).bfloat16().float().numpy())
    assert np.isnan(to_format(NANS.view(np.float32), "bf16")).all()


def test_ties_go_either_way() -> None:
    """127 times 0.5 is between two numbers of int8."""
    graph = compiled(turned_once, "cpu-int8", T=1, N=1).compiled.expanded
    assert product_numbers(graph).format == "int8"
    weights = {node.name: np.array([[0.0, 1.0], [0.0, 0.0]]) for node in graph if isinstance(node.op, ParamOp)}
    both = [forward(other_ties(graph, seed), {"h0": np.array([[1, 0.5]])}, weights).outputs["y"] for seed in (0, 1)]
    assert np.allclose(np.array(both)[:, 0, 0, 0] * 127, [64, 63])


def test_the_numbers_of_a_device_are_the_same() -> None:
    """Of a stream through the net of one step, and of a generated layer over all steps."""
    sizes, x = {"N": 2, "D": 3, "H": 5}, np.random.default_rng(1).standard_normal((6, 2, 3))
    for numbers in NUMBERS:
        layer = compiled("gru", numbers, T=6, **sizes)
        graph = layer.compiled.expanded
        found = forward(graph, {"x": x}, layer.weights).outputs["y"]
        step = lstmc.compile("gru", backend="c", weights=layer.weights, **sizes).compiled
        rounding, h, wanted = DeviceRounding(read_device(numbers), step.expanded, {}), np.zeros((2, 5)), []
        (state,) = step.states or ()
        for each in x:
            run = forward(step.expanded, {"x": each[None], state.before: h}, layer.weights, rounding=rounding)
            wanted.append(run.outputs["y"][0])
            h = wanted[-1]
        assert np.abs(found - np.array(wanted)).max() < 1e-12


def test_a_column_of_a_panel_has_the_bytes_of_its_numbers_and_of_a_scale() -> None:
    for ins in range(1, 12):
        found = [ProductNumbers(format).floats(ins) for format in ("float", "bf16", "int8")]
        assert found == [ins, math.ceil(2 * ins / 4), math.ceil(ins / 4) + 1]


def test_what_has_no_code_is_refused() -> None:
    with pytest.raises(BackendError, match="cpu-bf16 or cpu-int8"):
        CaffeBackend().with_options({"numbers": "rknn-int8"})
    backend = CaffeBackend().with_options({"numbers": "cpu-int8"})
    with pytest.raises(BackendError, match="expected a target with these, as caffe-fused, found caffe"):
        lstmc.compile("gru", backend=backend, T=2, N=1, D=3, H=4)
