"""One part of a bulk run: some batches of a file through the net, as a job that a worker does."""

from __future__ import annotations

import atexit
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from lstmc.backend import OpenNet, Runs, load_backend, require
from lstmc.bulk.batches import Layout
from lstmc.data import read_arrays
from lstmc.files.arrays import npz_bytes
from lstmc.ops import Array
from lstmc.files.output import write_files
from lstmc.stored import StoredArray


@dataclass(frozen=True)
class NetUse:
    """A net, and how it is run. Paths are those of the workers too."""

    net: str
    backend: str
    weights: str | None = None
    gpu: bool = False

    def open(self) -> OpenNet:
        """The net, which is loaded with its first pass."""
        backend = require(load_backend(self.backend), Runs)
        return backend.opened(Path(self.net), None if self.weights is None else Path(self.weights), self.gpu)


@dataclass(frozen=True)
class Part:
    """The batches from ``first`` up to ``end`` of the arrays in ``source``; their outputs go into the file ``to``."""

    use: NetUse
    source: str
    layout: Layout
    first: int
    end: int
    to: str


_OPEN: dict[NetUse, OpenNet] = {}  # of this process: a net is loaded once, and its Caffe lives as long


def run_part(part: Part) -> None:
    """Runs the batches of a part, and writes what came out: all of it, or nothing. Raises as one pass does."""
    found: dict[str, list[Array]] = {}
    arrays = _arrays(part.source)
    net = _OPEN.get(part.use) or _OPEN.setdefault(part.use, part.use.open())
    for batch in range(part.first, part.end):
        start, stop = part.layout.rows(batch)
        fed = {
            name: part.layout.fed(name, _slice(arrays[name], axis, start, stop))
            for name, axis in part.layout.inputs.items()
        }
        for name, array in net.run(fed).items():
            found.setdefault(name, []).append(part.layout.kept(name, array, stop - start))
    joined = {name: np.concatenate(pieces, part.layout.outputs[name] or 0) for name, pieces in found.items()}
    _close_at_the_end()
    path = Path(part.to)
    write_files(path.parent, {path.name: npz_bytes(joined)})


@lru_cache(maxsize=1)  # an .npz file is read whole: once for all parts that follow each other
def _arrays(source: str) -> dict[str, StoredArray]:
    return read_arrays(Path(source))


@cache
def _close_at_the_end() -> None:
    """Nets are let go of before the processes that they are in: so this is asked for once there are some."""
    atexit.register(close_nets)


def close_nets() -> None:
    """Ends what this process holds of nets and of files."""
    _arrays.cache_clear()
    while _OPEN:
        _, net = _OPEN.popitem()
        with suppress(Exception):
            net.close()


def _slice(array: StoredArray, axis: int | None, start: int, stop: int) -> Array:
    return np.asarray(array) if axis is None else array.part(axis, start, stop)
