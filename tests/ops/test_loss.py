"""Losses and accuracy against formulas of SciPy, and the rules of Caffe's that no formula has."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_allclose, assert_array_equal

from lstmc.ops import Accuracy, IntegerRange, SigmoidCrossEntropyLoss, SoftmaxLoss
from lstmc.ops.loss import NORMALIZATIONS, SMALLEST
from lstmc.types import TensorType

RNG = np.random.default_rng(9)
X = RNG.normal(size=(3, 2, 5))  # scores of 5 classes for 3 steps of 2
LABEL = np.array([[0.0, 4.0], [-1.0, 2.0], [4.0, -1.0]])
COUNTED = [(0, 0), (0, 1), (1, 1), (2, 0)]
NUMBER = {"valid": 4, "full": 6, "batch_size": 6, "none": 1}  # batch_size: of all axes before the classes


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_softmax_loss(normalization: str) -> None:
    op = SoftmaxLoss(2, -1, normalization)
    log = scipy.special.log_softmax(X, axis=2)
    total = -sum(log[t, n, int(LABEL[t, n])] for t, n in COUNTED)
    (found,) = op.eval(X, LABEL)
    assert_allclose(found, total / NUMBER[normalization], rtol=1e-12)
    gradient, none = op.vjp((np.asarray(2.0),), (found,), X, LABEL)
    assert none is None
    wanted = np.zeros_like(X)
    for t, n in COUNTED:
        wanted[t, n] = (scipy.special.softmax(X[t, n]) - np.eye(5)[int(LABEL[t, n])]) * 2 / NUMBER[normalization]
    assert_allclose(gradient, wanted, rtol=1e-12, atol=1e-15)


def test_classes_may_be_along_any_axis() -> None:
    labels = np.where(LABEL < 0, 1, LABEL)
    for axis in range(3):
        moved = np.moveaxis(X, 2, axis)
        for last, op in ((SoftmaxLoss(2), SoftmaxLoss(axis)), (Accuracy(2, top_k=2), Accuracy(axis, top_k=2))):
            assert_allclose(op.eval(moved, labels), last.eval(X, labels), rtol=1e-12)
    gradients = [
        op.vjp((np.asarray(1.0),), (), moved, labels)[0]
        for op, moved in ((SoftmaxLoss(2), X), (SoftmaxLoss(0), np.moveaxis(X, 2, 0)))
    ]
    assert_allclose(np.moveaxis(gradients[1], 0, 2), gradients[0], rtol=1e-12)


def test_probabilities_are_at_least_the_smallest_float() -> None:
    assert SMALLEST == 2.0**-126
    (found,) = SoftmaxLoss(0).eval(np.array([0.0, 1e4]), np.asarray(0.0))
    assert_allclose(found, 126 * np.log(2), rtol=1e-12)


@pytest.mark.parametrize("op", [SoftmaxLoss(2, -1), Accuracy(2, -1)], ids=lambda op: op.name)
def test_nothing_is_counted_where_every_label_is_left_out(op: SoftmaxLoss | Accuracy) -> None:
    assert_array_equal(op.eval(X, np.full((3, 2), -1.0)), [0])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_sigmoid_cross_entropy(normalization: str) -> None:
    target = RNG.uniform(size=X.shape)
    p = scipy.special.expit(X)
    total = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum()
    number = {"valid": 30, "full": 30, "batch_size": 3, "none": 1}[normalization]
    assert_allclose(SigmoidCrossEntropyLoss(normalization).eval(X, target), [total / number], rtol=1e-12)


def test_sigmoid_cross_entropy_of_large_scores_is_finite() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        (found,) = SigmoidCrossEntropyLoss("none").eval(np.array([1e4, -1e4]), np.array([1.0, 1.0]))
    assert found == 1e4


@pytest.mark.parametrize("top_k", range(1, 6))
def test_accuracy_is_how_often_the_label_is_among_the_best(top_k: int) -> None:
    best = np.argsort(X, axis=2)[..., ::-1][..., :top_k]
    right = [LABEL[place] in best[place] for place in COUNTED]
    assert_allclose(Accuracy(2, -1, top_k).eval(X, LABEL), [np.mean(right)], rtol=1e-12)


def test_of_equal_scores_the_higher_class_is_the_better_one() -> None:
    scores = np.zeros((3, 3))
    labels = np.arange(3.0)
    assert_allclose([Accuracy(1, top_k=k).eval(scores, labels)[0] for k in (1, 2, 3)], [1 / 3, 2 / 3, 1])
    assert Accuracy(1).eval(scores[:1], labels[2:]) == (1,)


@pytest.mark.parametrize(
    ("ignored", "wanted"),
    [(None, IntegerRange(0, 4)), (3, IntegerRange(0, 4)), (-1, IntegerRange(0, 4, -1)), (255, IntegerRange(0, 4, 255))],
)
def test_labels_are_numbers_of_classes_or_the_one_that_is_left_out(ignored: int | None, wanted: IntegerRange) -> None:
    types = (TensorType(X.shape), TensorType(LABEL.shape))
    assert SoftmaxLoss(2, ignored).domains(*types) == (None, wanted)
    assert Accuracy(2, ignored).domains(*types) == (None, wanted)
