"""The record of an installed build: written after its smoke test, read to locate Caffe.

This module is cheap to import; it runs nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field

from lstmc.files.json_file import NotExpected, read_json
from lstmc.files.output import foreign
from lstmc_caffe.install.recipe import CPU, EMULATED, Platform, Recipe, cuda_recipe, libraries

RECORD = "install.json"
BINDING = Path("python/caffe/_caffe.so")
PROGRAM = Path("bin/caffe")
LIBRARY = Path("lib/libcaffe.so")
# of a build with CUDA only
CUDA = Path("cuda")


@dataclass(frozen=True)
class Record:
    """The fields of a build's record that are read again, as the interpreter's path and the time of the build."""

    key: str
    source: str
    python_version: str
    python: str
    built: str
    architectures: tuple[Annotated[str, Field(pattern=r"^(sm_\d+|emulated)$")], ...]


@dataclass(frozen=True)
class Build:
    """The folder of a build with its record, or the reason why the record is invalid."""

    folder: Path
    record: Record | str

    @property
    def for_gpus(self) -> bool:
        return isinstance(self.record, Record) and bool(self.record.architectures)


@dataclass(frozen=True)
class Installed:
    """A Caffe that the installer built, and whose files were there when this was made.

    ``python`` runs pycaffe when ``pythonpath`` is its PYTHONPATH; ``caffe_binary`` is the command-line tool;
    ``source`` is the source package with its version; ``key`` names the build among others; ``architectures`` are
    those of the GPUs it was compiled for, none for the CPU alone.
    """

    python: Path
    pythonpath: Path
    caffe_binary: Path
    source: str
    key: str
    architectures: tuple[str, ...] = ()


def caffe_folder(cache: Path | None = None) -> Path:
    """Return the folder of all builds; ``cache`` is the compiler's cache folder, by default the user's own."""
    return (cache or platformdirs.user_cache_path("lstmc")) / "caffe"


def installed(cache: Path | None = None, recipe: Recipe = CPU) -> Installed | None:
    """The build of ``recipe`` for this machine, or None. With several, for several interpreters, the latest one."""
    return _latest([build for build in _builds(cache) if _refusal(build, recipe) is None])


def installed_with_cuda(cache: Path | None = None) -> Installed | None:
    """The latest build with CUDA for this machine, whatever GPUs it is for, or None. An emulated device is no GPU."""
    builds = [(build, build.record) for build in _builds(cache) if isinstance(build.record, Record)]
    return _latest(
        [
            build
            for build, record in builds  # and the recipe with CUDA that makes this version's build for the same GPUs
            if record.architectures not in ((), (EMULATED,))
            and _refusal(build, cuda_recipe(record.architectures)) is None
        ]
    )


def installed_emulated(cache: Path | None = None) -> Installed | None:
    """Return the build for this machine whose GPU is emulated by the CPU, or None."""
    return installed(cache, cuda_recipe((EMULATED,)))


def architectures_of(folder: Path) -> tuple[str, ...]:
    """Return the GPUs that the build in a folder was compiled for, as its record says; none for the CPU alone."""
    record = _read(folder / RECORD)
    return record.architectures if isinstance(record, Record) else ()


def refusals(cache: Path | None = None, recipe: Recipe = CPU) -> tuple[str, ...]:
    """Return why cached builds of that kind (with or without CUDA) are not used, one line each."""
    kind = bool(recipe.architectures)
    reasons = ((build.folder, _refusal(build, recipe)) for build in _builds(cache) if build.for_gpus == kind)
    return tuple(f"{folder}: {reason}" for folder, reason in reasons if reason is not None)


def write(
    folder: Path, recipe: Recipe, platform: Platform, python: Path, *, caffe: str, built: str, seconds: float
) -> None:
    """Write the record of a build in ``folder``: the last file to be written there.

    ``caffe`` is the version that Caffe gives of itself, ``built`` the UTC time in ISO form, ``seconds`` what
    the build took. The folder itself is not named in it, so it can be renamed.
    """
    fields = {
        "key": recipe.key(platform),
        "source": recipe.source,
        "sha256": recipe.sha256,
        "caffe": caffe,
        "compiler": recipe.compiler,
        "flags": recipe.flags,
        "file_flags": dict(recipe.file_flags),
        "libraries": recipe.libraries_for_python(platform.python),
        "architectures": recipe.architectures,
        "system": platform.system,
        "machine": platform.machine,
        "python_version": platform.python,
        "python": str(python),
        "pythonpath": BINDING.parts[0],
        "caffe_binary": str(PROGRAM),
        "built": built,
        "seconds": round(seconds, 1),
    }
    partial = folder / f"{RECORD}.partial"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(fields, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / RECORD)


def _latest(builds: list[Build]) -> Installed | None:
    valid = [(build.folder, build.record) for build in builds if isinstance(build.record, Record)]
    if not valid:
        return None
    folder, record = max(valid, key=lambda build: build[1].built)
    return Installed(
        Path(record.python), folder / "python", folder / PROGRAM, record.source, record.key, record.architectures
    )


def _builds(cache: Path | None) -> list[Build]:
    try:
        # Folders that begin with a dot are builds in progress.
        paths = sorted(caffe_folder(cache).glob(f"[!.]*/{RECORD}"))
    except OSError:
        return []  # a cache that cannot be read holds nothing that could be used
    return [Build(path.parent, _read(path)) for path in paths]


def _read(path: Path) -> Record | str:
    try:
        return read_json(path, Record)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except NotExpected as wrong:
        return str(wrong)


def _refusal(build: Build, recipe: Recipe) -> str | None:
    """Return why a recorded build cannot be used, or None."""
    folder, record = build.folder, build.record
    if isinstance(record, str):
        return f"{RECORD}: {record}"
    key = recipe.key(Platform.current(record.python_version))
    if record.key != key:
        return f"built as {record.key}, but this machine and this version of lstmc need {key}"
    for path in (*folder.glob("python/caffe/*"), folder / PROGRAM, folder / LIBRARY):
        if (problem := foreign(path)) is not None:
            return "; ".join(problem)
    loaded = tuple(CUDA / name for name in libraries(recipe.architectures)) if recipe.architectures else ()
    for path in (Path(record.python), *(folder / file for file in (BINDING, PROGRAM, LIBRARY, *loaded))):
        if not path.is_file():
            return f"{path} is gone"
    return None
