"""One step of a net after another, its states going from each step to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lstmc.backend import Backend, Runs, Steps, require
from lstmc.ops import Array

Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]


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

    def __call__(self, inputs: Arrays | None = None, /, **named: NDArray[Any]) -> dict[str, Array]:
        """One step: its outputs by name. Inputs by name, ``step(x=x)``, or as a mapping."""
        return self._steps.step({**(inputs or {}), **named})


@contextmanager
def stream_files(backend: Backend, net: Path, weights: Path | None, gpu: bool) -> Iterator[Stream]:
    """A stream of the backend's program over a written net of one step."""
    with require(backend, Runs).steps(net, weights, gpu) as steps:
        yield Stream(steps)
