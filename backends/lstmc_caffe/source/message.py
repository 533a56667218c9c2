"""The fields of a NetParameter as bytes: those of a caffemodel that are not replaced stay byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lstmc.errors import BackendError

LAYER = 100  # NetParameter.layer
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class WireField:
    """A field: its number, and all its bytes with the tag."""

    number: int
    whole: memoryview


def wire_fields(message: bytes) -> Iterator[WireField]:
    """The fields of a message in order. Raises :class:`BackendError` where it ends too early, or is none."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, start = _varint(view, at)
        kind = tag & 7
        if kind == _BYTES:
            size, start = _varint(view, start)
            stop = start + size
        elif kind == _VARINT:
            stop = _varint(view, start)[1]
        elif kind in (_FIXED32, _FIXED64):
            stop = start + (4 if kind == _FIXED32 else 8)
        else:
            raise _damaged(at)
        if stop > len(view):
            raise _damaged(at)
        yield WireField(tag >> 3, view[at:stop])
        at = stop


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at + shift // 7 >= len(view):
            break
        byte = view[at + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + shift // 7 + 1
    raise _damaged(at)


def _damaged(at: int) -> BackendError:
    return BackendError(f"expected a caffemodel, found something that is no message from byte {at:,} on")
