"""PyTorch's files, read without PyTorch: the zip container, TorchScript's, and the format before PyTorch 1.6.

No pickle is executed (``unpickle.py``). The sizes, strides and offset of each tensor are checked against its storage
before a byte is read. Entries of the zip archive must be stored uncompressed, so no content exceeds the file. Formats:
torch/serialization.py and torch/_utils.py.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.importers.read.unpickle import Built, Named, Persistent, PickleProblem, load
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, Source, StoredTensor, checked_shape
from lstmc.ops import Array
from lstmc.text import brief

PACKAGE = "extern_modules"  # an entry of every torch.package

# The errors that zipfile raises for damaged files; ValueError is for a name that is no text, or for a place
# before the beginning of the file.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise SourceError(f"{path.name}: a damaged zip file: {error}") from None


def entries(path: Path) -> dict[str, int]:
    """Return the names of a zip file's entries, with their declared sizes in bytes."""
    with _opened(path) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def read_entry(path: Path, name: str, limit: int | None = None) -> bytes:
    """Return one entry. Raises :class:`SourceError` for a compressed entry, and for an entry of more than ``limit``
    bytes."""
    with _opened(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise SourceError(f"{path.name}: {name} is compressed: expected entries that are stored as they are")
        if info.file_size > (path.stat().st_size if limit is None else limit):
            raise SourceError(f"{path.name}: {name} should have {info.file_size:,} bytes, which is too much for it")
        return archive.read(info)


PICKLE_LIMIT = 64 * 2**20  # the most bytes of the part that describes the content
TORCHSCRIPT = "a TorchScript program of PyTorch"
MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
    "UntypedStorage": "<u1",
}
_OF_ONE = (  # functions whose result is their first argument
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.jit._pickle.restore_type_tag",
)
Fetch = Callable[[str, int], bytes]  # a storage's key, and the bytes that it must have


@dataclass(frozen=True)
class Storage:
    key: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * (2 if self.dtype == "bf16" else np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a pickle: a view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path) -> Source:
    """Read a file of PyTorch. Raises :class:`SourceError` for any other, a damaged or an inconsistent file."""
    origin = path.name
    try:
        with path.open("rb") as file:
            kind, content, fetch = (_zipped if file.read(2) == b"PK" else _legacy)(path, origin)
    except PickleProblem as error:
        raise SourceError(f"{origin}: not a model that PyTorch saved: {error}") from None
    tensors: dict[str, StoredTensor] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, tensor in _walk(content, facts):
        if len(tensors) > MANY:
            raise SourceError(f"{origin}: more than {MANY:,} tensors")
        tensors[name] = stored(origin, name, tensor, fetch)
    if not tensors:
        raise SourceError(
            f"{origin}: expected tensors by name, as torch.save(model.state_dict(), ...) writes: found none"
        )
    return Source(kind, origin, tensors, {"modules": facts})


def _zipped(path: Path, origin: str) -> tuple[str, Any, Fetch]:
    sizes = entries(path)
    pickles = [name for name in sizes if name.count("/") <= 1 and name.rpartition("/")[2] == "data.pkl"]
    if any(name.endswith(f"/.data/{PACKAGE}") for name in sizes):
        raise SourceError(
            f"{origin}: a torch.package, whose modules are known only by running its code",
            notes=['save its model instead: torch.save(model.state_dict(), "model.pt"), or a program of torch.export'],
        )
    if len(pickles) != 1:
        raise SourceError(f"{origin}: expected a zip file of PyTorch with one data.pkl, found {len(pickles)} of them")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in sizes and read_entry(path, order, 16).strip() != b"little":
        raise SourceError(f"{origin}: its tensors are big-endian; save it on a little-endian machine")
    content = load(BytesIO(read_entry(path, pickles[0], PICKLE_LIMIT)), _rebuild)

    def fetch(key: str, size: int) -> bytes:
        name = f"{folder}data/{key}"
        if name not in sizes:
            raise SourceError(f"{origin}: it has no {name}, where a tensor's elements should be")
        if sizes[name] < size:
            raise SourceError(f"{origin}: {name} should have {size:,} bytes, found {sizes[name]:,}")
        return read_entry(path, name)[:size]

    script = any(name.startswith(f"{folder}code/") for name in sizes)
    return TORCHSCRIPT if script else "PyTorch", content, fetch


def _legacy(path: Path, origin: str) -> tuple[str, Any, Fetch]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = BytesIO(file.read(min(size, PICKLE_LIMIT)))
    if load(head, _rebuild) != MAGIC or load(head, _rebuild) != 1001 or not isinstance(load(head, _rebuild), dict):
        raise SourceError(f"{origin}: not a model that PyTorch saved")
    content, keys = load(head, _rebuild), load(head, _rebuild)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise SourceError(f"{origin}: its list of storages is damaged")
    storages = {tensor.storage.key: tensor.storage for _, tensor in _walk(content, {})}
    places: dict[str, tuple[int, int]] = {}
    at = head.tell()
    with path.open("rb") as file:
        for key in keys:
            file.seek(at)
            header = file.read(8)
            count = struct.unpack("<q", header)[0] if len(header) == 8 else -1
            if key not in storages or not 0 <= count <= size:
                raise SourceError(f"{origin}: storage {key} is damaged")
            length = Storage(key, storages[key].dtype, count).bytes
            if at + 8 + length > size:
                raise SourceError(f"{origin}: storage {key} ends behind the file's end")
            places[key] = (at + 8, length)
            at += 8 + length

    def fetch(key: str, size: int) -> bytes:
        if key not in places or places[key][1] < size:
            raise SourceError(f"{origin}: storage {key} should have {size:,} bytes")
        with path.open("rb") as file:
            file.seek(places[key][0])
            return file.read(size)

    return "PyTorch (before 1.6)", content, fetch


def _rebuild(what: Named, arguments: tuple[Any, ...]) -> Any:
    """Return the object of a known PyTorch or Python name; None for other names, which stay inert."""
    if what.path == "collections.OrderedDict":
        return {}
    if what.path in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        if len(arguments) < 4 or not isinstance(arguments[0], Persistent):
            raise PickleProblem("a tensor without a storage")
        return Tensor(_storage(arguments[0].id), *arguments[1:4])
    return arguments[0] if what.path in _OF_ONE and arguments else None


def _storage(reference: Any) -> Storage:
    if not (
        isinstance(reference, tuple)
        and len(reference) >= 5
        and reference[0] == "storage"
        and isinstance(reference[1], Named)
    ):
        raise PickleProblem("a storage that is not in PyTorch's format")
    kind, key, count = reference[1].name, reference[2], reference[4]
    if kind not in _TYPES or not isinstance(key, str) or not isinstance(count, int) or count < 0:
        raise PickleProblem(f"a storage of an unknown kind: {brief(kind)}")
    return Storage(key, _TYPES[kind], count)


def _walk(root: Any, facts: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor with its path through dicts and modules, and collect plain attributes of modules."""
    waiting: list[tuple[str, Any]] = [("", root)]
    seen: set[int] = set()
    while waiting:
        path, thing = waiting.pop()
        if isinstance(thing, Tensor):
            yield path, thing
            continue
        if id(thing) in seen or not isinstance(thing, dict | list | tuple | Built):
            continue
        seen.add(id(thing))
        if isinstance(thing, Built):
            if isinstance(thing.state, dict):
                plain = {k: v for k, v in thing.state.items() if isinstance(v, str | int | float | bool)}
                facts[path] = {"class": thing.what.path, **plain}
            children = _of_module(thing)
        else:
            pairs = thing.items() if isinstance(thing, dict) else enumerate(thing)
            children = [(str(k), v) for k, v in pairs]
        waiting += [(f"{path}.{key}" if path and key else path or key, child) for key, child in reversed(children)]


def _of_module(module: Built) -> list[tuple[str, Any]]:
    """Return the tensors and modules of a pickled module by name; of another object, its attributes."""
    state = module.state
    children: list[tuple[Any, Any]] = [*module.pairs.items(), *enumerate(module.items)]
    if isinstance(state, dict):
        parts = [state.get(kind) for kind in ("_parameters", "_buffers", "_modules")]
        inner = [part for part in parts if isinstance(part, dict)]
        children += [pair for part in inner or (state,) for pair in part.items()]
    return [(str(key), value) for key, value in children]


def stored(origin: str, name: str, tensor: Tensor, fetch: Fetch) -> StoredTensor:
    """Return a view of a storage as a tensor to read, if its sizes, strides and offset fit the storage."""
    shape = checked_shape(origin, name, tensor.shape)
    strides, storage = tensor.strides, tensor.storage
    whole = isinstance(strides, tuple) and len(strides) == len(shape)
    if not whole or not all(isinstance(s, int) and s >= 0 for s in (*strides, tensor.offset)):
        raise SourceError(f"{origin}: tensor {name} has no usable strides")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if prod(shape) and (last >= storage.count or prod(shape) > storage.count):
        raise SourceError(
            f"{origin}: tensor {name} of shape {list(shape)} does not lie in its storage of {storage.count:,} elements"
        )

    def read() -> Array:
        data = fetch(storage.key, storage.bytes)
        if storage.dtype == "bf16":
            flat = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(data, storage.dtype)
        steps = tuple(s * flat.itemsize for s in strides)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)

    return StoredTensor(name, shape, storage.dtype, read)


def hints(source: Source) -> Mapping[str, dict[str, Any]]:
    """Return the plain attributes of pickled modules, by path."""
    modules: Mapping[str, dict[str, Any]] = source.facts.get("modules", {})
    return modules
