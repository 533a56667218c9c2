"""``.safetensors``: a header of JSON, then the tensors' bytes. Nothing in it can be run."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.importers.read.source import MANY, Source, StoredTensor, checked_shape
from lstmc.importers.refusal import SourceError
from lstmc.ops import Array

HEADER_LIMIT = 32 * 2**20
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
}


def read_safetensors(path: Path) -> Source:
    """A file of named tensors. Raises :class:`SourceError` for a header that does not fit the file."""
    origin, size = path.name, path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise SourceError(f"{origin}: its header has {length:,} bytes of a file of {size:,}")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{origin}: its header is no JSON: {str(error)[:100]}") from None
    if not isinstance(header, dict) or len(header) > MANY:
        raise SourceError(f"{origin}: its header does not name tensors")
    header.pop("__metadata__", None)
    room = size - 8 - length
    return Source(
        "safetensors", origin, {name: _tensor(path, name, told, 8 + length, room) for name, told in header.items()}
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _tensor(path: Path, name: str, told: Any, start: int, room: int) -> StoredTensor:
    origin = path.name
    if not isinstance(told, dict) or told.get("dtype") not in _TYPES:
        found = told.get("dtype") if isinstance(told, dict) else told
        raise SourceError(f"{origin}: tensor {name} has no known dtype: {str(found)[:40]}")
    shape, kind = checked_shape(origin, name, told.get("shape")), _TYPES[told["dtype"]]
    count = int(np.prod(shape, dtype=np.int64))
    match told.get("data_offsets"):
        case [int(begin), int(end)] if 0 <= begin <= end <= room and end - begin == count * np.dtype(kind).itemsize:
            pass
        case found:
            raise SourceError(
                f"{origin}: tensor {name} of shape {list(shape)} cannot lie at {str(found)[:60]} of {room:,} bytes"
            )

    def read() -> Array:
        array = np.fromfile(path, kind, count, offset=start + begin).reshape(shape)
        return (array.astype(np.uint32) << 16).view(np.float32) if told["dtype"] == "BF16" else array

    return StoredTensor(name, shape, told["dtype"], read)
