"""The core ops. ``CORE`` is the explicit list of every one of them; the tests find a forgotten one."""

from lstmc.ops.base import Array, Arrays, Draw, Leaf, Op, Pointwise, Sample, Types
from lstmc.ops.binary import Add, Binary, Mul, Sub
from lstmc.ops.domain import IntegerRange
from lstmc.ops.dropout import Dropout
from lstmc.ops.embed import Embed
from lstmc.ops.fillers import FILLERS, Constant, Filler, Gaussian, Msra, Uniform, Xavier
from lstmc.ops.images import AvePool, Conv, MaxPool
from lstmc.ops.leaf import Arg, Full, Input, Param, Role
from lstmc.ops.linear import Linear
from lstmc.ops.loss import Accuracy, EuclideanLoss, SigmoidCrossEntropyLoss, SoftmaxLoss
from lstmc.ops.pointwise import Abs, Affine, Elu, Exp, Log, Power, Relu, Sigmoid, Tanh
from lstmc.ops.reduce import Sum
from lstmc.ops.shape import Concat, Reshape, Softmax, Split, Stack, Unstack

CORE: tuple[type[Op], ...] = (
    Input,
    Param,
    Arg,
    Full,
    Linear,
    Add,
    Sub,
    Mul,
    Affine,
    Sigmoid,
    Tanh,
    Relu,
    Elu,
    Abs,
    Exp,
    Log,
    Power,
    Softmax,
    Split,
    Concat,
    Reshape,
    Unstack,
    Stack,
    Embed,
    Conv,
    MaxPool,
    AvePool,
    Dropout,
    Sum,
    SoftmaxLoss,
    SigmoidCrossEntropyLoss,
    EuclideanLoss,
    Accuracy,
)

__all__ = [
    "CORE",
    "FILLERS",
    "Abs",
    "Accuracy",
    "Add",
    "Affine",
    "Arg",
    "Array",
    "Arrays",
    "AvePool",
    "Binary",
    "Concat",
    "Constant",
    "Conv",
    "Draw",
    "Dropout",
    "Elu",
    "Embed",
    "EuclideanLoss",
    "Exp",
    "Filler",
    "Full",
    "Gaussian",
    "Input",
    "IntegerRange",
    "Leaf",
    "Linear",
    "Log",
    "MaxPool",
    "Msra",
    "Mul",
    "Op",
    "Param",
    "Pointwise",
    "Power",
    "Relu",
    "Reshape",
    "Role",
    "Sample",
    "Sigmoid",
    "SigmoidCrossEntropyLoss",
    "Softmax",
    "SoftmaxLoss",
    "Split",
    "Stack",
    "Sub",
    "Sum",
    "Tanh",
    "Types",
    "Uniform",
    "Unstack",
    "Xavier",
]
