"""The Caffe layers that lstmc writes, each an op with a meaning of its own. ``CAFFE_OPS`` lists them all."""

from lstmc.ops import Op
from lstmc_caffe.ops.base import CaffeOp, write_filler
from lstmc_caffe.ops.feed import Feed, HostInput, HostStack, View
from lstmc_caffe.ops.images import AvePooling, Convolution, MaxPooling
from lstmc_caffe.ops.leaf import DummyData, FilledInput, InputLayer
from lstmc_caffe.ops.loss import AccuracyLayer, EuclideanLossLayer, SigmoidCrossEntropyLossLayer, SoftmaxWithLoss
from lstmc_caffe.ops.pointwise import (
    AbsValLayer,
    ELULayer,
    ExpLayer,
    LogLayer,
    PowerLayer,
    ReLULayer,
    SigmoidLayer,
    SoftmaxLayer,
    TanHLayer,
)
from lstmc_caffe.ops.product import Bias, Eltwise, InnerProduct, Scale
from lstmc_caffe.ops.recurrent import LSTM, RNN, LSTMUnit
from lstmc_caffe.ops.sequence import DropoutLayer, EmbedLayer, Reduction
from lstmc_caffe.ops.shape import ConcatLayer, ReshapeLayer, SliceLayer, SplitLayer

CAFFE_OPS: tuple[type[Op], ...] = (
    InputLayer,
    FilledInput,
    DummyData,
    InnerProduct,
    Eltwise,
    Bias,
    Scale,
    PowerLayer,
    SigmoidLayer,
    TanHLayer,
    ReLULayer,
    ELULayer,
    AbsValLayer,
    ExpLayer,
    LogLayer,
    SoftmaxLayer,
    SliceLayer,
    ConcatLayer,
    ReshapeLayer,
    SplitLayer,
    EmbedLayer,
    Convolution,
    MaxPooling,
    AvePooling,
    DropoutLayer,
    Reduction,
    SoftmaxWithLoss,
    SigmoidCrossEntropyLossLayer,
    EuclideanLossLayer,
    AccuracyLayer,
    LSTMUnit,
    LSTM,
    RNN,
    Feed,
)

# What the host does for targets whose blobs have other shapes than the model's values: no layers.
HOST_OPS: tuple[type[Op], ...] = (HostInput, View, HostStack)

__all__ = [
    "CAFFE_OPS",
    "HOST_OPS",
    "LSTM",
    "RNN",
    "AbsValLayer",
    "AccuracyLayer",
    "AvePooling",
    "Bias",
    "CaffeOp",
    "ConcatLayer",
    "Convolution",
    "DropoutLayer",
    "DummyData",
    "ELULayer",
    "Eltwise",
    "EmbedLayer",
    "EuclideanLossLayer",
    "ExpLayer",
    "Feed",
    "FilledInput",
    "HostInput",
    "HostStack",
    "InnerProduct",
    "InputLayer",
    "LSTMUnit",
    "LogLayer",
    "MaxPooling",
    "PowerLayer",
    "ReLULayer",
    "Reduction",
    "ReshapeLayer",
    "Scale",
    "SigmoidCrossEntropyLossLayer",
    "SigmoidLayer",
    "SliceLayer",
    "SoftmaxLayer",
    "SoftmaxWithLoss",
    "SplitLayer",
    "TanHLayer",
    "View",
    "write_filler",
]
