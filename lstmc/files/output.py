"""Write files atomically (beside the target, then renamed); check who else can write to a file. Files in a cache folder
are executed, so no other user can write to it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np

from lstmc.errors import BackendError, OutputError

# The content of a file: its bytes, or for a large file a function that writes it into the empty file of a path.
Content = bytes | Callable[[Path], None]
PREVIOUS = "previous"
OWN_CACHE = "or set XDG_CACHE_HOME to a folder of your own"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def write_files(folder: Path, files: Mapping[str, Content]) -> list[Path]:
    """Write all files into ``folder`` (made if needed), or none: they are renamed only when all are on the disk. A name
    may contain folders, as ``src/net.c``, which are made too. A target that is not a regular file (``/dev/stdout``,
    ``/dev/null``, a pipe) is written into, after all others, and never replaced. Raises OutputError when the folder
    cannot be made or written, or the disk is full."""
    staged: list[tuple[str, Path]] = []
    poured: list[tuple[str, Path]] = []  # into devices
    new_folders: list[Path] = []
    done = False
    try:
        for inner in dict.fromkeys([folder, *((folder / name).parent for name in files)]):
            new_folders[:0] = [path for path in (inner, *inner.parents) if not path.exists()]
            inner.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if (folder / name).is_dir():  # nothing could be renamed to this
                raise OutputError(f"cannot write {folder / name}: it is a folder: nothing was changed")
            path = folder / name
            is_device = path.exists() and not path.is_file()
            temporary = _write_into(None if is_device else path.parent, path.name, content)
            (poured if is_device else staged).append((temporary, path))
        for temporary, path in staged:
            os.replace(temporary, path)
        for temporary, path in poured:
            with open(temporary, "rb") as file, open(path, "wb") as device:
                shutil.copyfileobj(file, device)
        done = True
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write into {folder}: {reason}: nothing was changed there") from None
    finally:
        for temporary, _ in (*staged, *poured):
            Path(temporary).unlink(missing_ok=True)
        for path in () if done else new_folders:
            with suppress(OSError):
                path.rmdir()
    return [folder / name for name in files]


def set_aside(folder: Path, names: Iterable[str]) -> Path:
    """Move the files of these names from ``folder`` into ``folder/previous/N``, with the first free N; return it. The
    files are moved in order: while the last one is still there, not all are moved. Raises OutputError."""
    kept = next(path for n in count(1) if not (path := folder / PREVIOUS / str(n)).exists())
    try:
        kept.mkdir(parents=True)
        for name in dict.fromkeys(names):
            if os.path.lexists(folder / name):
                os.replace(folder / name, kept / name)
    except OSError as error:
        raise OutputError(f"cannot move the contents of {folder} into {kept}: {error.strerror}") from None
    return kept


def _write_into(folder: Path | None, name: str, content: Content) -> str:
    """Write a new temporary file in a folder, or without one in the folder for temporary files. Return its path."""
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(Path(temporary))
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return temporary


def private_folder(folder: Path) -> Path:
    """Return a folder that only this user can enter; it is made, with its parents, if it is missing. Raises
    BackendError if others could replace its files, as :func:`check_private` does; OSError if it cannot be made."""
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def check_private(path: Path) -> None:
    """Raise BackendError if another user could write or replace the file at ``path``: see :func:`foreign`."""
    problem = foreign(path)
    if problem is not None:
        raise BackendError(problem[0], notes=problem[1:])


def foreign(path: Path) -> tuple[str, ...] | None:
    """Return how another user could write to ``path``, and the remedy. Return None if no other user can. As in sshd,
    all folders and links on the way to ``path`` are checked. In a folder with the sticky bit, such as /tmp, other users
    cannot replace files of this user. A path that cannot be reached is not checked."""
    if not hasattr(os, "geteuid"):
        return None  # no POSIX system: nothing is compiled or installed there
    absolute, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    for each in dict.fromkeys((*reversed([absolute, *absolute.parents]), *reversed([real, *real.parents]))):
        try:
            state = each.lstat()
        except OSError:
            continue  # nothing that could be loaded
        if state.st_uid not in (0, os.geteuid()):
            remedy = f"remove it if you do not know it: rm -r {each}"
            return f"{each} belongs to {_owner(each, state.st_uid)}, and its files are executed", remedy, OWN_CACHE
        sticky = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX and each not in (absolute, real)
        if not stat.S_ISLNK(state.st_mode) and state.st_mode & _OTHERS_WRITE and not sticky:
            who = "everybody" if state.st_mode & stat.S_IWOTH else "its group"
            remedy = f"remove it if somebody else wrote there; if not: chmod go-w {each}"
            return f"{each} may be written by {who}, and its files are executed", remedy, OWN_CACHE
    return None


def _owner(path: Path, uid: int) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return f"user {uid}"


def shortest(value: float) -> float:
    """Return the shortest decimal that rounds to ``value`` in float32: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(value)))
