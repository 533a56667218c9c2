"""Losses and scores: one number from a model's outputs and the targets or labels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import Along, Array, Arrays, Draw, IntegerRange, Op, Sample, Types, check_axis, sample_type
from lstmc.ops.shape import without
from lstmc.types import TensorType

__all__ = ["Accuracy", "EuclideanLoss", "SigmoidCrossEntropyLoss", "SoftmaxLoss"]

NORMALIZATIONS = ("valid", "full", "batch_size", "none")
SMALLEST = float(np.finfo(np.float32).tiny)  # FLT_MIN


def _check_normalization(op: str, normalization: str) -> None:
    if normalization not in NORMALIZATIONS:
        raise ShapeError(f"{op}: normalization must be one of {', '.join(NORMALIZATIONS)}, found {normalization!r}")


@dataclass(frozen=True)
class _OfClasses(Op):
    """A loss or score of class scores along ``axis``, and of labels at all other axes. ``ignore_label`` is left out."""

    operands = ("x", "label")
    for_training = True
    axis: int
    ignore_label: int | None = None

    def infer(self, x: TensorType, label: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        expected = TensorType(without(x.shape, self.axis), x.dtype)
        if label != expected:
            problem = f"label must have the axes of x without axis {self.axis}"
            raise ShapeError(f"{self.name}: {problem}: expected {expected}, found {label}")
        return (TensorType((), x.dtype),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        x = axis if slot == 0 else axis + (axis >= self.axis)  # the place of the axis in x
        return Along(None, (x, None if x == self.axis else x - (x > self.axis)), (None,))

    def _rows(self, x: Array) -> Array:
        """Return the class scores as a matrix: a row for each place, a column for each class."""
        return np.moveaxis(x, self.axis, -1).reshape(-1, x.shape[self.axis])

    def _counted(self, label: Array) -> tuple[Array, Array]:
        """Return the labels as flat indices, 0 where ignored, and the mask of those that are not ignored."""
        flat = label.reshape(-1).astype(int)
        counted = np.full(flat.shape, True) if self.ignore_label is None else flat != self.ignore_label
        return np.where(counted, flat, 0), counted

    def domains(self, x: TensorType, label: TensorType) -> tuple[IntegerRange | None, ...]:
        classes, ignored = x.shape[self.axis], self.ignore_label
        outside = ignored is not None and not 0 <= ignored < classes
        return None, IntegerRange(0, classes - 1, ignored if outside else None)

    @staticmethod
    def sample_types(draw: Draw) -> tuple[int, TensorType, TensorType]:
        """Return a random axis of classes, the type of the scores, and the type of the labels."""
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        return axis, x, TensorType(without(x.shape, axis))


@dataclass(frozen=True)
class SoftmaxLoss(_OfClasses):
    """y = -sum(ln softmax(x)[label]) / M; label holds the number of the right class at every place.
    ``axis`` is the axis of classes in x; label has all other axes. Probabilities are taken to be at least FLT_MIN.
    Places whose label is ``ignore_label`` are left out. M is at least 1 and depends on ``normalization``: ``valid``:
    the number of places that are not left out; ``full``: the number of all places; ``batch_size``: the number of places
    along the axes before ``axis``; ``none``: 1 (``softmax_loss_layer.cpp``, ``loss_layer.cpp``). The gradient to x is
    (softmax(x) - 1 at the label) / M."""

    name = "softmax_loss"
    undifferentiated = (1,)
    normalization: str = "valid"

    def infer(self, x: TensorType, label: TensorType) -> Types:
        _check_normalization(self.name, self.normalization)
        return super().infer(x, label)

    def eval(self, x: Array, label: Array) -> Arrays:
        index, counted = self._counted(label)
        chosen = self._probabilities(x)[np.arange(len(index)), index]
        losses = -np.log(np.maximum(chosen, np.asarray(SMALLEST, x.dtype)))
        return (np.asarray(losses[counted].sum() / self._number(x, counted), x.dtype),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, label: Array) -> tuple[Array | None, ...]:
        """Return the gradient of x: (softmax(x), minus 1 at the label) / M, and 0 at ignored places."""
        index, counted = self._counted(label)
        rows = self._probabilities(x)
        rows[np.arange(len(index)), index] -= 1
        rows = np.where(counted[:, None], rows, 0) * (cts[0] / self._number(x, counted))
        others = [size for axis, size in enumerate(x.shape) if axis != self.axis]
        return np.moveaxis(rows.astype(x.dtype).reshape(*others, -1), -1, self.axis), None

    def _probabilities(self, x: Array) -> Array:
        rows = self._rows(x)
        e = np.exp(rows - rows.max(axis=1, keepdims=True))
        probabilities: Array = e / e.sum(axis=1, keepdims=True)
        return probabilities

    def _number(self, x: Array, counted: Array) -> int:
        batch = prod(x.shape[: self.axis])
        numbers = {"valid": int(counted.sum()), "full": counted.size, "batch_size": batch, "none": 1}
        return max(1, numbers[self.normalization])

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        axis, *types = cls.sample_types(draw)
        return Sample(cls(axis, draw.choice((None, -1, 0)), draw.choice(NORMALIZATIONS)), tuple(types))


@dataclass(frozen=True)
class Accuracy(_OfClasses):
    """y is the share of counted places whose label is among the ``top_k`` best classes.
    ``axis`` is the axis of classes in x; label has all other axes. Places whose label is ``ignore_label`` are left out;
    y is 0 if all places are. Among equal scores the class with the higher number ranks first (``accuracy_layer.cpp`` as
    lstmc installs it; later versions count every equal score as better). No gradient flows."""

    name = "accuracy"
    undifferentiated = (0, 1)
    top_k: int = 1

    def infer(self, x: TensorType, label: TensorType) -> Types:
        result = super().infer(x, label)
        if not 1 <= self.top_k <= x.shape[self.axis]:
            raise ShapeError(f"{self.name}: top_k must be from 1 to {x.shape[self.axis]}, found {self.top_k}: x is {x}")
        return result

    def eval(self, x: Array, label: Array) -> Arrays:
        """Return the share of counted places where fewer than ``top_k`` classes rank above the right class."""
        index, counted = self._counted(label)
        rows = self._rows(x)
        own = rows[np.arange(len(index)), index][:, None]
        better = (rows > own) | ((rows == own) & (np.arange(rows.shape[1]) > index[:, None]))
        right = better.sum(axis=1) < self.top_k
        return (np.asarray(right[counted].sum() / max(1, counted.sum()), x.dtype),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, label: Array) -> tuple[Array | None, ...]:
        return None, None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        axis, x, label = cls.sample_types(draw)
        return Sample(cls(axis, draw.choice((None, -1, 0)), draw.integer(1, x.shape[axis])), (x, label))


@dataclass(frozen=True)
class _OfArrays(Op):
    """A loss that compares two arrays of one shape, element by element."""

    operands = ("x", "target")
    for_training = True

    def infer(self, x: TensorType, target: TensorType) -> Types:
        if x.rank < 1 or x != target:
            raise ShapeError(f"{self.name}: x and target must have one shape: x is {x}, target is {target}")
        return (TensorType((), x.dtype),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(None, (axis, axis), (None,))


@dataclass(frozen=True)
class SigmoidCrossEntropyLoss(_OfArrays):
    """y = -sum(target ln p + (1 - target) ln(1 - p)) / M, with p = sigmoid(x). No gradient flows to target.
    M depends on ``normalization``: ``valid`` and ``full``: the number of elements; ``batch_size``: the size of the
    first axis; ``none``: 1 (``sigmoid_cross_entropy_loss_layer.cpp``, which has ``batch_size``)."""

    name = "sigmoid_cross_entropy_loss"
    undifferentiated = (1,)
    normalization: str = "valid"

    def infer(self, x: TensorType, target: TensorType) -> Types:
        _check_normalization(self.name, self.normalization)
        return super().infer(x, target)

    def eval(self, x: Array, target: Array) -> Arrays:
        losses = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        return (np.asarray(losses.sum() / self.number(x.shape), x.dtype),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, target: Array) -> tuple[Array | None, ...]:
        gradient = (0.5 * np.tanh(0.5 * x) + 0.5 - target) * (cts[0] / self.number(x.shape))
        return np.asarray(gradient, x.dtype), None

    def number(self, shape: tuple[int, ...]) -> int:
        """Return M, the divisor of the summed losses, by ``normalization``."""
        return {"batch_size": shape[0], "none": 1}.get(self.normalization, prod(shape))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.choice(NORMALIZATIONS)), (sample_type(draw),) * 2)


@dataclass(frozen=True)
class EuclideanLoss(_OfArrays):
    """y = sum((x - target) ** 2) / (2 N), N the size of the first axis (``euclidean_loss_layer.cpp``)."""

    name = "euclidean_loss"

    def eval(self, x: Array, target: Array) -> Arrays:
        return (np.asarray(((x - target) ** 2).sum() / (2 * len(x)), x.dtype),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, target: Array) -> tuple[Array | None, ...]:
        gradient = (x - target) * np.asarray(cts[0] / len(x), x.dtype)
        return gradient, -gradient

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw),) * 2)
