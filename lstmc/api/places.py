"""Where a net runs: the interpreter, or the backend's program on the CPU or a GPU."""

from __future__ import annotations

from lstmc.backend import Backend, Runs, require
from lstmc.errors import Argument, BackendError

INTERPRETER = "interpreter"


def place(backend: str, gpu: bool) -> str:
    """How the place is called where a backend runs nets, on the CPU or a GPU."""
    return f"{backend}-gpu" if gpu else f"{backend}-cpu"


def is_gpu(backend: Backend, on: str | None) -> bool:
    """Whether a place where the backend runs nets, ``caffe-cpu`` or ``caffe-gpu``, is the GPU; None is the CPU.

    Raises :class:`BackendError` for another place, and for a backend that runs no nets.
    """
    require(backend, Runs)
    cpu, gpu = (place(backend.name, of_gpu) for of_gpu in (False, True))
    if on not in (None, cpu, gpu):
        argument = Argument("on", repr(on))
        raise BackendError(f"{argument}: expected one of {INTERPRETER}, {cpu}, {gpu}", arguments=(argument,))
    return on == gpu
