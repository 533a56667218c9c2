"""Compiling the layers of a net for the Caffe that is to run it; what was compiled once is found again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import platformdirs

from lstmc.errors import BackendError
from lstmc_caffe.install.recipe import CPU
from lstmc_caffe.library.caffe_build import CaffeBuild
from lstmc_caffe.library.remembered import prune, used
from lstmc_caffe.place.place import CaffeLocation

# What lets loops be vector code. Not -ffast-math: NaN and infinity stay, and sums are taken as they are written.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-w"),
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"),
)
_HEADER, _LAYER = "layer.h", "caffe_layer.cpp"


def library(source: str, location: CaffeLocation) -> Path:
    """The library of the layers in ``source``, for the Caffe at ``location``: compiled now, or found as it was.

    Raises :class:`BackendError` where there is no compiler, no header of Caffe's, or what they say.
    """
    compiler = Compiler.find()
    caffe = CaffeBuild.of(location)
    folder = platformdirs.user_cache_path("lstmc") / "layers"
    target = folder / f"{_digest(source, compiler.identity, *FLAGS, caffe.identity, _sources())}.so"
    if used(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    prune(folder)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as name:
        work = Path(name)
        (work / "layers.cpp").write_text(source, encoding="utf-8")
        compiler.run((*FLAGS, "-c", "layers.cpp", "-o", "layers.o"), work, "compiling generated layers")
        glue = _glue(compiler, caffe, folder, work)
        compiler.run(("-shared", "layers.o", str(glue), "-lopenblas", "-o", "layers.so"), work, "linking them")
        (work / "layers.so").rename(target)
    return target


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
        return cls(program, _version(program))

    def run(self, arguments: Sequence[str], folder: Path, what: str) -> None:
        done = subprocess.run(
            [self.program, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines()[:8]
            raise BackendError(f"{what} failed ({self.program}, exit code {done.returncode})", notes=lines)


@cache
def _version(program: str) -> str:
    said = subprocess.run(
        [program, "-march=native", "-Q", "--help=target", "--version"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.stdout


def _glue(compiler: Compiler, caffe: CaffeBuild, folder: Path, work: Path) -> Path:
    """Caffe's side of generated layers, which is the same for all: compiled once for a Caffe."""
    target = folder / f"{_digest(compiler.identity, caffe.identity, _sources())}.o"
    if used(target):
        return target
    for name in (_HEADER, _LAYER):
        (work / name).write_text(_file(name), encoding="utf-8")
    flags = [*CPU.flags, f'-DLSTMC_CAFFE_BUILD="{caffe.identity}"', *(f"-I{path}" for path in caffe.includes)]
    compiler.run((*flags, "-c", _LAYER, "-o", "glue.o"), work, "compiling Caffe's side of generated layers")
    (work / "glue.o").rename(target)
    return target


def _sources() -> str:
    return _file(_HEADER) + _file(_LAYER)


def _file(name: str) -> str:
    return files("lstmc_caffe").joinpath("fused", name).read_text(encoding="utf-8")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
