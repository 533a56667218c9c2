"""The memory that this process can still use, and limits on it. Without a limit of its own (psutil reports one on
Linux) the machine's memory is the limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_LIMITED = hasattr(psutil, "RLIMIT_AS")


def free_memory() -> int:
    """Return the bytes of memory that this process can still use: the machine's free memory, or less under a limit."""
    free = psutil.virtual_memory().available
    if _LIMITED:
        limit, _ = psutil.Process().rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            free = min(free, max(limit - _used_memory(), 0))
    return free


@contextmanager
def limit_memory(more: int) -> Iterator[None]:
    """Limit the growth of this process inside the block: larger allocations fail, as by a MemoryError. It is for
    libraries in C that allocate what a file states without checking it, as HDF5 does for texts of variable length."""
    if not _LIMITED:
        yield
        return
    process = psutil.Process()
    soft, hard = process.rlimit(psutil.RLIMIT_AS)
    bound = _used_memory() + more
    if soft == psutil.RLIM_INFINITY or bound < soft:
        process.rlimit(psutil.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_AS, (soft, hard))


def _used_memory() -> int:
    used: int = psutil.Process().memory_info().vms
    return used
