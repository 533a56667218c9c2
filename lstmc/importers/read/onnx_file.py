"""ONNX files read by the ``onnx`` package, with external data only below the model's folder; and ``.safetensors``
files, a header of JSON and the tensors' bytes, in which nothing can be executed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, MutableSequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.files.reading import read_file, regular
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, Source, StoredTensor, checked_shape, elements
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.text import brief, whole

KINDS = {1: "<f4", 11: "<f8", 10: "<f2", 16: "<u2", 6: "<i4", 7: "<i8", 3: "<i1", 2: "<u1", 5: "<i2", 4: "<u2", 9: "?"}
BFLOAT16 = 16
EXTERNAL = 1  # TensorProto.DataLocation
HEADER_LIMIT = 32 * 2**20
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bf16",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?",
}  # fmt: skip


def load_onnx(path: Path) -> Any:
    """Return a file's ``ModelProto``, without external data. Raises :class:`SourceError` if it is no ONNX model."""
    onnx = need("onnx", "The onnx package", "onnx", SourceError)
    try:
        model = onnx.load_model_from_string(read_file(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # protobuf raises errors of several kinds, by version
        raise SourceError(f"{path.name}: not an ONNX model, or a damaged one: {brief(error)}") from None
    if not model.graph.node and not model.graph.output:
        raise SourceError(f"{path.name}: not an ONNX model, or a damaged one: it has no graph")
    for value in _texts(model):
        if isinstance(value, bytes):  # protobuf returns this for bytes that are no text
            raise SourceError(f"{path.name}: not an ONNX model, or a damaged one: {brief(value)} is no UTF-8")
    return model


def _texts(message: Any) -> Iterator[Any]:
    """Yield all texts in a message of protobuf, also in the messages inside it."""
    for field, value in message.ListFields():
        values = value if isinstance(value, MutableSequence) else [value]
        if field.type == field.TYPE_STRING:
            yield from values
        elif field.type == field.TYPE_MESSAGE:
            for one in values:
                yield from _texts(one)


def stored_tensor(tensor: Any, origin: str, folder: Path | None) -> StoredTensor:
    """Return a ``TensorProto`` as a tensor that is read on demand, also from an external file in ``folder``. Raises
    :class:`SourceError` if the number of elements does not fit the shape."""
    name = tensor.name or "a constant"
    shape = checked_shape(origin, name, [int(size) for size in tensor.dims])
    whole = f"{origin}: tensor {name} of shape {list(shape)}"
    if tensor.data_type not in KINDS:
        raise SourceError(f"{origin}: tensor {name} has elements of an unsupported type: {tensor.data_type}")
    kind = "bf16" if tensor.data_type == BFLOAT16 else KINDS[tensor.data_type]
    size = prod(shape) * np.dtype(KINDS[tensor.data_type]).itemsize
    if tensor.data_location == EXTERNAL:
        place = _external(tensor, name, size, origin, folder)
        return StoredTensor(name, shape, lambda: elements(_read(*place, size), kind).reshape(shape))
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            raise SourceError(f"{whole} should have {size:,} bytes, found {len(tensor.raw_data):,}")
        return StoredTensor(name, shape, lambda: elements(tensor.raw_data, kind).reshape(shape))
    fields = (tensor.float_data, tensor.double_data, tensor.int64_data, tensor.int32_data)
    field = next((field for field in fields if len(field)), ())
    if len(field) != prod(shape):
        raise SourceError(f"{whole} should have {prod(shape):,} elements, found {len(field):,}")

    def read() -> Array:
        if tensor.data_type in (10, BFLOAT16):  # numbers by their bits, as integers
            return elements(np.asarray(field, np.uint16).tobytes(), kind).reshape(shape)
        return np.asarray(field).astype(kind).reshape(shape)

    return StoredTensor(name, shape, read)


def _external(tensor: Any, name: str, size: int, origin: str, folder: Path | None) -> tuple[Path, int]:
    """Return file and offset of external data. Raises :class:`SourceError` if not ``size`` bytes below ``folder``."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if folder is None or "location" not in entries:
        raise SourceError(f"{origin}: tensor {name} lies in another file, whose location is missing")
    location = entries["location"]
    try:
        path = (folder / location).resolve()
        size_of_file = os.path.getsize(regular(path)) if path.is_relative_to(folder.resolve()) else 0
    except FileNotFoundError:
        raise SourceError(f"{origin}: tensor {name} lies in {brief(location)}, which is not there") from None
    except (OSError, ValueError) as error:  # the name is impossible: too long, or with a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{origin}: tensor {name} lies in {brief(location)}: {reason}") from None
    if not path.is_relative_to(folder.resolve()):
        raise SourceError(f"{origin}: tensor {name} lies outside of the model's folder, at {location}: not read")
    offset, length = entries.get("offset", "0"), entries.get("length", str(size))
    begin = whole(offset)
    if begin is None or begin < 0 or whole(length) != size:
        should = f"{origin}: tensor {name} should have {size:,} bytes in {location}"
        raise SourceError(f"{should}, found a length of {brief(length)}")
    if begin + size > size_of_file:
        raise SourceError(f"{origin}: tensor {name} ends behind the end of {location}")
    return path, int(offset)


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def read_safetensors(path: Path) -> Source:
    """Return the tensors of a ``.safetensors`` file. Raises :class:`SourceError` for a header that misfits the file."""
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
        raise SourceError(f"{origin}: its header is no JSON: {brief(error)}") from None
    if not isinstance(header, dict) or len(header) > MANY:
        raise SourceError(f"{origin}: its header does not name tensors")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, 8 + length, size - 8 - length) for name, entry in header.items()}
    return Source("safetensors", origin, tensors)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dict. Raises ValueError if a name occurs twice."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _tensor(path: Path, name: str, entry: Any, start: int, room: int) -> StoredTensor:
    """Return a tensor by its header entry. Raises :class:`SourceError` if type, shape and place do not fit the file."""
    origin = path.name
    if not isinstance(entry, dict) or entry.get("dtype") not in _TYPES:
        dtype = entry.get("dtype") if isinstance(entry, dict) else entry
        raise SourceError(f"{origin}: tensor {name} has no known dtype: {brief(dtype)}")
    shape, kind = checked_shape(origin, name, entry.get("shape")), _TYPES[entry["dtype"]]
    size = prod(shape) * (2 if kind == "bf16" else np.dtype(kind).itemsize)
    match entry.get("data_offsets"):
        case [int(begin), int(end)] if 0 <= begin <= end <= room and end - begin == size:
            pass
        case offsets:
            what = f"{origin}: tensor {name} of shape {list(shape)}"
            raise SourceError(f"{what} cannot lie at {brief(offsets)} of {room:,} bytes")
    return StoredTensor(name, shape, lambda: elements(_read(path, start + begin, size), kind).reshape(shape))
