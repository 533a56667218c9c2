"""Cache folders that no other user can write to, as files in them are executed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lstmc.errors import BackendError

OWN_CACHE = "or set XDG_CACHE_HOME to a folder of your own"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(folder: Path) -> Path:
    """Return a folder that only this user can enter, made with its parents if need be.

    Raises :class:`BackendError` where others could replace what is in it, as :func:`check_private`; OSError where it
    cannot be made.
    """
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def check_private(path: Path) -> None:
    """Raise :class:`BackendError` if another user could have written the file at ``path``, or could replace it before
    it is loaded: see :func:`foreign`.
    """
    problem = foreign(path)
    if problem is not None:
        raise BackendError(problem[0], notes=problem[1:])


def foreign(path: Path) -> tuple[str, ...] | None:
    """Return the reason why another user can write to ``path``, and the remedy; None if no other user can.

    As sshd does with its files: all folders on the way count, and links. In a folder with the sticky bit, such as
    /tmp, others cannot replace what is not theirs. What cannot be reached is not looked at.
    """
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
