"""One step of a net after another, its states going from each step to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import Backend, Compiled, Runs, Steps, require
from lstmc.errors import BackendError, DataError, Mend
from lstmc.interp import forward
from lstmc.ops import Array
from lstmc.stored import AnyArray

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


class InterpretedSteps:
    """Steps of a compiled one-step net in the interpreter, in float64. See :class:`lstmc.backend.Steps`."""

    def __init__(self, compiled: Compiled, weights: Mapping[str, Array], inputs: Mapping[str, Shape]) -> None:
        if not compiled.states:
            raise BackendError(
                f"{compiled.name}: expected a net of one step, found one without states", mends=[Mend.ONE_STEP]
            )
        self._compiled, self._weights = compiled, weights
        before = {pair.before: pair for pair in compiled.states}
        after = {pair.after for pair in compiled.states}
        self.inputs: Mapping[str, Shape] = {n: shape for n, shape in inputs.items() if n not in before}
        self.states: Mapping[str, Shape] = {pair.name: inputs[name] for name, pair in before.items()}
        self.outputs: Mapping[str, Shape] = {
            o.name: compiled.model.type(o.ref).shape for o in compiled.model.outputs if o.name not in after
        }
        self._now: dict[str, Array] = {}

    def start(self, states: Mapping[str, AnyArray]) -> None:
        """Begin a sequence. Raises :class:`DataError` for states that are unknown, misshaped or cannot be known."""
        problems = [f"extra: {name} {list(np.shape(states[name]))}" for name in states if name not in self.states]
        now: dict[str, Array] = {}
        for pair in self._compiled.states:
            shape = self.states[pair.name]
            if pair.name in states:
                now[pair.before] = np.asarray(states[pair.name], np.float64)
                if now[pair.before].shape != shape:
                    found = list(now[pair.before].shape)
                    problems.append(f"wrong shape: {pair.name} must be {list(shape)}, found {found}")
            elif isinstance(pair.initial, str):
                problems.append(f"missing: {pair.name} {list(shape)}: it starts at {pair.initial}")
            else:
                now[pair.before] = np.full(shape, pair.initial, np.float64)
        if problems:
            raise DataError(f"the first states do not fit {self._compiled.name}", notes=problems)
        self._now = now

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One step's outputs."""
        if not self._now:
            self.start({})
        found = forward(self._compiled.model, {**inputs, **self._now}, self._weights).outputs
        self._now = {pair.before: found[pair.after] for pair in self._compiled.states}
        return {name: found[name] for name in self.outputs}
