"""How much memory there is for this process, and a bound on what a library may take of it.

A process has a limit of its own only where psutil knows of one, as on Linux: elsewhere the machine's memory is the only
limit, and a bound is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_LIMITED = hasattr(psutil, "RLIMIT_AS")


def free_memory() -> int:
    """How many bytes this process may still take: what the machine has, or less where a limit is set for it."""
    free = psutil.virtual_memory().available
    if _LIMITED:
        limit, _ = psutil.Process().rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            free = min(free, max(limit - _taken(), 0))
    return free


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """Inside, this process cannot grow by more than so many bytes: what asks for more gets a MemoryError or its like.

    For libraries in C that allocate what a file says before they look whether it has that much, as HDF5 does for texts
    of variable length.
    """
    if not _LIMITED:
        yield
        return
    process = psutil.Process()
    soft, hard = process.rlimit(psutil.RLIMIT_AS)
    bound = _taken() + more
    if soft == psutil.RLIM_INFINITY or bound < soft:
        process.rlimit(psutil.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_AS, (soft, hard))


def _taken() -> int:
    taken: int = psutil.Process().memory_info().vms
    return taken
