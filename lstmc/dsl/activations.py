"""Functions of each element that are formulas of others: no ops, so no target needs a layer for them."""

from __future__ import annotations

import builtins

from lstmc.dsl.arguments import check_values, number_of
from lstmc.dsl.function import function
from lstmc.dsl.pointwise import power, relu, sigmoid, softplus, stop_gradient, tanh
from lstmc.dsl.selection import clip
from lstmc.dsl.value import Value

__all__ = ["gelu", "hard_sigmoid", "hard_tanh", "log_sigmoid", "rsqrt", "silu", "softsign", "sqrt", "square", "step"]

# sqrt(8 / pi), and 0.044715 of it: 0.5 (1 + tanh(u)) is sigmoid(2 u)
GELU_LINEAR = 1.5957691216057308
GELU_CUBIC = 0.044715 * GELU_LINEAR


@function
def hard_sigmoid(x: Value, slope: float = 0.2, offset: float = 0.5) -> Value:
    """slope * x + offset between 0 and 1. Courbariaux et al. 2015, arXiv:1511.00363.

    The defaults are those of Keras 1 and 2 and of ONNX; PyTorch and Keras 3 have ``slope`` 1/6.
    """
    check_values("hard_sigmoid", x=x)
    scale = number_of("hard_sigmoid", "slope", slope)
    return clip(scale * x + number_of("hard_sigmoid", "offset", offset, position=2), 0, 1)


@function
def hard_tanh(x: Value) -> Value:
    """x between -1 and 1. Collobert 2004."""
    check_values("hard_tanh", x=x)
    return clip(x, -1, 1)


@function
def log_sigmoid(x: Value) -> Value:
    """ln(sigmoid(x)), which cannot overflow: -softplus(-x)."""
    check_values("log_sigmoid", x=x)
    return -softplus(-x)


@function
def softsign(x: Value) -> Value:
    """x / (1 + |x|). Turian et al. 2009."""
    check_values("softsign", x=x)
    return x / (1 + builtins.abs(x))


@function
def sqrt(x: Value) -> Value:
    """The square root, for x > 0: at 0 it has no gradient."""
    check_values("sqrt", x=x)
    return power(x, 0.5)


@function
def rsqrt(x: Value) -> Value:
    """1 / sqrt(x), for x > 0."""
    check_values("rsqrt", x=x)
    return power(x, -0.5)


@function
def square(x: Value) -> Value:
    """x * x."""
    check_values("square", x=x)
    return power(x, 2)


@function
def step(x: Value) -> Value:
    """1 where x > 0, else 0, without a gradient: tanh(2**96 * relu(x)), which is 1 from x = 2**-91 on.

    Caffe's Threshold would be one layer, but aborts where it is in a net that is trained. A larger factor would
    overflow backward in nets that are not, in which no gradient is stopped: at 0, times the gradient that is 0 there.
    """
    check_values("step", x=x)
    return tanh(2.0**96 * relu(stop_gradient(x)))


@function
def silu(x: Value) -> Value:
    """x * sigmoid(x), called swish too. Elfwing et al. 2017, arXiv:1702.03118."""
    check_values("silu", x=x)
    return x * sigmoid(x)


@function
def gelu(x: Value) -> Value:
    """x times the normal distribution function of x, by its approximation with tanh. Hendrycks and Gimpel 2016.

    0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))), arXiv:1606.08415: within 0.0005 of the exact function, for which
    Caffe has no layer. PyTorch calls it ``approximate="tanh"``.
    """
    check_values("gelu", x=x)
    return x * sigmoid(x * (GELU_LINEAR + GELU_CUBIC * square(x)))
