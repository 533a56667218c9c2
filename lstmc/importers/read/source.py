"""The result of every reader: tensors by name, read on demand, and other facts of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from lstmc.importers.refusal import SourceError
from lstmc.importers.weight import Weight
from lstmc.ops import Array

LARGEST = 2**31  # elements of one tensor
MANY = 100_000  # tensors of one file


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file. ``read`` returns its elements, after checking them against the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array] = field(repr=False, compare=False)

    def weight(self) -> Weight:
        """Return the tensor as a parameter."""
        return Weight(self.shape, (self.name,), self.name, self.read)


@dataclass(frozen=True)
class Source:
    """A file: ``kind`` is its format, ``origin`` its name in messages; ``facts`` depend on the format."""

    kind: str
    origin: str
    tensors: Mapping[str, StoredTensor]
    facts: Mapping[str, Any] = field(default_factory=dict)


def checked_shape(origin: str, name: str, shape: Any) -> tuple[int, ...]:
    """Return a shape from a file. Raises :class:`SourceError` for anything but plausible sizes."""
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > 16
        or not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= LARGEST for size in shape)
        or prod(shape) > LARGEST
    ):
        raise SourceError(f"{origin}: tensor {name} has no usable shape: {str(shape)[:100]}")
    return tuple(shape)
