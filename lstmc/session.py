"""Running a written net from its files alone: what to feed and to read is in its manifest, no model is needed.

A backend gives a :class:`LoadedNet`, which knows blobs; the names and shapes of the model are dealt with here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from lstmc.arrays import did_you_mean, element_problem, value_problem
from lstmc.errors import BackendError, DataError, Mend
from lstmc.interp import named_rng
from lstmc.json_file import Shape
from lstmc.manifest import Manifest, read_manifest
from lstmc.ops import Array
from lstmc.stored import AnyArray, StoredArray


class LoadedNet(Protocol):
    """A net that can be run, by the names of its blobs."""

    def forward(self, blobs: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        """One forward pass: the wanted blobs, from those that are fed."""
        ...


@dataclass(frozen=True)
class NetFiles:
    """A written net: its own file, its weights, and its manifest as read."""

    net: Path
    weights: Path
    manifest: Manifest

    @property
    def inputs(self) -> dict[str, Shape]:
        """What the net does not fill itself, and its shape in the model."""
        return {name: entry.place.shape for name, entry in self.manifest.inputs.items() if not entry.filled}

    @property
    def outputs(self) -> dict[str, Shape]:
        return {name: place.shape for name, place in self.manifest.outputs.items()}

    def forward(self, loaded: LoadedNet, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of one forward pass, from an array for every input: names and shapes are the model's."""
        inputs = self.manifest.inputs
        fed = {blob: part for name, array in arrays.items() for blob, part in inputs[name].place.fed(array)}
        blobs = loaded.forward(fed, self.manifest.output_blobs)
        return {name: place.read(blobs) for name, place in self.manifest.outputs.items()}


def find_files(net: Path, weights: Path | None, suffix: str) -> NetFiles:
    """A net, and the weights (``NAME`` and ``suffix``) and manifest beside it. ``weights`` may be others than those.

    Raises :class:`BackendError` for a file that is not there.
    """
    manifest = net.with_name(f"{net.stem}.manifest.json")
    found = weights or net.with_name(f"{net.stem}{suffix}")
    for path in (net, manifest, found):
        if not path.is_file():
            beside = ": expected it beside the net" if path is not net and path is not weights else ""
            raise BackendError(f"{path}: no such file{beside}")
    return NetFiles(net, found, read_manifest(manifest))


def run_net(
    files: NetFiles, load: Callable[[], AbstractContextManager[LoadedNet]], inputs: Mapping[str, AnyArray]
) -> dict[str, Array]:
    """The outputs of one forward pass, by the model's names and in its shapes, as are ``inputs``.

    An input with a fill that is not given is drawn from it. Raises :class:`DataError` that names everything that
    is missing, extra, of another shape, not finite or not what ops read, before the net is loaded.
    """
    arrays = checked_inputs(files, inputs)
    with load() as loaded:
        return files.forward(loaded, arrays)


def checked_inputs(files: NetFiles, inputs: Mapping[str, AnyArray]) -> dict[str, Array]:
    """An array for every input that the net does not fill, each in the model's shape. Raises as :func:`run_net`."""
    wanted, known = files.inputs, files.manifest.inputs
    drawn = {
        name: entry.fill.draw(named_rng(0, name), entry.place.shape)
        for name, entry in known.items()
        if entry.fill is not None and not entry.filled and name not in inputs
    }
    given = {**drawn, **inputs}
    problems = [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in given]
    for name, array in inputs.items():
        found = list(np.shape(array))
        if name in known and name not in wanted:
            problems.append(f"extra: {name} {found}: the net fills it")
        elif name not in wanted:
            problems.append(f"extra: {name} {found}{did_you_mean(name, [n for n in wanted if n not in given])}")
        elif tuple(found) != wanted[name]:
            problems.append(f"wrong shape: {name} must be {list(wanted[name])}, found {found}")
        elif problem := value_problem(name, _given(array), known[name].values):
            problems.append(problem)
    if problems:
        raise DataError(f"the inputs do not fit {files.net}", notes=problems)
    return {name: np.asarray(given[name], np.float32) for name in wanted}


def _given(array: Array | StoredArray) -> AnyArray:
    return array if isinstance(array, StoredArray) else np.asarray(array)


class StepSession:
    """A one-step net that is loaded once and run for many steps; its states go from each step to the next.

    ``inputs`` and ``outputs`` are those of the model, without the states'. ``initial`` has the first values of the
    states, as the manifest tells them: a number, or words where it is not one.
    """

    def __init__(self, files: NetFiles, load: Callable[[], AbstractContextManager[LoadedNet]]) -> None:
        self._files, self._load, self._opened = files, load, ExitStack()
        self._net: LoadedNet | None = None
        self._states: dict[str, Array] = {}
        self._pairs = files.manifest.states
        if not self._pairs:
            raise BackendError(
                f"{files.net}: expected a net of one step, found one without states", mends=[Mend.ONE_STEP]
            )
        before, after = ({getattr(pair, end) for pair in self._pairs.values()} for end in ("input", "output"))
        self.inputs: Mapping[str, Shape] = {n: shape for n, shape in files.inputs.items() if n not in before}
        self.outputs: Mapping[str, Shape] = {n: shape for n, shape in files.outputs.items() if n not in after}
        self.states: Mapping[str, Shape] = {n: files.inputs[pair.input] for n, pair in self._pairs.items()}
        self.initial: dict[str, float | str] = {name: pair.initial for name, pair in self._pairs.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def start(self, states: Mapping[str, AnyArray] = {}) -> None:
        """Begin a sequence: each state at the value given, or at its own first value.

        Raises :class:`DataError` for one that is unknown, of another shape or not finite, or whose first value is not
        a number.
        """
        problems = [
            f"extra: {name} {list(np.shape(array))}{did_you_mean(name, self.states)}"
            for name, array in states.items()
            if name not in self.states
        ]
        problems += [
            f"wrong shape: {name} must be {list(shape)}, found {list(np.shape(states[name]))}"
            for name, shape in self.states.items()
            if name in states and np.shape(states[name]) != shape
        ]
        given = [name for name, shape in self.states.items() if name in states and np.shape(states[name]) == shape]
        problems += filter(None, (element_problem(name, _given(states[name])) for name in given))
        problems += [
            f"missing: {name} {list(self.states[name])}: it starts at {first}"
            for name, first in self.initial.items()
            if name not in states and isinstance(first, str)
        ]
        if problems:
            raise DataError(f"the first states do not fit {self._files.net}", notes=problems)
        self._states = {
            pair.input: np.asarray(states[name], np.float32)
            if name in states
            else np.full(self.states[name], self.initial[name], np.float32)
            for name, pair in self._pairs.items()
        }

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One step: its outputs. The first step loads the net."""
        if not self._states:
            self.start()
        arrays = checked_inputs(self._files, {**inputs, **self._states})
        if self._net is None:
            self._net = self._opened.enter_context(self._load())
        found = self._files.forward(self._net, arrays)
        self._states = {pair.input: found[pair.output] for pair in self._pairs.values()}
        return {name: found[name] for name in self.outputs}
