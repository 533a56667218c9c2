"""Keras files read by h5py and json alone: ``.keras``, ``.h5``, and weights with a separate configuration.

The configuration is read as data (JSON of ``to_json``, YAML of Keras 1 and 2), and never built. In HDF5 only plain
datasets are read, unlinked and uncompressed, inside the file itself: so no content exceeds the file or comes from
elsewhere. Variable-length texts are checked first, because h5py never returns from some damaged texts.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterable
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.errors import Argument
from lstmc.importers.read.torch_file import entries, read_entry
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, Source, StoredTensor, checked_shape, head_of
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.process.memory import limit_memory
from lstmc.text import brief, whole

CONFIG = Argument("config", "FILE.json")
SIGNATURE = b"GCOL\x01\0\0\0"  # the signature of a collection, with its version
HEAD = 16  # bytes of a collection's header, and of an object's header
LIMIT = 64 * 2**20  # the most bytes of a configuration or an attribute
_MOST = 1_000_000  # values, shared values counted each time: YAML allows a value in many places
_DEEPEST = 32  # the deepest nesting of groups
ROOM = 2**28  # the most bytes that reading may take besides the tensors
# The errors that h5py raises for damaged files.
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
Version = tuple[int, ...]


def check_heaps(content: bytes | mmap.mmap) -> None:
    """Raise ValueError unless the objects of each global heap collection follow each other to its end. "HDF5 File
    Format Specification", III.E, with 8-byte lengths; if object 0, free space, has size 0, libhdf5 reads for ever."""
    start = content.find(SIGNATURE)
    while start >= 0:
        size = int.from_bytes(content[start + 8 : start + HEAD], "little")
        at, end = start + HEAD, start + size
        while at + HEAD <= min(end, len(content)):
            number, _, _, length = struct.unpack_from("<HHIQ", content, at)
            extent = length if number == 0 else HEAD + -(-length // 8) * 8
            if extent < HEAD or at + extent > end:
                raise ValueError(f"the global heap at byte {start} is damaged")
            at += extent
        start = content.find(SIGNATURE, start + len(SIGNATURE))


def read_config(origin: str, text: bytes | str) -> Any:
    """Return a configuration in JSON or YAML, told by the first character. Raises :class:`SourceError` for neither."""
    if len(text) > LIMIT:
        raise SourceError(f"{origin}: its configuration has {len(text):,} bytes; {LIMIT:,} are the most")
    start = text[:100].lstrip()[:1]
    try:
        return json.loads(text) if start in (b"{", b"[", b"", "{", "[", "") else _yaml(origin, text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{origin}: its configuration is no JSON: {brief(error)}") from None


def _yaml(origin: str, text: bytes | str) -> Any:
    """Return a YAML text's values, also Keras's tuples and texts. Raises :class:`SourceError` for any other tag."""
    yaml = need("yaml", "PyYAML", "keras", SourceError)

    class Plain(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """A loader of plain values, and of the tuples that Keras wrote."""

    Plain.add_constructor(
        "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node, deep=True)
    )
    Plain.add_constructor("tag:yaml.org,2002:python/unicode", lambda loader, node: loader.construct_scalar(node))
    try:
        config = yaml.load(text, Plain)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SourceError(f"{origin}: its configuration is neither JSON nor YAML: {brief(error)}") from None
    if _count(config, {}) > _MOST:
        raise SourceError(f"{origin}: its configuration has more than {_MOST:,} values")
    return config


def _count(thing: Any, counts: dict[int, int]) -> int:
    """Return the number of values in nested lists and dicts; shared values count at each place, cycles as too many."""
    if not isinstance(thing, dict | list):
        return 1
    if id(thing) not in counts:
        counts[id(thing)] = _MOST + 1
        counts[id(thing)] = 1 + sum(
            _count(one, counts) for one in (thing.values() if isinstance(thing, dict) else thing)
        )
    return counts[id(thing)]


def read_keras(path: Path, config: Path | None = None) -> Source:
    """Read a Keras model; ``config`` is the JSON or YAML for weights alone, or replaces the file's configuration. Its
    facts: ``config``, ``version`` (of Keras, as text), and tensors' names in order: ``layers`` has them by layer, or
    ``groups`` in files of Keras 3 by group (:func:`_groups`)."""
    h5py = need("h5py", "h5py", "keras", SourceError)
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    return (_zipped if zipped else _hdf5)(h5py, path, None if config is None else head_of(config, LIMIT + 1))


def _zipped(h5py: Any, path: Path, given: bytes | None) -> Source:
    """Read a ``.keras`` file: a zip file with the configuration and the weights."""
    sizes = entries(path)
    needed = ("config.json", "metadata.json", "model.weights.h5")
    missing = [name for name in needed if name not in sizes]
    if missing:
        raise SourceError(f"{path.name}: a .keras file has {', '.join(needed)}; this has no {missing[0]}")
    config = read_config(path.name, read_entry(path, "config.json", LIMIT) if given is None else given)
    metadata = read_config(path.name, read_entry(path, "metadata.json", LIMIT))
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    try:
        content = read_entry(path, "model.weights.h5")
        check_heaps(content)
        with limit_memory(ROOM + 3 * path.stat().st_size), h5py.File(BytesIO(content), "r") as file:
            tensors = {name: _tensor(path.name, name, dataset) for name, dataset in _datasets(h5py, path.name, file)}
            facts = _groups(file, tensors)
    except _DAMAGE as error:
        raise SourceError(f"{path.name}: its weights are damaged: {brief(error)}") from None
    return Source("Keras", path.name, tensors, {"config": config, "version": version, **facts})


def _groups(file: Any, tensors: Iterable[str]) -> dict[str, Any]:
    """Return facts of Keras 3: ``groups``, each group's tensors in order; ``names``, the layer of a group if stored."""
    groups: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for name in tensors:
        groups.setdefault(name.rpartition("/vars/")[0], []).append(name)
    for group in [*groups, *{g.rpartition("/")[0] for g in groups}]:
        held = _attribute(file[f"{group}/vars"], "name") if f"{group}/vars" in file else None
        if held is not None:
            names[group] = _text(held)
    for members in groups.values():
        members.sort(key=lambda name: whole(name.rpartition("/")[2]) or 0)
    return {"groups": groups, "names": names}


def _hdf5(h5py: Any, path: Path, given: bytes | None) -> Source:
    """Read an HDF5 file: a model of Keras 1 or 2, or weights."""
    layers: dict[str, list[str]] = {}
    try:
        with path.open("rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_heaps(content)
        with limit_memory(ROOM + 3 * path.stat().st_size), h5py.File(path, "r") as file:
            attributes = {name: _attribute(file, name) for name in ("model_config", "keras_version")}
            root = file.get("model_weights", file)
            version = attributes["keras_version"] or _attribute(root, "keras_version")
            tensors = {name: _tensor(path.name, name, dataset) for name, dataset in _datasets(h5py, path.name, root)}
            for layer in map(_text, _listed(root, "layer_names")):
                layers[layer] = [f"{layer}/{_text(one)}" for one in _listed(root[layer], "weight_names")]
            newer = "layers" in root and "layer_names" not in root.attrs  # save_weights of Keras 3
            facts = _groups(root, tensors) if newer else {"layers": layers}
    except _DAMAGE as error:
        raise SourceError(f"{path.name}: not a file of Keras, or a damaged one: {brief(error)}") from None
    missing = [name for names in layers.values() for name in names if name not in tensors]
    if missing:
        raise SourceError(f"{path.name}: it has no {missing[0]}, which its layer names")
    text = attributes["model_config"] if given is None else given
    if text is None:
        raise SourceError(
            f"{path.name}: it has weights and no configuration: give the JSON that model.to_json() wrote, or the YAML,"
            f" by {CONFIG}"
        )
    parsed = read_config(path.name, text if isinstance(text, bytes) else str(text))
    version = _text(version) if version is not None else str(parsed.get("keras_version", ""))
    return Source("Keras", path.name, tensors, {"config": parsed, "version": version, **facts})


def _attribute(thing: Any, name: str) -> Any:
    """Return an attribute of a group; None if it is missing. Raises ValueError for an implausible size."""
    if name not in thing.attrs:
        return None
    attribute = thing.attrs.get_id(name)
    if prod(attribute.shape) > MANY or prod(attribute.shape) * attribute.dtype.itemsize > LIMIT:
        raise ValueError(f"attribute {name} says that it has {prod(attribute.shape):,} elements")
    return thing.attrs[name]


def _listed(thing: Any, name: str) -> list[Any]:
    value = _attribute(thing, name)
    return [] if value is None else [*np.asarray(value).reshape(-1).tolist()]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _datasets(h5py: Any, origin: str, root: Any) -> list[tuple[str, Any]]:
    """Return every dataset below a group with its path. Raises :class:`SourceError` for a link."""
    datasets: list[tuple[str, Any]] = []
    waiting = [("", root, 0)]
    seen = 0
    while waiting:
        prefix, group, depth = waiting.pop()
        for key in group:
            seen += 1
            if seen > MANY or depth > _DEEPEST:
                raise SourceError(
                    f"{origin}: it has more than {MANY:,} groups and tensors, or some nested deeper than {_DEEPEST}"
                )
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise SourceError(f"{origin}: {prefix}{key} is a link to elsewhere: not followed")
            thing = group[key]
            if isinstance(thing, h5py.Group):
                waiting.append((f"{prefix}{key}/", thing, depth + 1))
            elif isinstance(thing, h5py.Dataset):
                datasets.append((f"{prefix}{key}", thing))
    return sorted(datasets, key=lambda pair: pair[0])


def _tensor(origin: str, name: str, dataset: Any) -> StoredTensor:
    """Return a dataset as a tensor, whose elements are read now: the file is closed when they are used."""
    shape = checked_shape(origin, name, tuple(int(s) for s in dataset.shape or ()))
    plain = not (dataset.external or dataset.is_virtual or dataset.compression or dataset.scaleoffset)
    if not plain or dataset.dtype.kind not in "fiub" or dataset.id.get_storage_size() != dataset.nbytes:
        how = "plain numbers, whole, uncompressed, in the file itself"
        raise SourceError(f"{origin}: {name} is not stored as Keras does: {how}")
    array: Array = dataset[()]
    return StoredTensor(name, shape, lambda: array)


def version_of(source: Source) -> Version:
    """Return the major and minor version of Keras that wrote a file, as (3, 15); () if the file does not record it."""
    numbers = map(whole, str(source.facts.get("version", "")).split(".")[:2])
    return tuple(number for number in numbers if number is not None)
