"""Streams of data through a net of one step: the sequences of an array file, and the interpreter step by step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from lstmc.backend import Compiled
from lstmc.data import Axes
from lstmc.errors import DataError
from lstmc.files.arrays import AnyArray, StoredArray, value_problem
from lstmc.interp import forward
from lstmc.ir import Graph, Ref, Rounding, is_step
from lstmc.ops import Array, Domain, Input
from lstmc.text import did_you_mean

__all__ = ["Sequences", "StepRunner"]

MOST_BYTES = 1 << 26  # the most bytes of data in memory at a time
WIDTH = 256  # sequences that go through the net together


@dataclass(frozen=True)
class StreamedInput:
    """An input of a model and its array. ``time`` and ``batch`` are its axes of time and of sequences, None without."""

    name: str
    array: AnyArray
    time: int | None
    batch: int | None
    values: Domain | None = None

    def part(self, sequences: slice, steps: slice) -> Array:
        """Return some sequences and steps in float32. Raises DataError for values that the input may not have."""
        axes = [(axis, part) for axis, part in ((self.batch, sequences), (self.time, steps)) if axis is not None]
        place = tuple(dict(axes).get(axis, slice(None)) for axis in range(self.array.ndim))
        if isinstance(self.array, StoredArray) and self.array.read_part is not None:
            array = self.array.read_part(place)
        else:
            array = np.asarray(self.array)[place]
        if problem := value_problem(self.name, array, self.values):
            raise DataError("the data cannot be fed", notes=[problem])
        return array.astype(np.float32)


@dataclass(frozen=True)
class Sequences:
    """The inputs of a model over whole sequences: ``count`` sequences of ``steps`` steps. Inputs of a model that is one
    step (``frames``) have an axis of time that the model lacks. A ``single`` model takes sequences one by one."""

    inputs: Mapping[str, StreamedInput]
    steps: int
    count: int
    frames: bool = False
    single: bool = False

    @classmethod
    def from_arrays(
        cls, model: Graph, axes: Mapping[str, Axes], over_time: set[Ref], arrays: Mapping[str, AnyArray], source: str,
    ) -> Sequences:  # fmt: skip
        """Return the sequences of arrays that fit a whole model; its values ``over_time`` have time as first axis. A
        model that is one step takes an array [T, ...] for each input that is no state. If no axis counts sequences, an
        axis of size 1 may: arrays [T, N, ...] are N sequences of a model that takes [T, 1, ...]. ``axes`` are from
        :func:`~lstmc.data.batch_axes`, ``source`` names the arrays in errors. An input with a fill may be absent.
        Raises :class:`DataError` with everything that does not fit."""
        declared = {node.name: node.op for node in model if isinstance(node.op, Input)}
        if frames := is_step(model):
            declared = _over_frames({n: op for n, op in declared.items() if n not in model.carried()}, arrays)
            texts = {name: f"[T, {', '.join(map(str, op.shape[1:]))}]" for name, op in declared.items()}
            over_time, axes = {Ref(name) for name in declared}, {}
        else:
            texts = {name: _text(axes, name, op) for name, op in declared.items()}
        single = all(each.batch is None for each in axes.values())
        problems = [
            f"missing: {name} {texts[name]}" for name, op in declared.items() if name not in arrays and op.fill is None
        ]
        inputs: dict[str, StreamedInput] = {}
        counts, steps = dict[str, int](), dict[str, int]()
        for name, array in arrays.items():
            if name not in declared:
                near = did_you_mean(name, [n for n in declared if n not in arrays])
                problems.append(f"extra: {name} {list(array.shape)}{near}")
                continue
            op = declared[name]
            time = 0 if Ref(name) in over_time else None
            batch = _single_batch(op, array, time) if single else axes[name].batch if name in axes else None
            if not _fits(array, op, (batch, time)):
                problems.append(f"wrong shape: {name} must be {texts[name]}, found {list(array.shape)}")
                continue
            inputs[name] = StreamedInput(name, array, time, batch, op.values)
            counts |= {name: array.shape[batch]} if batch is not None else {}
            steps |= {name: array.shape[0]} if time is not None else {}
        problems += [*_unequal("sequences", counts), *_unequal("steps", steps)]
        if not steps and not problems:
            problems.append("no array is an input over time: the number of steps is not known")
        if problems:
            raise DataError(f"{source} does not fit {model.name}", notes=problems)
        return cls(inputs, next(iter(steps.values())), next(iter(counts.values()), 0), frames, single)

    @property
    def total(self) -> int:
        """The number of sequences; one for a model without an axis of sequences."""
        return max(self.count, 1)

    def parts(self) -> Iterator[slice]:
        """Yield slices of the sequences, one for each run of the net: at most ``WIDTH`` sequences, and at least one."""
        width = 1 if self.single else WIDTH
        for first in range(0, self.total, width):
            yield slice(first, min(first + width, self.total))

    def chunk(self, width: int) -> int:
        """Return how many steps of ``width`` sequences are read at a time."""
        sizes = 0
        for each in self.inputs.values():
            sizes += prod(size for axis, size in enumerate(each.array.shape) if axis not in (each.time, each.batch))
        return max(1, min(self.steps, MOST_BYTES // (4 * width * max(1, sizes))))

    def read(self, sequences: slice, first: int, stop: int) -> dict[str, Array]:
        """Return the inputs of some sequences at the steps from ``first`` up to ``stop``."""
        return {name: each.part(sequences, slice(first, stop)) for name, each in self.inputs.items()}

    def step(self, arrays: Mapping[str, Array], t: int) -> dict[str, Array]:
        """Return the inputs of step ``t`` from the ``arrays`` that :meth:`read` returned."""
        place = t if self.frames else slice(t, t + 1)
        return {name: array if self.inputs[name].time is None else array[place] for name, array in arrays.items()}

    def stream(
        self, sequences: slice, first: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield the number of each step from ``first`` up to ``stop``, by default of all steps, with the inputs of some
        sequences at this step. Only a chunk of the steps is in memory at a time."""
        stop = self.steps if stop is None else stop
        chunk = self.chunk(sequences.stop - sequences.start)
        for start in range(first, stop, chunk):
            arrays = self.read(sequences, start, min(start + chunk, stop))
            for t in range(start, min(start + chunk, stop)):
                yield t, self.step(arrays, t - start)


def _text(axes: Mapping[str, Axes], name: str, op: Input) -> str:
    return axes[name].text(op.shape, "sequences") if name in axes else str(list(op.shape))


def _over_frames(inputs: Mapping[str, Input], arrays: Mapping[str, AnyArray]) -> dict[str, Input]:
    frames = {name: array.shape[:1] or (0,) for name, array in arrays.items()}
    return {name: replace(op, shape=(*frames.get(name, (0,)), *op.shape)) for name, op in inputs.items()}


def _unequal(what: str, sizes: Mapping[str, int]) -> Iterator[str]:
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {number}" for name, number in sizes.items())
        yield f"different numbers of {what}: {listed}"


def _fits(array: AnyArray, op: Input, free: Collection[int | None]) -> bool:
    """Return whether an array has the shape of an input, apart from its ``free`` axes, and has elements."""
    if len(array.shape) != len(op.shape) or 0 in array.shape:
        return False
    return all(axis in free or size == op.shape[axis] for axis, size in enumerate(array.shape))


def _single_batch(op: Input, array: AnyArray, time: int | None) -> int | None:
    """Return the axis of an array that counts sequences: the first that is 1 in the model alone; None without one."""
    first = 0 if time is None else 1
    for axis in range(first, min(max(first + 1, len(op.shape) - 1), len(op.shape), array.ndim)):
        if op.shape[axis] != 1:
            return None
        if array.shape[axis] != 1:
            return axis
    return None


class StepRunner:
    """A net of one step in the interpreter, with its states kept between steps. Values of parameters alone are computed
    once. ``rounding`` simulates a device; without it values are exact, in ``dtype``."""

    def __init__(
        self, compiled: Compiled, weights: Mapping[str, Array], rounding: Rounding | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        assert compiled.states is not None, "a net of one step"
        self.graph, self.states = compiled.expanded, compiled.states
        self.rounding, self._dtype = rounding, dtype
        self.inputs = {node.name: node.op for node in self.graph if isinstance(node.op, Input)}
        self.after = {output.name: output.ref for output in self.graph.outputs}
        zeros = {name: np.zeros(op.shape) for name, op in self.inputs.items()}
        constant = constants(self.graph)
        values = forward(self.graph, zeros, weights, dtype, rounding=rounding).values
        self.constants = {ref: array for ref, array in values.items() if ref.node in constant}
        self._first = {pair.before: pair.first(weights) for pair in compiled.states}  # a number, an array, or an input
        self._next: dict[str, Array] = {}  # the states before the next step, by input

    def start(self, data: Mapping[str, Array] | None = None) -> None:
        """Set states to their initial values, some of them inputs in ``data``. Raises DataError if it lacks one."""
        data = data or {}
        problems, self._next = [], {}
        for pair in self.states:
            shape, first = self.inputs[pair.before].shape, self._first[pair.before]
            if not isinstance(first, str):
                self._next[pair.before] = np.full(shape, first, self._dtype)
            elif first in data:
                self._next[pair.before] = np.asarray(data[first], self._dtype)
            else:
                problems.append(f"missing: {first}, the initial value of {pair.name} {list(shape)}")
        if problems:
            raise DataError(f"the data have no initial states of {self.graph.name}", notes=problems)

    def resume(self, states: Mapping[str, Array]) -> None:
        """Continue sequences from the states that :attr:`current` returned."""
        self._next = {pair.before: states[pair.name] for pair in self.states}

    @property
    def outputs(self) -> list[str]:
        """The outputs that are no states; all outputs of a net that has only states."""
        ends = {pair.after for pair in self.states}
        return [name for name in self.after if name not in ends] or list(self.after)

    @property
    def current(self) -> dict[str, Array]:
        """The states before the next step, by name."""
        return {pair.name: self._next[pair.before] for pair in self.states}

    def step(self, inputs: Mapping[str, Array]) -> Mapping[Ref, Array]:
        """Run one step, and return every value of the graph."""
        fed = {name: array for name, array in inputs.items() if name in self.inputs} | self._next
        values = forward(self.graph, fed, {}, self._dtype, rounding=self.rounding, values=self.constants).values
        self._next = {pair.before: values[self.after[pair.after]] for pair in self.states}
        return values


def constants(graph: Graph) -> frozenset[str]:
    """Return the names of the nodes that depend on no input: parameters, constant arrays, and what these alone give."""
    names: set[str] = set()
    for node in graph:
        if not isinstance(node.op, Input) and all(ref.node in names for ref in graph.args(node.name)):
            names.add(node.name)
    return frozenset(names)
