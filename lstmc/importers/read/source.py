"""What every reader makes of a file: tensors by name, each read when it is asked for; and what else the file says."""

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
    """One tensor of a file. ``read`` gives its elements, checked against what the file has of them."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array] = field(repr=False, compare=False)

    def weight(self) -> Weight:
        """The tensor as it is."""
        return Weight(self.shape, (self.name,), self.name, self.read)


@dataclass(frozen=True)
class Source:
    """A file: ``kind`` is its format in words, ``origin`` how a person calls it; ``facts`` are the format's own."""

    kind: str
    origin: str
    tensors: Mapping[str, StoredTensor]
    facts: Mapping[str, Any] = field(default_factory=dict)


def checked_shape(origin: str, name: str, shape: Any) -> tuple[int, ...]:
    """A shape from a file: integers of which a tensor can be."""
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > 16
        or not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= LARGEST for size in shape)
        or prod(shape) > LARGEST
    ):
        raise SourceError(f"{origin}: tensor {name} has no usable shape: {str(shape)[:100]}")
    return tuple(shape)
