"""Compiling the layers of a net for the Caffe that is to run it; what was compiled once is found again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from lstmc.cache import check_private, private_folder
from lstmc.errors import BackendError
from lstmc_caffe.fused.code import Source
from lstmc_caffe.fused.functions import header
from lstmc_caffe.install.recipe import CPU
from lstmc_caffe.library.caffe_build import CaffeBuild
from lstmc_caffe.library.remembered import keep, prune, used
from lstmc_caffe.place.place import CaffeLocation

# What lets loops be vector code. Not -ffast-math: NaN and infinity stay, and sums are taken as they are written.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-w"),
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp"),
)
ENOUGH_BYTES = 1_000_000  # where less is free, it is why a compiler failed
_HEADER, _LAYER = "layer.h", "caffe_layer.cpp"


def library(source: Source, location: CaffeLocation) -> Path:
    """The library of the layers in ``source``, for the Caffe at ``location``: compiled now, or found as it was.

    For a Caffe with CUDA it holds them for a GPU too. Raises :class:`BackendError` where there is no compiler, no
    header of Caffe's, or what they say, where the cache folder cannot be written, and where others can write there.
    """
    compiler = Compiler.find()
    caffe = CaffeBuild.of(location)
    made_of = [source.cpp, compiler.identity, *FLAGS, caffe.identity, _sources()]
    cuda, libraries = None, ["-lopenblas"]
    if caffe.toolkit is not None:
        if source.cu is None:
            raise BackendError(
                "generated layers for a Caffe with CUDA: expected NAME.layers.cu beside NAME.layers.cpp, found none",
                notes=("what is compiled for target caffe-fused has both",),
            )
        cuda = Compiler(str(caffe.toolkit.nvcc), _version(str(caffe.toolkit.nvcc), "--version"))
        made_of += [source.cu, cuda.identity, *caffe.recipe.gpu_flags]
        libraries += map(str, caffe.toolkit.libraries)
    folder = platformdirs.user_cache_path("lstmc") / "layers"
    target = folder / f"{_digest(*made_of)}.so"
    check_private(target)
    if used(target):
        return target
    with _working_in(folder) as work, ThreadPoolExecutor() as pool:
        objects = ["layers.o"]
        (work / "layers.cpp").write_text(source.cpp, encoding="utf-8")
        what = "compiling generated layers"
        compiling = [pool.submit(compiler.run, (*FLAGS, "-c", "layers.cpp", "-o", "layers.o"), work, what)]
        if cuda is not None:
            (work / "layers.cu").write_text(str(source.cu), encoding="utf-8")
            flags = ("-ccbin", compiler.program, *caffe.recipe.gpu_flags, *_includes(caffe))
            arguments = (*flags, "-c", "layers.cu", "-o", "layers_gpu.o")
            compiling.append(pool.submit(cuda.run, arguments, work, f"{what} for GPUs"))
            objects.append("layers_gpu.o")
        glue = _glue(compiler, caffe, folder, work)
        for each in compiling:
            each.result()
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
        done = subprocess.run(
            [self.program, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines()[:8]
            raise BackendError(f"{what} failed ({self.program}, exit code {done.returncode})", notes=lines)


@cache
def _version(program: str, *arguments: str) -> str:
    said = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return said.stdout


def _includes(caffe: CaffeBuild) -> list[str]:
    return [f"-I{path}" for path in caffe.includes]


def _glue(compiler: Compiler, caffe: CaffeBuild, folder: Path, work: Path) -> Path:
    """Caffe's side of generated layers, which is the same for all: compiled once for a Caffe.

    It does nothing but gather pointers, once a pass: most of the time goes into Caffe's headers, and what is left of it
    is not spent on optimising.
    """
    target = folder / f"{_digest(compiler.identity, caffe.identity, _sources())}.o"
    check_private(target)
    if used(target):
        return target
    for name in (_HEADER, _LAYER):
        (work / name).write_text(header(name), encoding="utf-8")
    flags = [*caffe.recipe.flags, "-O1", f'-DLSTMC_CAFFE_BUILD="{caffe.identity}"', *_includes(caffe)]
    compiler.run((*flags, "-c", _LAYER, "-o", "glue.o"), work, "compiling Caffe's side of generated layers")
    keep(work / "glue.o", target)
    return target


def _sources() -> str:
    return header(_HEADER) + header(_LAYER)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
