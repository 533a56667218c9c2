"""The build of Caffe that generated layers are compiled for: its headers, and what tells it from every other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lstmc.errors import BackendError
from lstmc_caffe.install.cuda import cuda_recipe
from lstmc_caffe.install.headers import headers
from lstmc_caffe.install.recipe import CPU, Recipe
from lstmc_caffe.install.record import LIBRARY, architectures_of
from lstmc_caffe.install.toolkit import Toolkit, kept
from lstmc_caffe.place.place import INSTALL, CaffeLocation, last_json, run_probe, why_it_failed
from lstmc_caffe.worker.layer_library import build_id

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
        """Of the Caffe at a place. Raises :class:`BackendError` where it has no headers, or no id; InstallError where
        it has CUDA, and what compiles that is not there.
        """
        includes = _includes(location)
        if location.found_by == "installed":
            assert location.pythonpath is not None
            build = Path(location.pythonpath).parent
            identity, architectures = _identity(build / LIBRARY), architectures_of(build)
            if not architectures:
                return cls(identity, includes)
            toolkit = kept(build)
            folders = (*includes, *map(Path, toolkit.includes))
            return cls(identity, folders, cuda_recipe(architectures), toolkit)
        ended = run_probe(location, "--build")
        found = {} if isinstance(ended, str) else last_json(ended.stdout)
        if "file" not in found:
            reason = ended if isinstance(ended, str) else found.get("reason") or why_it_failed(ended)
            raise BackendError(f"generated layers are compiled for one Caffe, and that of {location.python}: {reason}")
        return cls(_identity(Path(found["file"])), includes)


def _identity(library: Path) -> str:
    found = build_id(str(library))
    if not found:
        raise BackendError(
            f"generated layers are compiled for one build of Caffe: expected an id of it in {library}, found none",
            notes=("link Caffe with -Wl,--build-id",),
        )
    return found


def _includes(location: CaffeLocation) -> tuple[Path, ...]:
    """The folders of Caffe's headers, of the very source that it was built from."""
    given = os.environ.get(INCLUDE)
    if given:
        folders = tuple(Path(entry) for entry in given.split(os.pathsep))
        for header in ("caffe/layer.hpp", "caffe/proto/caffe.pb.h"):
            if not any((folder / header).is_file() for folder in folders):
                raise BackendError(f"{INCLUDE}: expected a folder that holds {header}, found none in {given}")
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
    return (headers(Path(location.pythonpath).parent),)
