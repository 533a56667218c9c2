"""Nets with Caffe's own recurrent layers, as people wrote them; trained by Caffe, in its worker, for a few steps."""

from __future__ import annotations

import numpy as np

from lstmc_caffe.proto.net import RawNet

VIDEO = """\
# a net as people wrote them: images, then time
name: "video"
input: "data"
input_shape { dim: 6 dim: 1 dim: 8 dim: 8 }   # T * N frames
input: "cont"
input_shape { dim: 3 dim: 2 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: 'ReLU' bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "frames" type: "Reshape" bottom: "pool1" top: "frames"
  reshape_param { shape { dim: 3 dim: 2 dim: 4 dim: 3 dim: 3 } } }
# the recurrent layer { with a brace in a comment
layer {
  name: "lstm1"
  type: "LSTM"   # Caffe's own
  bottom: "frames"
  bottom: "cont"
  top: "lstm1"
  recurrent_param {
    num_output: 5
    weight_filler { type: "uniform" min: -0.5 max: 0.5 }
    bias_filler { type: "uniform" min: -0.2 max: 0.2 }
  }
}
layer { name: "scores" type: "InnerProduct" bottom: "lstm1" top: "scores"
  inner_product_param { num_output: 3 axis: 2 weight_filler { type: "xavier" } } }
"""

# of vectors, of any length
SEQUENCE = """\
input: "x"
input_shape { dim: 4 dim: 1 dim: 3 }
input: "cont"
input_shape { dim: 4 dim: 1 }
layer { name: "lstm1" type: "LSTM" bottom: "x" bottom: "cont" top: "lstm1" recurrent_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "lstm1" top: "prob" softmax_param { axis: 2 } }
"""

# two layers on one another, every bottom and top that they can have
EVERY_BOTTOM = """\
name: "every"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 3 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 2 dim: 2 dim: 2 } } }
layer { name: "h0" type: "Input" top: "h0" input_param { shape { dim: 1 dim: 2 dim: 5 } } }
layer { name: "c0" type: "Input" top: "c0" input_param { shape { dim: 1 dim: 2 dim: 5 } } }
layer { name: "r0" type: "Input" top: "r0" input_param { shape { dim: 1 dim: 2 dim: 4 } } }
layer { name: "lstm1" type: "LSTM" bottom: "x" bottom: "cont" bottom: "s" bottom: "h0" bottom: "c0"
  top: "y1" top: "h1" top: "c1"
  recurrent_param { num_output: 5 expose_hidden: true
    weight_filler { type: "uniform" min: -0.5 max: 0.5 } bias_filler { type: "uniform" min: -0.2 max: 0.2 } } }
layer { name: "halved" type: "Power" bottom: "y1" top: "y1" power_param { scale: 0.5 } }
layer { name: "rnn2" type: "RNN" bottom: "y1" bottom: "cont" bottom: "s" bottom: "r0" top: "y2" top: "r1"
  recurrent_param { num_output: 4 expose_hidden: true
    weight_filler { type: "uniform" min: -0.5 max: 0.5 } bias_filler { type: "uniform" min: -0.2 max: 0.2 } } }
layer { name: "all" type: "Concat" bottom: "y1" bottom: "y2" top: "all" concat_param { axis: 2 } }
"""

# one of every other layer that is known, between images and time, and what is for training alone
AROUND = """\
name: "around"
input: "data"
input_shape { dim: 6 dim: 4 dim: 9 dim: 7 }   # T * N frames
layer { name: "in" type: "Input" top: "cont" top: "word" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "label" type: "HDF5Data" top: "label" include { phase: TRAIN } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_h: 3 kernel_w: 2 pad: 1 group: 2 dilation: 2
    weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" batch_norm_param { eps: 1e-3 } }
layer { name: "sc1" type: "Scale" bottom: "conv1" top: "conv1"
  scale_param { bias_term: true filler { type: "uniform" min: 0.5 } } }
layer { name: "prelu1" type: "PReLU" bottom: "conv1" top: "prelu1" }
layer { name: "lrn" type: "LRN" bottom: "prelu1" top: "lrn" lrn_param { local_size: 3 alpha: 0.3 beta: 0.6 k: 2 } }
layer { name: "max" type: "Pooling" bottom: "lrn" top: "max"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "ave" type: "Pooling" bottom: "lrn" top: "ave"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "add" type: "Eltwise" bottom: "max" bottom: "ave" bottom: "max" top: "add"
  eltwise_param { coeff: 1 coeff: -0.5 coeff: 0.25 } }
layer { name: "largest" type: "Eltwise" bottom: "add" bottom: "ave" bottom: "max" top: "largest"
  eltwise_param { operation: MAX } }
layer { name: "half" type: "Slice" bottom: "largest" top: "left" top: "right" slice_param { axis: 1 slice_point: 3 } }
layer { name: "relu" type: "ReLU" bottom: "left" top: "left" relu_param { negative_slope: 0.1 } }
layer { name: "elu" type: "ELU" bottom: "right" top: "right" elu_param { alpha: 0.7 } }
layer { name: "join" type: "Concat" bottom: "left" bottom: "right" top: "join" }
layer { name: "flat" type: "Flatten" bottom: "join" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc"
  inner_product_param { num_output: 6 transpose: true weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.5 } }
layer { name: "power" type: "Power" bottom: "fc" top: "power" power_param { power: 2 scale: 0.5 shift: 0.1 } }
layer { name: "two" type: "Exp" bottom: "fc" top: "two" exp_param { base: 2 scale: 0.3 shift: 0.1 } }
layer { name: "log" type: "Log" bottom: "two" top: "log" log_param { base: 10 scale: 0.5 shift: 1 } }
layer { name: "abs" type: "AbsVal" bottom: "log" top: "abs" }
layer { name: "bnll" type: "BNLL" bottom: "abs" top: "bnll" }
layer { name: "both" type: "Eltwise" bottom: "power" bottom: "bnll" top: "both" eltwise_param { operation: PROD } }
layer { name: "frames" type: "Reshape" bottom: "both" top: "frames"
  reshape_param { shape { dim: 3 dim: -1 } num_axes: 1 } }
layer { name: "embed" type: "Embed" bottom: "word" top: "embed"
  embed_param { input_dim: 5 num_output: 3
    weight_filler { type: "uniform" min: -1 } bias_filler { type: "uniform" } } }
layer { name: "seen" type: "Concat" bottom: "frames" bottom: "embed" top: "seen" concat_param { axis: 2 } }
layer { name: "scale2" type: "Scale" bottom: "seen" bottom: "cont" top: "masked" scale_param { axis: 0 } }
layer { name: "lstm1" type: "LSTM" bottom: "masked" bottom: "cont" top: "lstm1"
  recurrent_param { num_output: 5
    weight_filler { type: "uniform" min: -0.5 max: 0.5 } bias_filler { type: "uniform" min: -0.2 max: 0.2 } } }
layer { name: "fixed" type: "DummyData" top: "fixed"
  dummy_data_param { shape { dim: 3 dim: 2 dim: 5 } data_filler { value: 0.75 } } }
layer { name: "shifted" type: "Eltwise" bottom: "lstm1" bottom: "fixed" top: "shifted" }
layer { name: "bias" type: "Bias" bottom: "shifted" top: "shifted" bias_param { axis: 2 filler { type: "uniform" } } }
layer { name: "scores" type: "InnerProduct" bottom: "shifted" top: "scores"
  inner_product_param { num_output: 3 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "spread" type: "Tile" bottom: "scores" top: "spread" tile_param { axis: 2 tiles: 2 } }
layer { name: "mean" type: "Reduction" bottom: "spread" top: "mean"
  reduction_param { operation: MEAN axis: 1 coeff: 3 } }
layer { name: "squares" type: "Reduction" bottom: "spread" top: "squares"
  reduction_param { operation: SUMSQ axis: 2 } }
layer { name: "sizes" type: "Reduction" bottom: "spread" top: "sizes" reduction_param { operation: ASUM axis: -1 } }
layer { name: "sig" type: "Sigmoid" bottom: "sizes" top: "sig" }
layer { name: "tanh" type: "TanH" bottom: "squares" top: "tanh" }
layer { name: "prob" type: "Softmax" bottom: "scores" top: "prob" softmax_param { axis: -1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss" include { phase: TRAIN } }
layer { name: "none" type: "Silence" bottom: "spread" }
"""

SHAPES = ((20, 36), (20,), (20, 5))


def caffemodel(shapes: tuple[tuple[int, ...], ...] = SHAPES, short: int = 0, name: str = "lstm1") -> bytes:
    """A caffemodel with the blobs of VIDEO's LSTM layer alone, drawn; ``short``: so many bytes are missing of each."""
    model, draw = RawNet(name="video"), np.random.default_rng(0)
    layer = model.layer.add(name=name, type="LSTM")
    for shape in shapes:
        data = draw.normal(size=shape).astype("<f4").tobytes()
        layer.blobs.add(data=data[: len(data) - short]).shape.dim.extend(shape)
    written: bytes = model.SerializeToString()
    return written
