"""What targets opencv and mnn say of nets from elsewhere (``reads``, their own rules), in these and in real Caffe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lstmc.ops import Array
from lstmc_caffe.readers.executor import ReaderError, ReaderExecutor, ReaderSession
from lstmc_caffe.readers.known import load_reader
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.target import load_target

IN_CAFFE = Path(__file__).parents[1] / "source" / "train_in_caffe.py"
OPENCV = load_target("opencv").reads
assert OPENCV is not None

IMAGES, MATRIX, STEPS, VOLUME = (2, 3, 7, 6), (4, 5), (4, 2, 5), (2, 3, 4, 5, 6)
CONV = "convolution_param { num_output: 6 kernel_size: 3"
CLIPPED = "pooling_param { kernel_h: 2 kernel_w: 1 stride_h: 3 stride_w: 3 pad_h: 1 pad_w: 0 }"
LRN = "lrn_param { local_size: 3 alpha: 0.5"

# its type, its fields, the shapes of its bottoms, its tops, whether a Power reads each of them
Layer = tuple[str, str, tuple[tuple[int, ...], ...], int, bool]


def on(layer_type: str, fields: str = "", *shapes: tuple[int, ...], tops: int = 1, power: bool = True) -> Layer:
    return layer_type, fields, shapes or (IMAGES,), tops, power


POINTWISE = ("AbsVal", "BNLL", "Dropout", "ELU", "Exp", "Flatten", "Power", "ReLU", "Sigmoid", "Softmax", "TanH")
RUN = [
    *(on(layer_type, "", shape) for layer_type in POINTWISE for shape in (IMAGES, MATRIX, STEPS, VOLUME)),
    *(on(layer_type, "", shape) for layer_type in ("BatchNorm", "PReLU", "Scale") for shape in (IMAGES, MATRIX, STEPS)),
    on("BatchNorm", "batch_norm_param { use_global_stats: true eps: 0.1 }"),
    *(on("Concat", f"concat_param {{ axis: {axis} }}", IMAGES, IMAGES) for axis in (0, 1, 2, -1)),
    *(
        on(layer_type, f"{CONV} {fields} }}")
        for layer_type in ("Convolution", "Deconvolution")
        for fields in ("", "pad: 1 stride: 2", "group: 3", "bias_term: false", "pad: 1 pad: 0 stride: 2 stride: 1")
    ),
    on("Convolution", f"{CONV} dilation: 2 pad: 1 }}"),
    on("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", IMAGES, (2, 3, 5, 4)),
    on("ELU", "elu_param { alpha: 0.3 }"),
    *(on("Eltwise", f"eltwise_param {{ operation: {op} }}", MATRIX, MATRIX, MATRIX) for op in ("PROD", "SUM", "MAX")),
    on("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 }", IMAGES, IMAGES),
    on("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.3 }"),
    on("Flatten", "flatten_param { axis: -2 }"),
    on("Flatten", "flatten_param { axis: 0 end_axis: 2 }"),
    *(on("InnerProduct", f"inner_product_param {{ num_output: 4 axis: {axis} }}", STEPS) for axis in (0, 1, 2, -1)),
    on("InnerProduct", "inner_product_param { num_output: 4 bias_term: false }", VOLUME),
    on("LRN", f"{LRN} beta: 0.6 }}"),
    on("LRN", f"{LRN} norm_region: WITHIN_CHANNEL }}"),
    on("Log"),
    on("MVN", power=False),
    on("MVN", "mvn_param { normalize_variance: false }", STEPS, power=False),
    on("MVN", "mvn_param { across_channels: true }", power=False),
    on("PReLU", "prelu_param { channel_shared: true }"),
    on("Pooling", "pooling_param { kernel_size: 2 stride: 2 }"),
    on("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
    on("Pooling", "pooling_param { pool: AVE global_pooling: true }"),
    on("Power", "power_param { power: 2 scale: 0.5 shift: 0.3 }"),
    on("ReLU", "relu_param { negative_slope: 0.1 }"),
    on("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"),
    on("Reshape", "reshape_param { axis: 1 num_axes: 2 shape { dim: -1 } }"),
    on("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: 1 dim: -1 dim: 3 } }"),
    on("Scale", "scale_param { bias_term: true }", VOLUME),
    on("Scale", "scale_param { axis: 1 num_axes: 2 bias_term: true }", STEPS),
    on("Scale", "scale_param { axis: 0 }", IMAGES, (2, 3)),
    *(on("Slice", f"slice_param {{ axis: {axis} slice_point: 1 }}", STEPS, tops=2) for axis in (0, 1, 2)),
    on("Slice", "", tops=3),
    *(on("Softmax", f"softmax_param {{ axis: {axis} }}") for axis in (0, 2, -1)),
    on("Split", "", tops=2),
]
# each rule of the file's own, by its layer and field, and a form that it is against
REFUSED = {
    ("Pooling", ""): on("Pooling", CLIPPED, (1, 1, 5, 5)),
    ("InnerProduct", "transpose"): on("InnerProduct", "inner_product_param { num_output: 4 transpose: true }"),
    ("Convolution", "axis"): on("Convolution", f"{CONV} axis: 2 }}", VOLUME),
    ("Deconvolution", "axis"): on("Deconvolution", f"{CONV} axis: 2 }}", VOLUME),
    ("Deconvolution", "dilation"): on("Deconvolution", f"{CONV} dilation: 2 }}"),
    ("Concat", "concat_dim"): on("Concat", "concat_param { concat_dim: 0 }", IMAGES, IMAGES),
    ("Slice", "slice_dim"): on("Slice", "slice_param { slice_dim: 0 }", tops=2),
    ("Slice", "axis"): on("Slice", "slice_param { axis: -1 slice_point: 1 }", tops=2),
    ("Scale", "axis"): on("Scale", "scale_param { axis: -1 }"),
    ("Reshape", "axis"): on("Reshape", "reshape_param { axis: -2 shape { dim: -1 } }"),
    ("Reshape", "num_axes"): on("Reshape", "reshape_param { axis: 1 num_axes: 0 shape { dim: 1 } }"),
    ("LRN", "k"): on("LRN", f"{LRN} k: 2 }}"),
    ("LRN", "alpha"): on("LRN", "lrn_param { local_size: 3 }"),
    ("MVN", ""): on("MVN", "", MATRIX, power=False),
    ("Power", ""): on("MVN"),
    ("BatchNorm", "use_global_stats"): on("BatchNorm", "batch_norm_param { use_global_stats: false }"),
    ("Log", "base"): on("Log", "log_param { base: 2 }"),
    ("Log", "scale"): on("Log", "log_param { scale: 2 }"),
    ("Log", "shift"): on("Log", "log_param { shift: 2 }"),
}
NOT_CREATED = {
    "ArgMax": on("ArgMax"),
    "Bias": on("Bias"),
    "Embed": on("Embed", "embed_param { num_output: 2 input_dim: 9 }", (4,)),
    "Reduction": on("Reduction"),
    "Threshold": on("Threshold"),
    "Tile": on("Tile", "tile_param { tiles: 3 }"),
}

# and what MNN does otherwise than OpenCV
DILATED, CONVS = "dilation: 1 dilation: 2", ("Convolution", "Deconvolution")
MNN_TOO = [
    on("Scale", "", IMAGES, (3,)),
    on("Reduction", "reduction_param { operation: MEAN axis: 1 coeff: 2 }", MATRIX),
    on("Reduction", "reduction_param { operation: ASUM axis: 2 }", STEPS),
    on("Reduction", "reduction_param { operation: SUMSQ axis: 1 }", MATRIX),
    on("Reduction", "reduction_param { axis: -1 }", STEPS),
    on("Threshold", "threshold_param { threshold: 0.3 }", STEPS),
    on("Slice", "slice_param { axis: 0 slice_point: 1 slice_point: 2 }", STEPS, tops=3),
    on("Pooling", "pooling_param { kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0 }"),
    *(on(layer_type, f"{CONV} {fields} }}") for layer_type in CONVS for fields in ("kernel_size: 2", DILATED)),
    on("Eltwise", "eltwise_param { coeff: 1 coeff: 1 }", IMAGES, IMAGES),
    on("InnerProduct", "inner_product_param { num_output: 4 axis: 3 transpose: true }"),
    on("Bias", "", MATRIX),
]
# refused for mnn, and yet right there: forms of a type of which others are wrong, or that no rule can tell apart
MNN_RIGHT = ("Bias", "Crop", "Log log_param { base: 2 }", "MVN mvn_param { normalize_variance: false }")


def net_of(layer: Layer) -> tuple[str, dict[str, Array], list[str]]:
    """A net of the layer between Inputs and Powers, its inputs, and the blobs to compare."""
    layer_type, fields, shapes, tops, power = layer
    draw, lines = np.random.default_rng(0), []
    for number, shape in enumerate(shapes):
        sizes = " ".join(f"dim: {size}" for size in shape)
        lines.append(
            f'layer {{ name: "x{number}" type: "Input" top: "x{number}" input_param {{ shape {{ {sizes} }} }} }}'
        )
    bottoms = " ".join(f'bottom: "x{number}"' for number in range(len(shapes)))
    names = [f"y{number}" for number in range(tops)]
    written = " ".join(f'top: "{name}"' for name in names)
    lines.append(f'layer {{ name: "y0" type: "{layer_type}" {bottoms} {written} {fields} }}')
    lines += [  # different ones, as MNN makes one of several equal layers
        f'layer {{ name: "z{name}" type: "Power" bottom: "{name}" top: "z{name}" power_param {{ scale: {n} }} }}'
        for n, name in enumerate(names, 1)
    ]
    inputs: dict[str, Array] = {f"x{n}": draw.normal(size=shape).astype(np.float32) for n, shape in enumerate(shapes)}
    if layer_type == "Log":
        inputs = {name: np.abs(array) + np.float32(0.1) for name, array in inputs.items()}
    if layer_type == "Embed":
        inputs = {name: np.rint(np.abs(array)) for name, array in inputs.items()}
    if not power:
        return "\n".join(lines[: -len(names)]), inputs, names
    return "\n".join(lines), inputs, [f"z{name}" for name in names]


def difference(caffe: Runner, reader: ReaderSession, layer: Layer, folder: Path) -> float:
    """The largest difference of a layer between a reader and Caffe, relative to what Caffe computes or to 1."""
    text, inputs, names = net_of(layer)
    save = folder / "net.caffemodel"
    expected = caffe.call(IN_CAFFE, "draw", {"text": text, "wanted": names, "save": str(save)}, inputs).arrays
    found = reader.run(text.encode(), save.read_bytes(), inputs, {name: expected[name].shape for name in names})
    return max(float(np.max(np.abs(found[name] - a) / np.maximum(1, np.abs(a)))) for name, a in expected.items())


@pytest.fixture(scope="module")
def session(opencv: ReaderExecutor) -> Iterator[ReaderSession]:
    """OpenCV for any net; ``opencv`` skips where there is none."""
    with ReaderSession(load_reader(opencv.name)) as started:
        yield started


def test_every_type_and_every_rule_is_run() -> None:
    assert OPENCV is not None
    assert {layer[0] for layer in RUN} | {"Input", "Silence"} == set(OPENCV.layers.types)
    rules = {(rule.layer, rule.field.rpartition(".")[2]) for rule in OPENCV.rule if not rule.forbidden}
    assert rules - set(REFUSED) == {("Pooling", "pool")}  # Caffe itself refuses STOCHASTIC on the CPU


@pytest.mark.caffe
@pytest.mark.parametrize("layer", RUN, ids=lambda layer: f"{layer[0]} {layer[1]} {layer[2]}")
def test_a_layer_that_opencv_loads_computes_what_caffe_does(
    caffe: Runner, session: ReaderSession, layer: Layer, tmp_path: Path
) -> None:
    assert lint_text(net_of(layer)[0], load_target("opencv")).violations == ()
    assert difference(caffe, session, layer, tmp_path) < 1e-5


def test_opencv_creates_a_silence(session: ReaderSession) -> None:
    text, inputs, _ = net_of(on("Power"))
    text += '\nlayer { name: "s" type: "Silence" bottom: "zy0" }\n'
    assert lint_text(text, load_target("opencv")).violations == ()
    found = session.run(text.encode(), b"", inputs, {"y0": IMAGES})
    np.testing.assert_array_equal(found["y0"], inputs["x0"])


@pytest.mark.caffe
@pytest.mark.parametrize("rule", REFUSED, ids=" ".join)
def test_a_form_that_a_rule_is_against_fails_or_differs(
    caffe: Runner, session: ReaderSession, rule: tuple[str, str], tmp_path: Path
) -> None:
    assert OPENCV is not None
    layer = REFUSED[rule]
    reasons = {each.reason for each in OPENCV.rule if (each.layer, each.field.rpartition(".")[2]) == rule}
    assert {violation.reason for violation in lint_text(net_of(layer)[0], load_target("opencv")).violations} & reasons
    try:
        found = difference(caffe, session, layer, tmp_path)
    except ReaderError:
        return  # OpenCV does not load the net, does not run it, or gives another shape
    assert not found < 1e-3


@pytest.mark.caffe
@pytest.mark.parametrize("layer_type", NOT_CREATED)
def test_a_type_that_is_not_in_the_list_is_not_created(
    caffe: Runner, session: ReaderSession, layer_type: str, tmp_path: Path
) -> None:
    layer = NOT_CREATED[layer_type]
    (violation,) = lint_text(net_of(layer)[0], load_target("opencv")).violations
    assert (violation.type, violation.found) == (layer_type, f"layer type {layer_type}")
    with pytest.raises(ReaderError, match=rf'type "{layer_type}"|TileLayer'):
        difference(caffe, session, layer, tmp_path)


def refused_for_mnn(layer: Layer) -> bool:
    return bool(lint_text(net_of(layer)[0], load_target("mnn")).violations)


MNN_CASES = list(dict.fromkeys((*RUN, *REFUSED.values(), *NOT_CREATED.values(), *MNN_TOO)))


@pytest.fixture(scope="module")
def mnn_session() -> Iterator[ReaderSession]:
    with ReaderSession(load_reader("mnn")) as started:
        yield started


def test_every_type_of_target_mnn_is_run() -> None:
    mnn = load_target("mnn").reads
    assert mnn is not None
    assert {layer[0] for layer in MNN_CASES if not refused_for_mnn(layer)} | {"Input"} == set(mnn.layers.types)


@pytest.mark.caffe
def test_layers_that_mnn_loads_compute_what_caffe_does(
    caffe: Runner, mnn_session: ReaderSession, tmp_path: Path
) -> None:
    """All of them in one net, as each net takes MNN's converter a process."""
    text, inputs, names = "", dict[str, Array](), list[str]()
    for number, layer in enumerate(each for each in MNN_CASES if not refused_for_mnn(each)):
        own, arrays, outputs = net_of(layer)
        text += re.sub(r'(name|top|bottom): "', rf"\g<0>n{number}_", own) + "\n"
        inputs |= {f"n{number}_{name}": array for name, array in arrays.items()}
        names += [f"n{number}_{name}" for name in outputs]
    save = tmp_path / "net.caffemodel"
    expected = caffe.call(IN_CAFFE, "draw", {"text": text, "wanted": names, "save": str(save)}, inputs).arrays
    found = mnn_session.run(text.encode(), save.read_bytes(), inputs, {name: expected[name].shape for name in names})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.caffe
@pytest.mark.parametrize(
    "layer",
    [each for each in MNN_CASES if refused_for_mnn(each) and not f"{each[0]} {each[1]}".startswith(MNN_RIGHT)],
    ids=lambda layer: f"{layer[0]} {layer[1]} {layer[2]}",
)
def test_a_layer_that_mnn_is_not_given_fails_there_or_differs(
    caffe: Runner, mnn_session: ReaderSession, layer: Layer, tmp_path: Path
) -> None:
    try:
        found = difference(caffe, mnn_session, layer, tmp_path)
    except ReaderError:
        return
    assert not found < 1e-3
