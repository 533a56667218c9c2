"""Running a written net from its files alone: what to feed and to read is in its manifest, no model is needed."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lstmc.arrays import did_you_mean, element_problem, value_problem
from lstmc.errors import BackendError, DataError, Mend
from lstmc.interp import named_rng
from lstmc.ir import parse_filler
from lstmc.ops import Array, IntegerRange
from lstmc_caffe.run.loaded_net import Net
from lstmc_caffe.run.runner import Mode, Runner
from lstmc_caffe.write.caffemodel import read_blobs
from lstmc_caffe.write.manifest import output_blobs, read_manifest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NetFiles:
    """A written net: its text, its weights, and its manifest as read."""

    prototxt: Path
    caffemodel: Path
    described: Mapping[str, Any]

    @property
    def inputs(self) -> dict[str, Shape]:
        """What the net does not fill itself, and its shape in the model."""
        return {n: tuple(place["shape"]) for n, place in self.described["inputs"].items() if not place["filled"]}

    @property
    def outputs(self) -> dict[str, Shape]:
        return {n: tuple(place["shape"]) for n, place in self.described["outputs"].items()}

    def values(self, name: str) -> IntegerRange | None:
        """What the elements of an input must be, where not every number will do."""
        allowed = self.described["inputs"][name].get("values")
        return None if allowed is None else IntegerRange(**allowed)

    def load(self, runner: Runner, mode: Mode) -> Net:
        """The net in real Caffe, its weights checked against the manifest before."""
        read_blobs(self.caffemodel, self.described["blobs"])
        return runner.load(self.prototxt, weights=self.caffemodel, mode=mode)


def find_files(prototxt: Path, caffemodel: Path | None = None) -> NetFiles:
    """``NAME.prototxt`` and what ``lstmc compile`` wrote beside it. ``caffemodel`` may be another than that.

    Raises :class:`BackendError` for a file that is not there.
    """
    manifest = prototxt.with_name(f"{prototxt.stem}.manifest.json")
    weights = caffemodel or prototxt.with_name(f"{prototxt.stem}.caffemodel")
    for path in (prototxt, manifest, weights):
        if not path.is_file():
            beside = ": expected it beside the net" if path is not prototxt and path is not caffemodel else ""
            raise BackendError(f"{path}: no such file{beside}")
    return NetFiles(prototxt, weights, read_manifest(manifest))


def run_net(runner: Runner, files: NetFiles, inputs: Mapping[str, Array], mode: Mode = "cpu") -> dict[str, Array]:
    """The outputs of one forward pass, by the model's names and in its shapes, as are ``inputs``.

    An input with a fill that is not given is drawn from it. Raises :class:`DataError` that names everything that
    is missing, extra, of another shape, not finite or not what layers read, before Caffe starts.
    """
    arrays = checked_inputs(files, inputs)
    with files.load(runner, mode) as net:
        return _forward(net, files, arrays)


def checked_inputs(files: NetFiles, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """An array for every input that the net does not fill, each in the model's shape."""
    wanted = files.inputs
    problems = []
    given = {**_drawn(files, inputs), **inputs}
    problems += [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in given]
    for name, array in inputs.items():
        found = list(np.shape(array))
        if name in files.described["inputs"] and name not in wanted:
            problems.append(f"extra: {name} {found}: the net fills it")
        elif name not in wanted:
            problems.append(f"extra: {name} {found}{did_you_mean(name, [n for n in wanted if n not in given])}")
        elif tuple(found) != wanted[name]:
            problems.append(f"wrong shape: {name} must be {list(wanted[name])}, found {found}")
        elif problem := value_problem(name, np.asarray(array), files.values(name)):
            problems.append(problem)
    if problems:
        raise DataError(f"the inputs do not fit {files.prototxt}", notes=problems)
    return {name: np.asarray(given[name], np.float32) for name in wanted}


class StepSession:
    """A one-step net that is loaded once and run for many steps; its states go from each step to the next.

    ``inputs`` and ``outputs`` are those of the model, without the states'. ``initial`` has the first values of the
    states, as the manifest tells them: a number, or words where it is not one.
    """

    def __init__(self, runner: Runner, files: NetFiles, mode: Mode = "cpu", owned: bool = False) -> None:
        self._runner, self._files, self._mode, self._owned = runner, files, mode, owned
        self._net: Net | None = None
        self._states: dict[str, Array] = {}
        self._pairs = files.described["states"]
        if not self._pairs:
            raise BackendError(
                f"{files.prototxt}: expected a net of one step, found one without states", mends=[Mend.ONE_STEP]
            )
        before, after = ({pair[end] for pair in self._pairs.values()} for end in ("input", "output"))
        self.inputs: Mapping[str, Shape] = {n: shape for n, shape in files.inputs.items() if n not in before}
        self.outputs: Mapping[str, Shape] = {n: shape for n, shape in files.outputs.items() if n not in after}
        self.states: Mapping[str, Shape] = {n: files.inputs[pair["input"]] for n, pair in self._pairs.items()}
        self.initial: dict[str, float | str] = {name: pair["initial"] for name, pair in self._pairs.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._net is not None:
            self._net.unload()
        if self._owned:
            self._runner.close()

    def start(self, states: Mapping[str, Array] = {}) -> None:
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
        given = ((name, np.asarray(states[name])) for name in self.states if name in states)
        problems += filter(None, (element_problem(name, array) for name, array in given))
        problems += [
            f"missing: {name} {list(self.states[name])}: it starts at {first}"
            for name, first in self.initial.items()
            if name not in states and isinstance(first, str)
        ]
        if problems:
            raise DataError(f"the first states do not fit {self._files.prototxt}", notes=problems)
        self._states = {
            pair["input"]: np.asarray(states[name], np.float32)
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
            self._net = self._files.load(self._runner, self._mode)
        found = _forward(self._net, self._files, arrays)
        self._states = {pair["input"]: found[pair["output"]] for pair in self._pairs.values()}
        return {name: found[name] for name in self.outputs}


def _forward(net: Net, files: NetFiles, arrays: Mapping[str, Array]) -> dict[str, Array]:
    blobs = net.run(dict(_fed(files.described, arrays)), want=output_blobs(dict(files.described))).blobs
    found = {}
    for name, place in files.described["outputs"].items():
        parts = [blobs[blob].ravel() for blob in place.get("blobs") or [place["blob"]]]
        found[name] = np.concatenate(parts).reshape(place["shape"])
    return found


def _fed(described: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """The blobs to feed: an input is one, or one for each step."""
    for name, array in arrays.items():
        place = described["inputs"][name]
        shape = place.get("blob_shape", place["shape"])
        if "blobs" in place:
            yield from ((blob, array[t].reshape(shape)) for t, blob in enumerate(place["blobs"]))
        elif place["blob"] is not None:  # it is None for an input that no layer reads
            yield place["blob"], array.reshape(shape)


def _drawn(files: NetFiles, given: Container[str]) -> dict[str, Array]:
    """Values for the inputs that are not given and have a fill which the host draws."""
    found = {}
    for name, place in files.described["inputs"].items():
        if "fill" in place and name not in given:
            found[name] = parse_filler(place["fill"]).draw(named_rng(0, name), tuple(place["shape"]))
    return found
