"""The base of the import IR's ops: shapes with named sizes, ``infer`` and ``eval``, and elementwise functions.

A size is a number, or a name (``N``, ``T``) where the graph does not depend on it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np

from lstmc.dsl.elementwise import GELU_CUBIC, GELU_LINEAR
from lstmc.ops import Array

Size = int | str
Shape = tuple[Size, ...]


class ShapeProblem(ValueError):
    """Raised for shapes that do not fit, and for a named size where a number is required."""


def volume(shape: Sequence[Size]) -> tuple[int, Counter[str]]:
    """Return the number of elements as a product: a number, and named sizes with their exponents."""
    return prod(s for s in shape if isinstance(s, int)), Counter(s for s in shape if isinstance(s, str))


def with_sizes(shape: Sequence[Size], sizes: Mapping[str, int]) -> Shape:
    """Return the shape with each name in ``sizes`` replaced by its number."""
    return tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape)


def resolved(shape: Sequence[Size], old: Shape) -> Shape:
    """Return ``shape`` with a size of -1 replaced, so that it has as many elements as ``old``."""
    if -1 not in shape:
        if volume(shape) != volume(old):
            raise ShapeProblem(f"{listed(old)} cannot be reshaped to {listed(shape)}")
        return tuple(shape)
    number, names = volume(old)
    product, product_names = volume([s for s in shape if s != -1])
    names.subtract(product_names)
    left: list[Size] = list((+names).elements())
    if list(shape).count(-1) > 1 or min(names.values(), default=0) < 0 or product < 1 or number % product:
        raise ShapeProblem(f"{listed(old)} cannot be reshaped to {listed(shape)}")
    if number != product or not left:
        left.append(number // product)
    if len(left) > 1:
        raise ShapeProblem(f"one size of {listed(shape)} would be {' * '.join(map(str, left))}")
    return tuple(left[0] if s == -1 else s for s in shape)


def fixed(size: Size, what: str) -> int:
    """Return a size that must be a number. Raises :class:`ShapeProblem` for a name."""
    if isinstance(size, str):
        raise ShapeProblem(f"{what} must be known here, and is {size}")
    return size


def broadcast(a: Shape, b: Shape) -> Shape:
    """Return the broadcast shape of two operands, as in NumPy; a name equals itself only."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    sizes = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise ShapeProblem(f"{listed(a)} and {listed(b)} do not fit")
        sizes.append(y if x == 1 else x)
    return tuple(sizes)


def axis_in(axis: int, rank: int) -> int:
    """Return a possibly negative axis as counted from the front."""
    if not -rank <= axis < rank:
        raise ShapeProblem(f"there is no axis {axis} among {rank}")
    return axis % rank


def listed(shape: Sequence[Size]) -> str:
    return f"[{', '.join(map(str, shape))}]"


@dataclass(frozen=True)
class Op:
    """The base class of an op: ``infer`` computes shapes from shapes, ``eval`` arrays from arrays."""

    @abstractmethod
    def infer(self, *shapes: Shape) -> tuple[Shape, ...]: ...

    def bound(self, sizes: Mapping[str, int]) -> Self:
        """Return the op with its named sizes replaced by numbers."""
        return self

    @abstractmethod
    def eval(self, *arrays: Array) -> tuple[Array, ...]: ...


@dataclass(frozen=True)
class Function:
    """An elementwise function: ``compute`` for NumPy, its ``text`` in a model, and ``helpers`` that the text calls."""

    compute: Callable[[Array, float, float], Array]
    text: str
    helpers: tuple[str, ...] = ()
    numbers: int = 0


def _sigmoid(x: Array) -> Array:
    y: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return y


# 1 - erf(|x|), by a polynomial of t = 1 / (1 + 0.3275911 |x|) times exp(-x**2), within 1.5e-7: Abramowitz and Stegun,
# Handbook of Mathematical Functions, 1964, formula 7.1.26. Caffe has no layer of it.
_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
TAIL = f'''\
def tail(x):
    """1 - erf(|x|) within 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26."""
    t = power(1 + 0.3275911 * abs(x), -1)
    total = {_ERFC[0]} * t
    for coefficient in {_ERFC[1:]}:
        total = (total + coefficient) * t
    return total * exp(-x * x)
'''
ERF = '''\
def erf(x):
    """The error function."""
    return (2 * step(x) - 1) * (1 - tail(x))
'''
EXACT_GELU = f'''\
def exact_gelu(x):
    """x times the normal distribution function of x."""
    return relu(x) - 0.5 * abs(x) * tail({0.5**0.5!r} * x)
'''


def _tail(x: Array) -> Array:
    t = 1 / (1 + 0.3275911 * np.abs(x))
    total: Array = np.zeros_like(t)
    for coefficient in _ERFC:
        total = (total + coefficient) * t
    return total * np.exp(-x * x)


def _gelu(x: Array) -> Array:
    y: Array = np.maximum(x, 0) - 0.5 * np.abs(x) * _tail(x * 0.5**0.5)
    return y


FUNCTIONS: dict[str, Function] = {
    "sigmoid": Function(lambda x, a, b: _sigmoid(x), "sigmoid({x})"),
    "tanh": Function(lambda x, a, b: np.tanh(x), "tanh({x})"),
    "relu": Function(lambda x, a, b: np.maximum(x, 0), "relu({x})"),
    "abs": Function(lambda x, a, b: np.abs(x), "abs({x})"),
    "exp": Function(lambda x, a, b: np.exp(x), "exp({x})"),
    "log": Function(lambda x, a, b: np.log(x), "log({x})"),
    "sin": Function(lambda x, a, b: np.sin(x), "sin({x})"),
    "cos": Function(lambda x, a, b: np.cos(x), "cos({x})"),
    "elu": Function(lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), "elu({x}, {a})", numbers=1),
    "selu": Function(
        lambda x, a, b: b * np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), "{b} * elu({x}, {a})", numbers=2
    ),
    "power": Function(lambda x, a, b: x**a, "power({x}, {a})", numbers=1),
    "affine": Function(lambda x, a, b: a * x + b, "{a} * {x} + {b}", numbers=2),
    "scaled_tanh": Function(lambda x, a, b: a * np.tanh(b * x), "{a} * tanh({b} * {x})", numbers=2),
    "hard_sigmoid": Function(lambda x, a, b: np.clip(a * x + b, 0, 1), "hard_sigmoid({x}, {a}, {b})", numbers=2),
    "leaky_relu": Function(lambda x, a, b: np.where(x > 0, x, a * x), "leaky_relu({x}, {a})", numbers=1),
    "softsign": Function(lambda x, a, b: x / (1 + np.abs(x)), "softsign({x})"),
    "softplus": Function(lambda x, a, b: np.logaddexp(0, x), "softplus({x})"),
    "silu": Function(lambda x, a, b: x * _sigmoid(x), "silu({x})"),
    "clip": Function(lambda x, a, b: np.clip(x, a, b), "clip({x}, {a}, {b})", numbers=2),
    "round": Function(lambda x, a, b: np.rint(x), "round({x})"),
    "floor": Function(lambda x, a, b: np.floor(x), "floor({x})"),
    "ceil": Function(lambda x, a, b: np.ceil(x), "-floor(-{x})"),
    "stop_gradient": Function(lambda x, a, b: x, "stop_gradient({x})"),
    "step": Function(lambda x, a, b: (x > 0).astype(x.dtype), "step({x})"),
    "erf": Function(lambda x, a, b: np.where(x > 0, 1, -1) * (1 - _tail(x)), "erf({x})", (TAIL, ERF)),
    "gelu": Function(lambda x, a, b: _gelu(x), "exact_gelu({x})", (TAIL, EXACT_GELU)),
    "gelu_tanh": Function(lambda x, a, b: x * _sigmoid(GELU_LINEAR * x + GELU_CUBIC * x**3), "gelu({x})"),
    "mish": Function(lambda x, a, b: x * np.tanh(np.logaddexp(0, x)), "{x} * tanh(softplus({x}))"),
}


@dataclass(frozen=True)
class Activation:
    """A function of :data:`FUNCTIONS` with its coefficients; a function without them ignores ``a`` and ``b``."""

    function: str
    a: float = 0.0
    b: float = 0.0

    def __call__(self, x: Array) -> Array:
        return FUNCTIONS[self.function].compute(x, self.a, self.b)

    @property
    def helpers(self) -> tuple[str, ...]:
        return FUNCTIONS[self.function].helpers

    def text(self, x: str) -> str:
        """Return the expression. ``x`` is inserted unchanged, so it must be a name or in brackets."""
        if self.function == "affine":
            scaled = x if self.a == 1 else f"{self.a!r} * {x}"
            return scaled if self.b == 0 else f"{scaled} + {self.b!r}"
        return FUNCTIONS[self.function].text.format(x=x, a=repr(self.a), b=repr(self.b))


SIGMOID, TANH, RELU, LINEAR = Activation("sigmoid"), Activation("tanh"), Activation("relu"), Activation("affine", 1.0)
