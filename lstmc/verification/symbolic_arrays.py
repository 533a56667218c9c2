"""Arrays of symbolic numbers, which the ops' own ``eval`` and ``vjp`` take in place of arrays of floats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import reduce
from math import isfinite
from typing import Any

import numpy as np

from lstmc.ops import Array
from lstmc.verification.symbols import Algebra, NoRule, Number, cos, exp, log, maximum, odd, positive, power, rational

# What NumPy's functions are on numbers, where its arithmetic on objects is not enough.
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "tanh": odd("tanh", np.tanh),
    "rint": odd("rint", np.rint),
    "sin": odd("sin", np.sin),
    "cos": cos,
    "exp": exp,
    "expm1": lambda x: exp(x) - 1,
    "log": log,
    "log1p": lambda x: log(1 + x),
    "logaddexp": lambda x, y: log(exp(x) + exp(y)),
    "sqrt": lambda x: power(x, Fraction(1, 2)),
    "power": lambda x, exponent: power(x, rational(float(exponent))),
    "absolute": abs,
    "maximum": maximum,
    "minimum": lambda x, y: -maximum(-x, -y),
    "greater": lambda x, y: positive(x - y),
    "less": lambda x, y: positive(y - x),
    "greater_equal": lambda x, y: 1 - positive(y - x),
    "less_equal": lambda x, y: 1 - positive(x - y),
    "equal": lambda x, y: (1 - positive(x - y)) * (1 - positive(y - x)),
    "not_equal": lambda x, y: 1 - (1 - positive(x - y)) * (1 - positive(y - x)),
    "bitwise_and": lambda x, y: x * y,  # of numbers that are 0 or 1
    "bitwise_or": lambda x, y: x + y - x * y,
    "invert": lambda x: 1 - x,
}


class SymbolicArray(np.ndarray):
    """An array of numbers, which NumPy's functions take; the results are symbolic too."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        own = FUNCTIONS.get(ufunc.__name__)
        if own is None or not any(np.asarray(each).dtype == object for each in inputs):
            if "out" in kwargs:
                kwargs["out"] = tuple(_plain(out) for out in kwargs["out"])
            return symbolic(getattr(ufunc, method)(*map(_plain, inputs), **kwargs))
        if method == "reduce":
            return symbolic(_reduced(own, _plain(inputs[0]), **kwargs))
        if method != "__call__" or kwargs.get("out") is not None:
            raise NoRule(f"it calls {ufunc.__name__}.{method}")

        def normal(*operands: Any) -> Any:
            return own(*(each if each == -np.inf else Number.of(each) for each in operands))

        return symbolic(np.frompyfunc(normal, ufunc.nin, 1)(*map(_plain, inputs)))

    def __array_function__(self, function: Any, types: Iterable[type], args: Any, kwargs: Any) -> Any:
        if function is np.where and any(np.asarray(each).dtype == object for each in args):
            where, one, other = (symbolic(np.asarray(each, object)) for each in args)
            return where * one + (1 - where) * other
        if function is np.einsum:
            kwargs = {**kwargs, "optimize": False}
        return symbolic(super().__array_function__(function, types, args, kwargs))


def _reduced(function: Callable[..., Any], x: Any, axis: int | None = 0, keepdims: bool = False, **_: Any) -> Any:
    rows = np.moveaxis(x, axis or 0, 0) if axis is not None else x.reshape(-1)
    found = np.asarray(reduce(np.frompyfunc(function, 2, 1), rows), object)
    return np.expand_dims(found, axis) if keepdims and axis is not None else found


def symbols(algebra: Algebra, name: str, shape: tuple[int, ...]) -> SymbolicArray:
    """Return an array of new symbols, ``name[0,1]`` and so on."""
    found = np.empty(shape, object)
    for at in np.ndindex(*shape):
        found[at] = algebra.symbol(f"{name}[{','.join(map(str, at))}]" if at else name)
    return found.view(SymbolicArray)


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, SymbolicArray) else x


def symbolic(x: Any) -> Any:
    """Return an array of numbers as one that NumPy's functions take; arrays of booleans and others as they are."""
    if isinstance(x, list | tuple):
        return type(x)(map(symbolic, x))
    if isinstance(x, Number):
        x = np.array(x, object)
    if not isinstance(x, np.ndarray):
        return x
    return x.view(SymbolicArray if x.dtype == object else np.ndarray)


def as_symbolic(x: Any) -> Array:
    """Return an array as the interpreter's ``convert`` gives it: of numbers, the floats among them as constants."""
    array = np.asarray(x)
    if array.dtype != object:
        array = np.asarray(np.frompyfunc(lambda each: Number.of(each) if isfinite(each) else each, 1, 1)(array), object)
    found: Array = symbolic(array)
    return found
