"""JSON from files that may be damaged or of another program: each value is checked where it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any, TypeVar

from lstmc.types import MOST_ELEMENTS

Made = TypeVar("Made")
SHOWN = 40  # characters of a wrong value that an error shows
MOST_AXES = 32
MOST_BYTES = 64 << 20  # of a file: the largest manifests have less than one MiB


class NotExpected(Exception):
    """``inputs.x.shape: expected a list of sizes, found 3``: completes a message that begins with the file."""


@dataclass(frozen=True)
class Item:
    """A value of a JSON file, and where it stands there. Its methods raise :class:`NotExpected`."""

    value: Any
    where: str = ""

    def mapping(self) -> Mapping[str, Item]:
        """An object's values by key."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return {key: Item(value, f"{self.where}.{_shown(key)}".lstrip(".")) for key, value in self.value.items()}

    def items(self) -> list[Item]:
        """A list's values."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Item(value, f"{self.where}[{index}]") for index, value in enumerate(self.value)]

    def __getitem__(self, key: str) -> Item:
        found = self.mapping()
        if key not in found:
            raise self.wrong(f"an object with a value for {key}")
        return found[key]

    def get(self, key: str) -> Item | None:
        """What an object may have."""
        return self.mapping().get(key)

    def text(self) -> str:
        """A text, without halves of characters."""
        if not isinstance(self.value, str) or any("\ud800" <= character <= "\udfff" for character in self.value):
            raise self.wrong("a text")
        return self.value

    def whole(self, least: int | None = 0) -> int:
        """A whole number, not below ``least`` where there is such."""
        if (
            not isinstance(self.value, int)
            or isinstance(self.value, bool)
            or (least is not None and self.value < least)
        ):
            raise self.wrong("a whole number" if least is None else f"a whole number from {least} on")
        return self.value

    def number(self) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not isfinite(self.value):
            raise self.wrong("a number")
        return float(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def shape(self) -> tuple[int, ...]:
        """Sizes of an array's axes: as many as NumPy 1 takes, and of as many elements as int32 counts."""
        sizes = tuple(item.whole() for item in self.items())
        if len(sizes) > MOST_AXES or prod(sizes) > MOST_ELEMENTS:
            raise self.wrong("sizes of an array's axes")
        return sizes

    def wrong(self, expected: str) -> NotExpected:
        """``expected`` is what it should be."""
        where = f"{self.where}: " if self.where else ""
        return NotExpected(f"{where}expected {expected}, found {_shown(json.dumps(self.value))}")


def _shown(text: str) -> str:
    """A text as an error can print it: not too long, and of plain characters where it has others."""
    plain = text if text.isprintable() else json.dumps(text)
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]} ..."


def read_json(path: Path, make: Callable[[Item], Made]) -> Made:
    """What ``make`` makes of a JSON file. Raises :class:`NotExpected` for a file that is not what it should be, and
    OSError for one that cannot be read."""
    return make(parsed(read_bounded(path)))


def read_bounded(path: Path) -> bytes:
    """The content of a file that should be small. Raises :class:`NotExpected` for one that is not, and OSError."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise NotExpected(f"expected at most {MOST_BYTES >> 20} MiB, found more")
    return content


def parsed(content: bytes) -> Item:
    """The whole of a JSON text. Raises :class:`NotExpected` for what is none, or is nested too deep to be anything."""
    try:
        return Item(json.loads(content.decode()))
    except ValueError:
        raise NotExpected("expected JSON, found something else") from None
    except RecursionError:
        raise NotExpected("expected JSON, found it nested too deep") from None
