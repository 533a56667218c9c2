"""Compiling the layers of a net for the Caffe that is to run it; what was compiled once is found again."""

from __future__ import annotations

import hashlib
import os
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
from lstmc_caffe.install.headers import headers
from lstmc_caffe.install.recipe import CPU
from lstmc_caffe.install.record import BINDING, LIBRARY
from lstmc_caffe.place.place import INSTALL, CaffeLocation

INCLUDE = "LSTMC_CAFFE_INCLUDE"
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
    caffe = _caffe(location)
    folder = platformdirs.user_cache_path("lstmc") / "layers"
    target = folder / f"{_digest(source, compiler.identity, *FLAGS, caffe, _sources())}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as name:
        work = Path(name)
        (work / "layers.cpp").write_text(source, encoding="utf-8")
        compiler.run((*FLAGS, "-c", "layers.cpp", "-o", "layers.o"), work, "compiling generated layers")
        glue = _glue(compiler, caffe, location, folder, work)
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


def _glue(compiler: Compiler, caffe: str, location: CaffeLocation, folder: Path, work: Path) -> Path:
    """Caffe's side of generated layers, which is the same for all: compiled once for a Caffe."""
    target = folder / f"{_digest(compiler.identity, caffe, _sources())}.o"
    if target.is_file():
        return target
    for name in (_HEADER, _LAYER):
        (work / name).write_text(_file(name), encoding="utf-8")
    includes = [f"-I{path}" for path in _includes(location)]
    compiler.run(
        (*CPU.flags, *includes, "-c", _LAYER, "-o", "glue.o"), work, "compiling Caffe's side of generated layers"
    )
    (work / "glue.o").rename(target)
    return target


def _includes(location: CaffeLocation) -> list[Path]:
    """The folders of Caffe's headers, of the very source that it was built from."""
    given = os.environ.get(INCLUDE)
    if given:
        folders = [Path(entry) for entry in given.split(os.pathsep)]
        if not any((folder / "caffe/layer.hpp").is_file() for folder in folders):
            raise BackendError(f"{INCLUDE}: expected a folder that holds caffe/layer.hpp, found none in {given}")
        return folders
    if location.found_by != "installed" or location.pythonpath is None:
        raise BackendError(
            f"generated layers are compiled with Caffe's headers, and those of {location.python} are not known",
            notes=(
                f"set {INCLUDE} to the folders that hold caffe/layer.hpp and caffe/proto/caffe.pb.h",
                f"or use the Caffe that lstmc builds: {INSTALL}",
                "target caffe needs none",
            ),
        )
    build = Path(location.pythonpath).parent
    if (build / LIBRARY).is_file():
        raise BackendError(
            "generated layers run on the CPU: expected a Caffe built for it, found the one with CUDA",
            notes=("target caffe runs on GPUs",),
        )
    return [headers(build)]


def _caffe(location: CaffeLocation) -> str:
    """What tells one build of Caffe from another: its file, and when it was made."""
    places = [Path(entry) for entry in (location.pythonpath or "").split(os.pathsep) if entry]
    found = [str(location.python), str(location.pythonpath)]
    for place in places:
        binding = place.parent / BINDING if location.found_by == "installed" else place / "caffe/_caffe.so"
        if binding.is_file():
            state = binding.stat()
            found.append(f"{binding} {state.st_size} {state.st_mtime_ns}")
    return "\n".join(found)


def _sources() -> str:
    return _file(_HEADER) + _file(_LAYER)


def _file(name: str) -> str:
    return files("lstmc_caffe").joinpath("fused", name).read_text(encoding="utf-8")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
