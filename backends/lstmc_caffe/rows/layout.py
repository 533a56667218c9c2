"""Values as matrices, for targets whose blobs have two axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from lstmc.ir import Builder, Ref, Steps, reshape_source, reshaped
from lstmc_caffe import ops as caffe

Matrix = tuple[int, int]


def matrix_at(shape: tuple[int, ...], axis: int) -> Matrix:
    """The matrix whose columns are the axes from ``axis`` on."""
    return prod(shape[:axis]), prod(shape[axis:])


def last_axis(shape: tuple[int, ...]) -> Matrix:
    """The matrix whose columns are the last axis; one row of a vector, one element of a number."""
    return matrix_at(shape, max(len(shape) - 1, 0))


def as_matrix(b: Builder, ref: Ref) -> Ref:
    """A value as the matrix it is, or is a view of; else with its last axis as columns."""
    source = unviewed(b, ref)
    return source if b.type(source).rank == 2 else viewed(b, ref, last_axis(b.type(ref).shape))


def viewed(b: Builder, ref: Ref, shape: tuple[int, ...], names: Sequence[str] = (), steps: Steps = ()) -> Ref:
    """A value in another shape, by at most one view. Without ``names`` it is called after the value, and
    of its step."""
    if not names:
        names, steps = (f"{b.node(ref.node).names[ref.out]}/rows",), (b.of_step(ref),)
    return reshaped(b, ref, caffe.View(shape), names, steps=steps)


def unviewed(b: Builder, ref: Ref) -> Ref:
    """What a value is a view of; itself where it is none."""
    return reshape_source(b, ref, caffe.View)
