"""A value while a cell or model is traced: arithmetic on it is recorded, everything else is refused with a reason."""

from __future__ import annotations

from math import isfinite
from typing import Any, NoReturn

import numpy as np

from lstmc.dsl.trace import Trace
from lstmc.errors import DslError
from lstmc.ir import Ref
from lstmc.ops import Abs, Add, Affine, Mul, Op, Power, Sub
from lstmc.source import here
from lstmc.types import TensorType

Scalar = int | float


class Value:
    """One array of the traced cell or model. It has a shape but no numbers yet."""

    __slots__ = ("ref", "trace")

    def __init__(self, trace: Trace, ref: Ref) -> None:
        self.trace = trace
        self.ref = ref

    @property
    def type(self) -> TensorType:
        return self.trace.builder.type(self.ref)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its axes."""
        return self.type.shape

    def __repr__(self) -> str:
        return f"<Value %{self.trace.builder.node(self.ref.node).names[self.ref.out]}: {self.type}>"

    def __add__(self, other: Any) -> Value:
        return self._affine(1, other) if is_scalar(other) else self._binary(Add(), "+", self, other)

    def __radd__(self, other: Any) -> Value:
        return self._affine(1, other) if is_scalar(other) else self._binary(Add(), "+", other, self)

    def __sub__(self, other: Any) -> Value:
        return self._affine(1, -other) if is_scalar(other) else self._binary(Sub(), "-", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self._affine(-1, other) if is_scalar(other) else self._binary(Sub(), "-", other, self)

    def __mul__(self, other: Any) -> Value:
        return self._affine(other, 0) if is_scalar(other) else self._binary(Mul(), "*", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self._affine(other, 0) if is_scalar(other) else self._binary(Mul(), "*", other, self)

    def __truediv__(self, other: Any) -> Value:
        if is_scalar(other):
            if other == 0:
                raise DslError("division by zero", loc=here(), scope=self.trace.owner)
            return self._affine(1 / other, 0)
        return self._binary(Mul(), "/", self, apply(Power(-1.0), other) if isinstance(other, Value) else other)

    def __rtruediv__(self, other: Any) -> Value:
        if not is_scalar(other):
            self._refuse(f"/ takes a Value or a number, found {_kind(other)}")
        return apply(Power(-1.0), self)._affine(other, 0)

    def __neg__(self) -> Value:
        return self._affine(-1, 0)

    def __pos__(self) -> Value:
        return self

    def __pow__(self, exponent: Any) -> Value:
        if not is_scalar(exponent):
            self._refuse(f"** takes a number on the right, found {_kind(exponent)}")
        return apply(Power(float(exponent)), self)

    def __abs__(self) -> Value:
        return apply(Abs(), self)

    def _affine(self, scale: Any, shift: Any) -> Value:
        if not (isfinite(scale) and isfinite(shift)):
            self._refuse(f"a scalar must be finite, found {scale if not isfinite(scale) else shift}")
        return apply(Affine(float(scale), float(shift)), self)

    def _binary(self, op: Op, symbol: str, left: Any, right: Any) -> Value:
        other = right if left is self else left
        if not isinstance(other, Value):
            self._refuse(f"{symbol} takes a Value or a number, found {_kind(other)}")
        trace = inner_trace(left, right)
        (ref,) = trace.apply(op, left, right)
        return Value(trace, ref)

    def _refuse(self, why: str) -> NoReturn:
        raise DslError(why, loc=here(), scope=self.trace.owner)

    def __bool__(self) -> bool:
        self._refuse(
            "a Value has no truth value: the cell is traced once, before there are numbers, so `if`, `while`, `and`"
            " and `not` cannot look at it. Write the choice as arithmetic, for instance m * a + (1 - m) * b"
        )

    def __iter__(self) -> NoReturn:
        self._refuse(
            "a Value cannot be looped over or unpacked: write split(x, parts) for its pieces, or scan(cell, x) to run"
            " a cell over time"
        )

    def __len__(self) -> int:
        self._refuse("a Value has no length: write x.shape[0]")

    def __getitem__(self, index: object) -> NoReturn:
        self._refuse(f"a Value cannot be indexed, found [{index!r}]: write split(x, sizes, axis=...) and take a piece")

    def __matmul__(self, other: object) -> NoReturn:
        self._refuse("@ is not an operation here: write linear(x, W), which is x @ W.T with W a parameter")

    __rmatmul__ = __matmul__

    def _no_comparison(self, other: object) -> NoReturn:
        self._refuse("Values cannot be compared: there are no numbers yet. Write the choice as arithmetic")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_comparison
    __hash__ = object.__hash__

    def __float__(self) -> float:
        self._refuse("a Value has no number yet, so float() and int() cannot take it")

    __int__ = __index__ = __float__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"a Value has no attribute {name!r}: it has shape, and the functions of lstmc take it")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        # a NumPy scalar on the left of + - * / arrives here; everything else is a NumPy function called on a Value
        symbol = {"add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__"}
        if method == "__call__" and ufunc.__name__ in symbol and isinstance(inputs[0], np.generic) and not kwargs:
            return getattr(self, symbol[ufunc.__name__])(inputs[0].item())
        return self._refuse(f"NumPy's {ufunc.__name__} cannot take a Value: {_instead(ufunc.__name__)}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        self._refuse(f"NumPy's {function.__name__} cannot take a Value: {_instead(function.__name__)}")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a Value cannot become a NumPy array: there are no numbers yet")


_NUMPY_NAMES = {
    "absolute": "abs",
    "concatenate": "concat",
    "maximum": "relu",
    "dot": "linear",
    "matmul": "linear",
    **{name: name for name in ("tanh", "exp", "log", "reshape", "split", "power")},
}


def _instead(name: str) -> str:
    if name in _NUMPY_NAMES:
        return f"write lstmc.{_NUMPY_NAMES[name]}"
    return "only the functions of lstmc can"


def _kind(thing: object) -> str:
    if isinstance(thing, np.ndarray):
        return "a NumPy array (declare it as an Input or a Param)"
    return f"{type(thing).__name__} {thing!r}"


def is_scalar(thing: object) -> bool:
    """Whether it is a Python or NumPy number."""
    return isinstance(thing, int | float | np.integer | np.floating) and not isinstance(thing, bool)


def inner_trace(*values: Value) -> Trace:
    """The innermost trace among values: where an op on them is recorded."""
    trace = values[0].trace
    for value in values[1:]:
        if value.trace.parent is trace:
            trace = value.trace
    return trace


def apply(op: Op, *values: Value) -> Value:
    """Record an op with one result."""
    trace = inner_trace(*values)
    (ref,) = trace.apply(op, *values)
    return Value(trace, ref)
