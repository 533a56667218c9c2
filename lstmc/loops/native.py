"""Compile generated code for this machine, cache the libraries, and run generated layers in this process, by ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from lstmc.errors import BackendError
from lstmc.files.output import check_private, private_folder
from lstmc.loops.code import cpu_source, layer_code
from lstmc.loops.memory import header
from lstmc.loops.plan import Plan
from lstmc.process.status import report_activity

MOST_FILES = 400
MOST_BYTES = 100_000_000
_DIGEST = hashlib.sha256().digest_size
RECENT = 3600.0  # seconds: another process may be about to open a file that was used since then
ENOUGH_BYTES = 1_000_000  # with less free space on the disk, that is why a compiler failed
PROGRAM = "g++"
# Options for vector code. Not -ffast-math: NaN and infinity stay, and sums keep their order.
FLAGS = (*("-std=c++17", "-O3", "-march=native", "-fPIC", "-w"), *("-fno-math-errno", "-fno-trapping-math", "-fopenmp"))


@dataclass(frozen=True)
class Compiler:
    """A compiler's program, and a text that identifies its version and the processor that it compiles for."""

    program: str
    identity: str

    @classmethod
    def find(cls, name: str, need: str, notes: Sequence[str], *asked: str) -> Compiler:
        """Return the compiler ``name``, identified as by :meth:`of`. Raises :class:`BackendError` if it is missing; the
        message begins with ``need``, and ``notes`` say how to do without a compiler."""
        if (program := shutil.which(name)) is None:
            install = f"install it: apt-get install {name}"
            raise BackendError(f"{need}, and {name} was not found", notes=(install, *notes))
        return cls.of(program, *asked)

    @classmethod
    def of(cls, program: str, *asked: str) -> Compiler:
        """Return a compiler, identified by what it prints for the arguments ``asked``."""
        return cls(program, _version(program, *asked))

    def run(self, arguments: Sequence[str], folder: Path, what: str) -> None:
        """Compile in a folder. Raises :class:`BackendError`, which names ``what``, with the compiler's first lines."""
        process = subprocess.run(
            [self.program, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        if process.returncode:
            lines = process.stderr.strip().splitlines()[:8]
            raise BackendError(f"{what} failed ({self.program}, exit code {process.returncode})", notes=lines)


@cache
def _version(program: str, *arguments: str) -> str:
    return subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


def cached(suffix: str, inputs: Sequence[str], build: Callable[[Path], Path]) -> Path:
    """Return the file that ``build`` makes from ``inputs`` in a temporary folder: from the cache, or built now and
    cached. Raises :class:`BackendError` if the cache folder cannot be written, or if other users can write there, and
    the errors of ``build``."""
    folder = platformdirs.user_cache_path("lstmc") / "layers"
    path = folder / (hashlib.sha256("\0".join(inputs).encode()).hexdigest() + suffix)
    check_private(path)
    if not is_cached(path):
        with _temporary_folder(folder) as work:
            keep(build(work), path)
    return path


def is_cached(path: Path) -> bool:
    """Return whether an undamaged file is in the cache. If so, it counts as used now."""
    try:
        content = path.read_bytes()
        if content[-_DIGEST:] != hashlib.sha256(content[:-_DIGEST]).digest():
            return False  # a full disk, or a machine that stopped
        os.utime(path)
    except OSError:
        return False
    return True


def keep(compiled: Path, path: Path) -> None:
    """Append a digest, which ELF loaders ignore, to a file, and move the file to ``path``, on the same disk."""
    with compiled.open("ab") as file:
        file.write(hashlib.sha256(compiled.read_bytes()).digest())
    compiled.chmod(0o600)  # whatever the umask: a file that others could write is not loaded
    compiled.rename(path)


def prune(folder: Path, files: int = MOST_FILES, size: int = MOST_BYTES) -> None:
    """Remove the least recently used files until ``files`` with ``size`` bytes remain, but none of the last hour."""
    files_by_age = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process may remove it first
            state = path.stat()
            if path.suffix in (".so", ".o"):
                files_by_age.append((state.st_mtime, state.st_size, path))
    count, total, now = 0, 0, time.time()
    for at, length, path in sorted(files_by_age, reverse=True):
        count, total = count + 1, total + length
        if (count > files or total > size) and now - at > RECENT:
            with suppress(OSError):
                path.unlink()


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder in ``folder``, which is created if missing. Errors of the file system become a
    :class:`BackendError`; if compiling fails and a disk is full, the error names the disk."""
    try:
        private_folder(folder)
        prune(folder)
        with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as name:
            yield Path(name)
    except OSError as error:
        note, failure = "set XDG_CACHE_HOME to a folder that can be written", error.strerror or error
        raise BackendError(f"generated layers cannot be compiled in {folder}: {failure}", notes=(note,)) from None
    except BackendError as error:
        for full in (folder, Path(tempfile.gettempdir())):
            if shutil.disk_usage(full).free < ENOUGH_BYTES:
                freed = "free space there, or set XDG_CACHE_HOME (TMPDIR) to a folder of another disk"
                notes = dict.fromkeys((*error.marked_notes, freed))  # once, even if compiling one file compiles another
                raise BackendError(f"generated layers cannot be compiled: {full} is full", notes=tuple(notes)) from None
        raise


_LINE = 16  # floats of a cache line; buffers begin at one
GPU_FLAGS = ("-std=c++17", "-O3", "-w", "-Xcompiler=-fPIC", "-Xcompiler=-fvisibility=hidden")
_GPU_TABLE = """
extern "C" __attribute__((visibility("default"))) const lstmc_layer* const* lstmc_native() { return lstmc_gpu_layers; }
"""


class _Call(ctypes.Structure):
    """``lstmc_call`` of ``layer.h``."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("T", "N")),
        *((name, ctypes.c_void_p) for name in ("bottom", "bottom_diff")),
        ("wanted", ctypes.c_char_p),
        *((name, ctypes.c_void_p) for name in ("weight", "weight_diff", "top", "top_diff", "buffer", "blas", "seen")),
    ]


_Pass = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Call))


class _Shape(ctypes.Structure):
    """``lstmc_shape`` of ``layer.h``."""

    _fields_ = [*((name, ctypes.c_int) for name in ("time", "rows", "axes")), ("sizes", ctypes.POINTER(ctypes.c_int))]


class _Buffer(ctypes.Structure):
    """``lstmc_buffer`` of ``layer.h``."""

    _fields_ = [("size", ctypes.c_long), *((name, ctypes.c_int) for name in ("rows", "time", "more"))]


class _Layer(ctypes.Structure):
    """``lstmc_layer`` of ``layer.h``."""

    _fields_ = [
        *(("type", ctypes.c_char_p), ("fixed", ctypes.c_int)),
        *((name, ctypes.c_int) for name in ("bottoms", "weights", "tops", "buffers")),
        *((name, ctypes.POINTER(_Shape)) for name in ("bottom", "weight", "top")),
        *(("buffer", ctypes.POINTER(_Buffer)), ("forward", _Pass), ("backward", _Pass)),
    ]


class Shape(NamedTuple):
    """The shape of a blob: whether T and N come first, in this order, and the other sizes."""

    time: bool
    rows: bool
    sizes: tuple[int, ...]

    def at(self, steps: int, rows: int) -> tuple[int, ...]:
        return (*((steps,) if self.time else ()), *((rows,) if self.rows else ()), *self.sizes)


@dataclass(frozen=True, eq=False)
class Loop:
    """A generated layer in this process, for any T and N. Memory is given by address, in the order of the blobs.
    ``buffers`` have for each buffer its floats; whether it has these for each row; how it depends on time (0: not at
    all, n: it has every n-th step); and its additional steps. ``workspace`` is memory for all buffers, of
    :meth:`workspace_floats`; ``backward`` reads what ``forward`` left in it."""

    layer: _Layer
    bottoms: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    buffers: tuple[tuple[int, bool, int, int], ...]

    @classmethod
    def of(cls, layer: _Layer) -> Loop:
        groups = (layer.bottom, layer.bottoms), (layer.weight, layer.weights), (layer.top, layer.tops)
        bottoms, weights, tops = (_shapes(*group) for group in groups)
        buffers = tuple((b.size, bool(b.rows), b.time, b.more) for b in layer.buffer[: layer.buffers])
        return cls(layer, bottoms, weights, tops, buffers)

    def sizes(self, shapes: Iterable[tuple[int, ...]], steps: int, rows: int) -> tuple[int, int]:
        """Return T and N of the shapes of the bottoms, or ``steps`` and ``rows`` where no bottom has such an axis. N is
        1 if the whole batch counts as one row."""
        for blob, shape in zip(self.bottoms, shapes, strict=True):
            if blob.time:
                steps = shape[0]
            if blob.rows:
                rows = shape[int(blob.time)]
        return steps, 1 if self.layer.fixed else rows

    def workspace_floats(self, steps: int, rows: int) -> int:
        return _offsets(self.buffers, steps, rows)[-1]

    def forward(
        self,
        sizes: tuple[int, int],
        bottoms: Sequence[int],
        weights: Sequence[int],
        tops: Sequence[int],
        workspace: int,
        seen: ctypes.c_void_p | None = None,
        blas: int | None = None,
    ) -> None:
        """Run all steps at ``sizes`` T and N: write the tops. ``seen`` has for each buffer the hash of the weights that
        the previous pass packed into it: they are not packed again. None: they are. On a GPU ``blas`` is the handle of
        cuBLAS, in whose stream everything runs."""
        groups = {"bottom": bottoms, "weight": weights, "top": tops}
        self._run(self.layer.forward, sizes, groups, workspace, blas=blas, seen=seen)

    def backward(
        self,
        sizes: tuple[int, int],
        bottoms: Sequence[int],
        weights: Sequence[int],
        tops: Sequence[int],
        workspace: int,
        gradients: tuple[Sequence[int], Sequence[int], Sequence[int]],
        wanted: Sequence[bool],
        blas: int | None = None,
    ) -> None:
        """Run all steps back: read the ``gradients`` of tops, write those of bottoms, add to those of weights. For a
        bottom that is not ``wanted`` any numbers may be written."""
        groups = {"bottom": bottoms, "weight": weights, "top": tops}
        groups |= zip(("top_diff", "bottom_diff", "weight_diff"), gradients, strict=True)
        self._run(self.layer.backward, sizes, groups, workspace, blas=blas, wanted=bytes(wanted))

    def _run(
        self, function: Any, sizes: tuple[int, int], groups: dict[str, Sequence[int]], workspace: int, **more: Any
    ) -> None:
        """Call a function of the layer. ``groups`` are addresses of arrays, by the names of fields in ``_Call``."""
        groups["buffer"] = [workspace + offset for offset in _kept_offsets(self, *sizes)]
        memory = array("Q", [address for group in groups.values() for address in group])
        at, _ = memory.buffer_info()
        for name, group in groups.items():
            more[name] = at
            at += memory.itemsize * len(group)
        function(_Call(*sizes, **more))


def _offsets(buffers: tuple[tuple[int, bool, int, int], ...], steps: int, rows: int) -> list[int]:
    """Return the offset in floats of each buffer in the workspace, and the workspace's size; sizes may be symbolic."""
    offsets = [0]
    for size, by_row, every, more in buffers:
        floats = size * (rows if by_row else 1) * (-(-steps // every) + more if every else 1)
        offsets.append(offsets[-1] + -(-floats // _LINE) * _LINE)
    return offsets


@lru_cache(maxsize=1024)
def _kept_offsets(loop: Loop, steps: int, rows: int) -> list[int]:
    """Return the offset of each buffer in the workspace, in bytes."""
    return [ctypes.sizeof(ctypes.c_float) * offset for offset in _offsets(loop.buffers, steps, rows)[:-1]]


def _shapes(shapes: Any, count: int) -> tuple[Shape, ...]:
    return tuple(Shape(bool(s.time), bool(s.rows), tuple(s.sizes[: s.axes])) for s in shapes[:count])


Loops = Mapping[str, Loop]  # by their types


def loops(plans: Sequence[Plan], otherwise: str, text: str | None = None) -> list[Loop]:
    """Return the loop of each plan, compiled from ``text`` if given. Raises the errors of :func:`loops_of`, and
    BackendError if ``text`` lacks one of the loops."""
    text = cpu_source("native", map(layer_code, plans)) if text is None else text
    by_type, types = loops_of(text, otherwise), [layer_code(plan).type for plan in plans]
    if lacking := [kind for kind in types if kind not in by_type]:
        raise BackendError(f"the source of generated layers has no layer {lacking[0]}: expected the one of this net")
    return [by_type[kind] for kind in types]


def cpp_compiler(otherwise: str) -> Compiler:
    """Return g++. Raises :class:`BackendError` if it is missing; ``otherwise`` says how to do without a compiler."""
    asked = ("-march=native", "-Q", "--help=target", "--version")
    return Compiler.find(PROGRAM, "generated layers are compiled", [otherwise], *asked)


def loops_of(text: str, otherwise: str) -> Loops:
    """Return the loops in a source of generated layers by their types, compiled now or found in the cache. Raises
    :class:`~lstmc.errors.BackendError` if there is no compiler (``otherwise`` says how to do without one), if the cache
    cannot be used, or, with the compiler's message, if compiling fails."""
    compiler = cpp_compiler(otherwise)
    flags = (*FLAGS, "-fvisibility=hidden", "-shared", "-Wl,-Bsymbolic")
    text += header("native.cpp")

    def build(work: Path) -> Path:
        report_activity("compiling generated layers")
        (work / "layers.cpp").write_text(text, encoding="utf-8")
        compiler.run((*flags, "layers.cpp", "-o", "layers.so"), work, "compiling generated layers")
        return work / "layers.so"

    return _opened(cached(".so", [text, compiler.identity, *flags], build))


def gpu_loops_of(text: str, nvcc: str, flags: Sequence[str], otherwise: str) -> Loops:
    """Return the loops in a source of CUDA by their types, compiled by ``nvcc`` for the GPU that ``flags`` name. All
    memory of the loops is on the GPU. They use CUDA's runtime library and cuBLAS as this process has opened them
    globally. Raises the errors of :func:`loops_of`."""
    compiler, cuda = cpp_compiler(otherwise), Compiler.of(nvcc, "--version")
    text += _GPU_TABLE

    def build(work: Path) -> Path:
        report_activity("compiling generated layers for a GPU")
        (work / "layers.cu").write_text(text, encoding="utf-8")
        what = "compiling generated layers for a GPU"
        cuda.run(("-ccbin", compiler.program, *GPU_FLAGS, *flags, "-c", "layers.cu", "-o", "layers.o"), work, what)
        compiler.run(("-shared", "layers.o", "-o", "layers.so"), work, "linking them")
        return work / "layers.so"

    return _opened(cached(".so", [text, cuda.identity, *GPU_FLAGS, *flags], build))


@cache
def _opened(path: Path) -> Loops:
    """Return the loops of a library by their types. The library stays open."""
    table = ctypes.CDLL(str(path)).lstmc_native
    table.restype = ctypes.POINTER(ctypes.POINTER(_Layer))
    layers = table()
    loops: dict[str, Loop] = {}
    for at in count():
        if not layers[at]:
            return loops
        loops[layers[at].contents.type.decode()] = Loop.of(layers[at].contents)
    raise AssertionError
