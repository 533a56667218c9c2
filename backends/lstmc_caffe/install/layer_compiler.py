"""Compile the generated layers of a net for one build of Caffe, and cache the libraries.

The cache keeps the most recently used files, up to a number and a size, and discards damaged ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Self

import platformdirs

from lstmc.errors import BackendError
from lstmc.files.cache import check_private, private_folder
from lstmc.loops.code import Source
from lstmc.loops.memory import header
from lstmc_caffe.install.build import headers
from lstmc_caffe.install.recipe import CPU, Recipe, cuda_recipe
from lstmc_caffe.install.record import LIBRARY, architectures_of
from lstmc_caffe.install.toolkit import Toolkit, installed_toolkit
from lstmc_caffe.processes.location import INSTALL, CaffeLocation, failure_reason, last_json, run_probe
from lstmc_caffe.worker.layer_library import build_id

MOST_FILES = 400
MOST_BYTES = 100_000_000
_DIGEST = hashlib.sha256().digest_size
RECENT = 3600.0  # seconds: another process may be about to open what was used since


def is_cached(path: Path) -> bool:
    """Return whether a file is there as it was kept; it counts as used now."""
    try:
        content = path.read_bytes()
        if not content or content[-_DIGEST:] != _file_digest(content[:-_DIGEST]):
            return False  # a full disk, or a machine that stopped
        os.utime(path)
    except OSError:
        return False
    return True


def keep(compiled: Path, path: Path) -> None:
    """Have a file that was made in the same folder be ``path``, with its digest behind it: what follows an ELF file's
    own bytes nobody reads."""
    with compiled.open("ab") as file:
        file.write(_file_digest(compiled.read_bytes()))
    compiled.chmod(0o600)  # whatever the umask: what others could write is not loaded
    compiled.rename(path)


def _file_digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def prune(folder: Path, files: int = MOST_FILES, size: int = MOST_BYTES) -> None:
    """Remove the least recently used files until at most ``files`` with at most ``size`` bytes remain."""
    files_by_age = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process removes too
            state = path.stat()
            if path.suffix in (".so", ".o"):
                files_by_age.append((state.st_mtime, state.st_size, path))
    count, total, now = 0, 0, time.time()
    for at, length, path in sorted(files_by_age, reverse=True):
        count, total = count + 1, total + length
        if (count > files or total > size) and now - at > RECENT:
            with suppress(OSError):
                path.unlink()


INCLUDE = "LSTMC_CAFFE_INCLUDE"


@dataclass(frozen=True)
class CaffeBuild:
    """The linker's id of the file that holds Caffe's own code, and the folders of its headers.

    For one with CUDA the ``recipe`` says for which GPUs it was built, and ``toolkit`` is what compiles for these.
    """

    identity: str
    includes: tuple[Path, ...]
    recipe: Recipe = CPU
    toolkit: Toolkit | None = None

    @classmethod
    def of(cls, location: CaffeLocation) -> Self:
        """Return the build of the Caffe at a location.

        Raises :class:`BackendError` if it has no headers or no id, InstallError if it has CUDA and no compiler of it.
        """
        includes = _include_folders(location)
        if location.origin == "installed":
            assert location.pythonpath is not None
            build = Path(location.pythonpath).parent
            identity, architectures = _identity(build / LIBRARY), architectures_of(build)
            if not architectures:
                return cls(identity, includes)
            toolkit = installed_toolkit(build)
            folders = (*includes, *map(Path, toolkit.includes))
            return cls(identity, folders, cuda_recipe(architectures), toolkit)
        probe = run_probe(location, "--build")
        report = {} if isinstance(probe, str) else last_json(probe.stdout)
        if "file" not in report:
            reason = probe if isinstance(probe, str) else report.get("reason") or failure_reason(probe)
            raise BackendError(f"generated layers are compiled for one Caffe, and that of {location.python}: {reason}")
        return cls(_identity(Path(report["file"])), includes)


def _identity(library: Path) -> str:
    identity = build_id(str(library))
    if not identity:
        raise BackendError(
            f"generated layers are compiled for one build of Caffe: expected an id of it in {library}, found none",
            notes=("link Caffe with -Wl,--build-id",),
        )
    return identity


def _include_folders(location: CaffeLocation) -> tuple[Path, ...]:
    """Return the folders of Caffe's headers, of the very source that it was built from."""
    value = os.environ.get(INCLUDE)
    if value:
        folders = tuple(Path(entry) for entry in value.split(os.pathsep))
        for header in ("caffe/layer.hpp", "caffe/proto/caffe.pb.h"):
            if not any((folder / header).is_file() for folder in folders):
                raise BackendError(f"{INCLUDE}: expected a folder that holds {header}, found none in {value}")
        return folders
    if location.origin != "installed" or location.pythonpath is None:
        raise BackendError(
            f"generated layers are compiled with Caffe's headers, and those of {location.python} are not known",
            notes=(
                f"set {INCLUDE} to the folders that hold caffe/layer.hpp and caffe/proto/caffe.pb.h",
                f"or use the Caffe that lstmc builds: {INSTALL}",
                "target caffe needs none",
            ),
        )
    return (headers(Path(location.pythonpath).parent),)


# What lets loops be vector code. Not -ffast-math: NaN and infinity stay, and sums are taken as they are written.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-w"),
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp"),
)
ENOUGH_BYTES = 1_000_000  # where less is free, it is why a compiler failed
_LAYER = "caffe_layer.cpp"


def library(source: Source, location: CaffeLocation) -> Path:
    """Return the library of the layers in ``source``, for the Caffe at ``location``: compiled now, or found as it was.

    For a Caffe with CUDA it holds them for a GPU too. Raises :class:`BackendError` where there is no compiler, no
    header of Caffe's, or what they say, where the cache folder cannot be written, and where others can write there.
    """
    compiler = Compiler.find()
    caffe = CaffeBuild.of(location)
    inputs = [source.cpp, compiler.identity, *FLAGS, caffe.identity, _sources()]
    cuda, libraries = None, ["-lopenblas"]
    if caffe.toolkit is not None:
        if source.cu is None:
            raise BackendError(
                "generated layers for a Caffe with CUDA: expected NAME.layers.cu beside NAME.layers.cpp, found none",
                notes=("what is compiled for target caffe-fused has both",),
            )
        cuda = Compiler(str(caffe.toolkit.nvcc), _version(str(caffe.toolkit.nvcc), "--version"))
        inputs += [source.cu, cuda.identity, *caffe.recipe.gpu_flags]
        libraries += map(str, caffe.toolkit.libraries)
    folder = platformdirs.user_cache_path("lstmc") / "layers"
    target = folder / f"{_digest(*inputs)}.so"
    check_private(target)
    if is_cached(target):
        return target
    with _working_in(folder) as work, ThreadPoolExecutor() as pool:
        objects = ["layers.o"]
        (work / "layers.cpp").write_text(source.cpp, encoding="utf-8")
        action = "compiling generated layers"
        compilations = [pool.submit(compiler.run, (*FLAGS, "-c", "layers.cpp", "-o", "layers.o"), work, action)]
        if cuda is not None:
            (work / "layers.cu").write_text(str(source.cu), encoding="utf-8")
            flags = ("-ccbin", compiler.program, *caffe.recipe.gpu_flags, *_includes(caffe))
            arguments = (*flags, "-c", "layers.cu", "-o", "layers_gpu.o")
            compilations.append(pool.submit(cuda.run, arguments, work, f"{action} for GPUs"))
            objects.append("layers_gpu.o")
        glue = _glue(compiler, caffe, folder, work)
        for compilation in compilations:
            compilation.result()
        compiler.run(("-shared", "-fopenmp", *objects, str(glue), *libraries, "-o", "layers.so"), work, "linking them")
        keep(work / "layers.so", target)
    return target


@contextmanager
def _working_in(folder: Path) -> Iterator[Path]:
    """A folder that is there for a while, in one that stays and is made if need be."""
    try:
        private_folder(folder)
        prune(folder)
        with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as name:
            yield Path(name)
    except OSError as error:
        raise BackendError(
            f"generated layers cannot be compiled in {folder}: {error.strerror or error}",
            notes=("set XDG_CACHE_HOME to a folder that can be written",),
        ) from None
    except BackendError as error:
        for full in (folder, Path(tempfile.gettempdir())):
            if shutil.disk_usage(full).free < ENOUGH_BYTES:
                notes = (*error.notes, "free space there, or set XDG_CACHE_HOME (TMPDIR) to a folder of another disk")
                raise BackendError(f"generated layers cannot be compiled: {full} is full", notes=notes) from None
        raise


@dataclass(frozen=True)
class Compiler:
    """g++, and what tells one of it from another, and the processor that it compiles for."""

    program: str
    identity: str

    @classmethod
    def find(cls) -> Compiler:
        program = shutil.which(CPU.compiler)
        if program is None:
            raise BackendError(
                f"generated layers are compiled, and {CPU.compiler} was not found",
                notes=("install it: apt-get install g++", "target caffe needs none"),
            )
        return cls(program, _version(program, "-march=native", "-Q", "--help=target", "--version"))

    def run(self, arguments: Sequence[str], folder: Path, what: str) -> None:
        process = subprocess.run(
            [self.program, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        if process.returncode:
            lines = process.stderr.strip().splitlines()[:8]
            raise BackendError(f"{what} failed ({self.program}, exit code {process.returncode})", notes=lines)


@cache
def _version(program: str, *arguments: str) -> str:
    process = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return process.stdout


def _includes(caffe: CaffeBuild) -> list[str]:
    return [f"-I{path}" for path in caffe.includes]


def _glue(compiler: Compiler, caffe: CaffeBuild, folder: Path, work: Path) -> Path:
    """Caffe's side of generated layers, which is the same for all: compiled once for a Caffe.

    It does nothing but gather pointers, once a pass: most of the time goes into Caffe's headers, and what is left of it
    is not spent on optimising.
    """
    target = folder / f"{_digest(compiler.identity, caffe.identity, _sources())}.o"
    check_private(target)
    if is_cached(target):
        return target
    (work / "layer.h").write_text(header("layer.h"), encoding="utf-8")
    (work / _LAYER).write_text(caffe_layer(), encoding="utf-8")
    flags = [*caffe.recipe.flags, "-O1", f'-DLSTMC_CAFFE_BUILD="{caffe.identity}"', *_includes(caffe)]
    compiler.run((*flags, "-c", _LAYER, "-o", "glue.o"), work, "compiling Caffe's side of generated layers")
    keep(work / "glue.o", target)
    return target


def _sources() -> str:
    return header("layer.h") + caffe_layer()


def caffe_layer() -> str:
    """Return the C++ of Caffe's side of generated layers."""
    return files(__package__).joinpath(_LAYER).read_text(encoding="utf-8")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
