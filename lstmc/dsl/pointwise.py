"""The functions of one op that works on each element alone: the op's class is all that is told of one."""

from __future__ import annotations

from lstmc.dsl.op import pointwise
from lstmc.ops import Elu, Exp, LeakyRelu, Log, Power, Relu, Sigmoid, Softplus, StopGradient, Tanh

__all__ = ["elu", "exp", "leaky_relu", "log", "power", "relu", "sigmoid", "softplus", "stop_gradient", "tanh"]

sigmoid = pointwise(Sigmoid)
tanh = pointwise(Tanh)
relu = pointwise(Relu)
leaky_relu = pointwise(LeakyRelu)
stop_gradient = pointwise(StopGradient)
softplus = pointwise(Softplus)
elu = pointwise(Elu)
exp = pointwise(Exp)
log = pointwise(Log)
power = pointwise(Power)
