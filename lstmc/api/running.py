"""Run a net: the choice of the runtime (interpreter, Caffe on CPU or GPU), and streams that carry states over steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from lstmc.backend import Backend, Runs, Steps, require
from lstmc.errors import Argument, BackendError, DataError
from lstmc.ops import Array

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


Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]
A = TypeVar("A")


def by_name(
    inputs: Mapping[str, A] | NDArray[Any] | None,
    named: Mapping[str, NDArray[Any]],
    needed: Callable[[], Iterable[str]],
) -> dict[str, A | NDArray[Any]]:
    """Return the inputs of a call by name; an array alone is the one input that is ``needed``.

    Raises :class:`~lstmc.errors.DataError` for an array alone where several inputs are needed.
    """
    if inputs is None or isinstance(inputs, Mapping):
        return {**(inputs or {}), **named}
    names = list(needed())
    if len(names) != 1 or named:
        example = ", ".join(f"{name}=..." for name in names) or "no inputs"
        raise DataError(f"expected arrays by name, as in ({example}), found {type(inputs).__name__} without a name")
    return {names[0]: inputs}


class Stream:
    """A net of one step at work: calling it makes a step, ``y = step(x=x)["y"]``.

    ``inputs``, ``outputs`` and ``states`` have shapes by the model's names.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.inputs: Mapping[str, Shape] = steps.inputs
        self.outputs: Mapping[str, Shape] = steps.outputs
        self.states: Mapping[str, Shape] = steps.states

    def start(self, states: Arrays | None = None, /, **named: NDArray[Any]) -> None:
        """Begin a sequence with these states, ``{"lstm/h": h}``; those left out begin as the model says."""
        self._steps.start({**(states or {}), **named})

    def __call__(self, inputs: Arrays | NDArray[Any] | None = None, /, **named: NDArray[Any]) -> dict[str, Array]:
        """One step: its outputs by name. Inputs by name, ``step(x=x)``, or as a mapping; one alone needs no name."""
        return self._steps.step(by_name(inputs, named, lambda: self.inputs))


@contextmanager
def stream_files(backend: Backend, net: Path, weights: Path | None, gpu: bool) -> Iterator[Stream]:
    """A stream of the backend's program over a written net of one step."""
    with require(backend, Runs).steps(net, weights, gpu) as steps:
        yield Stream(steps)
