"""A layer of a trained net: its message, its position in the prototxt, its shapes and its blobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstmc.errors import Argument
from lstmc.importers.ir.values import Weight
from lstmc.importers.refusal import Refusal, SourceError
from lstmc.ops import Array
from lstmc_caffe.proto.net import CLOSE, OPEN, TOKEN
from lstmc_caffe.targets.lint import Shape

TYPES = ("LSTM", "RNN")  # the recurrent layers of Caffe's own


@dataclass(frozen=True)
class BlobHints:
    """The user's hints on a net's blobs: shapes that its layers do not determine, and values of constant inputs."""

    shapes: Mapping[str, Shape]
    values: Mapping[str, Array]


@dataclass(frozen=True)
class Layer:
    """A layer: its index in the net, its message, the shapes of its bottoms, its blobs, and its constant bottoms."""

    place: int
    message: Any
    bottoms: Sequence[Shape]
    blobs: Sequence[Weight]
    fixed: Mapping[str, Array] = field(default_factory=dict)


def label(message: Any) -> str:
    return f"{message.name} ({message.type})"


def unknown_bottoms(message: Any, names: Collection[str], first: Collection[str]) -> Refusal:
    """Return the refusal of a layer whose bottoms ``names`` have unknown shapes, which those of ``first`` determine."""
    why = f"no known layer computes {', '.join(first)}"
    mend = f"give {', '.join(str(Argument('shapes', f'{name}=SIZES')) for name in first)}"
    return Refusal(label(message), "bottoms", f"{', '.join(names)} of unknown shape", why, mend)


def constant_of(values: Mapping[str, Array], blob: str, shape: Shape) -> Array:
    """Return the array of a constant input, which the user may give as one number, or raise SourceError."""
    value = np.asarray(values[blob], np.float32)
    if value.shape not in ((), shape):
        expected = f"expected one number or {list(shape)}, found {list(value.shape)}"
        raise SourceError(f"{blob} cannot be the constant: {expected}")
    return np.broadcast_to(value, shape)


@dataclass(frozen=True)
class Field:
    """A message field in a text: its name, its span, and the span between its brackets."""

    name: str
    start: int
    stop: int
    inner: tuple[int, int]


def message_fields(text: str, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """Yield the fields of a message's text that are messages themselves, in order. The text must parse."""
    depth, word, began, opened = 0, "", start, start
    for token in TOKEN.finditer(text, start, len(text) if stop is None else stop):
        mark = token["mark"]
        if mark and mark in OPEN:
            if depth == 0:
                opened = token.end()
            depth += 1
        elif mark and mark in CLOSE:
            depth -= 1
            if depth == 0:
                yield Field(word, began, token.end(), (opened, token.start()))
        elif depth == 0 and token["word"]:
            word, began = token["word"], token.start()


def layer_fields(text: str) -> list[Field]:
    return [field for field in message_fields(text) if field.name == "layer"]


def phases(text: str, layer: Field) -> str:
    """Return the text of a layer's ``include`` and ``exclude`` rules, which its replacements repeat."""
    rules = [text[f.start : f.stop] for f in message_fields(text, *layer.inner) if f.name in ("include", "exclude")]
    return "".join(f"  {part}\n" for part in rules)
