"""The type of a value: its shape and its element type. Nothing lies below this file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

DTYPES = ("f32",)
MOST_ELEMENTS = 2**31 - 1  # of an array, and so the largest size of an axis: what int32 counts, as Caffe's blobs do


def shape_text(shape: Iterable[int]) -> str:
    """Return a shape as people read it: ``3 x 10``; ``1 number`` for a value without axes."""
    return " x ".join(map(str, shape)) or "1 number"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense array type. ``shape`` is a tuple of positive sizes; Caffe computes in ``f32``."""

    shape: tuple[int, ...]
    dtype: str = "f32"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"
