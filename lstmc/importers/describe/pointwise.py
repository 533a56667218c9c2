"""Functions of each element alone, in all the forms that frameworks have: what they are, and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lstmc.ops import Array


@dataclass(frozen=True)
class Function:
    """``compute`` takes x and the two numbers; ``text`` writes it; ``helper`` is a function that the text calls."""

    compute: Callable[[Array, float, float], Array]
    text: str
    helper: str = ""
    numbers: int = 0


def _sigmoid(x: Array) -> Array:
    y: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return y


HARD_SIGMOID = '''\
def hard_sigmoid(x, alpha, beta):
    """alpha x + beta, held between 0 and 1."""
    z = alpha * x + beta
    return relu(z) - relu(z - 1)
'''
LEAKY_RELU = '''\
def leaky_relu(x, alpha):
    """x where it is positive, else alpha x."""
    return relu(x) - alpha * relu(-x)
'''
CLIP = '''\
def clip(x, low, high):
    """x, held between low and high."""
    x = x - relu(x - high)
    return x + relu(low - x)
'''

FUNCTIONS: dict[str, Function] = {
    "sigmoid": Function(lambda x, a, b: _sigmoid(x), "sigmoid({x})"),
    "tanh": Function(lambda x, a, b: np.tanh(x), "tanh({x})"),
    "relu": Function(lambda x, a, b: np.maximum(x, 0), "relu({x})"),
    "abs": Function(lambda x, a, b: np.abs(x), "abs({x})"),
    "exp": Function(lambda x, a, b: np.exp(x), "exp({x})"),
    "log": Function(lambda x, a, b: np.log(x), "log({x})"),
    "elu": Function(lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), "elu({x}, {a})", "", 1),
    "selu": Function(
        lambda x, a, b: b * np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), "{b} * elu({x}, {a})", "", 2
    ),
    "power": Function(lambda x, a, b: x**a, "power({x}, {a})", "", 1),
    "affine": Function(lambda x, a, b: a * x + b, "{a} * {x} + {b}", "", 2),
    "scaled_tanh": Function(lambda x, a, b: a * np.tanh(b * x), "{a} * tanh({b} * {x})", "", 2),
    "hard_sigmoid": Function(lambda x, a, b: np.clip(a * x + b, 0, 1), "hard_sigmoid({x}, {a}, {b})", HARD_SIGMOID, 2),
    "leaky_relu": Function(lambda x, a, b: np.where(x > 0, x, a * x), "leaky_relu({x}, {a})", LEAKY_RELU, 1),
    "softsign": Function(lambda x, a, b: x / (1 + np.abs(x)), "{x} / (1 + abs({x}))"),
    "softplus": Function(lambda x, a, b: np.logaddexp(0, x), "softplus({x})"),
    "silu": Function(lambda x, a, b: x * _sigmoid(x), "{x} * sigmoid({x})"),
    "clip": Function(lambda x, a, b: np.clip(x, a, b), "clip({x}, {a}, {b})", CLIP, 2),
}


@dataclass(frozen=True)
class Activation:
    """One of :data:`FUNCTIONS` with its numbers, which may be of no use to it."""

    function: str
    a: float = 0.0
    b: float = 0.0

    def __call__(self, x: Array) -> Array:
        return FUNCTIONS[self.function].compute(x, self.a, self.b)

    @property
    def helper(self) -> str:
        return FUNCTIONS[self.function].helper

    def text(self, x: str) -> str:
        """The expression; ``x`` stands where it is used as it is, so it must be a name or in brackets."""
        if self.function == "affine":
            scaled = x if self.a == 1 else f"{self.a!r} * {x}"
            return scaled if self.b == 0 else f"{scaled} + {self.b!r}"
        return FUNCTIONS[self.function].text.format(x=x, a=repr(self.a), b=repr(self.b))


SIGMOID, TANH, RELU, LINEAR = Activation("sigmoid"), Activation("tanh"), Activation("relu"), Activation("affine", 1.0)
