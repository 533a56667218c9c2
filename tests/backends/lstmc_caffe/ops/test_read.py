"""Layers as other people write them, read as ops: which op it is, and that Caffe computes what the op does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.testing import assert_allclose

from lstmc.errors import ShapeError
from lstmc.types import TensorType
from lstmc_caffe.ops import CaffeOp, layer_ops, read_layer
from lstmc_caffe.proto.net import LayerParameter, NetParameter
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.in_worker import set_params

X = (2, 6, 4)
IMAGE = (2, 4, 5, 6)

# What is never written here: axes counted from the last, old names, pieces that are not told, fields of their own.
READ = [
    ('type: "Softmax" softmax_param { axis: -1 }', [X], "SoftmaxLayer(axis=2)"),
    ('type: "Slice" top: "u" slice_param { slice_dim: 1 }', [X], "SliceLayer(axis=1, sizes=(3, 3))"),
    ('type: "Slice" top: "u" slice_param { axis: -2 slice_point: 4 }', [X], "SliceLayer(axis=1, sizes=(4, 2))"),
    ('type: "Concat" concat_param { concat_dim: 2 }', [X, X], "ConcatLayer(axis=2)"),
    ('type: "Concat" concat_param { axis: -3 }', [X, X], "ConcatLayer(axis=0)"),
    ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', [X], "ReshapeLayer(shape=(2, 24))"),
    (
        'type: "Reshape" reshape_param { axis: -2 num_axes: 1 shape { dim: 2 dim: 2 } }',
        [X],
        "ReshapeLayer(shape=(2, 6, 2, 2))",
    ),
    ('type: "Tile" tile_param { axis: -1 tiles: 3 }', [X], "TileLayer(axis=2, tiles=3)"),
    ('type: "Power" power_param { scale: 0.1 }', [X], "PowerLayer(power=1.0, scale=0.1, shift=0.0)"),
    ('type: "ReLU" relu_param { negative_slope: 0.2 }', [X], "LeakyReLU(slope=0.2)"),
    ('type: "ReLU" relu_param { negative_slope: 0 }', [X], "ReLULayer()"),
    ('type: "ELU"', [X], "ELULayer(alpha=1.0)"),
    ('type: "Eltwise" eltwise_param { coeff: 1 coeff: -0.3 }', [X, X], "Eltwise(operation='SUM', coeff=(1.0, -0.3))"),
    ('type: "Eltwise" eltwise_param { operation: MAX }', [X, X], "Eltwise(operation='MAX', coeff=())"),
    ('type: "Reduction" reduction_param { axis: -1 }', [X], "Reduction(axis=2)"),
    (
        'type: "InnerProduct" inner_product_param { num_output: 3 axis: -1 }',
        [X],
        "InnerProduct(axis=2, num_output=3, bias=True)",
    ),
    (
        'type: "InnerProduct" inner_product_param { num_output: 3 axis: 2 transpose: true bias_term: false }',
        [X],
        "TransposedInnerProduct(axis=2, num_output=3, bias=False)",
    ),
    ('type: "Scale" scale_param { axis: 1 num_axes: -1 }', [X], "Scale(axis=1, num_axes=2, learned=True)"),
    ('type: "Bias" bias_param { axis: -2 }', [X, (6,)], "Bias(axis=1, num_axes=1, learned=False)"),
    (
        'type: "Convolution" convolution_param { num_output: 2 kernel_h: 3 kernel_w: 1 stride: 2 pad_h: 1 pad_w: 0 }',
        [IMAGE],
        "Convolution(stride=(2, 2), pad=(1, 0), dilation=(1, 1), group=1, num_output=2, kernel=(3, 1), bias=True)",
    ),
    (
        'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
        [IMAGE],
        "AvePooling(size=(5, 6), stride=(1, 1), pad=(0, 0))",
    ),
    (
        'type: "Pooling" pooling_param { kernel_size: 3 stride_h: 2 stride_w: 1 pad: 1 }',
        [IMAGE],
        "MaxPooling(size=(3, 3), stride=(2, 1), pad=(1, 1))",
    ),
    (
        'type: "LSTM" recurrent_param { num_output: 3 weight_filler { type: "xavier" } }',
        [X, (2, 6)],
        "LSTM(num_output=3)",
    ),
]
# What no op of ours does, though one has the layer's type.
OTHERS = [
    ('type: "ReLU" propagate_down: false', [X]),
    ('type: "Exp" exp_param { base: 2 }', [X]),
    ('type: "Log" log_param { shift: 1 }', [X]),
    ('type: "Scale" scale_param { bias_term: true axis: 0 }', [X]),
    ('type: "Reduction" reduction_param { operation: MEAN }', [X]),
    ('type: "Reduction" reduction_param { coeff: 0.5 }', [X]),
    ('type: "Embed" embed_param { num_output: 4 input_dim: 3 }', [(2,)]),
    ('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', [IMAGE]),
    ('type: "DummyData" dummy_data_param { shape { dim: 2 } data_filler { type: "bilinear" } }', []),
    ('type: "DummyData" dummy_data_param { shape { dim: 2 } data_filler { type: "gaussian" sparse: 1 } }', []),
    ('type: "SigmoidCrossEntropyLoss" loss_param { ignore_label: 0 }', [X, X]),
    ('type: "LSTM" top: "h" top: "c" recurrent_param { num_output: 3 expose_hidden: true }', [X, (2, 6), X, X]),
    ('type: "LSTM" recurrent_param { num_output: 3 }', [X, (2, 6), (6, 9)]),
    ('type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 }', [IMAGE]),
    ('type: "TanH"', []),
]


def layer_of(text: str, bottoms: list[tuple[int, ...]], name: str = "l") -> Any:
    """The LayerParameter, its bottoms and tops named after it."""
    layer = text_format.Parse(text, LayerParameter(name=name, bottom=[f"{name}.b{i}" for i in range(len(bottoms))]))
    layer.top[:] = [f"{name}.t", *(f"{name}.{top}" for top in layer.top)]
    return layer


def read(text: str, bottoms: list[tuple[int, ...]]) -> CaffeOp | None:
    return read_layer(layer_of(text, bottoms), tuple(map(TensorType, bottoms)), layer_ops())


@pytest.mark.parametrize(("text", "bottoms", "op"), READ)
def test_a_layer_of_other_people_is_one_of_our_ops(text: str, bottoms: list[tuple[int, ...]], op: str) -> None:
    assert repr(read(text, bottoms)) == op


@pytest.mark.parametrize(("text", "bottoms"), OTHERS)
def test_what_does_something_else_is_none_of_our_ops(text: str, bottoms: list[tuple[int, ...]]) -> None:
    assert read(text, bottoms) is None


@pytest.mark.parametrize(
    ("settings", "op"),
    [
        ("", "valid"),
        ("normalization: FULL", "full"),
        ("normalize: false", "batch_size"),
        ("normalize: true", "valid"),
        ("normalize: true normalization: FULL", None),
    ],
)
def test_a_loss_has_two_ways_to_say_what_it_is_divided_by(settings: str, op: str | None) -> None:
    found = read(f'type: "SoftmaxWithLoss" loss_weight: 2 loss_param {{ {settings} }}', [(2, 3), (2,)])
    assert getattr(found, "normalization", None) == op


@pytest.mark.parametrize(
    ("text", "bottoms", "error"),
    [
        (
            'type: "Softmax" softmax_param { axis: 3 }',
            [X],
            "ShapeError: caffe.Softmax: axis 3 does not exist: x is f32[2,6,4], with 3 axes",
        ),
        (
            'type: "Reshape" reshape_param { axis: 2 num_axes: 3 shape { dim: 1 } }',
            [X],
            "ShapeError: caffe.Reshape: axes 2 up to 5 do not exist: x is f32[2,6,4], with 3 axes",
        ),
        (
            'type: "Input" top: "u" input_param { shape { dim: 1 } }',
            [],
            "ShapeError: caffe.Input: expected one top and its shape, found 2 and 1",
        ),
        (
            'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 }',
            [X],
            "ShapeError: caffe.Convolution: x must have 4 axes, [N, C, H, W]: x is f32[2,6,4]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(text: str, bottoms: list[tuple[int, ...]], error: str) -> None:
    with pytest.raises(ShapeError) as raised:
        read(text, bottoms)
    assert str(raised.value) == error


def test_a_layer_takes_so_many_bottoms() -> None:
    op = read('type: "TanH"', [X, X])
    assert op is not None
    with pytest.raises(ShapeError) as raised:
        op.infer_tops((TensorType(X), TensorType(X)))
    assert str(raised.value) == "ShapeError: caffe.TanH: must have 1 bottom(s), found 2"


@pytest.mark.caffe
def test_caffe_computes_what_the_op_does(caffe: Runner) -> None:
    rng = np.random.default_rng(0)
    net, inputs, params, wanted = NetParameter(), {}, {}, {}
    for number, (text, bottoms, _) in enumerate(READ):
        op, layer = read(text, bottoms), layer_of(text, bottoms, f"l{number}")
        assert op is not None
        arrays = [rng.uniform(-1, 1, shape) for shape in bottoms]
        if layer.type == "LSTM":
            arrays[1] = np.array([[0.0] * 6, [1, 0, 1, 1, 0, 1]])  # cont
        for name, array in zip(layer.bottom, arrays, strict=True):
            inputs[name] = array
            net.layer.add(name=name, type="Input", top=[name]).input_param.shape.add().dim.extend(array.shape)
        blobs = {
            f"{layer.name}.blob{i}": rng.uniform(-1, 1, blob.shape)
            for i, blob in enumerate(op.blob_types(tuple(map(TensorType, bottoms))))
        }
        for name in blobs:
            layer.param.add(name=name)
        net.layer.append(layer)
        params |= blobs
        wanted[layer.top[0]] = op.eval(*arrays, *blobs.values())[0]
    with caffe.load(text_format.MessageToString(net)) as loaded:
        assert loaded.params == {name: array.shape for name, array in params.items()}
        set_params(caffe, loaded, params)
        found = loaded.run(inputs, want=wanted).blobs
    for name, array in wanted.items():
        assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
