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
