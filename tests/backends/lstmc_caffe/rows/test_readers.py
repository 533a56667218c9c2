"""Nets of every target, in real Caffe and in the other programs they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import (
    Input,
    Param,
    State,
    cell,
    clip,
    concat,
    constant,
    dims,
    gelu,
    hard_sigmoid,
    hard_tanh,
    leaky_relu,
    linear,
    maximum,
    minimum,
    model,
    power,
    relu,
    reshape,
    scan,
    sigmoid,
    silu,
    softmax,
    softsign,
    split,
    square,
    tanh,
    uniform,
    where,
)
from lstmc.backend import Artifact, Compiled, load_backend, load_cell
from lstmc.cells.gru import gru
from lstmc.cells.lstm import lstm
from lstmc.differential import check, random_inputs
from lstmc.dsl import CellModel
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner
from tests.backends.lstmc_caffe.rows import readers

Reader = Callable[[Compiled, Artifact, Mapping[str, Any], Path], dict[str, Any]]
TARGETS = ("caffe", "flat", "noslice")
PORTABLE = ("flat", "noslice")
CELLS = ("rnn", "lstm", "lstm_peephole", "gru", "gru_reset_after")
SIZES = ((3, 2), (4, 1), (1, 2))
BACKEND = load_backend("caffe")
T, N, D, H = dims("T N D H")


@cell
def gated(x=Input(N, D), m=Input(N, 1), h=State(N, H), *, W=Param(H, D), U=Param(H, H), p=Param(H)):
    """A mask that is broadcast, constants, and a parameter read as a value."""
    n = relu(1 - sigmoid(linear(x, W) + linear(h, U)) * p - p)
    h = h + m * (n - h)
    return h * h * h + p, {"h": h}


@model
def masked(X=Input(T, N, 5), M=Input(T, N, 1), h0=Input(N, 4, fill=constant(0.5))):
    y, last = scan(gated(H=4), (X, M), init={"h": h0})
    return {"y": y, "h": last["h"]}


@model
def stacked(X=Input(T, N, 3, 2, 2), noise=Input(N, 4, fill=uniform(-1, 1)), W=Param(6, 4), b=Param(6)):
    y, last = scan(lstm(H=4), X, init={"c": noise})
    y, _ = scan(gru(H=4), tanh(y) * 0.5)
    return {"classes": softmax(linear(y, W, b)), "c": last["c"]}


@model
def bidirectional(X=Input(T, N, 5)):
    left, _ = scan(gru(H=3, name="left"), X)
    right, _ = scan(gru(H=3, name="right"), X, reverse=True)
    return {"y": concat(left, right)}


@model
def encoder_decoder(X=Input(T, N, 5), Z=Input(T, N, 2)):
    _, last = scan(lstm(H=4), X)
    y, _ = scan(lstm(H=4), Z, init=last)
    return {"y": y}


@cell
def activated(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H), p=Param(H)):
    """What is made of ReLU, of Eltwise MAX and of products."""
    z = linear(x, W) + linear(h, U) + 0.2
    kinked = maximum(leaky_relu(z, 0.1), h) + hard_sigmoid(z) * minimum(z, 0.1) - maximum(z, p)
    h = hard_tanh(where(clip(4 * z, 0, 1), silu(z), gelu(kinked)))
    return softsign(kinked) + square(h), {"h": h}


@model
def activations(X=Input(T, N, 5), h0=Input(N, 4, fill=constant(0.5))):
    y, last = scan(activated(H=4), X, init={"h": h0})
    positive = 0.5 + sigmoid(y)
    return {"y": y, "h": last["h"], "z": 2 * square(y) + 1, "p": 3 * power(positive, 1.5) - 1, "i": 1 - 2 / positive}


MODELS = (masked, stacked, bidirectional, encoder_decoder, activations)


def graph_of(name: str, steps: int, size: int) -> Graph:
    """A library cell's model, or one of those above."""
    if name in CELLS:
        return CellModel(load_cell(name)).graph(T=steps, N=size, D=3, H=4)
    return next(m for m in MODELS if m.name == name).graph(T=steps, N=size)


def built(name: str, target: str, steps: int = 3, size: int = 2) -> tuple[Compiled, Artifact, dict[str, Any]]:
    graph = graph_of(name, steps, size)
    compiled, weights = compile_graph(graph, BACKEND, target), initial_weights(graph, 1)
    return compiled, BACKEND.emit(compiled, weights), weights


@pytest.fixture(scope="module")
def executor(caffe: Runner) -> CaffeExecutor:
    return CaffeExecutor(caffe, "cpu")


@pytest.mark.caffe
@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", [*CELLS, *(m.name for m in MODELS)])
@pytest.mark.parametrize(("steps", "size"), SIZES)
def test_real_caffe_agrees(executor: CaffeExecutor, name: str, target: str, steps: int, size: int) -> None:
    compiled, artifact, weights = built(name, target, steps, size)
    report = check(compiled, artifact, weights, executor)
    assert report.passed, [d for d in report.differences if not d.passed]
    assert {d.kind for d in report.differences} == {"output", "blob", "gradient"}


def outputs_agree(reader: Reader, name: str, target: str, size: tuple[int, int], folder: Path) -> None:
    compiled, artifact, weights = built(name, target, *size)
    inputs = random_inputs(compiled, 0)
    if name == "stacked":
        inputs["noise"] = np.linspace(-1, 1, size[1] * 4).reshape(size[1], 4)
    folder.mkdir()
    found = reader(compiled, artifact, inputs, folder)
    for output, wanted in forward(compiled.model, inputs, weights).outputs.items():
        assert_allclose(found[output], wanted, rtol=0, atol=1e-5, err_msg=f"{output}, steps and size {size}")


@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", [*CELLS, *(m.name for m in MODELS)])
def test_opencv_agrees(name: str, target: str, tmp_path: Path) -> None:
    for number, size in enumerate(SIZES):
        outputs_agree(readers.opencv, name, target, size, tmp_path / str(number))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, "flat") for name in [*CELLS, *(m.name for m in MODELS)]), ("lstm", "noslice"), ("stacked", "noslice")],
)
def test_mnn_agrees(name: str, target: str, tmp_path: Path) -> None:
    if find_spec("MNN") is None:
        pytest.skip(f"NOT CHECKED: {name} for {target} in MNN, which is not installed: pip install MNN")
    outputs_agree(readers.mnn, name, target, SIZES[0], tmp_path / "net")


@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", [*CELLS, *(m.name for m in MODELS)])
def test_the_linter_finds_nothing(name: str, target: str) -> None:
    compiled, artifact, _ = built(name, target)
    report = BACKEND.lint(artifact.files[f"{compiled.name}.prototxt"].decode(), target)
    assert (report.violations, report.unknown, report.layers) == ((), (), artifact.layers)


def test_inputs_of_flat_are_rows_and_of_noslice_steps() -> None:
    compiled, artifact, _ = built("lstm", "flat")
    assert artifact.inputs == {"x": "x/rows"}
    assert artifact.outputs == {"y": "y/rows", "h_T": "h_T", "c_T": "c_T"}
    compiled, artifact, _ = built("lstm", "noslice")
    assert artifact.inputs == {"x": "lstm/t000/x ... lstm/t002/x"}
    assert "# feed x [3, 2, 3]: for each step a blob [2, 3], lstm/t000/x to lstm/t002/x" in (
        artifact.files[f"{compiled.name}.prototxt"].decode().splitlines()
    )


@model
def inner(X=Input(T, N, 5, 2), s=Input(5, 1)):
    y = X * tanh(s)
    return {"y": y}


@cell
def cut(x=Input(N, 4), h=State(N, 2), *, W=Param(2, 2)):
    return h, {"h": tanh(split(x, 2)[0] + linear(h, W))}


@model
def cut_input(X=Input(T, N, 4)):
    y, _ = scan(cut(), X)
    return {"y": y}


@model
def whole_and_steps(X=Input(T, 5), W=Param(5, 5)):
    return {"z": concat(linear(X, W), X, axis=0)}


@pytest.mark.parametrize(
    ("made", "target", "error"),
    [
        (
            inner,
            "noslice",
            "BackendError: target noslice has no such Concat layer: axis is 0, expected axis 1, which %y needs\n"
            "  axis 0 is TensorRT's batch: it cannot be joined\n"
            "  documented in: NVIDIA/TensorRT parsers/caffe/caffeParser/opParsers (TensorRT 8)",
        ),
        (
            cut_input,
            "noslice",
            "BackendError: target noslice has no Slice layer, which %split needs\n"
            "  TensorRT's Caffe parser has no Slice: write one InnerProduct a piece, one Input a step\n"
            "  documented in: NVIDIA/TensorRT parsers/caffe/caffeParser/opParsers (TensorRT 8)",
        ),
        (
            whole_and_steps,
            "noslice",
            "BackendError: target noslice has no such Concat layer: axis is 0, expected axis 1, which %z needs\n"
            "  axis 0 is TensorRT's batch: it cannot be joined\n"
            "  documented in: NVIDIA/TensorRT parsers/caffe/caffeParser/opParsers (TensorRT 8)",
        ),
    ],
)
def test_what_a_target_cannot_express_is_refused(made: Any, target: str, error: str) -> None:
    sizes = {"T": 3} if made is whole_and_steps else {"T": 3, "N": 2}
    with pytest.raises(BackendError) as raised:
        compile_graph(made.graph(**sizes), BACKEND, target)
    lines = [line for line in str(raised.value).splitlines() if not line.startswith("    ") and ".py:" not in line]
    assert "\n".join(lines) == error


@model
def only_constants(W=Param(9)):
    return {"w": W * 2}


@model
def twice(X=Input(T, N, 4)):
    y, _ = scan(lstm(H=2), X)
    return {"y": y, "z": reshape(X, 2, -1)}


@pytest.mark.parametrize(
    ("graph", "target", "error"),
    [
        (
            only_constants.graph(),
            "flat",
            "BackendError: target flat: nothing makes a constant f32[1,9]: there is no DummyData, and no blob that it"
            " could be made of, found none",
        ),
        (
            twice.graph(T=3, N=2),
            "noslice",
            "BackendError: target noslice: input X is read step by step and as a whole",
        ),
    ],
)
def test_what_is_found_out_late_is_refused_too(graph: Graph, target: str, error: str) -> None:
    with pytest.raises(BackendError) as raised:
        compile_graph(graph, BACKEND, target)
    assert str(raised.value).splitlines()[0] == error
