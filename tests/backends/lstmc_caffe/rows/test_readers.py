"""Nets of every target, in real Caffe and in the other programs they are for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmc import (
    Input,
    Param,
    State,
    ave_pool,
    cell,
    concat,
    conv,
    linear,
    max_pool,
    model,
    relu,
    reshape,
    scan,
    softmax,
    tanh,
    transpose,
    uniform,
)
from lstmc import compile as compile_net
from lstmc.api import Net
from lstmc.backend import Artifact, Compiled, load_backend
from lstmc.cells.lstm import lstm
from lstmc.differential import check
from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc.pipeline import compile_graph
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.load import load_target
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, emitted
from tests.backends.lstmc_caffe.rows.models import CELLS, PORTABLE, WHOLE, N, T, graph_of
from tests.quick_sample import one_in

SIZES = ((3, 2), (4, 1), (1, 2))
BACKEND = load_backend("caffe")
NAMES = [*CELLS, *(m.name for m in WHOLE)]


def built(name: str, target: str, steps: int = 3, size: int = 2) -> tuple[Compiled, Artifact, dict[str, Any]]:
    net = compile_graph(graph_of(name, steps, size), BACKEND, target)
    return net, *emitted(net)


@pytest.mark.caffe
@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("steps", "size"), SIZES)
def test_real_caffe_agrees(caffe: Runner, name: str, target: str, steps: int, size: int) -> None:
    report = assert_caffe_agrees(caffe, compile_graph(graph_of(name, steps, size), BACKEND, target))
    assert {d.kind for d in report.differences} == {"output", "blob", "gradient"}


def assert_outputs_agree(reader: ReaderExecutor, name: str, target: str, size: tuple[int, int]) -> None:
    compiled, artifact, weights = built(name, target, *size)
    given = {"noise": np.linspace(-1, 1, size[1] * 4).reshape(size[1], 4)} if name == "stacked" else None
    report = check(compiled, artifact, weights, reader, given=given)
    compared = {d.name for d in report.differences if d.kind == "output"}
    assert compared == {output.name for output in compiled.model.outputs}
    assert report.passed, [d for d in report.differences if not d.passed]


@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", one_in(3, NAMES))
def test_opencv_agrees(opencv: ReaderExecutor, name: str, target: str) -> None:
    for size in SIZES:
        assert_outputs_agree(opencv, name, target, size)


def test_opencv_agrees_on_what_mnn_has_no_layer_for(opencv: ReaderExecutor) -> None:
    assert_outputs_agree(opencv, "softened", "flat", SIZES[0])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *(pytest.param(name, "flat", marks=pytest.mark.slow) for name in NAMES if name != "lstm"),
        *(("lstm", "flat"), ("lstm", "noslice"), ("stacked", "noslice")),
    ],
)
def test_mnn_agrees(mnn: ReaderExecutor, name: str, target: str) -> None:
    assert_outputs_agree(mnn, name, target, SIZES[0])


def test_mnn_takes_a_product_of_what_was_reshaped(mnn: ReaderExecutor) -> None:
    """Its converter makes one of an InnerProduct and the Reshape that it alone reads, and finds no shape for it."""
    sizes = {"T": 1, "N": 2, "S": 3, "D": 5, "E": 3, "A": 3, "H": 4}
    net = compile_net("bahdanau", target="mnn", step=True, sizes=sizes)
    assert [layer.name for layer in net.layers if layer.name.endswith("/copy")] == ["bahdanau/t000/tanh_2/rows/copy"]
    report = check(net.compiled, net.artifact, net.weights, mnn)
    assert [d.name for d in report.differences if d.kind == "output"] == ["y", "s_T", "bahdanau/s_out"]
    assert report.passed


@model
def gains(X=Input(N, 6), Y=Input(2, 3), *, g=Param(2, fill=uniform(0, 1)), p=Param(2, 3, fill=uniform(0, 1))):
    """A gain for each head of a row, and one for each element of a matrix: both of two rows."""
    return {"heads": g[:, None] * reshape(X, N, 2, 3), "elements": Y * p + 1 / (p + 1)}


def test_mnn_takes_parameters_of_several_rows(mnn: ReaderExecutor) -> None:
    """Its Scale is along axis 1 whatever the layer says, without a word."""
    net = compile_net(gains, target="mnn", sizes={"N": 2})
    report = check(net.compiled, net.artifact, net.weights, mnn)
    assert [d.name for d in report.differences if d.kind == "output"] == ["heads", "elements"]
    assert report.passed


@model
def kept(X=Input(2, 3), p=Param(2, 3)):
    return {"x": X, "p": p}


def test_a_constant_is_made_of_no_output(mnn: ReaderExecutor) -> None:
    """Of a blob that a layer reads too MNN and ncnn give nothing, or end."""
    net = compile_net(kept, target="mnn")
    layers = {layer.name: (layer.type, layer.bottoms) for layer in net.layers}
    assert layers["x"] == ("Power", ("X",))  # a copy, as the ones for p are made of X
    assert check(net.compiled, net.artifact, net.weights, mnn).passed


@model
def tagger(
    X=Input(N, 1, 8, 12),
    *,
    W=Param(4, 1, 3, 3, fill=uniform(-1, 1)),
    b=Param(4, fill=uniform(-1, 1)),
    V=Param(5, 4, 3, 3, fill=uniform(-1, 1)),
):
    """The columns of an image are steps: how text is read in pictures."""
    maps = max_pool(relu(conv(X, W, b, pad=1)), 2)
    columns = ave_pool(tanh(conv(maps, V, pad=1)), (4, 1))
    y, _ = scan(lstm(H=3), transpose(reshape(columns, N, 5, 6), 2, 0, 1))
    return {"y": y, "maps": maps}


IMAGES = {"C": 2, "Y": 4, "X": 5, "F": 3, "K": 3, "T": 3, "N": 2}


def convolved(name: str, target: str, step: bool) -> Net:
    if name == "tagger":
        return compile_net(tagger, target=target, sizes={"N": 2})
    return compile_net(name, target=target, step=step, sizes=IMAGES | ({"T": 1} if step else {}))


@pytest.mark.parametrize("reader", ["caffe", "mnn", "opencv"])
@pytest.mark.parametrize(
    ("name", "step"), [("tagger", False), ("conv_lstm", False), ("conv_lstm", True), ("conv_gru", False)]
)
@pytest.mark.caffe
def test_images(request: pytest.FixtureRequest, reader: str, name: str, step: bool) -> None:
    net = convolved(name, "flat" if reader == "caffe" else reader, step)
    assert lint_text(net.prototxt, load_target("flat")).violations == ()
    if reader == "caffe":
        assert_caffe_agrees(request.getfixturevalue("caffe"), net.compiled)
        return
    report = check(net.compiled, net.artifact, net.weights, request.getfixturevalue(reader))
    assert {d.name for d in report.differences if d.kind == "output"} >= {"y"}
    assert report.passed, [d for d in report.differences if not d.passed]


@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", one_in(3, NAMES))
def test_the_linter_finds_nothing(name: str, target: str) -> None:
    compiled, artifact, _ = built(name, target)
    report = lint_text(artifact.files[f"{compiled.name}.prototxt"].decode(), load_target(target))
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
def over_batch(x=Input(N, 2), h=State(N, 2), *, W=Param(2, 2)):
    return h, {"h": softmax(x + linear(h, W), axis=0)}


@model
def softmax_over_batch(X=Input(T, N, 2)):
    y, _ = scan(over_batch(), X)
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
            softmax_over_batch,
            "noslice",
            "BackendError: target noslice has no Slice layer, which %h needs\n"
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
