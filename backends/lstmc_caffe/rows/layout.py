"""Values as matrices, for targets whose blobs have two axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from lstmc.ir import Builder, Ref, Steps
from lstmc_caffe import ops as caffe

Matrix = tuple[int, int]


def matrix_at(shape: tuple[int, ...], axis: int) -> Matrix:
    """The matrix whose columns are the axes from ``axis`` on."""
    return prod(shape[:axis]), prod(shape[axis:])


def as_matrix(b: Builder, ref: Ref, matrix: Matrix | None = None) -> Ref:
    """A value as ``matrix`` if one is asked for; else as the matrix it is, or with its last axis as columns."""
    shape = b.type(ref).shape
    if matrix is None:
        source = unviewed(b, ref)
        if len(b.type(source).shape) == 2:
            return source
        matrix = matrix_at(shape, len(shape) - 1)
    return viewed(b, ref, matrix)


def viewed(b: Builder, ref: Ref, shape: tuple[int, ...], names: Sequence[str] = (), steps: Steps = ()) -> Ref:
    """A value in another shape, by at most one view. Without ``names`` it is called after the value, and
    of its step."""
    source = unviewed(b, ref)
    if b.type(source).shape == shape:
        return source
    if not names:
        names, steps = (f"{b.node(ref.node).names[ref.out]}/rows",), (b.of_step(ref),)
    return b.add(caffe.View(shape), source, names=names, steps=steps)[0]


def unviewed(b: Builder, ref: Ref) -> Ref:
    """What a value is a view of; itself where it is none."""
    return b.args(ref.node)[0] if isinstance(b.node(ref.node).op, caffe.View) else ref
