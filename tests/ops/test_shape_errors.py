"""What each op says of operands that do not fit, word for word."""

from __future__ import annotations

import pytest

from lstmc.errors import ShapeError
from lstmc.ops import (
    CORE,
    Accuracy,
    Add,
    Arg,
    AvePool,
    Concat,
    Conv,
    Dropout,
    Embed,
    EuclideanLoss,
    Full,
    Input,
    Largest,
    Linear,
    Max,
    Maximum,
    MaxPool,
    Mul,
    Op,
    Param,
    Pointwise,
    Reshape,
    SigmoidCrossEntropyLoss,
    Softmax,
    SoftmaxLoss,
    Split,
    Stack,
    Sub,
    Sum,
    Tile,
    Transpose,
    Unstack,
)
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe

KEEPDIMS = "; a sum, mean or max keeps its axis, with one element, by keepdims=True"
Shapes = tuple[tuple[int, ...], ...]

IMAGE = (2, 4, 5, 6)
REFUSED: list[tuple[Op, Shapes, str]] = [
    (caffe.Feed((4, 2), 3), ((3, 4, 2),), "caffe.Feed: cannot feed f32[4,2] from step 3 of f32[3,4,2]"),
    (caffe.Feed((4, 3)), ((3, 4, 2),), "caffe.Feed: cannot feed f32[4,3] from step None of f32[3,4,2]"),
    (Input((2, 0)), (), "input: sizes must be positive integers, found (2, 0)"),
    (Param((-1,)), (), "param: sizes must be positive integers, found (-1,)"),
    (Full((2.0,)), (), "full: sizes must be positive integers, found (2.0,)"),  # type: ignore[arg-type]
    (Arg((0,)), (), "arg: sizes must be positive integers, found (0,)"),
    (Arg((1,), "y"), (), "arg: role must be one of x, state, static, weight, found 'y'"),  # type: ignore[arg-type]
    (Linear(), ((2, 3), (3,)), "linear: w must have 2 axes, [out, in]: w is f32[3]"),
    (Linear(), ((2, 3), (4, 5)), "linear: last axes differ: x is f32[2,3], w is f32[4,5]"),
    (Linear(2), ((2, 3), (4, 3)), "linear: last axes differ: x is f32[2,3], w is f32[4,3]"),
    (Linear(-1), ((2, 3), (4, 3)), "linear: last axes differ: x is f32[2,3], w is f32[4,3]"),
    (Linear(), ((2, 3), (4, 3), (3,)), "linear: b must be [out]: b is f32[3], w is f32[4,3]"),
    (Linear(), ((2, 3), (4, 3), (1, 4)), "linear: b must be [out]: b is f32[1,4], w is f32[4,3]"),
    (Add(), ((2, 3), (2,)), "add: shapes do not fit: x is f32[2,3], y is f32[2]" + KEEPDIMS),
    (Sub(), ((2, 1), (1, 3)), "sub: shapes do not fit: x is f32[2,1], y is f32[1,3]"),
    (Mul(), ((2, 3, 4), (2, 1, 4)), "mul: shapes do not fit: x is f32[2,3,4], y is f32[2,1,4]"),
    (Maximum(), ((2, 3), (2,)), "maximum: shapes do not fit: x is f32[2,3], y is f32[2]" + KEEPDIMS),
    (Softmax(2), ((2, 3),), "softmax: axis 2 does not exist: x is f32[2,3], with 2 axes"),
    (Softmax(-1), ((2, 3),), "softmax: axis -1 does not exist: x is f32[2,3], with 2 axes"),
    (Split(1, (1, 2)), ((4,),), "split: axis 1 does not exist: x is f32[4], with 1 axes"),
    (Split(0, (1, 2)), ((4,),), "split: sizes must add up to axis 0: found (1, 2), x is f32[4]"),
    (Split(0, (4, 0)), ((4,),), "split: sizes must add up to axis 0: found (4, 0), x is f32[4]"),
    (Split(0, ()), ((4,),), "split: sizes must add up to axis 0: found (), x is f32[4]"),
    (Concat(2), ((2, 3), (2, 3)), "concat: axis 2 does not exist: the first is f32[2,3], with 2 axes"),
    (Concat(1), ((2, 3), (4, 3)), "concat: axes other than 1 must agree: found f32[2,3], f32[4,3]"),
    (Concat(1), ((2, 3), (2,)), "concat: axes other than 1 must agree: found f32[2,3], f32[2]"),
    (Concat(0), (), "concat: needs one array or more, found none"),
    (Reshape((2, 3)), ((5,),), "reshape: cannot make f32[2,3] of x, which is f32[5]"),
    (Reshape((-2, -3)), ((6,),), "reshape: cannot make f32[-2,-3] of x, which is f32[6]"),
    (Tile(1, 2), ((3,),), "tile: axis 1 does not exist: x is f32[3], with 1 axes"),
    (Tile(0, 0), ((3,),), "tile: tiles must be at least 1, found 0"),
    (caffe.TileLayer(1, 2), ((3,),), "caffe.Tile: axis 1 does not exist: x is f32[3], with 1 axes"),
    (Transpose(0), ((3,),), "transpose: x must have axes 0 and 1: x is f32[3]"),
    (Unstack(), ((),), "unstack: x must have an axis of time: x is f32[]"),
    (Stack(), ((2, 3), (3, 2)), "stack: all must have one shape: found f32[2,3], f32[3,2]"),
    (Stack(), (), "stack: needs one array or more, found none"),
    (caffe.InputLayer((0,)), (), "caffe.Input: sizes must be positive integers, found (0,)"),
    (
        caffe.InnerProduct(1, 5),
        ((2, 3), (4, 3)),
        "caffe.InnerProduct: num_output 5, bias False, but w is f32[4,3], b is None",
    ),
    (
        caffe.InnerProduct(1, 4, True),
        ((2, 3), (4, 3)),
        "caffe.InnerProduct: num_output 4, bias True, but w is f32[4,3], b is None",
    ),
    (
        caffe.InnerProduct(1, 4),
        ((2, 3), (4, 3), (4,)),
        "caffe.InnerProduct: num_output 4, bias False, but w is f32[4,3], b is f32[4]",
    ),
    (
        caffe.TransposedInnerProduct(1, 5),
        ((2, 3), (3, 4)),
        "caffe.TransposedInnerProduct: num_output 5, bias False, but w is f32[3,4], b is None",
    ),
    (caffe.InnerProduct(1, 4), ((2, 5), (4, 3)), "caffe.InnerProduct: last axes differ: x is f32[2,5], w is f32[4,3]"),
    (caffe.Eltwise(), ((2,),), "caffe.Eltwise: needs two or more of one shape, found f32[2]"),
    (caffe.Eltwise(), ((2,), (3,)), "caffe.Eltwise: needs two or more of one shape, found f32[2], f32[3]"),
    (caffe.Eltwise("SUM", (1.0,)), ((2,), (2,)), "caffe.Eltwise: coeff (1.0,) does not go with SUM of 2"),
    (caffe.Eltwise("PROD", (1.0, 2.0)), ((2,), (2,)), "caffe.Eltwise: coeff (1.0, 2.0) does not go with PROD of 2"),
    (caffe.Bias(1, 1), ((2, 3), (2,)), "caffe.Bias: y must cover axes 1 on of x: x is f32[2,3], y is f32[2]"),
    (caffe.Bias(1, 2), ((2, 3), (3,)), "caffe.Bias: y must cover axes 1 on of x: x is f32[2,3], y is f32[3]"),
    (caffe.Scale(2, 0), ((2, 3), ()), "caffe.Scale: y must cover axes 2 on of x: x is f32[2,3], y is f32[]"),
    (
        caffe.ScaleBias(),
        ((2, 3), (3,), (2,)),
        "caffe.ScaleBias: y and b must cover axis 1 of x: x is f32[2,3], y is f32[3], b is f32[2]",
    ),
    (caffe.LRNLayer(), ((2, 3),), "caffe.LRN: x must have 4 axes, [N, C, H, W]: x is f32[2,3]"),
    (caffe.SliceLayer(0, (1,)), ((2,),), "caffe.Slice: sizes must add up to axis 0: found (1,), x is f32[2]"),
    (caffe.ConcatLayer(1), ((2,),), "caffe.Concat: axis 1 does not exist: the first is f32[2], with 1 axes"),
    (caffe.ReshapeLayer((3,)), ((2,),), "caffe.Reshape: cannot make f32[3] of x, which is f32[2]"),
    (caffe.SplitLayer(0), ((2,),), "caffe.Split: copies must be at least 1, found 0"),
    (
        caffe.LSTMUnit(),
        ((1, 2, 3), (1, 2, 9), (1, 2)),
        "caffe.LSTMUnit: needs c_prev [1, N, H], gates [1, N, 4H], cont [1, N], found f32[1,2,3], f32[1,2,9], f32[1,2]",
    ),
    (
        caffe.LSTM(2),
        ((4, 1, 3), (4, 1), (8, 3), (8,), (8, 3)),
        "caffe.LSTM: needs x [T, N, ...], cont [T, N], blobs [8, 3], [8], [8, 2],"
        " found f32[4,1,3], f32[4,1], f32[8,3], f32[8], f32[8,3]",
    ),
    (
        caffe.RNN(2),
        ((4, 3), (4, 3), (2, 3), (2,), (2, 2), (2, 2), (2,)),
        "caffe.RNN: needs x [T, N, ...], cont [T, N], blobs [2, 0], [2], [2, 2], [2, 2], [2],"
        " found f32[4,3], f32[4,3], f32[2,3], f32[2], f32[2,2], f32[2,2], f32[2]",
    ),
    (Embed(), ((2, 3), (4,)), "embed: w must have 2 axes, [rows, size]: w is f32[4]"),
    (Dropout(1.0), ((2,),), "dropout: ratio must be from 0 up to, not including, 1, found 1.0"),
    (Largest(2), ((2, 3),), "largest: axis 2 does not exist: x is f32[2,3], with 2 axes"),
    (Max(2), ((2, 3),), "max: axis 2 does not exist: x is f32[2,3], with 2 axes"),
    (Sum(1), ((3,),), "sum: axis 1 does not exist: x is f32[3], with 1 axes"),
    (Conv(), ((4, 5), (3, 4, 1, 1)), "conv: x must have 3 axes or more, [..., C, H, W]: x is f32[4,5]"),
    (Conv((0, 1)), (IMAGE, (3, 4, 1, 1)), "conv: stride must be two integers of 1 or more, found (0, 1)"),
    (Conv(pad=(0, -1)), (IMAGE, (3, 4, 1, 1)), "conv: pad must be two integers of 0 or more, found (0, -1)"),
    (Conv(), (IMAGE, (3, 4)), "conv: w must have 4 axes, [out, C / group, kh, kw]: w is f32[3,4]"),
    (
        Conv(group=2),
        (IMAGE, (3, 2, 1, 1)),
        "conv: channels do not fit: x is f32[2,4,5,6], w is f32[3,2,1,1], [out, C / group, kh, kw], group is 2",
    ),
    (Conv(), (IMAGE, (3, 4, 1, 1), (4,)), "conv: b must be [out]: b is f32[4], w is f32[3,4,1,1]"),
    (
        Conv(dilation=(3, 1)),
        (IMAGE, (3, 4, 3, 1)),
        "conv: the window is larger than the padded image: x is f32[2,4,5,6], w is f32[3,4,3,1]",
    ),
    (MaxPool((2, 2)), ((4, 5),), "max_pool: x must have 3 axes or more, [..., C, H, W]: x is f32[4,5]"),
    (AvePool((2, 0)), (IMAGE,), "ave_pool: size must be two integers of 1 or more, found (2, 0)"),
    (
        AvePool((2, 2), pad=(0, 2)),
        (IMAGE,),
        "ave_pool: pad must be less than size, found pad (0, 2) and size (2, 2)",
    ),
    (
        MaxPool((6, 2)),
        (IMAGE,),
        "max_pool: the window (6, 2) is larger than the padded image: x is f32[2,4,5,6]",
    ),
    (
        MaxPool((1, 1), (1, 4)),
        ((1, 2, 6),),
        "max_pool: the last window would be empty, with size (1, 1) and stride (1, 4): x is f32[1,2,6]",
    ),
    (
        SoftmaxLoss(1),
        ((2, 3), (3,)),
        "softmax_loss: label must have the axes of x without axis 1: expected f32[2], found f32[3]",
    ),
    (
        SoftmaxLoss(0, normalization="mean"),
        ((2, 3), (3,)),
        "softmax_loss: normalization must be one of valid, full, batch_size, none, found 'mean'",
    ),
    (
        Accuracy(1),
        ((2, 3), (2, 1)),
        "accuracy: label must have the axes of x without axis 1: expected f32[2], found f32[2,1]",
    ),
    (Accuracy(1, top_k=4), ((2, 3), (2,)), "accuracy: top_k must be from 1 to 3, found 4: x is f32[2,3]"),
    (
        SigmoidCrossEntropyLoss("batch"),
        ((2, 3), (2, 3)),
        "sigmoid_cross_entropy_loss: normalization must be one of valid, full, batch_size, none, found 'batch'",
    ),
    (
        SigmoidCrossEntropyLoss(),
        ((2, 3), (2, 1)),
        "sigmoid_cross_entropy_loss: x and target must have one shape: x is f32[2,3], target is f32[2,1]",
    ),
    (
        EuclideanLoss(),
        ((), ()),
        "euclidean_loss: x and target must have one shape: x is f32[], target is f32[]",
    ),
    (
        caffe.EmbedLayer(4, 2),
        ((3,), (2, 4)),
        "caffe.Embed: input_dim 4, num_output 2, but w is f32[2,4]",
    ),
    (caffe.DropoutLayer(-0.5), ((2,),), "caffe.Dropout: ratio must be from 0 up to, not including, 1, found -0.5"),
    (caffe.Reduction(2), ((2, 3),), "caffe.Reduction: axis 2 does not exist: x is f32[2,3], with 2 axes"),
    (
        caffe.Convolution(num_output=3),
        ((4, 5, 6), (3, 4, 1, 1)),
        "caffe.Convolution: x must have 4 axes, [N, C, H, W]: x is f32[4,5,6]",
    ),
    (
        caffe.Convolution(num_output=3, kernel=(2, 2)),
        (IMAGE, (3, 4, 1, 1)),
        "caffe.Convolution: num_output 3, kernel (2, 2), bias False, but w is f32[3,4,1,1], b is None",
    ),
    (caffe.MaxPooling((2, 2)), ((4, 5, 6),), "caffe.MaxPooling: x must have 4 axes, [N, C, H, W]: x is f32[4,5,6]"),
    (caffe.AvePooling((2, 2)), ((4, 5, 6),), "caffe.AvePooling: x must have 4 axes, [N, C, H, W]: x is f32[4,5,6]"),
    (
        caffe.SoftmaxWithLoss(0),
        ((2, 3), (3,)),
        "caffe.SoftmaxWithLoss: first axes must agree (loss_layer.cpp): found f32[2,3], f32[3]",
    ),
    (
        caffe.SigmoidCrossEntropyLossLayer("valid"),
        ((2,), (2,)),
        "caffe.SigmoidCrossEntropyLoss: normalization must be batch_size, found 'valid'",
    ),
    (
        caffe.EuclideanLossLayer(),
        ((1,) * 5, (1,) * 5),
        "caffe.EuclideanLoss: x must have at most 4 axes (Blob::num): x is f32[1,1,1,1,1]",
    ),
    (
        caffe.AccuracyLayer(1, top_k=0),
        ((2, 3), (2,)),
        "caffe.Accuracy: top_k must be from 1 to 3, found 0: x is f32[2,3]",
    ),
    (caffe.SoftmaxLayer(1), ((2,),), "caffe.Softmax: axis 1 does not exist: x is f32[2], with 1 axes"),
]


@pytest.mark.parametrize(("op", "shapes", "text"), REFUSED, ids=lambda value: getattr(value, "name", None))
def test_operands_that_do_not_fit_are_refused(op: Op, shapes: Shapes, text: str) -> None:
    with pytest.raises(ShapeError) as caught:
        op.infer(*map(TensorType, shapes))
    assert caught.value.message == text


def test_every_op_that_can_refuse_is_in_the_list() -> None:
    anything_goes = {op for op in (*CORE, *caffe.CAFFE_OPS) if issubclass(op, Pointwise)} - {caffe.LRNLayer}
    same_check = {caffe.FilledInput, caffe.DummyData, caffe.HostInput}  # Leaf's own, as for Input
    same_check |= {caffe.View, caffe.HostStack, caffe.RoundingScale}  # as for Reshape, Stack and ScaleBias
    listed = {type(op) for op, _, _ in REFUSED}
    assert {*CORE, *caffe.CAFFE_OPS, *caffe.HOST_OPS} - anything_goes - same_check == listed


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_number_of_operands_is_a_type_error(count: int) -> None:
    with pytest.raises(TypeError):
        Add().infer(*[TensorType((2,))] * count)
