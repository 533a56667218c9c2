"""Compile the generated layers of a net for one build of Caffe."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

from lstmc.errors import BackendError
from lstmc.loops.code import Source
from lstmc.loops.memory import header
from lstmc.loops.native import FLAGS, Compiler, cached, cpp_compiler
from lstmc_caffe.install.build import INCLUDE as HEADERS
from lstmc_caffe.install.downloads import Toolkit, installed_toolkit
from lstmc_caffe.install.recipe import CPU, Recipe, cuda_recipe
from lstmc_caffe.install.record import LIBRARY, architectures_of
from lstmc_caffe.processes.process import INSTALL, CaffeLocation, failure_reason, last_json, run_probe
from lstmc_caffe.worker.layer_library import build_id

INCLUDE = "LSTMC_CAFFE_INCLUDE"
_LAYER = "caffe_layer.cpp"


@dataclass(frozen=True)
class CaffeBuild:
    """The linker's id of the file that holds Caffe's own code, and the folders of its headers. A build with CUDA has a
    ``recipe``, with the GPU architectures that it was built for, and the ``toolkit`` for these."""

    identity: str
    includes: tuple[Path, ...]
    recipe: Recipe = CPU
    toolkit: Toolkit | None = None

    @classmethod
    def of(cls, location: CaffeLocation) -> Self:
        """Return the build of the Caffe at a location. Raises BackendError without headers or an id, and InstallError
        for a Caffe with CUDA if there is no nvcc."""
        includes = _include_folders(location)
        if location.origin == "installed":
            assert location.pythonpath is not None
            build = Path(location.pythonpath).parent
            identity, architectures = _identity(build / LIBRARY), architectures_of(build)
            if not architectures:
                return cls(identity, includes)
            toolkit = installed_toolkit(build)
            return cls(identity, (*includes, *map(Path, toolkit.includes)), cuda_recipe(architectures), toolkit)
        probe = run_probe(location, "--build")
        report = {} if isinstance(probe, str) else last_json(probe.stdout)
        if "file" not in report:
            reason = probe if isinstance(probe, str) else report.get("reason") or failure_reason(probe)
            raise BackendError(f"generated layers are compiled for one Caffe, and that of {location.python}: {reason}")
        return cls(_identity(Path(report["file"])), includes)


def _identity(library: Path) -> str:
    """Return the linker's id of a library. Raise BackendError if the library has none."""
    identity = build_id(str(library))
    if not identity:
        raise BackendError(
            f"generated layers are compiled for one build of Caffe: expected an id of it in {library}, found none",
            notes=("link Caffe with -Wl,--build-id",),
        )
    return identity


def _include_folders(location: CaffeLocation) -> tuple[Path, ...]:
    """Return the folders of the headers of the Caffe at a location. Raise BackendError if they are not known."""
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
    return (Path(location.pythonpath).parent / HEADERS,)


def library(source: Source, location: CaffeLocation) -> Path:
    """Return the library of the layers in ``source``, for the Caffe at ``location``: compiled, or from the cache. For a
    Caffe with CUDA it also has the layers for a GPU. Raises BackendError without a compiler or Caffe's headers, with
    the message of a compiler that fails, and for a cache that is not writable or private."""
    compiler = cpp_compiler("target caffe needs none")
    caffe = CaffeBuild.of(location)
    inputs = [source.cpp, compiler.identity, *FLAGS, caffe.identity, _sources()]  # the library's key in the cache
    cuda, libraries = None, ["-lopenblas"]
    if caffe.toolkit is not None:
        if source.cu is None:
            raise BackendError(
                "generated layers for a Caffe with CUDA: expected NAME.layers.cu beside NAME.layers.cpp, found none",
                notes=(
                    "files compiled for target caffe-fused have both, unless they were compiled with -O numbers=:"
                    " products in low precision are for the CPU alone",
                ),
            )
        cuda = Compiler.of(str(caffe.toolkit.nvcc), "--version")
        inputs += [source.cu, cuda.identity, *caffe.recipe.gpu_flags]
        libraries += map(str, caffe.toolkit.libraries)

    def build(work: Path) -> Path:
        """Compile the layers in the folder ``work``, and return the library."""
        with ThreadPoolExecutor() as pool:
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
            objects.append(str(_glue(compiler, caffe)))
            for compilation in compilations:
                compilation.result()
        compiler.run(("-shared", "-fopenmp", *objects, *libraries, "-o", "layers.so"), work, "linking them")
        return work / "layers.so"

    return cached(".so", inputs, build)


def _includes(caffe: CaffeBuild) -> list[str]:
    return [f"-I{path}" for path in caffe.includes]


def _glue(compiler: Compiler, caffe: CaffeBuild) -> Path:
    """Return the object file of Caffe's side of generated layers, compiled once for each Caffe. Caffe's headers take
    most of the compilation: this code only gathers pointers, once a pass, and has one loop to vectorise, Adam's."""

    def build(work: Path) -> Path:
        """Compile Caffe's side in the folder ``work``, and return the object file."""
        (work / "layer.h").write_text(header("layer.h"), encoding="utf-8")
        (work / _LAYER).write_text(caffe_layer(), encoding="utf-8")
        flags = [*caffe.recipe.flags, "-O1", "-ftree-vectorize", "-fno-math-errno"]
        flags += [f'-DLSTMC_CAFFE_BUILD="{caffe.identity}"', *_includes(caffe)]
        compiler.run((*flags, "-c", _LAYER, "-o", "glue.o"), work, "compiling Caffe's side of generated layers")
        return work / "glue.o"

    return cached(".o", [compiler.identity, caffe.identity, _sources()], build)


def _sources() -> str:
    return header("layer.h") + caffe_layer()


def caffe_layer() -> str:
    """Return the C++ of Caffe's side of generated layers."""
    return files(__package__).joinpath(_LAYER).read_text(encoding="utf-8")
