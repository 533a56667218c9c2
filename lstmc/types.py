"""The type of a value: its shape and its element type. Nothing lies below this file."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

DTYPES = ("f32",)
MOST_ELEMENTS = 2**31 - 1  # of an array, and so the largest size of an axis: what int32 counts, as Caffe's blobs do


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
