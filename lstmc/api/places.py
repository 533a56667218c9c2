"""Where a net runs: the interpreter, or the backend's program on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.backend import Backend, Runs, require
from lstmc.errors import Argument, BackendError

INTERPRETER = "interpreter"
On = str | Sequence[str]  # where a net runs: one place, or several


def place(backend: str, gpu: bool) -> str:
    """How the place is called where a backend runs nets, on the CPU or a GPU."""
    return f"{backend}-gpu" if gpu else f"{backend}-cpu"


def places(backend: Backend, on: On | None) -> list[str] | None:
    """Return the places that are named, each once; the backend's own name is its CPU. None where none is named."""
    named = [on] if isinstance(on, str) else on or ()
    return [*dict.fromkeys(place(name, False) if name == backend.name else name for name in named)] or None


def one_place(backend: Backend, on: On | None) -> str:
    """Return where a net is run once: the interpreter, or the backend's program on the CPU (also for None) or a GPU.

    Raises :class:`BackendError` for several places, for another one, and for a backend that runs no nets.
    """
    cpu, gpu = (place(backend.name, of_gpu) for of_gpu in (False, True))
    named = places(backend, on) or [cpu]
    if len(named) > 1 or named[0] not in (INTERPRETER, cpu, gpu):
        argument = Argument("on", repr(on))
        raise BackendError(f"{argument}: expected one of {INTERPRETER}, {cpu}, {gpu}", arguments=(argument,))
    if named[0] != INTERPRETER:
        require(backend, Runs)
    return named[0]


def is_gpu(backend: Backend, on: On | None) -> bool:
    """Return whether a written net, which has no interpreter, is run on a GPU. Raises as :func:`one_place`."""
    found = one_place(backend, on)
    if found == INTERPRETER:
        cpu, gpu = (place(backend.name, of_gpu) for of_gpu in (False, True))
        argument = Argument("on", repr(on))
        raise BackendError(f"{argument}: a written net runs on {cpu} or {gpu}", arguments=(argument,))
    return found == place(backend.name, True)
