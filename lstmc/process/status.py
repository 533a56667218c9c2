"""The running process: reports of progress, garbage collection, and detection of an MPI launch."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
# Where launchers say how many processes they have started, for all programs alike.
SIZES = (
    "OMPI_COMM_WORLD_SIZE",  # Open MPI's mpirun
    "PMI_SIZE",  # the mpiexec of MPICH and its kin; srun --mpi=pmi2
    "SLURM_STEP_NUM_TASKS",  # srun
)


def report_activity(what: str) -> None:
    """Report the current activity to the listener, if there is one: a few words, such as ``reading gru.pt``."""
    listener = _listener.get()
    if listener is not None:
        listener(what)


def with_progress(items: Collection[T], what: str) -> Iterator[T]:
    """Yield the items in order, and report each percent to the listener, if there is one: ``unrolling gru, 43 %``."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    last = -1
    for done, item in enumerate(items):
        percent = 100 * done // len(items)
        if percent != last:
            listener(f"{what}, {percent} %")
            last = percent
        yield item


@contextmanager
def activity_listener(listener: Listener) -> Iterator[None]:
    """Report activities in the block to ``listener``, in place of the previous listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the cyclic garbage collector inside the block: compiling a large net allocates millions of live objects,
    and scanning them takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def launched_processes() -> int:
    """Return the number of processes that a launcher has started together, with this one; 1 without a launcher. Only
    MPI knows the rank of this process, and whether the processes can reach each other."""
    size = next((os.environ[name] for name in SIZES if name in os.environ), "")
    return int(size) if size.isdecimal() else 1
