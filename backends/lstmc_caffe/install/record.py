"""What was installed where: written after a build has proved itself, read by whoever wants Caffe.

This module is cheap to import; it runs nothing.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from lstmc.json_file import NotExpected, read_json
from lstmc_caffe.install.cuda import LIBRARIES, cuda_recipe
from lstmc_caffe.install.recipe import CPU, Platform, Recipe

RECORD = "install.json"
BINDING = Path("python/caffe/_caffe.so")
PROGRAM = Path("bin/caffe")
# of a build with CUDA only
LIBRARY = Path("lib/libcaffe.so")
CUDA = Path("cuda")

Record = tuple[Path, dict[str, Any]]
"""A build's folder, and what its record says."""


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
    """The folder of all builds; ``cache`` is the compiler's cache folder, by default the user's own."""
    return (cache or platformdirs.user_cache_path("lstmc")) / "caffe"


def installed(cache: Path | None = None, recipe: Recipe = CPU) -> Installed | None:
    """The build of ``recipe`` for this machine, or None. With several, for several interpreters, the latest one."""
    return _latest([record for record in _records(cache) if _refusal(record, recipe) is None])


def installed_with_cuda(cache: Path | None = None) -> Installed | None:
    """The latest build with CUDA for this machine, whatever GPUs it is for, or None."""
    return _latest([found for found in _records(cache) if _for_gpus(found) and _refusal(found, _recipe(found)) is None])


def refusals(cache: Path | None = None, recipe: Recipe = CPU) -> tuple[str, ...]:
    """Why builds of that kind (with or without CUDA) that are in the cache are not used, one line each."""
    kind = bool(recipe.architectures)
    reasons = ((found[0], _refusal(found, recipe)) for found in _records(cache) if _for_gpus(found) == kind)
    return tuple(f"{folder}: {reason}" for folder, reason in reasons if reason is not None)


def write(
    folder: Path, recipe: Recipe, platform: Platform, python: Path, *, caffe: str, built: str, seconds: float
) -> None:
    """Writes the record of a build in ``folder``: the last file to be written there.

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


def _latest(records: list[Record]) -> Installed | None:
    if not records:
        return None
    folder, fields = max(records, key=lambda record: str(record[1]["built"]))
    return Installed(
        Path(fields["python"]),
        folder / "python",
        folder / PROGRAM,
        fields["source"],
        fields["key"],
        _architectures(fields),
    )


def _architectures(fields: dict[str, Any]) -> tuple[str, ...]:
    # Builds of earlier versions of lstmc do not name any.
    found = fields.get("architectures")
    good = isinstance(found, list) and all(re.fullmatch(r"sm_\d+", str(name)) for name in found)
    return tuple(found or ()) if good else ()


def _for_gpus(record: Record) -> bool:
    return bool(_architectures(record[1]))


def _recipe(record: Record) -> Recipe:
    """The recipe with CUDA that makes this version's build for the same GPUs."""
    return cuda_recipe(_architectures(record[1]))


def _records(cache: Path | None) -> list[Record]:
    """Each build's folder and what its record says, an unreadable one saying nothing."""
    try:
        # Folders that begin with a dot are builds in progress.
        paths = sorted(caffe_folder(cache).glob(f"[!.]*/{RECORD}"))
    except OSError:
        return []  # a cache that cannot be read holds nothing that could be used
    records = []
    for path in paths:
        try:
            fields = read_json(path, lambda item: {name: entry.value for name, entry in item.mapping().items()})
        except (OSError, NotExpected):
            fields = {}
        records.append((path.parent, fields))
    return records


def _refusal(record: Record, recipe: Recipe) -> str | None:
    """Why a recorded build cannot be used, or None."""
    folder, fields = record
    needed = ("key", "source", "python_version", "python", "built")
    absent = [name for name in needed if not isinstance(fields.get(name), str)]
    if absent:
        return f"{RECORD} lacks {', '.join(absent)}"
    key = recipe.key(Platform.current(fields["python_version"]))
    if fields["key"] != key:
        return f"built as {fields['key']}, but this machine and this version of lstmc need {key}"
    loaded = (LIBRARY, *(CUDA / name for name in LIBRARIES)) if recipe.architectures else ()
    for path in (Path(fields["python"]), *(folder / file for file in (BINDING, PROGRAM, *loaded))):
        if not path.is_file():
            return f"{path} is gone"
    return None
