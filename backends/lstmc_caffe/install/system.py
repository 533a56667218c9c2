"""Running a program so that its failure reads well."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lstmc_caffe.install.errors import InstallError

TAIL_LINES = 20
"""How many of a failed program's last lines are shown."""


def run(command: Sequence[str], what: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs ``command`` and returns what it printed (both streams together).

    ``what`` says in an error what was being done. ``env`` is added to the environment. Raises InstallError with
    the command and the last lines of its output, and OSError (ENOSPC) when the output says the disk is full.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise InstallError(f"{what} failed: the program {command[0]} was not found") from error
    except PermissionError as error:
        raise InstallError(f"{what} failed: the program {command[0]} may not be run by this user") from error
    if done.returncode != 0:
        raise failure(what, command, done.returncode, done.stdout, cwd)
    return done.stdout


def failure(
    what: str, command: Sequence[str], returncode: int, output: str, cwd: Path | None = None
) -> InstallError | OSError:
    """The error for a program that ended with ``returncode``, a negative one being the signal that ended it."""
    if os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    ended = f"exit code {returncode}" if returncode >= 0 else f"ended by signal {-returncode}"
    lines = output.rstrip().splitlines()
    notes = [f"command: {shlex.join(command)}"]
    if cwd is not None:
        notes.append(f"run in: {cwd}")
    notes.append("its last lines:" if lines else "it printed nothing")
    notes += [f"  {line}" for line in lines[-TAIL_LINES:]]
    if returncode < 0 or "Killed signal terminated program" in output:
        notes.append("a compiler that is killed has often run out of memory: try --jobs 1")
    return InstallError(f"{what} failed ({ended})", notes=notes)
