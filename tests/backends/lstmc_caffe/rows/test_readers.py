"""Nets of every target, in real Caffe and in the other programs they are for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
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
    sigmoid,
    softmax,
    split,
    tanh,
    transpose,
    uniform,
)
from lstmc import compile as compile_net
from lstmc.api import Net
from lstmc.backend import Artifact, Compiled, load_backend
from lstmc.cells import lstm
from lstmc.errors import BackendError, DataError
from lstmc.ir import Graph
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, emitted
from tests.backends.lstmc_caffe.rows.models import CELLS, PORTABLE, WHOLE, N, T, graph_of
from tests.quick_sample import one_in

SIZES = ((3, 2), (4, 1), (1, 2))
BACKEND = load_backend("caffe")
NAMES = [*CELLS, *(m.name for m in WHOLE)]


def built(name: str, target: str, steps: int = 3, size: int = 2) -> tuple[Compiled, Artifact, dict[str, Any]]:
    net = compile_graph(graph_of(name, steps, size), BACKEND, target)
    return net, *emitted(net)


def in_sizes() -> Iterator[Any]:
    """Each model on each target in one size, which goes round; the others are in ``make exhaustive``."""
    for number, (name, target) in enumerate(product(NAMES, PORTABLE)):
        for turn, sizes in enumerate(SIZES):
            yield pytest.param(name, target, *sizes, marks=() if turn == number % 3 else pytest.mark.exhaustive)


@pytest.mark.caffe
@pytest.mark.parametrize(("name", "target", "steps", "size"), [*in_sizes()])
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
    """In a size that goes round."""
    assert_outputs_agree(opencv, name, target, SIZES[(NAMES.index(name) + PORTABLE.index(target)) % len(SIZES)])


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


@model
def wide_windows(X=Input(1, 16, 16, 16), K=Param(32, 16, 5, 5, fill=uniform(-1, 1))):
    return conv(X, K, pad=2)


def test_mnn_computes_convolutions_in_float32(mnn: ReaderExecutor) -> None:
    """By Winograd's algorithm, its default, it is off by 5e-4 of the largest number."""
    net = compile_net(wide_windows, target="mnn")
    report = check(net.compiled, net.artifact, net.weights, mnn)
    assert report.passed
    assert max(difference.relative for difference in report.differences if difference.kind == "output") < 3e-6


def test_mnn_takes_a_product_of_what_was_reshaped(mnn: ReaderExecutor) -> None:
    """Its converter makes one of an InnerProduct and the Reshape that it alone reads, and finds no shape for it."""
    sizes = {"T": 1, "N": 2, "S": 3, "D": 5, "E": 3, "A": 3, "H": 4}
    net = compile_net("bahdanau", target="mnn", step=True, sizes=sizes)
    copied = {name for layer in net.layers if layer.type in ("InnerProduct", "Slice") for name in layer.bottoms}
    assert "bahdanau/t000/tanh_U_a_2/rows/copy" in copied
    report = check(net.compiled, net.artifact, net.weights, mnn)
    assert [d.name for d in report.differences if d.kind == "output"] == ["y", "s_T", "bahdanau/s_out"]
    assert report.passed


@model
def rejoined(X=Input(1, 4), W=Param(3, 4, fill=uniform(-1, 1))):
    halves = reshape(2 * X, 2, 2)
    return {"y": linear(reshape(concat(halves, halves, axis=0), 2, 4), W)}


def test_mnn_takes_rows_that_were_reshaped_joined_and_reshaped(mnn: ReaderExecutor) -> None:
    """It computes the first of them alone, without a word."""
    net = compile_net(rejoined, target="mnn")
    report = check(net.compiled, net.artifact, net.weights, mnn)
    assert [d.name for d in report.differences if d.kind == "output"] == ["y"]
    assert report.passed


@model
def rows_cut(X=Input(3, 8)):
    first, last = split(reshape(X * sigmoid(X), 6, 4), [5, 1], axis=0)
    return {"first": 2 * first, "last": sigmoid(last)}


def test_mnn_takes_some_rows_of_what_was_reshaped(mnn: ReaderExecutor) -> None:
    """Where they end within a row of what the Reshape reads, it repeats the first ones, without a word."""
    net = compile_net(rows_cut, target="mnn")
    report = check(net.compiled, net.artifact, net.weights, mnn)
    assert [d.name for d in report.differences if d.kind == "output"] == ["first", "last"]
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
def unread(X=Input(4, 2, 1), V=Input(2, 3), S=Input(3, 2, 4), Z=Input(1, 1, 4, 4), *, W=Param(2, 1), b=Param(2)):
    """No output depends on V and Z, and none on S once the model is simplified."""
    return {"y": tanh(linear(X, W, b)) + 0 * S[0, 0, 0]}


@pytest.mark.parametrize("target", ["opencv", "mnn"])
def test_inputs_that_no_output_depends_on_are_left_out(request: pytest.FixtureRequest, target: str) -> None:
    """OpenCV and MNN refuse a net with an Input that no layer reads."""
    net = compile_net(unread, target=target)
    assert [layer.name for layer in net.layers if layer.type == "Input"] == ["X/rows"]
    assert net.artifact.inputs == {"X": "X/rows"}
    assert net.artifact.notes == tuple(f"input {n}: not in the net, as no output depends on it" for n in "VSZ")
    assert net.prototxt.splitlines()[2:4] == [
        "# feed X [4, 2, 1], blob X/rows [8, 1]",
        "# input V [2, 3]: not in the net, as no output depends on it",
    ]
    report = check(net.compiled, net.artifact, net.weights, request.getfixturevalue(target))
    assert "y" in {d.name for d in report.differences if d.kind == "output"}
    assert report.passed


@pytest.mark.caffe
def test_an_input_that_is_not_in_the_net_may_be_given_or_not(caffe: Runner) -> None:
    net, x = compile_net(unread, target="flat"), np.ones((4, 2, 1))
    found = [
        net.run(X=x)["y"],
        net.run(X=x, V=np.ones((2, 3)))["y"],
        net.run({n: np.ones(s) for n, s in net.inputs.items()})["y"],
    ]
    assert all(np.array_equal(found[0], each) for each in found)
    with pytest.raises(DataError, match=re.escape("wrong shape: V must be [2, 3], found [3, 3]")):
        net.run(X=x, V=np.ones((3, 3)))


@cell
def counted(x=Input(2, 3), h=State(2, 3), m=State(2, 3), *, W=Param(3, 3, fill=uniform(-1, 1))):
    return linear(x, W) + h, {"h": tanh(linear(x, W)), "m": sigmoid(m)}


@model
def repeated(X=Input(2, 3), Y=Input(1, 2, 4, 3), S=Input(4, 2, 3), Q=Input(2, 2), *, V=Param(2, 12)):
    """Layers that are equal, of which MNN's converter keeps one, and those that change nothing, which it takes out."""
    maps = reshape(max_pool(Y, (2, 1)), 1, 12)
    (y, first), (z, second) = (scan(counted(), S, init={"m": X}) for _ in range(2))
    return {
        "twice": concat(reshape(X, 6, 1), reshape(X, 6, 1)),
        "rows": reshape(X, 6, 1),
        "ones": softmax(reshape(X, 1, 6), axis=0),
        "fed": X,
        "alone": Q,
        "maps": maps,
        "product": linear(maps, V),
        "sum": y + z,
        "first": tanh(first["m"]),
        "second": second["m"],
    }


@pytest.mark.parametrize("target", ["opencv", "mnn"])
def test_outputs_are_there_where_layers_are_equal_or_change_nothing(
    request: pytest.FixtureRequest, target: str
) -> None:
    net = compile_net(repeated, target=target)
    report = check(net.compiled, net.artifact, net.weights, request.getfixturevalue(target))
    assert {d.name for d in report.differences if d.kind == "output"} >= set(net.outputs)
    assert report.passed


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


def channels(count: int) -> Any:
    return Param(count, 1, 1, fill=uniform(0.5, 1.5))


@model
def normalized(
    X=Input(N, 2, 8, 12),
    *,
    W=Param(4, 2, 3, 3, fill=uniform(-1, 1)),
    V=Param(5, 4, 3, 3, fill=uniform(-1, 1)),
    b=Param(5, fill=uniform(-1, 1)),
    s=channels(2), t=channels(2), s_1=channels(4), t_1=channels(4), s_2=channels(4), t_2=channels(4), t_3=channels(5),
):  # fmt: skip
    """A CRNN with batch normalizations before a convolution, behind two, and behind a pooling."""
    first = relu(conv(relu(X * s + t), W, pad=1) * s_1 + t_1)
    pooled = max_pool(first, 2)
    maps = conv(pooled * s_2 - t_2, V, b, pad=1) - t_3
    y, _ = scan(lstm(H=3), transpose(reshape(ave_pool(tanh(maps), (4, 1)), N, 5, 6), 2, 0, 1))
    return {"y": y, "maps": maps, "shifted": pooled + t_2}


@pytest.mark.parametrize("reader", ["caffe", "mnn", "opencv"])
@pytest.mark.caffe
def test_normalized_images(request: pytest.FixtureRequest, reader: str) -> None:
    """Factors and terms of channels are in the convolution before them, or a Scale of images: none is a blob of its
    own."""
    net = compile_net(normalized, target="flat" if reader == "caffe" else reader, sizes={"N": 2})
    on_images = [layer.tops[0] for layer in net.layers if layer.type == "Scale" and len(layer.shapes[0] or ()) == 4]
    assert on_images == ["mul_s", "add_t", "mul_s_2", "sub_t_2", "shifted"]
    if reader == "caffe":
        assert_caffe_agrees(request.getfixturevalue("caffe"), net.compiled)
        return
    report = check(net.compiled, net.artifact, net.weights, request.getfixturevalue(reader))
    assert {d.name for d in report.differences if d.kind == "output"} == {"y", "maps", "shifted"}
    assert report.passed, [d for d in report.differences if not d.passed]


@model
def by_heads(
    X=Input(N, 6),
    Z=Input(N, 1),
    *,
    W=Param(12, 6, fill=uniform(-1, 1)),
    s=Param(3, 1, fill=uniform(-1, 1)),
    t=Param(4, fill=uniform(-1, 1)),
    u=Param(1, fill=uniform(-1, 1)),
    v=Param(2, 3, 4, fill=uniform(-1, 1)),
    p=Param(2, 1, fill=uniform(-1, 1)),
):
    """Parameters over each run of axes of [N, heads, size], and over a column."""
    y = tanh(reshape(linear(X, W), N, 3, 4))
    found = {"s": y * s, "t": y * t, "u": y * u, "v": y * v, "plus_s": y + s, "plus_t": y - t, "plus_u": y + u}
    return {**found, "plus_v": y + v, "p": Z * p, "plus_p": Z + p}


@pytest.mark.parametrize(
    ("reader", "target"), [("caffe", "flat"), ("caffe", "noslice"), ("mnn", "mnn"), ("opencv", "noslice")]
)
@pytest.mark.caffe
def test_parameters_of_heads(request: pytest.FixtureRequest, reader: str, target: str) -> None:
    net = compile_net(by_heads, target=target, sizes={"N": 2})
    assert "Concat" not in {layer.type for layer in net.layers if not layer.name.endswith(("/ones", "/part"))}
    if reader == "caffe":
        assert_caffe_agrees(request.getfixturevalue("caffe"), net.compiled)
        return
    report = check(net.compiled, net.artifact, net.weights, request.getfixturevalue(reader))
    assert {d.name for d in report.differences if d.kind == "output"} == set(net.outputs)
    assert report.passed, [d for d in report.differences if not d.passed]


@model
def of_planes(X=Input(1, 2, 3, 5), *, u=Param(2, 3, fill=uniform(-1, 1))):
    return {"y": X * u[..., None]}


def test_a_scale_of_images_is_of_channels_alone(opencv: ReaderExecutor) -> None:
    """RKNN refuses one of two axes of images."""
    net = compile_net(of_planes, target="opencv")
    (scale,) = [layer for layer in net.layers if layer.type == "Scale"]
    assert scale.shapes == ((1, 30),)
    assert check(net.compiled, net.artifact, net.weights, opencv).passed


@model
def halves(X=Input(2, 6)):
    p, q = split(X, 2)
    return {"first": tanh(p), "q": q, "second": tanh(q)}


def test_openvino_finds_each_output_by_its_layer_s_name(opencv: ReaderExecutor) -> None:
    """It finds no second blob of a Slice, and takes out a layer that changes nothing."""
    net = compile_net(halves, target="openvino")
    layers = {layer.name: layer for layer in net.layers}
    assert net.artifact.outputs == {"first": "first", "q": "q_2", "second": "second"}
    assert all(layers[blob].tops == (blob,) for blob in net.artifact.outputs.values())
    assert layers["q_2"].bottoms == ("q",)
    assert "shift: 1.17549435e-38" in net.prototxt
    assert check(net.compiled, net.artifact, net.weights, opencv).passed


def test_an_output_that_depends_on_no_input_is_refused_for_rknn() -> None:
    """It takes a constant out of the net, and the output with it."""
    with pytest.raises(BackendError, match=re.escape("target rknn: output p depends on no input")):
        compile_net(kept, target="rknn")


def test_tpu_mlir_has_no_scale_of_two_axes() -> None:
    """It takes another number of a column for each element, without a word."""
    for text in (compile_net(made, target="tpu-mlir", sizes={"N": 2}).prototxt for made in (by_heads, gains)):
        assert 'type: "Scale"' in text
        assert "num_axes" not in text
        assert "axis: 0" not in "".join(part.split("}")[0] for part in text.split("scale_param")[1:])


@model
def oblong(
    V=Input(2, 2, 7, 8),
    *,
    K=Param(3, 2, 2, 3, fill=uniform(-1, 1)),
    L=Param(2, 3, 1, 2, fill=uniform(-1, 1)),
    M=Param(2, 3, 2, 2, fill=uniform(-1, 1)),
):
    """Windows, strides, pads and dilations that are not the same along both axes."""
    y = tanh(conv(V, K, stride=(1, 2), pad=(1, 0)))
    pooled = max_pool(y, (2, 1), stride=(2, 1), pad=(1, 0))
    y, dilated, unequal = conv(y, L, dilation=(3, 2)), conv(y, M, dilation=2), conv(V, K, dilation=(1, 2))
    return {"y": y, "pooled": ave_pool(pooled, (1, 2)), "dilated": dilated, "unequal": unequal}


@model
def clipped(V=Input(1, 1, 6, 5)):
    return {"y": max_pool(V, 2, stride=2, pad=1)}


def test_opencv_leaves_a_window_out_as_caffe_does(opencv: ReaderExecutor) -> None:
    net = compile_net(clipped, target="opencv")
    assert check(net.compiled, net.artifact, net.weights, opencv).passed


@pytest.mark.parametrize("reader", ["caffe", "mnn", "opencv"])
@pytest.mark.caffe
def test_images_are_not_square(request: pytest.FixtureRequest, reader: str) -> None:
    """MNN takes the first of two numbers of a repeated field for the width."""
    net = compile_net(oblong, target="flat" if reader == "caffe" else reader)
    assert "kernel_h: 2\n    kernel_w: 3\n    stride_h: 1\n    stride_w: 2\n" in net.prototxt
    if reader == "caffe":
        assert_caffe_agrees(request.getfixturevalue("caffe"), net.compiled)
        return
    report = check(net.compiled, net.artifact, net.weights, request.getfixturevalue(reader))
    assert {d.name for d in report.differences if d.kind == "output"} >= {"y", "pooled", "dilated", "unequal"}
    assert report.passed, [d for d in report.differences if not d.passed]


@model
def clipped_beside(V=Input(1, 1, 5, 4)):
    return {"y": max_pool(V, (3, 1), stride=(2, 2), pad=(1, 0))}


@model
def strides_past_the_image(V=Input(1, 1, 9, 7)):
    """RKNN pads images by 1 and by 2 here, and a window of 2 may have less padding than 2 alone."""
    return {"y": max_pool(V, 2, stride=(2, 3))}


@pytest.mark.parametrize(
    ("made", "target", "error"),
    [
        (
            clipped,
            "mnn",
            "such Pooling layer: the last window along axis 3 of [1, 1, 6, 5] is left out, expected windows that begin"
            " before the image ends",
        ),
        (
            clipped_beside,
            "opencv",
            "such Pooling layer: the last window along axis 3 of [1, 1, 5, 4] is left out, expected windows that begin"
            " before the image ends",
        ),
        (
            strides_past_the_image,
            "rknn",
            "such Pooling layer: the last window along axis 3 of [1, 1, 9, 7] reaches behind it, expected a smaller"
            " stride, or a larger window",
        ),
    ],
)
def test_images_that_a_reader_computes_otherwise_are_refused(made: Any, target: str, error: str) -> None:
    with pytest.raises(BackendError, match=re.escape(f"target {target} has no {error}")):
        compile_graph(made.graph(), BACKEND, target)


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


@model
def means(V=Input(1, 2, 5, 3)):
    short, padded = ave_pool(V, (2, 1), stride=(2, 1)), ave_pool(V, (4, 1), stride=(2, 1), pad=(1, 0))
    return {"short": short, "padded": padded, "whole": ave_pool(V, (5, 3), stride=1, pad=(2, 1))}


@pytest.mark.caffe
@pytest.mark.parametrize(("target", "poolings"), [("tpu-mlir", 0), ("rknn", 1), ("openvino", 2), ("opencv", 3)])
def test_a_mean_that_a_reader_computes_otherwise_is_a_product(target: str, poolings: int, caffe: Runner) -> None:
    """TPU-MLIR counts its own padding behind the image, and forgets that around a window as large as the image."""
    net = compile_net(means, target=target)
    assert net.prototxt.count('type: "Pooling"') == poolings
    assert_caffe_agrees(caffe, net.compiled)


@cell
def same(x=Input(2, 1), u=Input(2, 5), h=State(2, 2)):
    return h, {"h": h}


@model
def with_unread_input(X=Input(T, 2, 1), spare=Input(2, 5), lengths=Input(2), *, P=Param(2)):
    return scan(same(), X, init={"h": P}, static={"u": spare}, lengths=lengths)[0]


def test_a_constant_is_made_of_a_blob_that_is_read_elsewhere_too() -> None:
    """RKNN takes away an input that constants alone read, and ends with an error."""
    net = compile_net(with_unread_input, target="rknn", T=2)
    assert "scale: 0" in net.prototxt
    assert "spare" not in re.sub("#.*", "", net.prototxt)


@model
def padded_more_than_the_window(V=Input(1, 1, 3, 3), *, K=Param(1, 1, 1, 2)):
    return {"y": conv(V, K, pad=(1, 1))}


def test_rknn_has_no_window_in_the_padding_alone() -> None:
    error = "such Convolution layer: a window along axis 2 of [1, 1, 3, 3] lies in the padding, expected less padding"
    with pytest.raises(BackendError, match=re.escape(error)):
        compile_graph(padded_more_than_the_window.graph(), BACKEND, "rknn")


@model
def crnn(
    image=Input(1, 1, 8, 12),
    *,
    K=Param(4, 1, 3, 3, fill=uniform(-0.5, 0.5)),
    s=Param(4, 1, 1, fill=uniform(0.5, 1)),
    t=Param(4, 1, 1, fill=uniform(-0.5, 0.5)),
    L=Param(6, 4, 2, 1, fill=uniform(-0.3, 0.3)),
):
    y = max_pool(relu(conv(image, K, pad=1) * s + t), 2, stride=2)
    y = ave_pool(conv(y, L), (3, 1))
    x = reshape(transpose(y, (3, 0, 1, 2)), 6, 1, -1)
    return {"forward": scan(lstm(H=3), x)[0], "backward": scan(lstm(H=2), x, reverse=True)[0]}


@pytest.mark.caffe
@pytest.mark.parametrize("name", ["crnn", "oblong"])
def test_images_in_ncnn_are_single_ones(name: str, caffe: Runner) -> None:
    """A CRNN whose columns are its steps; and two images, each with layers of its own."""
    net = compile_net(globals()[name], target="ncnn")
    assert "Pooling" in net.prototxt
    assert net.prototxt.count('type: "Convolution"') == (2 if name == "crnn" else 8)
    assert_caffe_agrees(caffe, net.compiled)
    assert not lint_text(net.prototxt, load_target("ncnn")).violations


@model
def standardized(
    V=Input(2, 3, 4, 3),
    *,
    K=Param(2, 3, 2, 2, fill=uniform(-1, 1)),
    s=Param(3, 1, 1, fill=uniform(0.5, 1)),
    t=Param(3, 1, 1, fill=uniform(-1, 1)),
):
    return {"y": conv(V * s + t, K), "z": V * s + t}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["ncnn", "tvm", "rknn", "mnn"])
def test_images_times_a_number_of_each_channel_plus_one(target: str, caffe: Runner) -> None:
    """A Scale of images; for TVM products with blobs that are made of the images' elements."""
    assert_caffe_agrees(caffe, compile_net(standardized, target=target).compiled)


@model
def sum_of_one_row(X=Input(1, 5), *, W=Param(4, 5, fill=uniform(-1, 1))):
    y = linear(tanh(X), W)
    return {"y": y, "sum": y.sum(axis=0, keepdims=True)}


@pytest.mark.parametrize("target", ["caffe", "rknn"])
def test_a_sum_of_one_element_is_a_blob_in_another_shape(target: str) -> None:
    """RKNN takes out a Power that changes nothing, and the name of the output with it."""
    text = compile_net(sum_of_one_row, target=target).prototxt
    assert "Pooling" not in text
    assert 'type: "Power"' not in text


@model
def turned(X=Input(1, 1)):
    y = tanh(X)
    return {"y": y, "z": y.T}


def test_one_element_transposed_is_the_same_blob() -> None:
    """RKNN and TPU-MLIR take out a Reshape that changes nothing, and the name of the output with it."""
    assert "Reshape" not in compile_net(turned, target="rknn").prototxt
