"""Reductions along axes (sum, mean, variance, max, min), normalisation, heads, and losses and metrics."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from functools import reduce
from math import prod
from typing import Any, overload

from lstmc.dsl.dims import Size, whole_number
from lstmc.dsl.elementwise import exp, log, maximum, minimum, stop_gradient
from lstmc.dsl.function import check_value, described, function, wrong_shape
from lstmc.dsl.op import axis_of, number_of, size_of, whole_number_of, word_of
from lstmc.dsl.value import Value, apply
from lstmc.errors import DslError, ShapeError
from lstmc.ops import Accuracy, EuclideanLoss, Max, Reshape, SigmoidCrossEntropyLoss, SoftmaxLoss, Sum
from lstmc.ops.loss import NORMALIZATIONS
from lstmc.source import argument_location, here

_NOT_GIVEN: Any = object()
Axes = int | Sequence[int] | None  # one axis, several, or all


@overload
def sum(x: Value, axis: Axes = None, /, *, keepdims: bool = False) -> Value: ...
@overload
def sum(x: Value, *, axis: Axes, keepdims: bool = False) -> Value: ...
@overload
def sum(x: Iterable[Any], start: Any = ...) -> Any: ...
@function
def sum(x: Value | Iterable[Any], start: Any = _NOT_GIVEN, *, axis: Axes = None, keepdims: bool = False) -> Any:
    """x summed along ``axis``: one axis, several, or None for all. ``sum(x, -1)`` is along the last one.
    The result lacks the axis; with ``keepdims`` it keeps the axis with size 1. ``sum`` of several values, as in ``sum(w
    * x for w, x in pairs)``, is Python's ``sum``."""
    if not isinstance(x, Value) and isinstance(x, Iterable):
        if axis is not None:
            problem = f"takes no axis, found {described(axis)}: add them, then sum along an axis"
            raise DslError(f"sum of several things {problem}", loc=argument_location(here(), None, "axis"))
        return builtins.sum(x) if start is _NOT_GIVEN else builtins.sum(x, start)
    check_value("sum", x, 0, "x")
    if start is not _NOT_GIVEN:
        if axis is not None:
            raise DslError("sum takes one axis, found two", loc=here())
        axis = start  # as NumPy has it
    return _reduced(Sum, x, _axes("sum", x, axis), keepdims)


@function
def mean(x: Value, axis: Axes = None, *, keepdims: bool = False) -> Value:
    """The mean of x along ``axis``, which may be several, or None for all: as for ``sum``."""
    return _mean(x, _axes("mean", x, axis), keepdims)


@function
def var(x: Value, axis: Axes = None, *, keepdims: bool = False) -> Value:
    """The mean of the squared distance to the mean, along ``axis`` as for ``sum``: divided by n, not by n - 1."""
    axes = _axes("var", x, axis)
    away = x - _mean(x, axes, keepdims=True)
    return _mean(away * away, axes, keepdims)


def _refuse_axis(function: str, axis: Axes, keepdims: bool) -> None:
    """Raise DslError if ``axis`` or ``keepdims`` is given without a Value: the function is then Python's own."""
    if axis is not None or keepdims:
        name, argument = ("axis", axis) if axis is not None else ("keepdims", keepdims)
        problem = f"{function} of arguments without a Value takes no {name}, found {described(argument)}"
        remedy = f"of an array write np.{function}"
        raise DslError(f"{problem}: {remedy}", loc=argument_location(here(), None, name))


@overload
def max(x: Value, *, axis: Axes = None, keepdims: bool = False) -> Value: ...
@overload
def max(x: Value, *others: Value | float) -> Value: ...
@overload
def max(x: Any, *others: Any, **options: Any) -> Any: ...
@function
def max(x: Any, *others: Any, axis: Axes = None, keepdims: bool = False, **options: Any) -> Any:
    """The largest element of x along ``axis``, as for ``sum``. Of equal elements the first gets the gradient.
    ``max`` of several Values is ``maximum``; without a Value it is Python's ``max``."""
    if not any(isinstance(thing, Value) for thing in (x, *others)):
        _refuse_axis("max", axis, keepdims)
        return builtins.max(x, *others, **options)
    if _of_several("max", x, others, axis, keepdims, options):
        return reduce(maximum, others, x)
    return _reduced(Max, x, _axes("max", x, axis), keepdims)


@overload
def min(x: Value, *, axis: Axes = None, keepdims: bool = False) -> Value: ...
@overload
def min(x: Value, *others: Value | float) -> Value: ...
@overload
def min(x: Any, *others: Any, **options: Any) -> Any: ...
@function
def min(x: Any, *others: Any, axis: Axes = None, keepdims: bool = False, **options: Any) -> Any:
    """The smallest element of x along ``axis``, as for ``sum``. ``min`` of several Values is ``minimum``; without a
    Value it is Python's ``min``."""
    if not any(isinstance(thing, Value) for thing in (x, *others)):
        _refuse_axis("min", axis, keepdims)
        return builtins.min(x, *others, **options)
    if _of_several("min", x, others, axis, keepdims, options):
        return reduce(minimum, others, x)
    return -_reduced(Max, -x, _axes("min", x, axis), keepdims)


@function
def layer_norm(
    x: Value, gain: Value | None = None, bias: Value | None = None, *, eps: float = 1e-5, axis: int = -1
) -> Value:
    """(x - mean) / sqrt(var + eps) along ``axis``, times ``gain``, plus ``bias``: arrays of that axis' size.
    Ba et al., 2016, arXiv:1607.06450. The variance is divided by n, and eps is under the root, as in PyTorch and Keras.
    (Caffe's MVN divides by sqrt(var) + eps, which is another function: it is not used.)"""
    least = _epsilon("layer_norm", eps)
    along = axis_of("layer_norm", axis, x)
    away = x - _mean(x, [along], keepdims=True)
    y = away * (_mean(away * away, [along], keepdims=True) + least) ** -0.5
    if gain is not None:
        y = y * _along("layer_norm", "gain", gain, x, along)
    return y if bias is None else y + _along("layer_norm", "bias", bias, x, along)


@function
def rms_norm(x: Value, gain: Value | None = None, *, eps: float = 1e-5, axis: int = -1) -> Value:
    """x / sqrt(mean(x * x) + eps) along ``axis``, times ``gain``, which is an array of that axis.
    Zhang and Sennrich 2019, arXiv:1910.07467."""
    along, least = axis_of("rms_norm", axis, x), _epsilon("rms_norm", eps)
    y = x * (_mean(x * x, [along], keepdims=True) + least) ** -0.5
    return y if gain is None else y * _along("rms_norm", "gain", gain, x, along)


@function
def l2_norm(x: Value, *, eps: float = 1e-6, axis: int = -1) -> Value:
    """x / sqrt(sum(x * x) + eps) along ``axis``: a vector of length 1, or of length 0 where x is 0."""
    along, least = axis_of("l2_norm", axis, x), _epsilon("l2_norm", eps)
    return x * (_reduced(Sum, x * x, [along], keepdims=True) + least) ** -0.5


@function
def log_softmax(x: Value, axis: int = -1) -> Value:
    """The logarithm of ``softmax(x)`` along ``axis``, finite for every finite x: the largest element is subtracted
    first. ``log(softmax(x))`` is -inf in float32 where x is 104 or more below the largest."""
    along = axis_of("log_softmax", axis, x, position=1)
    x = x - stop_gradient(_reduced(Max, x, [along], keepdims=True))
    return x - log(_reduced(Sum, exp(x), [along], keepdims=True))


@function
def group_norm(
    x: Value, groups: Size, gain: Value | None = None, bias: Value | None = None, *, eps: float = 1e-5
) -> Value:
    """(x - mean) / sqrt(var + eps) of each of ``groups`` parts of the last axis, times ``gain``, plus ``bias``.
    Wu and He 2018, arXiv:1803.08494. Each head of a cell is a group; ``gain`` and ``bias`` are as long as the axis."""
    parts, last = _heads("group_norm", "groups", x, groups), x.type.rank - 1
    y = merge_heads(layer_norm(split_heads(x, parts), eps=_epsilon("group_norm", eps)))
    if gain is not None:
        y = y * _along("group_norm", "gain", gain, x, last)
    return y if bias is None else y + _along("group_norm", "bias", bias, x, last)


@function
def split_heads(x: Value, heads: Size) -> Value:
    """The last axis of x as ``heads`` equal parts: [..., heads * K] gives [..., heads, K]."""
    parts = _heads("split_heads", "heads", x, heads)
    return apply(Reshape((*x.shape[:-1], parts, x.shape[-1] // parts)), x)


@function
def merge_heads(x: Value) -> Value:
    """The last two axes of x as one, the inverse of ``split_heads``: [..., heads, K] gives [..., heads * K]."""
    if x.type.rank < 2:
        raise wrong_shape("merge_heads: x must have two axes or more", x=x)
    return apply(Reshape((*x.shape[:-2], x.shape[-2] * x.shape[-1])), x)


def _heads(function: str, name: str, x: Value, heads: Size) -> int:
    """Return ``heads`` as a number. Raise ShapeError unless the last axis of x divides into ``heads`` equal parts."""
    count = size_of(x, heads)
    if not x.shape or count < 1 or x.shape[-1] % count:
        raise wrong_shape(f"{function}: the last axis of x must have a multiple of {name} = {count} elements", x=x)
    return count


def _epsilon(function: str, eps: float) -> float:
    """Return ``eps`` as a float. Raises :class:`DslError` unless it is greater than 0."""
    least = number_of(function, "eps", eps, position=None)
    if least <= 0:
        problem = f"{function}: eps must be greater than 0, found {eps!r}"
        raise DslError(problem, loc=argument_location(here(), None, "eps"))
    return least


def _along(function: str, name: str, value: Value, x: Value, axis: int) -> Value:
    """Return ``value``, an array as long as ``axis`` of x, in a shape that broadcasts along this axis."""
    if value.shape != x.shape[axis : axis + 1]:
        expected = f"the {x.shape[axis]} elements of axis {axis} of x"
        raise wrong_shape(f"{function}: {name} must have {expected}", **{name: value, "x": x})
    last = axis == x.type.rank - 1
    return value if last else apply(Reshape((x.shape[axis], *(1,) * (x.type.rank - 1 - axis))), value)


def _of_several(function: str, x: Any, others: Sequence[Any], axis: Axes, keepdims: bool, options: Any) -> bool:
    """Return whether a call of ``max`` or ``min`` compares several arguments, not the elements of one Value. Raise
    :class:`DslError` for an integer after a Value: an axis in NumPy and PyTorch, a second argument in Python."""
    of_several = bool(others) and axis is None and not keepdims and not options
    ambiguous = isinstance(x, Value) and len(others) == 1 and whole_number(others[0]) is not None
    if of_several and not ambiguous:
        return True
    if others or options:
        arguments = ", ".join([described(thing) for thing in (x, *others)] + [f"{name}=" for name in options])
        one = "maximum(a, b)" if function == "max" else "minimum(a, b)"
        problem = f"{function} takes one Value and an axis, or several Values, found {arguments}"
        remedy = f"along an axis it is {function}(x, axis=0), of two it is {one}"
        raise DslError(f"{problem}: {remedy}", loc=here())
    return False


def _axes(function: str, x: Value, axis: Axes) -> list[int]:
    """Return the axes that a call names, sorted and counted from the front; all axes if ``axis`` is None."""
    if axis is None:
        return list(range(x.type.rank))
    listed: list[Any] = list(axis) if isinstance(axis, list | tuple) else [axis]
    axes = sorted({axis_of(function, one, x, position=1) for one in listed})
    if len(axes) < len(listed):
        loc = argument_location(here(), 1, "axis")
        raise ShapeError(f"{function}: an axis is named once, found {axis}: x is {x.type}", loc=loc)
    return axes


def _mean(x: Value, axes: list[int], keepdims: bool) -> Value:
    total: Value = _reduced(Sum, x, axes, keepdims)
    return total / prod(x.shape[one] for one in axes)


def _reduced(op: type[Sum] | type[Max], x: Value, axes: list[int], keepdims: bool) -> Value:
    """Return x reduced by ``op`` along each of ``axes``; with ``keepdims`` these axes stay, with one element."""
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    for one in reversed(axes):
        x = apply(op(one), x)
    return apply(Reshape(kept), x) if keepdims else x


@function
def softmax_loss(
    x: Value, label: Value, *, axis: int = -1, ignore_label: int | None = None, normalization: str = "valid"
) -> Value:
    """The cross entropy of softmax(x) along ``axis`` with the right classes: scores [T, N, K], labels [T, N].
    A label is the number of a class, 0 to K - 1; one that equals ``ignore_label`` is not counted. The sum is divided by
    the number of labels counted (``normalization`` ``valid``), of all labels (``full``), by the size of the axes before
    ``axis`` (``batch_size``), or by nothing (``none``)."""
    along, ignored = axis_of("softmax_loss", axis, x), _ignored("softmax_loss", ignore_label)
    word = word_of("softmax_loss", "normalization", normalization, NORMALIZATIONS)
    return apply(SoftmaxLoss(along, ignored, word), x, label)


@function
def sigmoid_cross_entropy_loss(x: Value, target: Value, *, normalization: str = "valid") -> Value:
    """The cross entropy of sigmoid(x) with targets between 0 and 1, of x's own shape.
    The sum is divided by the number of elements (``normalization`` ``valid`` or ``full``), by the size of the first
    axis (``batch_size``), or by nothing (``none``)."""
    word = word_of("sigmoid_cross_entropy_loss", "normalization", normalization, NORMALIZATIONS)
    return apply(SigmoidCrossEntropyLoss(word), x, target)


@function
def euclidean_loss(x: Value, target: Value) -> Value:
    """The sum of (x - target) ** 2 over twice the size of the first axis, as in Caffe."""
    return apply(EuclideanLoss(), x, target)


@function
def accuracy(x: Value, label: Value, *, axis: int = -1, top_k: int = 1, ignore_label: int | None = None) -> Value:
    """The share of labels among the ``top_k`` best classes along ``axis``: scores [T, N, K], labels [T, N].
    A label equal to ``ignore_label`` is not counted. No gradient flows."""
    along, ignored = axis_of("accuracy", axis, x), _ignored("accuracy", ignore_label)
    return apply(Accuracy(along, ignored, whole_number_of("accuracy", "top_k", top_k)), x, label)


def _ignored(function: str, label: int | None) -> int | None:
    return None if label is None else whole_number_of(function, "ignore_label", label)


__all__ = [
    "accuracy", "euclidean_loss", "group_norm", "l2_norm", "layer_norm", "log_softmax", "max", "mean", "merge_heads",
    "min", "rms_norm", "sigmoid_cross_entropy_loss", "softmax_loss", "split_heads", "sum", "var",
]  # fmt: skip
