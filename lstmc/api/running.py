"""One step of a net after another, its states going from each step to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from lstmc.backend import Backend, Runs, Steps, require
from lstmc.errors import DataError
from lstmc.ops import Array

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
