"""What each op computes, against formulas that were written for something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_allclose, assert_array_equal

from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Array,
    Concat,
    Cos,
    Dropout,
    Elu,
    Embed,
    EuclideanLoss,
    Exp,
    Full,
    Linear,
    Log,
    Mul,
    Op,
    Power,
    Relu,
    Reshape,
    Sigmoid,
    Sin,
    Softmax,
    Split,
    Stack,
    Sub,
    Sum,
    Tanh,
    Unstack,
)
from lstmc_caffe import ops as caffe

RNG = np.random.default_rng(5)
X = RNG.normal(size=(2, 3, 4))
W = RNG.normal(size=(5, 12))
B = RNG.normal(size=5)
V = RNG.normal(size=3)
POSITIVE = abs(X) + 0.1

MEANINGS: list[tuple[Op, tuple[Array, ...], Any]] = [
    (Full((2, 2), -0.5), (), [[-0.5, -0.5], [-0.5, -0.5]]),
    (Linear(1), (X, W, B), np.einsum("nij,oij->no", X, W.reshape(5, 3, 4)) + B),
    (Linear(2), (X, W[:, :4]), np.einsum("tni,oi->tno", X, W[:, :4])),
    (Linear(0), (X[0], W), W @ X[0].ravel()),
    (Add(), (X, V[:, None]), X + V[None, :, None]),
    (Sub(), (V[:, None], X), V[None, :, None] - X),
    (Mul(), (X, V[:, None]), np.einsum("abc,b->abc", X, V)),
    (Affine(-2.0, 0.5), (X,), 0.5 - 2 * X),
    (Sigmoid(), (X,), scipy.special.expit(X)),
    (Tanh(), (X,), 2 * scipy.special.expit(2 * X) - 1),
    (Relu(), (X,), (X + abs(X)) / 2),
    (Elu(0.5), (X,), np.piecewise(X, [X > 0, X <= 0], [lambda x: x, lambda x: 0.5 * (np.exp(x) - 1)])),
    (Abs(), (X,), np.sqrt(X**2)),
    (Exp(), (X,), np.e**X),
    (Sin(), (X,), np.exp(1j * X).imag),
    (Cos(), (X,), np.exp(1j * X).real),
    (Log(), (POSITIVE,), np.log2(POSITIVE) * np.log(2)),
    (Power(3.0), (X,), X * X * X),
    (Power(-1.0), (X,), 1 / X),
    (Power(0.5), (POSITIVE,), np.sqrt(POSITIVE)),
    (Softmax(1), (X,), scipy.special.softmax(X, axis=1)),
    (Split(2, (4,)), (X,), X),
    (Concat(1), (X, X[:, :1]), X[:, [0, 1, 2, 0]]),
    (Reshape((3, 8)), (X,), np.ravel(X).reshape(3, 8)),
    (Stack(), (X[0], X[1]), X),
    (Unstack(), (X[:1],), X[0]),
    (Embed(), (np.array([[3.0, 0.0]]), W), W[[[3, 0]]]),
    (Dropout(0.3), (X,), X),
    (Sum(1), (X,), np.einsum("abc->ac", X)),
    (Sum(2), (X,), X @ np.ones(4)),
    (EuclideanLoss(), (X, POSITIVE), np.linalg.norm(X - POSITIVE) ** 2 / 4),
    (caffe.EmbedLayer(5, 12), (np.array([4.0, 4.0]), W), np.stack([W[4], W[4]])),
    (caffe.DropoutLayer(0.5), (X,), X),
    (caffe.Reduction(1), (X,), [X[0].sum(), X[1].sum()]),
    (caffe.EuclideanLossLayer(), (X, POSITIVE), ((X - POSITIVE) ** 2).mean() * 6),
    (caffe.Eltwise("SUM", (1.0, -0.5, 2.0)), (X, X, POSITIVE), 0.5 * X + 2 * POSITIVE),
    (caffe.Eltwise("PROD"), (X, X, X), X**3),
    (caffe.Bias(1, 1), (X, V), np.moveaxis(np.moveaxis(X, 1, 2) + V, 2, 1)),
    (caffe.Bias(0, 3, True), (X, POSITIVE), X + POSITIVE),
    (caffe.Scale(1, 2), (X, X[0]), np.stack([X[0] ** 2, X[1] * X[0]])),
    (caffe.Scale(0, 0), (X, np.asarray(2.0)), 2 * X),
    (caffe.PowerLayer(2.0, 3.0, 1.0), (X,), 9 * X * X + 6 * X + 1),
    (caffe.PowerLayer(1.0, -1.0, 1.0), (X,), 1 - X),
]


@pytest.mark.parametrize(("op", "operands", "expected"), MEANINGS, ids=lambda value: getattr(value, "name", None))
def test_result_is_the_formula(op: Op, operands: tuple[Array, ...], expected: Any) -> None:
    (found,) = op.eval(*operands)
    assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_pieces_come_in_order() -> None:
    assert_array_equal(np.concatenate(Split(1, (1, 2)).eval(X), axis=1), X)
    assert [piece.shape for piece in Split(1, (1, 2)).eval(X)] == [(2, 1, 4), (2, 2, 4)]
    assert_array_equal(Unstack().eval(X)[1], X[1])


@pytest.mark.parametrize(
    ("op", "slope"),
    [(Relu(), 0.0), (Abs(), 0.0), (Elu(0.5), 0.5), (caffe.ReLULayer(), 0.0), (caffe.ELULayer(0.5), 0.5)],
    ids=lambda value: getattr(value, "name", None),
)
def test_slope_at_the_kink_is_that_of_caffe(op: Op, slope: float) -> None:
    x = np.zeros(1)
    (gradient,) = op.vjp((np.ones(1),), op.eval(x), x)
    assert_array_equal(gradient, [slope])


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_power_layer_has_a_slope_at_zero_where_caffe_has_one(power: float) -> None:
    x = np.zeros(1)
    op = caffe.PowerLayer(power)
    (gradient,) = op.vjp((np.ones(1),), op.eval(x), x)
    assert_array_equal(gradient, [1.0 if power == 1 else 0.0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("op", "expected"),
    [(Sigmoid(), [0, 1]), (Tanh(), [-1, 1]), (Elu(), [-1, 1e4]), (Softmax(0), [0, 1])],
    ids=lambda value: getattr(value, "name", None),
)
def test_large_operands_do_not_overflow(op: Op, expected: list[float], dtype: type) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        (found,) = op.eval(np.array([-1e4, 1e4], dtype))
    assert_array_equal(found, np.array(expected, dtype))
