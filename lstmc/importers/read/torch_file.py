"""PyTorch's files, read without PyTorch: the zip container, TorchScript's, and the format before PyTorch 1.6.

No pickle is executed. Python's ``pickle`` calls functions that the file names. Here a name that is not in a short list
becomes an inert :class:`Named`, and calling it gives an inert :class:`Built` that keeps the arguments and the state.
Memory is bounded by the size of the pickle: no instruction creates more than it has read. ``pickle.Unpickler`` with
inert classes is no replacement: it hashes a key that is a tuple in a million tuples, and overflows the stack of C.

The sizes, strides and offset of each tensor are checked against its storage before a byte is read. Entries of the zip
archive must be stored uncompressed, so no content exceeds the file. Formats: torch/serialization.py and
torch/_utils.py.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, Source, StoredTensor, checked_shape, elements
from lstmc.ops import Array
from lstmc.text import brief

STEPS = 2_000_000  # the most instructions of a pickle
DIGITS = 64  # the most bytes of an integer
PICKLE_LIMIT = 64 * 2**20  # the most bytes of the part that describes the content
TORCHSCRIPT = "a TorchScript program of PyTorch"
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file in the old format
PACKAGE = "extern_modules"  # an entry of every torch.package
_TYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1",
    "ByteStorage": "<u1", "BoolStorage": "?", "UntypedStorage": "<u1",
}  # fmt: skip
_OF_ONE = (  # functions whose result is their first argument
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.jit._pickle.restore_type_tag",
)
Fetch = Callable[[str, int], bytes]  # a storage's key, and the bytes that it must have
_MARK = object()
T = TypeVar("T")
_Plain = str | int | float | bool | None
_PUSHED = (  # instructions that push their argument
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "MARK": lambda: _MARK,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
# The errors that zipfile raises for damaged files; ValueError is for a name that is no text, or for a place
# before the beginning of the file.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ValueError)


class PickleProblem(ValueError):
    """Raised for bytes that are no pickle, or a pickle that no saved model needs."""


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle names. The name is never looked up."""

    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Built:
    """An inert object in place of the result of a call, ``what`` of ``arguments``, with its pickled ``state``."""

    what: Named
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[Any] = field(default_factory=list)  # elements of an object whose class derives from list
    pairs: dict[Any, Any] = field(default_factory=dict)  # items of an object whose class derives from dict


@dataclass(frozen=True)
class Persistent:
    """A reference to an object outside of the pickle."""

    id: Any


Rebuild = Callable[[Named, tuple[Any, ...]], Any]


def load(stream: BytesIO, rebuild: Rebuild) -> Any:
    """Return the object of the next pickle in a stream. ``rebuild`` returns what a call of a name with arguments makes,
    None to keep it inert. Raises :class:`PickleProblem` for bytes that are no pickle of a saved model."""
    machine, operations = _Machine(rebuild), pickletools.genops(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickletools raises it for texts with odd escapes
        for _ in range(STEPS):
            try:
                opcode, argument, _position = next(operations)
            except ValueError as error:  # pickletools raises it for bytes that are no instruction
                raise PickleProblem(brief(error)) from None
            if opcode.name == "STOP":
                return machine.pop()
            machine.run(opcode.name, argument)
    raise PickleProblem(f"more than {STEPS:,} instructions")


class _Machine:
    """The machine of a pickle: its stack, and its memo of numbered objects. ``rebuild`` is that of :func:`load`."""

    def __init__(self, rebuild: Rebuild) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.rebuild = rebuild

    def run(self, name: str, argument: Any) -> None:
        """Run one instruction. Raises :class:`PickleProblem` for an instruction that no saved model needs."""
        push = self.stack.append
        if name in _PUSHED:
            if isinstance(argument, int) and argument.bit_length() > 8 * DIGITS:
                raise PickleProblem(f"an integer of more than {DIGITS} bytes")
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name]())
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise PickleProblem(f"number {argument} of the memo is empty")
            push(self.memo[argument])
        elif name == "POP":
            self.stack.pop() if self.stack and self.stack[-1] is _MARK else self.pop()
        elif name == "DUP":
            push(self.top())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            push(tuple(reversed([self.pop() for _ in range(int(name[-1]))])))
        elif name in ("TUPLE", "LIST"):
            push(self.marked() if name == "LIST" else tuple(self.marked()))
        elif name == "DICT":
            push(dict(_pairs(self.marked())))
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self.marked()
            thing = self.top()
            _expect(thing.items if isinstance(thing, Built) else thing, list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.marked()
            thing = self.top()
            _expect(thing.pairs if isinstance(thing, Built) else thing, dict).update(_pairs(items))
        elif name == "ADDITEMS":
            items = self.marked()
            _expect(self.top(), set).update(map(_key, items))
        elif name not in ("PROTO", "FRAME"):
            self._run_of_objects(name, argument)

    def _run_of_objects(self, name: str, argument: Any) -> None:
        """Run an instruction that names a class, makes an object of a class, or sets the state of an object."""
        push = self.stack.append
        if name == "GLOBAL":
            push(Named(*argument.partition(" ")[::2]))
        elif name == "STACK_GLOBAL":
            word, module = _expect(self.pop(), str), _expect(self.pop(), str)
            push(Named(module, word))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            named = (self.pop(),) if name == "NEWOBJ_EX" else ()
            arguments, what = _expect(self.pop(), tuple), _expect(self.pop(), Named)
            instance = self.rebuild(what, (*arguments, *named))
            push(Built(what, (*arguments, *named)) if instance is None else instance)
        elif name == "BUILD":
            state = self.pop()
            if isinstance(self.top(), Built):
                self.top().state = state  # a known object, such as an OrderedDict, needs no state
        elif name == "BINPERSID":
            push(Persistent(self.pop()))
        else:
            raise PickleProblem(f"instruction {name}, which no saved model needs")

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleProblem("too little on the stack")
        return self.stack[-1]

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Remove everything above the last mark from the stack, and return it in order."""
        items: list[Any] = []
        while self.stack and self.stack[-1] is not _MARK:
            items.append(self.stack.pop())
        if not self.stack:
            raise PickleProblem("there is no mark")
        self.stack.pop()
        return items[::-1]


def _expect(thing: Any, kind: type[T]) -> T:
    if not isinstance(thing, kind):
        raise PickleProblem(f"expected a {kind.__name__}, found a {type(thing).__name__}")
    return thing


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        raise PickleProblem("a key without a value")
    return [(_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


def _key(key: Any) -> Any:
    """Return a hashable key: a name, an inert object or plain values as they are, for anything else its identity."""
    parts = key if isinstance(key, tuple) else (key,)
    hashable = isinstance(key, Named | Built) or all(isinstance(one, _Plain) for one in parts)
    return key if hashable else id(key)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file. Raises :class:`SourceError` for the errors that a damaged file causes inside the block."""
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
    """Return an uncompressed entry's bytes, at most ``limit`` or the file's size, or raise :class:`SourceError`."""
    with _opened(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise SourceError(f"{path.name}: {name} is compressed: expected entries that are stored as they are")
        if info.file_size > (path.stat().st_size if limit is None else limit):
            raise SourceError(f"{path.name}: {name} should have {info.file_size:,} bytes, which is too much for it")
        return archive.read(info)


@dataclass(frozen=True)
class Storage:
    """The elements that tensors share: the key by which the file names them, their type and their number."""

    key: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * (2 if self.dtype == "bf16" else np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a pickle: a view of a storage by offset, shape and strides, all in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path) -> Source:
    """Return the tensors of a file of PyTorch by name, and as the fact ``modules`` the plain attributes of pickled
    modules. Raises :class:`SourceError` for a file of another format, a damaged file, or a file without tensors."""
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
    """Return the kind of a zip file of PyTorch, its unpickled content, and the function that reads a storage."""
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
        """Return the first ``size`` bytes of a storage. Raises :class:`SourceError` if the file lacks them."""
        name = f"{folder}data/{key}"
        if name not in sizes:
            raise SourceError(f"{origin}: it has no {name}, where a tensor's elements should be")
        if sizes[name] < size:
            raise SourceError(f"{origin}: {name} should have {size:,} bytes, found {sizes[name]:,}")
        return read_entry(path, name)[:size]

    script = any(name.startswith(f"{folder}code/") for name in sizes)
    return TORCHSCRIPT if script else "PyTorch", content, fetch


def _legacy(path: Path, origin: str) -> tuple[str, Any, Fetch]:
    """Return what :func:`_zipped` returns, of a file in PyTorch's old format: five pickles, then each storage."""
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
        """Return the first ``size`` bytes of a storage. Raises :class:`SourceError` if the file lacks them."""
        if key not in places or places[key][1] < size:
            raise SourceError(f"{origin}: storage {key} should have {size:,} bytes")
        with path.open("rb") as file:
            file.seek(places[key][0])
            return file.read(size)

    return "PyTorch (before 1.6)", content, fetch


def _rebuild(what: Named, arguments: tuple[Any, ...]) -> Any:
    """Return the dict, tensor or first argument that a known function returns; None for others, which stay inert."""
    if what.path == "collections.OrderedDict":
        return {}
    if what.path in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        if len(arguments) < 4 or not isinstance(arguments[0], Persistent):
            raise PickleProblem("a tensor without a storage")
        return Tensor(_storage(arguments[0].id), *arguments[1:4])
    return arguments[0] if what.path in _OF_ONE and arguments else None


def _storage(reference: Any) -> Storage:
    """Return the storage that a reference of a pickle names. Raises :class:`PickleProblem` for another form."""
    named = isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"
    if not named or not isinstance(reference[1], Named):
        raise PickleProblem("a storage that is not in PyTorch's format")
    kind, key, count = reference[1].name, reference[2], reference[4]
    if kind not in _TYPES or not isinstance(key, str) or not isinstance(count, int) or count < 0:
        raise PickleProblem(f"a storage of an unknown kind: {brief(kind)}")
    return Storage(key, _TYPES[kind], count)


def _walk(root: Any, facts: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor inside ``root`` with its path; add the plain attributes of modules on the way to ``facts``."""
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
    """Return the tensors and modules of a pickled module by name; the attributes of any other object."""
    state = module.state
    children: list[tuple[Any, Any]] = [*module.pairs.items(), *enumerate(module.items)]
    if isinstance(state, dict):
        parts = [state.get(kind) for kind in ("_parameters", "_buffers", "_modules")]
        inner = [part for part in parts if isinstance(part, dict)]
        children += [pair for part in inner or (state,) for pair in part.items()]
    return [(str(key), value) for key, value in children]


def stored(origin: str, name: str, tensor: Tensor, fetch: Fetch) -> StoredTensor:
    """Return a view of a storage as a tensor read on demand. Raises :class:`SourceError` if the view does not fit."""
    shape = checked_shape(origin, name, tensor.shape)
    strides, storage = tensor.strides, tensor.storage
    whole = isinstance(strides, tuple) and len(strides) == len(shape)
    if not whole or not all(isinstance(s, int) and s >= 0 for s in (*strides, tensor.offset)):
        raise SourceError(f"{origin}: tensor {name} has no usable strides")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if prod(shape) and (last >= storage.count or prod(shape) > storage.count):
        what = f"{origin}: tensor {name} of shape {list(shape)}"
        raise SourceError(f"{what} does not lie in its storage of {storage.count:,} elements")

    def read() -> Array:
        """Return the elements as a read-only view of the storage."""
        flat = elements(fetch(storage.key, storage.bytes), storage.dtype)
        steps = tuple(s * flat.itemsize for s in strides)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)

    return StoredTensor(name, shape, read)
