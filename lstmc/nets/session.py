"""Run a net by the names and shapes of its model, once or for many steps. A backend loads a written net as a
:class:`LoadedNet`, which knows blobs only; the manifest maps names to blobs, so no model is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import TRAINING_INPUT, Backend, Compiled, OpenNet
from lstmc.errors import BackendError, DataError, Mend
from lstmc.files.arrays import AnyArray, StoredArray, element_problem, memory_problem, value_problem
from lstmc.files.json_file import Shape
from lstmc.interp import forward, named_rng
from lstmc.manifest import InputPlace, Manifest, State, manifest_path, manifest_states, read_manifest
from lstmc.ops import Array, Domain, Input
from lstmc.text import did_you_mean


class LoadedNet(Protocol):
    """A net that can be run, by the names of its blobs."""

    def forward(self, blobs: Mapping[str, Array], names: Iterable[str]) -> Mapping[str, Array]:
        """Run one forward pass, and return the blobs of these names."""


@dataclass(frozen=True)
class NetFiles:
    """A written net: its main file, its weights, and its manifest as read."""

    net: Path
    weights: Path
    manifest: Manifest

    @property
    def inputs(self) -> dict[str, Shape]:
        """The inputs that the net does not fill itself, with their shapes in the model."""
        return {name: entry.place.shape for name, entry in self.manifest.inputs.items() if not entry.filled}

    @property
    def optional(self) -> frozenset[str]:
        """The inputs that no output depends on."""
        return frozenset(name for name, entry in self.manifest.inputs.items() if not entry.in_net)

    @property
    def outputs(self) -> dict[str, Shape]:
        return {name: place.shape for name, place in self.manifest.outputs.items()}

    def forward(self, loaded: LoadedNet, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run one forward pass on an array for every input. Return the outputs, by names and in shapes of the model."""
        blobs = loaded.forward(self.manifest.fed(arrays), self.manifest.output_blobs)
        return {name: place.read(blobs) for name, place in self.manifest.outputs.items()}


def find_files(net: Path, weights: Path | None, backend: RunsFiles) -> NetFiles:
    """Return the files of a net: by default the weights (``NAME`` and a suffix) and the manifest beside it. ``weights``
    may be another file; learned first states then come from the manifest beside that file. Raises :class:`BackendError`
    for a missing file, and for one that ``backend`` did not write: some backends execute a net's file."""
    manifest = manifest_path(net)
    weights_file = weights or net.with_name(f"{net.stem}{backend.weights_suffix}")
    for path in (net, manifest, weights_file):
        if not os.path.isfile(path):
            beside = ": expected it beside the net" if path is not net and path is not weights else ""
            what = "is a folder: expected a file" if os.path.isdir(path) else "no such file"
            raise BackendError(f"{path}: {what}{beside}")
    read, kind = read_manifest(manifest), f"NAME{backend.net_suffix}"
    if read.backend != backend.name or not net.name.endswith(backend.net_suffix):
        raise BackendError(
            f"{net}: backend {backend.name} runs a file {kind} that it wrote, found {net.name} and a manifest of"
            f" backend {read.backend}",
            notes=("nothing was run; compile the net again, or name the file that the manifest was written with",),
        )
    others = manifest_path(weights_file)
    if others.resolve() != manifest.resolve() and any(state.learned for state in (read.states or {}).values()):
        read = replace(read, states=_other_states(read, others))
    return NetFiles(net, weights_file, read)


def _other_states(manifest: Manifest, path: Path) -> dict[str, State]:
    """Return a net's states, with learned first values from the manifest at ``path``, or texts if it lacks them."""
    found = (read_manifest(path).states or {}) if path.is_file() else {}
    states = dict(manifest.states or {})
    for name, state in states.items():
        shapes = ((), manifest.inputs[state.input].place.shape)
        fits = name in found and np.shape(found[name].initial) in shapes
        if state.learned:
            first = found[name].initial if fits else f"learned numbers, which {path} would have"
            states[name] = replace(state, initial=first)
    return states


def checked_inputs(files: NetFiles, inputs: Mapping[str, AnyArray], sizes: Mapping[str, int] = {}) -> dict[str, Array]:
    """Return an array for every input that the net does not fill, in the model's shape. A missing input with a fill is
    drawn from it; an input that no output depends on may be left out. ``sizes`` are those of open dimensions; others
    have their compiled sizes. Raises :class:`DataError` with all inputs that are missing, extra, of another shape, not
    finite or outside of their domains."""
    entries = files.manifest.inputs
    shapes = {name: entry.place.at(sizes) for name, entry in entries.items() if not entry.filled}
    for name, entry in entries.items():
        if entry.fill is not None and name not in inputs and (problem := memory_problem(8 * prod(entry.place.shape))):
            raise DataError(f"{files.net}: input {name} {list(entry.place.shape)}, drawn from its fill, {problem}")
    drawn = {
        name: entry.fill.draw(named_rng(0, name), shapes[name])
        for name, entry in entries.items()
        if entry.fill is not None and not entry.filled and name not in inputs
    }
    values = {name: entry.values_at(sizes) for name, entry in entries.items()}
    arrays = {**drawn, **inputs}
    check_inputs(str(files.net), shapes, values, arrays, files.optional, files.manifest.training_inputs)
    return {name: np.asarray(arrays[name], np.float32) for name in shapes if name in arrays}


def open_sizes(entries: Mapping[str, InputPlace], inputs: Mapping[str, AnyArray]) -> dict[str, int]:
    """Return the sizes of a net's open dimensions in these arrays, each from the first input with the dimension."""
    sizes: dict[str, int] = {}
    for name, entry in entries.items():
        shape = np.shape(_as_array(inputs[name])) if name in inputs else ()
        if len(shape) == len(entry.place.open):
            for dim, size in zip(entry.place.open, shape, strict=True):
                if dim and size:
                    sizes.setdefault(dim, size)
    return sizes


def check_inputs(
    net: str,
    shapes: Mapping[str, Shape],
    values: Mapping[str, Domain | None],
    arrays: Mapping[str, AnyArray],
    optional: Collection[str] = (),
    training_inputs: Collection[str] = (),
) -> None:
    """Raise :class:`DataError` with everything that is wrong with the inputs ``arrays``. ``shapes`` are the inputs that
    the net needs; ``values`` has the valid range of every input, also of those that the net fills. ``optional`` inputs
    may be left out, and only training needs ``training_inputs``."""
    absent = [name for name in shapes if name not in arrays and name not in optional]
    problems = [f"missing: {name} {list(shapes[name])}" for name in absent]
    for name, array in arrays.items():
        shape = list(np.shape(array))
        if name in values and name not in shapes:
            problems.append(f"extra: {name} {shape}: the net fills it")
        elif name in training_inputs:
            problems.append(f"extra: {name} {shape}: {TRAINING_INPUT}")
        elif name not in shapes:
            near = did_you_mean(name, [n for n in shapes if n not in arrays])
            listed = "" if problems else f": the inputs are {', '.join(shapes)}"  # else missing inputs are named
            problems.append(f"extra: {name} {shape}{near or listed}")
        elif tuple(shape) != shapes[name]:
            problems.append(f"wrong shape: {name} must be {list(shapes[name])}, found {shape}")
        elif problem := value_problem(name, _as_array(array), values[name]):
            problems.append(problem)
    if problems:
        raise DataError(f"the inputs do not fit {net}", notes=problems)


def _as_array(array: Array | StoredArray) -> AnyArray:
    return array if isinstance(array, StoredArray) else np.asarray(array)


class LoadedOnce:
    """The net of these files, loaded with its first pass. Open sizes come from the inputs of each pass."""

    def __init__(self, files: NetFiles, load: Callable[[], AbstractContextManager[LoadedNet]]) -> None:
        self._files, self._load, self._opened = files, load, ExitStack()
        self._net: LoadedNet | None = None
        self.name = str(files.net)
        self.inputs: Mapping[str, Shape] = files.inputs
        self.optional: Collection[str] = files.optional
        self.training_inputs: Collection[str] = files.manifest.training_inputs
        self.outputs: Mapping[str, Shape] = files.outputs
        self.states = files.manifest.states
        self.delays: Mapping[str, int] = {n: place.delay for n, place in files.manifest.outputs.items() if place.delay}

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, Array]:
        """Run one forward pass, after checking the inputs. The first call loads the net."""
        arrays = checked_inputs(self._files, inputs, open_sizes(self._files.manifest.inputs, inputs))
        if self._net is None:
            self._net = self._opened.enter_context(self._load())
        return self._files.forward(self._net, arrays)

    def close(self) -> None:
        self._opened.close()


class RunsFiles(Backend):
    """A backend that runs its written nets by the manifests beside them, and no other file. It defines the suffixes of
    its nets' and its weights' files, and how a net is loaded. Without ``net_suffix`` a net has any name."""

    net_suffix: ClassVar[str] = ""

    def loaded(self, files: NetFiles, gpu: bool) -> AbstractContextManager[LoadedNet]:
        """Load a net for running. Raises :class:`BackendError` for a net that cannot be loaded."""
        raise NotImplementedError

    def opened(self, net: Path, weights: Path | None, gpu: bool) -> LoadedOnce:
        files = find_files(net, weights, self)
        return LoadedOnce(files, partial(self.loaded, files, gpu))


class Interpreted:
    """A compiled model in the interpreter, in float64, with these weights."""

    def __init__(self, compiled: Compiled, weights: Mapping[str, Array]) -> None:
        self._model, self._weights = compiled.model, weights
        self._ops = {node.name: node.op for node in compiled.model if isinstance(node.op, Input)}
        read = compiled.model.needed()
        self._unread = {name: np.zeros(op.shape) for name, op in self._ops.items() if name not in read}  # if not given
        self.name = compiled.name
        self.training_inputs: Collection[str] = compiled.training_inputs
        self.inputs: Mapping[str, Shape] = {name: op.shape for name, op in self._ops.items() if op.fill is None}
        self.optional: Collection[str] = (self._ops.keys() - self.inputs.keys()) | self._unread.keys()
        model = compiled.model
        self.outputs: Mapping[str, Shape] = {output.name: model.type(output.ref).shape for output in model.outputs}
        self.states: Mapping[str, State] | None = manifest_states(compiled, weights)
        self.delays: Mapping[str, int] = compiled.delays

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, Array]:
        """Run one forward pass. A missing input with a fill is drawn; an input that no output reads may be missing."""
        shapes, values = ({n: getattr(op, fact) for n, op in self._ops.items()} for fact in ("shape", "values"))
        check_inputs(self.name, shapes, values, inputs, self.optional, self.training_inputs)
        arrays = {name: np.asarray(array) for name, array in inputs.items()}
        return forward(self._model, {**self._unread, **arrays}, self._weights).outputs

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


Arrays = Mapping[str, NDArray[Any]]
A = TypeVar("A")


def by_name(
    inputs: Mapping[str, A] | NDArray[Any] | None, named: Arrays, needed: Callable[[], Iterable[str]]
) -> dict[str, A | NDArray[Any]]:
    """Return the inputs of a call by name. A single array without a name is the only input of ``needed``. Raises
    :class:`~lstmc.errors.DataError` for an array without a name if several inputs are needed."""
    if inputs is None or isinstance(inputs, Mapping):
        return {**(inputs or {}), **named}
    names = list(needed())
    if len(names) != 1 or named:
        example = ", ".join(f"{name}=..." for name in names) or "no inputs"
        raise DataError(f"expected arrays by name, as in ({example}), found {type(inputs).__name__} without a name")
    return {names[0]: inputs}


class Stream:
    """A net of one step at work: calling it makes a step, ``y = step(x=x)["y"]``. Its states go from step to step.

    ``inputs``, ``outputs`` and ``states`` have shapes by the model's names; inputs and outputs do not include states.
    ``initial`` has the first values of the states: a number, an array, or words if it is neither. ``delays`` has the
    number of steps by which an output is late: step t then has the output of step t - delay.
    """

    def __init__(self, net: OpenNet) -> None:
        if net.states is None:
            raise BackendError(f"{net.name}: expected a net of one step, found one of all steps", mends=[Mend.ONE_STEP])
        self._net, self._pairs = net, net.states
        self._states: dict[str, Array] = {}
        before, after = ({getattr(pair, end) for pair in self._pairs.values()} for end in ("input", "output"))
        self.inputs: Mapping[str, Shape] = {n: shape for n, shape in net.inputs.items() if n not in before}
        self.outputs: Mapping[str, Shape] = {n: shape for n, shape in net.outputs.items() if n not in after}
        self.states: Mapping[str, Shape] = {n: net.inputs[pair.input] for n, pair in self._pairs.items()}
        self.delays = net.delays
        self.initial: dict[str, float | list[Any] | str] = {name: pair.initial for name, pair in self._pairs.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._net.close()

    def start(self, states: Mapping[str, AnyArray] | None = None, /, **named: NDArray[Any]) -> None:
        """Begin a sequence with these states, ``{"lstm/h": h}``; other states begin at their initial values. Raises
        :class:`DataError` for a state that is unknown, misshapen or not finite, or whose first value is in words."""
        states = {**(states or {}), **named}
        shapes = {name: np.shape(array) for name, array in states.items()}
        extra = [name for name in states if name not in self.states]
        problems = [f"extra: {name} {list(shapes[name])}{did_you_mean(name, self.states)}" for name in extra]
        given = {name: shape for name, shape in self.states.items() if name in states}
        wrong = {name: shape for name, shape in given.items() if shapes[name] != shape}
        problems += [f"wrong shape: {n} must be {list(shape)}, found {list(shapes[n])}" for n, shape in wrong.items()]
        fitting = [name for name in given if name not in wrong]
        problems += filter(None, (element_problem(name, _as_array(states[name])) for name in fitting))
        absent = {n: first for n, first in self.initial.items() if n not in states and isinstance(first, str)}
        problems += [f"missing: {n} {list(self.states[n])}: it starts at {first}" for n, first in absent.items()]
        if problems:
            raise DataError(f"the first states do not fit {self._net.name}", notes=problems)
        self._states = {
            pair.input: np.asarray(states[name] if name in states else np.full(self.states[name], self.initial[name]))
            for name, pair in self._pairs.items()
        }

    def __call__(self, inputs: Arrays | NDArray[Any] | None = None, /, **named: NDArray[Any]) -> dict[str, Array]:
        """Run one step, and return its outputs by name. Inputs are keywords, ``step(x=x)``, a mapping, or one array."""
        arrays = by_name(inputs, named, lambda: self.inputs)
        if not self._states:
            self.start()
        results = self._net.run({**arrays, **self._states})
        self._states = {pair.input: results[pair.output] for pair in self._pairs.values()}
        return {name: results[name] for name in self.outputs}
