"""Losses and scores: what training makes small, and what tells how good a model is. Each is a value without axes."""

from __future__ import annotations

from lstmc.dsl.arguments import axis_of, check_values, whole_number_of, word_of
from lstmc.dsl.function import function
from lstmc.dsl.value import Value, apply
from lstmc.ops import Accuracy, EuclideanLoss, SigmoidCrossEntropyLoss, SoftmaxLoss
from lstmc.ops.loss import NORMALIZATIONS

__all__ = ["accuracy", "euclidean_loss", "sigmoid_cross_entropy_loss", "softmax_loss"]


@function
def softmax_loss(
    x: Value, label: Value, *, axis: int = -1, ignore_label: int | None = None, normalization: str = "valid"
) -> Value:
    """The cross entropy of softmax(x) along ``axis`` with the right classes: scores [T, N, K], labels [T, N].

    A label is the number of a class, 0 to K - 1; where it is ``ignore_label`` nothing is counted. The sum is divided by
    the number of labels counted (``normalization`` ``valid``), of all labels (``full``), by the size of the axes before
    ``axis`` (``batch_size``), or by nothing (``none``).
    """
    check_values("softmax_loss", x=x, label=label)
    op = SoftmaxLoss(
        axis_of("softmax_loss", axis, x),
        _ignored("softmax_loss", ignore_label),
        word_of("softmax_loss", "normalization", normalization, NORMALIZATIONS),
    )
    return apply(op, x, label)


@function
def sigmoid_cross_entropy_loss(x: Value, target: Value, *, normalization: str = "valid") -> Value:
    """The cross entropy of sigmoid(x) with targets between 0 and 1, of x's own shape.

    The sum is divided by the number of elements (``normalization`` ``valid`` or ``full``), by the size of the first
    axis (``batch_size``), or by nothing (``none``).
    """
    check_values("sigmoid_cross_entropy_loss", x=x, target=target)
    word = word_of("sigmoid_cross_entropy_loss", "normalization", normalization, NORMALIZATIONS)
    return apply(SigmoidCrossEntropyLoss(word), x, target)


@function
def euclidean_loss(x: Value, target: Value) -> Value:
    """The sum of (x - target) ** 2 over twice the size of the first axis, as Caffe has it."""
    check_values("euclidean_loss", x=x, target=target)
    return apply(EuclideanLoss(), x, target)


@function
def accuracy(x: Value, label: Value, *, axis: int = -1, top_k: int = 1, ignore_label: int | None = None) -> Value:
    """How often the right class is among the ``top_k`` best along ``axis``: scores [T, N, K], labels [T, N].

    Where the label is ``ignore_label`` nothing is counted. No gradient flows.
    """
    check_values("accuracy", x=x, label=label)
    op = Accuracy(
        axis_of("accuracy", axis, x),
        whole_number_of("accuracy", "top_k", top_k),
        _ignored("accuracy", ignore_label),
    )
    return apply(op, x, label)


def _ignored(function: str, label: int | None) -> int | None:
    return None if label is None else whole_number_of(function, "ignore_label", label)
