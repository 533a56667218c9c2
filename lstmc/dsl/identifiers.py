"""Names in texts, as Python itself has them in code: it writes every identifier in Unicode's form NFKC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from unicodedata import normalize

T = TypeVar("T")


def identifier(name: str) -> str:
    """What Python calls an argument that is written ``name``: the micro sign and the letter mu are one."""
    return normalize("NFKC", name)


class ByIdentifier(dict[Any, T]):
    """A dict whose keys name arguments of a function, found by what a person writes too."""

    def __missing__(self, key: Any) -> T:
        if isinstance(key, str) and identifier(key) != key:
            return self[identifier(key)]
        raise KeyError(key)


def by_identifier(given: Mapping[Any, T]) -> ByIdentifier[T]:
    """The same values, by what Python calls the arguments that their keys name."""
    return ByIdentifier({identifier(name) if isinstance(name, str) else name: value for name, value in given.items()})
