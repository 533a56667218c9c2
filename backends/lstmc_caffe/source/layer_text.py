"""Where each layer of a prototxt stands, by the character: what is not replaced stays as its author wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>\w+)|(?P<mark>.)"""
)
_OPEN, _CLOSE = "{<", "}>"


@dataclass(frozen=True)
class Field:
    """A message field: its name, where it stands, and where what is between its brackets does."""

    name: str
    start: int
    stop: int
    inner: tuple[int, int]


def message_fields(text: str, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """The fields of a message's text that are messages themselves, in order. The text must be one that parses."""
    depth, word, began, opened = 0, "", start, start
    for token in _TOKEN.finditer(text, start, len(text) if stop is None else stop):
        mark = token["mark"]
        if mark and mark in _OPEN:
            if depth == 0:
                opened = token.end()
            depth += 1
        elif mark and mark in _CLOSE:
            depth -= 1
            if depth == 0:
                yield Field(word, began, token.end(), (opened, token.start()))
        elif depth == 0 and token["word"]:
            word, began = token["word"], token.start()


def layer_fields(text: str) -> list[Field]:
    """One for each layer of a net's text."""
    return [field for field in message_fields(text) if field.name == "layer"]


def phases(text: str, layer: Field) -> str:
    """What a layer's text says of when it is there: its ``include`` and ``exclude``, for other layers to say it too."""
    found = [text[f.start : f.stop] for f in message_fields(text, *layer.inner) if f.name in ("include", "exclude")]
    return "".join(f"  {part}\n" for part in found)
