"""The linter: exact findings in nets that lstmc wrote and did not write."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from lstmc.backend import Violation
from lstmc.errors import BackendError
from lstmc_caffe.proto.net import NetParameter
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.lint import infer_shapes, lint_text
from lstmc_caffe.targets.target import load_target

NETSPEC = Path(__file__).with_name("nets") / "netspec_lstm.prototxt"
X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 3 } } }\n'
CLEAN = (
    X
    + """
layer { name: "p" type: "InnerProduct" bottom: "x" top: "p" inner_product_param { num_output: 4 } }
layer { name: "s" type: "Slice" bottom: "p" top: "a" top: "b" slice_param { axis: 0 slice_point: 2 } }
layer { name: "m" type: "Eltwise" bottom: "p" bottom: "p" top: "m" eltwise_param { operation: PROD } }
"""
)


def findings(text: str, target: str) -> list[str]:
    return [f"{v.layer} ({v.type}): {v.found}; {v.expected}" for v in lint_text(text, load_target(target)).violations]


def test_a_clean_net() -> None:
    report = lint_text(CLEAN, load_target("flat"))
    assert (report.violations, report.unknown, report.layers) == ((), (), 4)


def test_the_posts_netspec_form_for_flat() -> None:
    report = lint_text(NETSPEC.read_text(), load_target("flat"))
    by_layer = {(v.layer, v.found): v for v in report.violations}
    assert by_layer["Mx1", "axis is 2"] == Violation(
        layer="Mx1",
        type="InnerProduct",
        found="axis is 2",
        expected="axis 1",
        reason="ncnn, Tengine and OpenVINO do not read axis and take it to be 1; Ascend allows 1 only",
        source="Tencent/ncnn tools/caffe/caffe2ncnn.cpp; OAID/Tengine-Convert-Tools tools/caffe/caffe_serializer.cpp;"
        " openvinotoolkit/openvino tools/mo/openvino/tools/mo/front/caffe;"
        " https://www.hiascend.com/document/detail/zh/canncommercial/850/API/aolapi/operatorlist_00127.html",
    )
    found = findings(NETSPEC.read_text(), "flat")
    assert found[:5] == [
        "X (DummyData): layer type DummyData; a supported layer type",
        "h0 (DummyData): layer type DummyData; a supported layer type",
        "c0 (DummyData): layer type DummyData; a supported layer type",
        "slice_x (Slice): blob x1 is [1, 2, 3], with 3 axes; 2 axes",
        "slice_x (Slice): blob x2 is [1, 2, 3], with 3 axes; 2 axes",
    ]
    axes = [f for f in found if "axis is" in f]
    assert axes == [
        "Mx1 (InnerProduct): axis is 2; axis 1",
        "Mh1 (InnerProduct): axis is 2; axis 1",
        "gates1 (Slice): axis is 2; axis 0 or 1",
        "Mx2 (InnerProduct): axis is 2; axis 1",
        "Mh2 (InnerProduct): axis is 2; axis 1",
        "gates2 (Slice): axis is 2; axis 0 or 1",
    ]
    assert not report.unknown


def test_the_posts_netspec_form_is_clean_for_caffe() -> None:
    assert findings(NETSPEC.read_text(), "caffe") == []


@pytest.mark.parametrize(
    ("layer", "target", "found"),
    [
        (
            'name: "d" type: "Eltwise" bottom: "x" bottom: "x" top: "d" eltwise_param { coeff: 1 coeff: -1 }',
            "flat",
            "d (Eltwise): coeff is 1, -1; no coeff",
        ),
        (
            'name: "d" type: "Eltwise" bottom: "x" bottom: "x" top: "d" eltwise_param { operation: MAX }',
            "x2paddle",
            "d (Eltwise): operation is MAX; operation PROD or SUM",
        ),
        (
            'name: "d" type: "Power" bottom: "x" top: "d" power_param { power: -0.5 }',
            "x2paddle",
            "d (Power): power is -0.5; power 1",
        ),
        (
            'name: "d" type: "Eltwise" bottom: "x" bottom: "x" bottom: "x" top: "d"',
            "noslice",
            "d (Eltwise): 3 bottoms; 2 bottoms",
        ),
        (
            'name: "c" type: "Concat" bottom: "x" bottom: "x" top: "c"',
            "rknn",
            "c (Concat): x is read several times; each blob once",
        ),
        (
            'name: "s" type: "Scale" bottom: "x" top: "s" scale_param { filler { type: "constant" value: 1 } }',
            "rknn",
            "s (Scale): filler is set; no filler",
        ),
        (
            'name: "t" type: "TanH" bottom: "x" top: "x"',
            "flat",
            "t (TanH): x is overwritten in place; a top of another name",
        ),
        (
            'name: "p" type: "InnerProduct" bottom: "x" top: "p" inner_product_param { num_output: 40000 }',
            "flat",
            "p (InnerProduct): num_output is 40000; num_output of at most 32768",
        ),
        (
            'name: "p" type: "InnerProduct" bottom: "x" top: "p" inner_product_param { num_output: 2 transpose: true }',
            "flat",
            "p (InnerProduct): transpose is true; transpose false",
        ),
        (
            'name: "c" type: "Concat" bottom: "x" bottom: "x" top: "c" concat_param { concat_dim: 0 }',
            "noslice",
            "c (Concat): concat_dim is 0; axis 1",
        ),
        (
            'name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c"',
            "noslice",
            "s (Slice): layer type Slice; a supported layer type",
        ),
        ('name: "v" type: "Deconvolution" bottom: "x" top: "v"', "caffe-native", None),
        (
            'name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: 0 dim: -1 } }',
            "flat",
            "r (Reshape): shape [0, -1]; every size written out",
        ),
        ('name: "n" type: "Normalize" bottom: "x" top: "n"', "caffe", None),
    ],
)
def test_one_finding(layer: str, target: str, found: str | None) -> None:
    made = findings(f"{X}layer {{ {layer} }}", target)
    if found is None:
        allowed = ", ".join(load_target(target).layers.types)
        name, kind = layer.split('"')[1], layer.split('"')[3]
        found = f"{name} ({kind}): layer type {kind}; one of {allowed}"
    assert made == [found]


def test_a_product_of_one_column() -> None:
    text = X.replace("dim: 3", "dim: 1")
    text += 'layer { name: "p" type: "InnerProduct" bottom: "x" top: "p" inner_product_param { num_output: 3 } }'
    assert findings(text, "tpu-mlir") == ["p (InnerProduct): blob x is [6, 1], with 1 column; at least 2 columns"]


def test_steps_of_a_native_layer() -> None:
    text = """
    input: "x" input_shape { dim: 300 dim: 1 dim: 3 }
    input: "cont" input_shape { dim: 300 dim: 1 }
    layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 4 } }
    """
    assert findings(text, "caffe-native") == ["l (LSTM): 300 steps; at most 256 steps"]


def test_old_inputs_have_shapes_too() -> None:
    layer = 'layer { name: "t" type: "TanH" bottom: "x" top: "t" }'
    four = "input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4"
    assert findings(f'input: "x" {four} {layer}', "flat") == ["t (TanH): blob t is [1, 2, 3, 4], with 4 axes; 2 axes"]
    three = "input_shape { dim: 1 dim: 2 dim: 3 }"
    assert findings(f'input: "x" {three} {layer}', "flat") == [
        "input x (Input): blob x is [1, 2, 3], with 3 axes; 2 or 4 axes",
        "t (TanH): blob t is [1, 2, 3], with 3 axes; 2 axes",
    ]


def test_what_is_said_of_a_type_stands_for_what_is_said_of_all() -> None:
    param = "convolution_param { num_output: 2 kernel_size: 1 }"
    conv = f'layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" {param} }}'
    assert findings(f'input: "x" input_shape {{ dim: 1 dim: 2 dim: 3 dim: 4 }} {conv}', "flat") == []
    flat, caffe = load_target("flat"), load_target("caffe")
    assert [flat.axes_of(kind) for kind in ("Convolution", "Reshape", "TanH")] == [(4,), (2, 4), (2,)]
    assert caffe.axes_of("TanH") == (2,)


def test_a_shape_that_cannot_be_found_is_said_not_guessed() -> None:
    text = 'layer { name: "d" type: "Data" top: "d" } layer { name: "t" type: "TanH" bottom: "d" top: "t" }'
    report = lint_text(text, load_target("flat"))
    assert report.unknown == (
        "d: Data is not a layer whose shapes are known here",
        "t: the shape of its bottom d is not known",
    )
    assert [v.layer for v in report.violations] == ["d"]


def test_parameters_that_do_not_fit_are_said() -> None:
    text = X + 'layer { name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: 4 dim: 4 } } }'
    assert lint_text(text, load_target("flat")).unknown == (
        "r: caffe.Reshape: cannot make f32[4,4] of x, which is f32[6,3]",
    )


def test_unknown_fields_do_not_matter() -> None:
    text = X.replace("name:", "fancy_param { depth: 3 } name:")
    assert findings(text, "flat") == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            'layers { name: "x" type: DATA top: "x" }',
            "BackendError: expected layer { } entries, found 1 of the old form, layers { } (V1LayerParameter)\n"
            "  Caffe's upgrade_net_proto_text rewrites such a file",
        ),
        ("", "BackendError: expected the text of a Caffe net, found no layer"),
        (
            "hello",
            "BackendError: expected the text of a Caffe net, found something else: 1:6 : 'hello': Expected ':'.",
        ),
    ],
)
def test_what_is_no_net(text: str, error: str) -> None:
    with pytest.raises(BackendError) as raised:
        lint_text(text, load_target("flat"))
    assert str(raised.value).startswith(error[:60])
    if text != "hello":
        assert str(raised.value) == error


SHAPED = (
    X
    + """
layer { name: "n" type: "Reshape" bottom: "x" top: "n" reshape_param { shape { dim: 0 dim: 3 dim: -1 } } }
layer { name: "r" type: "Reshape" bottom: "n" top: "r" reshape_param { axis: 1 num_axes: 1 shape { dim: 1 dim: 3 } } }
layer { name: "f" type: "Flatten" bottom: "r" top: "f" flatten_param { axis: 1 end_axis: 2 } }
layer { name: "t" type: "Tile" bottom: "f" top: "t" tile_param { axis: 0 tiles: 2 } }
layer { name: "s" type: "Slice" bottom: "t" top: "a" top: "b" slice_param { axis: -3 } }
layer { name: "c" type: "Concat" bottom: "a" bottom: "b" bottom: "b" top: "c" concat_param { axis: -1 } }
layer { name: "p" type: "InnerProduct" bottom: "c" top: "p" inner_product_param { num_output: 5 axis: -1 } }
layer { name: "cont" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 6 dim: 3 } } }
layer { name: "l" type: "LSTM" bottom: "p" bottom: "cont" top: "l" recurrent_param { num_output: 7
  weight_filler { type: "xavier" } } }
layer { name: "e" type: "Embed" bottom: "cont" top: "e" embed_param { num_output: 4 input_dim: 2 } }
layer { name: "q" type: "Softmax" bottom: "e" top: "q" }
layer { name: "o" type: "Dropout" bottom: "q" top: "o" }
layer { name: "u" type: "Reduction" bottom: "o" top: "u" reduction_param { axis: -1 } }
layer { name: "i" type: "DummyData" top: "i" dummy_data_param { shape { dim: 2 dim: 4 dim: 9 dim: 8 } } }
layer { name: "v1" type: "Convolution" bottom: "i" top: "v1" convolution_param { num_output: 6 kernel_size: 3
  stride: 2 pad: 1 group: 2 } }
layer { name: "v2" type: "Convolution" bottom: "i" top: "v2" convolution_param { num_output: 3 kernel_h: 2
  kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 2 pad_w: 0 } }
layer { name: "v3" type: "Convolution" bottom: "i" top: "v3" convolution_param { num_output: 1 kernel_size: 3
  kernel_size: 2 dilation: 2 } }
layer { name: "p1" type: "Pooling" bottom: "i" top: "p1" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "p2" type: "Pooling" bottom: "i" top: "p2" pooling_param { pool: AVE kernel_h: 3 kernel_w: 2
  stride_h: 1 stride_w: 3 pad_h: 2 pad_w: 1 } }
layer { name: "p3" type: "Pooling" bottom: "i" top: "p3" pooling_param { global_pooling: true } }
layer { name: "w" type: "DummyData" top: "w" dummy_data_param { shape { dim: 2 } } }
layer { name: "l1" type: "SoftmaxWithLoss" bottom: "p3" bottom: "p3" top: "l1" softmax_param { axis: 2 } }
layer { name: "l2" type: "EuclideanLoss" bottom: "w" bottom: "w" top: "l2" }
"""
)


@pytest.mark.caffe
@pytest.mark.parametrize("text", [SHAPED, NETSPEC.read_text()])
def test_shapes_are_caffes(caffe: Runner, text: str) -> None:
    with caffe.load(text) as net:
        wanted = {name: shape for name, shape in net.blobs.items() if "_split_" not in name}
    assert infer_shapes(text_format.Parse(text, NetParameter()).layer).blobs == wanted


def test_a_layer_that_may_not_read_another_is_found() -> None:
    after = """
layer { name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: 3 dim: 6 } } }
layer { name: "p" type: "InnerProduct" bottom: "r" top: "p" inner_product_param { num_output: 4 } }
"""
    assert findings(X + after, "flat") == []
    assert findings(X + after, "mnn") == ["p (InnerProduct): r is of a Reshape; another layer between them"]
    apart = after.replace('"InnerProduct" bottom: "r"', '"InnerProduct" bottom: "c"')
    copy = 'layer { name: "c" type: "Power" bottom: "r" top: "c" }\nlayer { name: "p"'
    assert findings(X + apart.replace('layer { name: "p"', copy), "mnn") == []


def test_a_reshape_that_a_concat_shares_is_found() -> None:
    """Two equal Reshapes are one; a constant is computed before and reads nothing."""
    rows = 'type: "Reshape" bottom: "x" top: "{0}" reshape_param {{ shape {{ dim: 3 dim: 6 }} }}'
    r, s = (f'layer {{ name: "{name}" {rows.format(name)} }}\n' for name in "rs")
    joined = 'layer { name: "c" type: "Concat" bottom: "s" top: "c" concat_param { axis: 0 } }\n'
    power = 'layer { name: "p" type: "Power" bottom: "r" top: "p" power_param { scale: 0.5 } }\n'
    error = ["c (Concat): {} is read by {} too; to be its only reader"]
    assert findings(X + s + joined, "rknn") == []
    assert findings(X + r + s + joined + power, "rknn") == [error[0].format("r", "p")]
    assert findings(X + r + s + power + joined, "rknn") == [error[0].format("s", "p")]
    assert findings(X + r + s + power + joined, "flat") == []
    assert findings(X + r + s + power.replace("0.5", "0") + joined, "rknn") == []
    third = joined.replace('"c"', '"d"')
    twice = [error[0].format("s", "d"), error[0].format("s", "c").replace("c (", "d (", 1)]
    assert sorted(findings(X + s + joined + third, "rknn")) == sorted(twice)
