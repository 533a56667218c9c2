"""An array that is still in its file: what its header says is known, its elements are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import LstmcError
from lstmc.process.status import free_memory

COPIES = 3  # that are made of an array while it is checked and converted


@dataclass(frozen=True)
class StoredArray:
    """An array of a file, for whoever wants only its shape and type, or, by ``np.asarray``, all of it.

    Its elements are read once, by ``read``. Raises ``error`` where they take more memory than there is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    path: Path
    error: type[LstmcError]
    read: Callable[[], NDArray[Any]]
    read_part: Callable[[tuple[slice, ...]], NDArray[Any]] | None = None  # where a file gives less than all

    def part(self, axis: int, start: int, stop: int) -> NDArray[Any]:
        """The elements from ``start`` up to ``stop`` along an axis; only they are read where the file allows it."""
        place = (slice(None),) * axis + (slice(start, stop),)
        return self._elements[place] if self.read_part is None else self.read_part(place)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def _elements(self) -> NDArray[Any]:
        size, budget = prod(self.shape) * self.dtype.itemsize, free_memory() // COPIES
        if size > budget:
            raise self._too_large(f"expected at most {_written(budget)}, a third of the memory that is free")
        try:
            return self.read()
        except MemoryError:
            raise self._too_large("there is not so much memory") from None

    def _too_large(self, why: str) -> LstmcError:
        size = _written(prod(self.shape) * self.dtype.itemsize)
        return self.error(f"{self.path}: {self.name} {list(self.shape)} takes {size}: {why}")

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]:
        found = self._elements
        return found.astype(dtype, copy=bool(copy)) if dtype is not None or copy else found


AnyArray = NDArray[Any] | StoredArray


def _written(size: float) -> str:
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min((int(size).bit_length() - 1) // 10, len(units) - 1) if size >= 1 else 0
    return f"{size / 1024**power:.3g} {units[power]}"
