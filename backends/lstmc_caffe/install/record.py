"""The record of an installed build: written after its smoke test, read to locate Caffe. It is cheap to import."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
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
    """The fields of a build's record that are read again, such as the interpreter's path and the time of the build."""

    key: str
    source: str
    python_version: str
    python: str
    built: str
    architectures: tuple[Annotated[str, Field(pattern=r"^(sm_\d+|emulated)$")], ...]


@dataclass(frozen=True)
class Installed:
    """A Caffe that the installer built, and whose files were there when this was made. ``python`` runs pycaffe when
    ``pythonpath`` is its PYTHONPATH; ``caffe_binary`` is the command-line tool; ``source`` is the source package with
    its version; ``key`` names the build; ``architectures`` are the GPUs that it is for, none for the CPU alone."""

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
    """Return the latest build of ``recipe`` for this machine, or None. Each interpreter has a build of its own."""
    return _latest(cache, lambda record: recipe)


def installed_with_cuda(cache: Path | None = None) -> Installed | None:
    """Return the latest build with CUDA for this machine, for any GPUs, or None. An emulated device is no GPU."""
    no_gpu = ((), (EMULATED,))
    return _latest(cache, lambda record: None if record.architectures in no_gpu else cuda_recipe(record.architectures))


def installed_emulated(cache: Path | None = None) -> Installed | None:
    """Return the build for this machine whose GPU is emulated by the CPU, or None."""
    return installed(cache, cuda_recipe((EMULATED,)))


def architectures_of(folder: Path) -> tuple[str, ...]:
    """Return the GPUs that the build in a folder was compiled for, as its record says; none for the CPU alone."""
    record = _read(folder / RECORD)
    return record.architectures if isinstance(record, Record) else ()


def refusals(cache: Path | None = None, recipe: Recipe = CPU) -> tuple[str, ...]:
    """Return why cached builds of the recipe's kind (with or without CUDA) are not used, one line for each build."""
    reasons = []
    for folder, record in _builds(cache):
        of_kind = bool(recipe.architectures) == (isinstance(record, Record) and bool(record.architectures))
        if of_kind and (reason := _refusal(folder, record, recipe)):
            reasons.append(f"{folder}: {reason}")
    return tuple(reasons)


def write(
    folder: Path, recipe: Recipe, platform: Platform, python: Path, *, caffe: str, built: str, seconds: float
) -> None:
    """Write the record of a build in ``folder``, after all other files. The folder may be renamed: its name is not
    recorded. ``caffe`` is the version that Caffe reports, ``built`` the UTC time in ISO form."""
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


def _latest(cache: Path | None, recipe_of: Callable[[Record], Recipe | None]) -> Installed | None:
    """Return the latest valid build, or None. A record must match the recipe that ``recipe_of`` has for it, if any."""
    valid = [
        (record.built, folder, record)
        for folder, record in _builds(cache)
        if isinstance(record, Record) and (recipe := recipe_of(record)) and not _refusal(folder, record, recipe)
    ]
    if not valid:
        return None
    _, folder, record = max(valid, key=lambda build: build[0])
    known = record.source, record.key, record.architectures
    return Installed(Path(record.python), folder / "python", folder / PROGRAM, *known)


def _builds(cache: Path | None) -> list[tuple[Path, Record | str]]:
    """Return the folder of each build with its record, or with the reason why the record is invalid."""
    try:
        # Folders that begin with a dot are builds in progress.
        paths = sorted(caffe_folder(cache).glob(f"[!.]*/{RECORD}"))
    except OSError:
        return []  # a cache that cannot be read holds nothing that could be used
    return [(path.parent, _read(path)) for path in paths]


def _read(path: Path) -> Record | str:
    """Return a build's record, or the reason why it cannot be read."""
    try:
        return read_json(path, Record)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except NotExpected as wrong:
        return str(wrong)


def _refusal(folder: Path, record: Record | str, recipe: Recipe) -> str | None:
    """Return why a build cannot be used (another key; a file is missing, or others can write it), or None if it can."""
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
