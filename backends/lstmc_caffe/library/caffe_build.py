"""The build of Caffe that generated layers are compiled for: its headers, and what tells it from every other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lstmc.errors import BackendError
from lstmc_caffe.install.headers import headers
from lstmc_caffe.install.record import CUDA, LIBRARY
from lstmc_caffe.place.place import INSTALL, CaffeLocation, last_json, run_probe, why_it_failed
from lstmc_caffe.worker.layer_library import build_id

INCLUDE = "LSTMC_CAFFE_INCLUDE"


@dataclass(frozen=True)
class CaffeBuild:
    """The linker's id of the file that holds Caffe's own code, and the folders of its headers."""

    identity: str
    includes: tuple[Path, ...]

    @classmethod
    def of(cls, location: CaffeLocation) -> Self:
        """Of the Caffe at a place. Raises :class:`BackendError` where it has no headers, no id, or is for GPUs."""
        includes = _includes(location)
        if location.found_by == "installed":
            assert location.pythonpath is not None
            return cls(_identity(Path(location.pythonpath).parent / LIBRARY), includes)
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
    build = Path(location.pythonpath).parent
    if (build / CUDA).is_dir():
        raise BackendError(
            "generated layers run on the CPU: expected a Caffe built for it, found the one with CUDA",
            notes=("target caffe runs on GPUs",),
        )
    return (headers(build),)
