"""Compile generated code for this machine, and cache the libraries; what one host of loops needs besides is its own.

The cache keeps the most recently used files, up to a number and a size, and discards damaged ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from lstmc.errors import BackendError
from lstmc.files.output import check_private, private_folder

MOST_FILES = 400
MOST_BYTES = 100_000_000
_DIGEST = hashlib.sha256().digest_size
RECENT = 3600.0  # seconds: another process may be about to open what was used since
ENOUGH_BYTES = 1_000_000  # where less is free, it is why a compiler failed
PROGRAM = "g++"
# What lets loops be vector code. Not -ffast-math: NaN and infinity stay, and sums are taken as they are written.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-w"),
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp"),
)


@dataclass(frozen=True)
class Compiler:
    """A compiler: its program, and a text that identifies its version and the processor that it compiles for."""

    program: str
    identity: str

    @classmethod
    def find(cls, otherwise: str) -> Compiler:
        """Return g++. Raises :class:`BackendError` where there is none; ``otherwise`` says what does without."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise BackendError(
                f"generated layers are compiled, and {PROGRAM} was not found",
                notes=(f"install it: apt-get install {PROGRAM}", otherwise),
            )
        return cls.of(program, "-march=native", "-Q", "--help=target", "--version")

    @classmethod
    def of(cls, program: str, *asked: str) -> Compiler:
        """Return a compiler identified by its output for the arguments ``asked``."""
        return cls(program, _version(program, *asked))

    def run(self, arguments: Sequence[str], folder: Path, what: str) -> None:
        """Compile in a folder. Raises :class:`BackendError` with the first lines that the compiler wrote."""
        process = subprocess.run(
            [self.program, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        if process.returncode:
            lines = process.stderr.strip().splitlines()[:8]
            raise BackendError(f"{what} failed ({self.program}, exit code {process.returncode})", notes=lines)


@cache
def _version(program: str, *arguments: str) -> str:
    process = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return process.stdout


def cached(suffix: str, inputs: Sequence[str], build: Callable[[Path], Path]) -> Path:
    """Return the file that ``build`` makes in a folder of its own from ``inputs``: made now, or found in the cache.

    Raises :class:`BackendError` where the cache folder cannot be written, where others can write there, and what
    ``build`` raises.
    """
    folder = platformdirs.user_cache_path("lstmc") / "layers"
    path = folder / (hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:24] + suffix)
    check_private(path)
    if not is_cached(path):
        with _working_in(folder) as work:
            keep(build(work), path)
    return path


def is_cached(path: Path) -> bool:
    """Return whether a file is there as it was kept; it counts as used now."""
    try:
        content = path.read_bytes()
        if not content or content[-_DIGEST:] != _file_digest(content[:-_DIGEST]):
            return False  # a full disk, or a machine that stopped
        os.utime(path)
    except OSError:
        return False
    return True


def keep(compiled: Path, path: Path) -> None:
    """Have a file that was made on the same disk be ``path``, with its digest behind it: what follows an ELF file's own
    bytes nobody reads."""
    with compiled.open("ab") as file:
        file.write(_file_digest(compiled.read_bytes()))
    compiled.chmod(0o600)  # whatever the umask: what others could write is not loaded
    compiled.rename(path)


def _file_digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def prune(folder: Path, files: int = MOST_FILES, size: int = MOST_BYTES) -> None:
    """Remove the least recently used files until at most ``files`` with at most ``size`` bytes remain."""
    files_by_age = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process removes too
            state = path.stat()
            if path.suffix in (".so", ".o"):
                files_by_age.append((state.st_mtime, state.st_size, path))
    count, total, now = 0, 0, time.time()
    for at, length, path in sorted(files_by_age, reverse=True):
        count, total = count + 1, total + length
        if (count > files or total > size) and now - at > RECENT:
            with suppress(OSError):
                path.unlink()


@contextmanager
def _working_in(folder: Path) -> Iterator[Path]:
    """A folder that is there for a while, in one that stays and is made if need be."""
    try:
        private_folder(folder)
        prune(folder)
        with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as name:
            yield Path(name)
    except OSError as error:
        raise BackendError(
            f"generated layers cannot be compiled in {folder}: {error.strerror or error}",
            notes=("set XDG_CACHE_HOME to a folder that can be written",),
        ) from None
    except BackendError as error:
        for full in (folder, Path(tempfile.gettempdir())):
            if shutil.disk_usage(full).free < ENOUGH_BYTES:
                freed = "free space there, or set XDG_CACHE_HOME (TMPDIR) to a folder of another disk"
                notes = dict.fromkeys((*error.notes, freed))  # once, where one file is compiled for another
                raise BackendError(f"generated layers cannot be compiled: {full} is full", notes=tuple(notes)) from None
        raise
