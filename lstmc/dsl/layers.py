"""What stands before, between and after recurrent cells: embeddings, convolutions, pooling, dropout."""

from __future__ import annotations

from lstmc.dsl.arguments import check_values, number_of, pair_of, whole_number_of
from lstmc.dsl.function import function
from lstmc.dsl.value import Value, apply, inner_trace
from lstmc.errors import DslError
from lstmc.ops import AvePool, Conv, Dropout, Embed, MaxPool
from lstmc.source import argument_location, here

__all__ = ["ave_pool", "conv", "dropout", "embed", "max_pool"]

Pairs = int | tuple[int, int]  # (height, width), or one number for both


@function
def embed(x: Value, W: Value) -> Value:
    """The rows of W that x names: W is [V, H], x holds integers from 0 to V - 1; [T, N] gives [T, N, H].

    No gradient flows to x.
    """
    check_values("embed", x=x, W=W)
    return apply(Embed(), x, W)


@function
def conv(
    x: Value,
    W: Value,
    b: Value | None = None,
    *,
    stride: Pairs = 1,
    pad: Pairs = 0,
    dilation: Pairs = 1,
    group: int = 1,
) -> Value:
    """Images x [..., C, H, W] convolved: W is [out, C / group, kh, kw], b is [out]; the result is [..., out, H', W'].

    H' is (H + 2 pad - dilation (kh - 1) - 1) // stride + 1, and so is W'. ``stride``, ``pad`` and ``dilation`` are one
    number, or (height, width).
    """
    operands = (x, W) if b is None else (x, W, b)
    check_values("conv", **dict(zip(("x", "W", "b"), operands, strict=False)))
    op = Conv(
        pair_of("conv", "stride", stride, 1),
        pair_of("conv", "pad", pad, 0),
        pair_of("conv", "dilation", dilation, 1),
        whole_number_of("conv", "group", group, 1),
    )
    return apply(op, *operands)


@function
def max_pool(x: Value, size: Pairs, *, stride: Pairs | None = None, pad: Pairs = 0) -> Value:
    """The largest element of each window of images x [..., C, H, W]; as many windows as Caffe's Pooling has.

    Windows are ``size`` large, and ``stride`` apart (``size``, if it is not given); both are one number, or (height,
    width). There are ceil((H + 2 pad - size) / stride) + 1 along an axis, less one that would start in the padding.
    """
    check_values("max_pool", x=x)
    return apply(MaxPool(*_windows("max_pool", size, stride, pad)), x)


@function
def ave_pool(x: Value, size: Pairs, *, stride: Pairs | None = None, pad: Pairs = 0) -> Value:
    """The mean of each window of images x [..., C, H, W], padding counted as zeros; the windows are ``max_pool``'s."""
    check_values("ave_pool", x=x)
    return apply(AvePool(*_windows("ave_pool", size, stride, pad)), x)


def _windows(function: str, size: Pairs, stride: Pairs | None, pad: Pairs) -> tuple[tuple[int, int], ...]:
    windows = pair_of(function, "size", size, 1, position=1)
    return (
        windows,
        windows if stride is None else pair_of(function, "stride", stride, 1),
        pair_of(function, "pad", pad, 0),
    )


@function
def dropout(x: Value, ratio: float = 0.5) -> Value:
    """x; in training with each element zero with probability ``ratio``, and the others divided by 1 - ``ratio``.

    Each call draws for itself, anew at each iteration and each step; in a cell, what is the same at every step has one
    draw for all of them.
    """
    check_values("dropout", x=x)
    share = number_of("dropout", "ratio", ratio)
    if not 0 <= share < 1:
        loc = argument_location(here(), 1, "ratio")
        raise DslError(f"dropout: ratio must be from 0 up to, not including, 1, found {ratio!r}", loc=loc)
    return apply(Dropout(share, next(inner_trace(x).root.draws)), x)
