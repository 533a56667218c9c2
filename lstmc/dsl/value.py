"""A value while a cell or model is traced: arithmetic on it is recorded, everything else is refused with a reason."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lstmc.dsl.dims import is_scalar
from lstmc.dsl.function import described, named, wrong_shape
from lstmc.dsl.operators import IndexRefused, fit, indexed, instead, operands_repeated, product
from lstmc.dsl.trace import Trace, Traced, size_in
from lstmc.errors import DslError
from lstmc.ir import computed_from_parameters, is_weight
from lstmc.ops import Abs, Add, Affine, Binary, Linear, Mul, Op, Power, Round, Sub, Transpose
from lstmc.source import here
from lstmc.text import did_you_mean

__all__ = ["Value"]

LARGEST = float(np.finfo(np.float32).max)

FUNCTIONS: list[str] = []  # all functions of the language, for errors: lstmc/dsl/vocabulary.py


def _refused(why: str) -> Callable[..., NoReturn]:
    """Return a method that raises DslError with the text ``why``."""
    return lambda self, *args, **kwargs: self._refuse(why)


def _no_operation(symbol: str) -> Callable[..., NoReturn]:
    return _refused(
        f"{symbol} is no operation on Values. For masks of 0 and 1, write a * b for 'and', maximum(a, b) for 'or',"
        " abs(a - b) for 'exclusive or', 1 - a for 'not'"
    )


def _compared(symbol: str, mask: str) -> Callable[..., NoReturn]:
    return _refused(
        f"Values cannot be compared, as there are no numbers yet. A mask, 1 where a {symbol} b and else 0, is {mask};"
        " where(mask, x, y) chooses by it, and maximum(a, b) is the larger one"
    )


def _no_number(asked: str, instead: str) -> Callable[..., NoReturn]:
    return _refused(f"a Value has no number yet: {asked} cannot take it. {instead}")


if TYPE_CHECKING:  # at run time that module, whose functions need this one, puts its methods into Value
    from lstmc.dsl.vocabulary import Methods
else:

    class Methods:
        __slots__ = ()


class Value(Methods, Traced):
    """One array of the traced cell or model. It has a shape but no numbers yet."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Value %{self.trace.name(self.ref)}: {self.type}>"

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
        """Return the product with the divisor's inverse: 1 / number, which must be finite, or a Value's power -1."""
        if is_scalar(other):
            divisor = finite(other)
            if divisor == 0 or not isfinite(1 / divisor):
                self._refuse(f"/ takes a divisor whose inverse is finite, found {other!r}")
            return self._affine(1 / divisor, 0)
        return self._binary(Mul(), "/", self, apply(Power(-1.0), other) if isinstance(other, Value) else other)

    def __rtruediv__(self, other: Any) -> Value:
        if not is_scalar(other):
            self._refuse(f"/ takes a Value or a number, found {described(other)}")
        return apply(Power(-1.0), self)._affine(other, 0)

    def __matmul__(self, other: Any) -> Value:
        if not isinstance(other, Value):
            self._refuse(f"@ takes Values on both sides, found {described(other)}")
        return _matrix_product(self, other)

    def __neg__(self) -> Value:
        return self._affine(-1, 0)

    def __pos__(self) -> Value:
        return self

    def __pow__(self, exponent: Any) -> Value:
        if not is_scalar(exponent):
            self._refuse(f"** takes a number on the right, found {described(exponent)}: a ** b is exp(b * log(a))")
        return apply(Power(finite(exponent)), self)

    __rpow__ = _refused("** takes a number on the right, found a Value there: 2 ** x is exp(x * math.log(2))")

    def __abs__(self) -> Value:
        return apply(Abs(), self)

    def __round__(self, digits: int | None = None) -> Value:
        if digits is not None:
            self._refuse(f"round takes a Value alone, found {digits!r} digits: write round(x * 100) / 100 for two")
        return apply(Round(), self)

    def _affine(self, scale: Any, shift: Any) -> Value:
        return apply(Affine(finite(scale), finite(shift) + 0.0), self)  # x - 0 is x + 0

    def _binary(self, op: Op, symbol: str, left: Any, right: Any) -> Value:
        """Apply an op to this value and another operand, in the order left, right."""
        other = right if left is self else left
        if not isinstance(other, Value):
            self._refuse(f"{symbol} takes a Value or a number, found {described(other)}")
        return apply(op, left, right)

    def _refuse(self, why: str) -> NoReturn:
        raise DslError(why, loc=here())

    __bool__ = _refused(
        "a Value has no truth value: the function is traced once, before there are numbers, so `if`, `while`, `and`,"
        " `or` and `not` cannot look at it. Write where(step(x), a, b): a where x > 0, else b"
    )
    __iter__ = __contains__ = _refused(
        "a Value cannot be looped over, unpacked or searched: write split(x, parts) for its pieces, or scan(cell, x)"
        " in a model to run a cell over time"
    )
    __len__ = _refused("a Value has no length: write x.shape[0]")
    __setitem__ = __delitem__ = _refused(
        "a Value cannot be changed: build the new one, for instance with split and concat"
    )
    __rmatmul__ = _refused("@ takes Values on both sides: an array is declared as an Input or a Param")
    __gt__ = _compared(">", "step(a - b)")
    __lt__ = _compared("<", "step(b - a)")
    __ge__ = _compared(">=", "1 - step(b - a)")
    __le__ = _compared("<=", "1 - step(a - b)")
    __eq__ = _compared("==", "1 - step(abs(a - b))")
    __ne__ = _compared("!=", "step(abs(a - b))")
    __float__ = __complex__ = _no_number(
        "float() and Python's math", "Use it in expressions, as in 2 * x, and by lstmc's functions, as in tanh(x)"
    )
    __int__ = __trunc__ = _no_number("int()", "Use it in expressions; floor(x) and round(x) are integers")
    __index__ = _no_number(
        "range(), a shape and an index of a list",
        "A size is x.shape[0]; the element of an array x of K elements at the place i is sum(one_hot(i, K) * x, -1)",
    )
    _formatted = _no_number("a format such as :.3f", 'print(x) and f"{x}" show its name and shape')
    __and__ = __rand__ = _no_operation("&")
    __or__ = __ror__ = _no_operation("|")
    __xor__ = __rxor__ = _no_operation("^")
    __lshift__ = __rlshift__ = _no_operation("<<")
    __rshift__ = __rrshift__ = _no_operation(">>")
    __invert__ = _no_operation("~")
    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return self._formatted() if spec else str(self)

    def __getitem__(self, index: object) -> Value:
        """Return the part that an index takes, as a chain of ops."""
        trace = inner_trace(self)
        try:
            pieces = indexed(self.shape, index, lambda size: size_in(trace, size, here()))
        except IndexRefused as why:
            self._refuse(f"x[...]: {why}")
        value = self
        for op, piece in pieces:
            value = Value(trace, trace.apply(op, value)[piece])
        return value

    @property
    def T(self) -> Value:
        """The transpose of a matrix; a vector or a scalar unchanged. Raises DslError for three axes or more."""
        if self.type.rank > 2:
            self._refuse(
                "x.T of three axes or more turns all of them round: write transpose(x), which turns the last two, or"
                " transpose(x, 0, 2, 1)"
            )
        return apply(Transpose(0), self) if self.type.rank == 2 else self

    if not TYPE_CHECKING:  # a misspelt attribute is an error of a type checker

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):  # what Python and its tools look for, and can do without
                raise AttributeError(name)
            formula = f"{name}(x)" if name in FUNCTIONS else instead(methods=True).get(name)
            hint = f"write {formula}" if formula else _instead(name, (*FUNCTIONS, *vars(Methods), "shape", "T"))
            self._refuse(f"a Value has no attribute {name!r}: {hint}")

    def __setattr__(self, name: str, value: object) -> None:
        if name not in Traced.__slots__:
            self._refuse(f"a Value takes no attributes, found {name!r}: keep what belongs to it in a variable")
        object.__setattr__(self, name, value)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Apply an operator with a NumPy number or array on its left; refuse any other function of NumPy."""
        operator = _REFLECTED.get(ufunc.__name__)
        if operator and method == "__call__" and isinstance(inputs[0], np.generic | np.ndarray) and not kwargs:
            return getattr(self, operator)(inputs[0].item() if isinstance(inputs[0], np.generic) else inputs[0])
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        return self._refuse(f"NumPy's {name} cannot take a Value: {_instead(name, arguments=(inputs, kwargs))}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        hint = _instead(function.__name__, arguments=(args, kwargs))
        self._refuse(f"NumPy's {function.__name__} cannot take a Value: {hint}")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        hint = _instead(function.__name__, arguments=(args, kwargs or {}))
        raise DslError(f"PyTorch's {function.__name__} cannot take a Value: {hint}", loc=here("torch"))

    __array__ = _refused(
        "a Value cannot become a NumPy array, as there are no numbers yet: write lstmc's own functions, as in"
        " tanh(x), and stack(a, b) or concat(a, b) for an array of several"
    )
    __jax_array__ = _refused(
        "a Value cannot become a JAX array, as there are no numbers yet: write lstmc's own functions, as in tanh(x)"
    )


for _operator in ("add", "sub", "mul", "truediv", "matmul"):
    for _side in ("", "r"):
        setattr(Value, f"__{_side}{_operator}__", named(getattr(Value, f"__{_side}{_operator}__")))
Value.__getitem__ = named(Value.__getitem__)  # type: ignore[method-assign]

_REFLECTED = {
    "add": "__radd__",
    "subtract": "__rsub__",
    "multiply": "__rmul__",
    "divide": "__rtruediv__",
    "power": "__rpow__",
    "matmul": "__rmatmul__",
    "equal": "__eq__",
    "not_equal": "__ne__",
    "less": "__gt__",
    "less_equal": "__ge__",
    "greater": "__lt__",
    "greater_equal": "__le__",
}


def _instead(
    name: str, valid: Iterable[str] = (), arguments: tuple[Iterable[Any], Mapping[str, Any]] = ((), {})
) -> str:
    """Return a hint for a name of another library: the language's formula, along the call's axis, or a similar name."""
    if name not in instead() and name not in FUNCTIONS:
        return did_you_mean(name, {*valid, *FUNCTIONS}).removeprefix(": ") or "docs/language.md has the functions"
    formula = instead().get(name, f"{name}(x)")
    args, kwargs = arguments
    axes = [kwargs[word] for word in ("axis", "dim") if word in kwargs] or list(args)[1:2]
    if axes and isinstance(axes[0], int | tuple) and not isinstance(axes[0], bool):
        formula = re.sub(r"\(x, axis=-?\d", f"(x, axis={axes[0]}", formula)
    return f"write {formula}"


def instead_of(name: str) -> str:
    """Return the end of the error for an undefined name: an import or a function of the language."""
    if name in FUNCTIONS:
        return f": write from lstmc import {name}"
    return f": write {instead()[name]}" if name in instead() else ""


def bounded(number: Any) -> Any:
    """Return 1e30 with its sign for an infinite number: 0 times infinity is NaN. Anything else is unchanged."""
    return float(np.copysign(1e30, number)) if is_scalar(number) and abs(number) == inf else number


def finite(number: Any) -> float:
    """Return a number as a float; :class:`DslError` if float32 cannot hold it."""
    try:
        value = float(number)
    except OverflowError:
        value = float("inf")
    if not abs(value) <= LARGEST:
        hint = ": -1e30 stands for it, whose exp is 0" if value == -inf else ""
        raise DslError(f"a scalar must be a finite float32 number, found {reprlib.repr(number)}{hint}", loc=here())
    return value


def inner_trace(*values: Traced) -> Trace:
    """Return the innermost unfinished trace of some values, which records an op on them; a finished one if all are."""
    traces = [value.trace for value in values]
    trace = next((trace for trace in traces if not trace.finished), traces[0])
    for other in traces:
        if other.parent is trace and not other.finished:
            trace = other
    return trace


def apply(op: Op, *values: Value) -> Value:
    """Record an op with one result, and return the result; the operands of a binary op are broadcast as in NumPy."""
    trace = inner_trace(*values)
    if isinstance(op, Binary):
        x, y = values
        of_parameters = [partial(computed_from_parameters, value.trace.builder, value.ref) for value in values]
        repeats = operands_repeated(x.shape, y.shape, lambda operand: of_parameters[operand]())
        values = tuple(map(in_turn, repeats, values))
    (ref,) = trace.apply(op, *values)
    return Value(trace, ref)


def in_turn(ops: Iterable[Op], x: Value) -> Value:
    for op in ops:
        x = apply(op, x)
    return x


def _matrix_product(x: Value, y: Value) -> Value:
    """Return x @ y: one linear op if an operand is a matrix of parameters, else all products of elements, summed."""
    if not fit(x.shape, y.shape):
        rows = '; a parameter W [out, in] times every row of h is linear(h, W), or einsum("oi,ni->no", W, h)'
        hint = rows if x.type.rank == y.type.rank == 2 else ""
        fits = "the last axis of x must be as long as the last but one of y, and those before them must fit"
        raise wrong_shape(f"@: {fits}", hint, x=x, y=y)
    if _is_matrix_of_weights(y):
        return apply(Linear(x.type.rank - 1), x, _transposed(y))
    if _is_matrix_of_weights(x) and y.type.rank == 1:
        return apply(Linear(0), y, x)
    of_x, of_y, after = product(x.shape, y.shape)
    return in_turn(after, apply(Mul(), in_turn(of_x, x), in_turn(of_y, y)))


def _is_matrix_of_weights(value: Value) -> bool:
    return value.type.rank == 2 and is_weight(value.trace.builder, value.ref)


def _transposed(matrix: Value) -> Value:
    """Return the transpose of a matrix; if a Transpose made the matrix, the operand of that Transpose."""
    node = matrix.trace.builder.node(matrix.ref.node)
    if isinstance(node.op, Transpose):
        return Value(matrix.trace, matrix.trace.builder.args(node.name)[0])
    return apply(Transpose(0), matrix)
