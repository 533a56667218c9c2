"""Convolution and pooling against loops written after Caffe's own (``im2col.cpp``, ``pooling_layer.cpp``)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstmc.ops import Array, AvePool, Conv, MaxPool
from lstmc.ops.layers import Pair
from lstmc.types import TensorType

RNG = np.random.default_rng(8)
X = RNG.normal(size=(2, 4, 5, 6))


def convolved(op: Conv, x: Array, w: Array, b: Array) -> Array:
    """Element by element."""
    out, inner, kh, kw = w.shape
    (result,) = op.infer(TensorType(x.shape), TensorType(w.shape))
    y = np.zeros(result.shape)
    for n, o, i, j in np.ndindex(*y.shape):
        first = o // (out // op.group) * inner
        for c, u, v in product(range(inner), range(kh), range(kw)):
            row, column = (
                at * s + k * d - p
                for at, s, k, d, p in zip((i, j), op.stride, (u, v), op.dilation, op.pad, strict=True)
            )
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                y[n, o, i, j] += w[o, c, u, v] * x[n, first + c, row, column]
        y[n, o, i, j] += b[o]
    return y


@pytest.mark.parametrize(
    "op",
    [
        Conv(),
        Conv(stride=(2, 1)),
        Conv(pad=(1, 2)),
        Conv(dilation=(2, 1), pad=(2, 0)),
        Conv((2, 3), (1, 1), (1, 2), group=2),
    ],
    ids=str,
)
def test_convolution(op: Conv) -> None:
    w, b = RNG.normal(size=(6, 4 // op.group, 3, 2)), RNG.normal(size=6)
    assert_allclose(op.eval(X, w, b)[0], convolved(op, X, w, b), rtol=1e-12)
    assert_allclose(op.eval(X, w)[0], convolved(op, X, w, np.zeros(6)), rtol=1e-12)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_leading_axes_are_a_batch(lead: tuple[int, ...]) -> None:
    x, w = RNG.normal(size=(*lead, 4, 5, 6)), RNG.normal(size=(3, 4, 2, 2))
    batch = x.reshape(-1, 4, 5, 6)
    for op, more in ((Conv(pad=(1, 0)), (w,)), (MaxPool((2, 2)), ()), (AvePool((3, 2), (2, 2), (1, 1)), ())):
        y = op.eval(batch, *more)[0]
        assert_array_equal(op.eval(x, *more)[0], y.reshape(*lead, *y.shape[1:]))


WINDOWS: list[tuple[Pair, Pair, Pair, Pair]] = [  # size, stride, pad, and how many windows there are
    ((2, 2), (1, 1), (0, 0), (4, 5)),
    ((2, 2), (2, 2), (0, 0), (3, 3)),  # the last one along H is cut off
    ((3, 2), (2, 4), (1, 1), (3, 2)),
    ((3, 3), (4, 4), (2, 2), (2, 2)),  # one that would start behind the image is left out
    ((2, 4), (3, 3), (1, 2), (2, 3)),
    ((5, 6), (1, 1), (0, 0), (1, 1)),
]


def windows(size: Pair, stride: Pair, pad: Pair, counts: Pair) -> list[tuple[Pair, slice, slice, int]]:
    """Each window's place, its rows and columns in the image, and how many places it has in the padded one."""
    found = []
    for at in np.ndindex(*counts):
        spans, places = [], 1
        for i, k, s, p, n in zip(at, size, stride, pad, X.shape[2:], strict=True):
            start, end = i * s - p, min(i * s - p + k, n + p)
            places *= end - start
            spans.append(slice(max(start, 0), min(end, n)))
        found.append((at, *spans, places))
    return found


@pytest.mark.parametrize(("size", "stride", "pad", "counts"), WINDOWS, ids=str)
def test_pooling(size: Pair, stride: Pair, pad: Pair, counts: Pair) -> None:
    largest, mean = MaxPool(size, stride, pad).eval(X)[0], AvePool(size, stride, pad).eval(X)[0]
    assert largest.shape[2:] == mean.shape[2:] == counts
    for (i, j), rows, columns, places in windows(size, stride, pad, counts):
        part = X[:, :, rows, columns]
        assert_array_equal(largest[:, :, i, j], part.max(axis=(2, 3)))
        assert_allclose(mean[:, :, i, j], part.sum(axis=(2, 3)) / places, rtol=1e-12)


def test_the_gradient_of_equal_elements_goes_to_the_first() -> None:
    x = np.array([[[1.0, 2.0, 2.0], [2.0, 1.0, 2.0]]])
    op = MaxPool((2, 2))
    (gradient,) = op.vjp((np.array([[[10.0, 1.0]]]),), op.eval(x), x)
    assert_array_equal(gradient, [[[0, 11, 0], [0, 0, 0]]])
