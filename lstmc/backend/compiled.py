"""The data between the compiler and a backend: a compiled model, its files, findings, and a training's request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from lstmc.errors import LstmcError
from lstmc.interp import named_rng
from lstmc.ir import Graph, Ref, Rounding, Scan, with_sizes
from lstmc.ops import Array, Input, Param
from lstmc.passes import Snapshot
from lstmc.plugins import problem_with
from lstmc.prepare import Counted, StatePair
from lstmc.text import late
from lstmc.types import OpenSize, TensorType, UnknownSize, open_sizes

__all__ = ["TRAINING_INPUT", "Artifact", "Compiled", "Execution", "Finding", "Layer", "LintReport", "OpenShape", "Part"]
__all__ += ["Parts", "RankPart", "RunArrays", "Violation", "Warned"]

# of a label that is fed to a deployed net
TRAINING_INPUT = "only losses and scores read it, which this net does not have: leave it out"

T = TypeVar("T")
UNKNOWN = (LstmcError, ValueError, TypeError, OverflowError, MemoryError)  # raised where an open size must be a number


@dataclass(frozen=True)
class Compiled:
    """A model that went through a backend's passes. ``history`` has the model, and the graph after each pass."""

    name: str
    source: str  # what it was made from, for people: demo.py:demo
    backend: str
    target: str
    model: Graph
    expanded: Graph
    history: tuple[Snapshot, ...]
    states: tuple[StatePair, ...] | None = None  # of a one-step net: what to read after a step and feed to the next
    trained: bool = True  # whether nets for the target can be trained: others keep nothing for training
    scans: Mapping[str, Scan] = field(default_factory=dict)  # the unrolled scans by name, as they were just before
    opened: Graph | None = None  # the expanded graph with open sizes, where a net may leave some open
    sizes: Mapping[str, int] = field(default_factory=dict)  # the numbers in ``expanded`` for the open sizes
    training_inputs: tuple[str, ...] = ()  # labels, which only losses and scores of the whole model read

    def written(self, write: Callable[[Graph], T]) -> tuple[Graph, T]:
        """Return the graph with the most open sizes that ``write`` can write, and the result of ``write``. A net reads
        open sizes from its inputs. If ``write`` needs a size as a number, an open size raises an error; then fewer
        sizes stay open, at last none."""
        if self.opened is not None:
            params = [size for node in self.opened if isinstance(node.op, Param) for size in node.op.shape]
            fixed = {open_size.name for size in params for open_size in open_sizes(size)}
            names = [name for name in self.sizes if name in open_inputs(self.opened) and name not in fixed]
            for kept in chain(*(combinations(names, count) for count in range(len(names), 0, -1))):
                with suppress(*UNKNOWN):
                    graph = with_sizes(self.opened, {name: n for name, n in self.sizes.items() if name not in kept})
                    return graph, write(graph)
        return self.expanded, write(self.expanded)

    @property
    def delays(self) -> dict[str, int]:
        """The number of steps by which each late output is late."""
        return {output.name: output.delay for output in self.model.outputs if output.delay}

    def delay_notes(self) -> list[str]:
        """Return a line for each output that comes late, as outputs of a net that looks ahead do."""
        return [
            f"output {name} comes {late(steps)}: at step t it belongs to the inputs of step t - {steps}"
            for name, steps in self.delays.items()
        ]


@dataclass(frozen=True)
class Artifact:
    """The files of a written net: contents by name, the net's own first, and figures for people to read."""

    files: dict[str, bytes]
    layers: int
    inputs: dict[str, str] = field(default_factory=dict)  # what to feed: the model's name -> the net's
    outputs: dict[str, str] = field(default_factory=dict)  # what to read
    notes: tuple[str, ...] = ()  # what was chosen, and why

    @property
    def net(self) -> str:
        """The name of the net's own file, which is run and read."""
        return next(iter(self.files))

    @property
    def run_files(self) -> tuple[str, ...]:
        """The names of the files that a program on the CPU runs or reads: all except the manifest and CUDA."""
        return tuple(name for name in self.files if not name.endswith((".json", ".cu")))


@dataclass(frozen=True)
class RunArrays:
    """The arrays of a forward and backward pass of a compiled net. Names and shapes are the model's. ``weights`` has
    the value of every parameter in the net's files. ``cotangents`` are by output. ``positive``: inputs were drawn
    without negative numbers, because the model is not finite with them."""

    inputs: Mapping[str, Array]
    weights: Mapping[str, Array]
    cotangents: Mapping[str, Array]
    positive: bool = False

    def fed(self, graph: Graph) -> dict[str, Array]:
        """Return an array in float32 for each input of a graph; a missing input with a fill is drawn."""
        arrays: dict[str, Array] = {}
        for node in graph:
            if isinstance(node.op, Input):
                array = self.inputs.get(node.name)
                if array is None:
                    assert node.op.fill is not None, node.name
                    array = node.op.fill.draw(named_rng(0, node.name), node.op.shape)
                assert np.shape(array) == node.op.shape, f"input {node.name}: {np.shape(array)}, not {node.op.shape}"
                arrays[node.name] = np.asarray(array, np.float32)
        return arrays


@dataclass(frozen=True)
class Execution:
    """The result of one forward and backward pass: values by the net's names, gradients by the model's.

    ``absent`` has the reason for each value of the expanded graph that the net lacks, ``not_available`` the reason for
    each gradient that the runtime does not return. A parameter in neither ``param_gradients`` nor ``not_available`` is
    in no layer of the net: its gradient is zero. ``tolerance`` is the relative tolerance of values that are less exact
    than float32. ``dtype`` is the type of the computation. ``device`` is the name of the GPU, or a description of how
    the net ran, if the executor's name does not tell. ``rounding`` is low-precision arithmetic, which the reference has
    too; ``bound`` limits how far it may move an output. ``files`` are the artifact's files that ran, ``settings`` their
    multipliers, such as ``lr_mult of NAME``: each as often as it is written. ``exact`` has for functions of a file the
    expected and the actual result, which must be equal to the bit.
    """

    values: dict[str, Array]
    input_gradients: dict[str, Array]
    param_gradients: dict[str, Array]
    absent: Mapping[str, str] = field(default_factory=dict)
    not_available: Mapping[str, str] = field(default_factory=dict)
    tolerance: float | None = None
    dtype: DTypeLike = np.float32
    device: str = ""
    rounding: Rounding | None = None
    bound: float | None = None
    files: tuple[str, ...] = ()
    settings: tuple[tuple[str, float], ...] = ()
    exact: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)


Part = tuple[str, str]  # of a net's file: its kind, as layer or weight, and its name
Parts = Mapping[Part, Mapping[str, str | Array]]  # the fields of each: settings as text, numbers as arrays


@dataclass(frozen=True)
class Layer:
    """A layer of a written net: its inputs, its outputs, and their shapes (None: unknown)."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Finding:
    """A finding of ``lstmc doctor``: a component, whether it is installed, and the command that installs or repairs it.
    Findings of one ``group`` share a line, unless -v is given; there ``version``, if any, replaces the detail. A
    ``faulty`` finding is a part of a package that cannot be used."""

    subject: str
    found: bool
    detail: str
    fix: str = ""
    group: str = ""
    version: str | None = None
    faulty: bool = False

    @classmethod
    def of(cls, subject: str, get: Callable[[], Any], detail: Callable[[Any], str], group: str, fix: str = "") -> Self:
        """Return the finding on a component: ``get`` returns its version, or raises an error if it is missing."""
        problem = problem_with(get)
        return cls(subject, problem is None, problem or detail(get()), fix if problem else "", group)


@dataclass(frozen=True)
class Violation:
    """A violation of a target's rule, with its source; ``limit``: a size of the model exceeds the target's limit."""

    layer: str
    type: str
    found: str
    expected: str
    reason: str
    source: str
    limit: bool = False


@dataclass(frozen=True)
class Warned:
    """An error that some ``version`` of a reader makes in a net without reporting it: the layers, and the source."""

    name: str
    layers: tuple[str, ...]
    text: str
    version: str
    source: str

    def __str__(self) -> str:
        return f"warning {self.name} ({self.version}): {self.text}"


@dataclass(frozen=True)
class LintReport:
    """The result of a linter. The shapes of ``unknown`` layers could not be inferred, so that they were not fully
    checked; ``warnings`` are for nets without violations."""

    violations: tuple[Violation, ...]
    unknown: tuple[str, ...]
    layers: int
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True)
class RankPart:
    """The part of each batch that one rank trains: the examples from ``start`` up to ``stop`` of the batch axis. The
    losses of all parts add up to the loss of the whole batch. ``counted`` are inputs of one number, to be fed with the
    part's share of the counted labels."""

    compiled: Compiled
    start: int
    stop: int
    counted: Mapping[str, Counted]


PRODUCT = ""  # a size that is no dimension itself, but changes with one
OpenShape = tuple[int | str, ...]  # a name is an open dimension


def open_shape(type_: TensorType) -> OpenShape:
    """Return the sizes of a value: numbers, names of open dimensions, or ``PRODUCT`` for a size computed from these."""
    return tuple(
        size.name if isinstance(size, OpenSize) else PRODUCT if isinstance(size, UnknownSize) else size
        for size in type_.shape
    )


def open_names(type_: TensorType) -> tuple[str | None, ...]:
    """Return for each axis its open dimension by name, or None (:class:`~lstmc.manifest.Place`); () if all are None."""
    names = tuple(size if isinstance(size, str) else None for size in open_shape(type_))
    return names if any(name is not None for name in names) else ()


def open_inputs(graph: Graph) -> dict[str, tuple[str, int]]:
    """Return, for each open dimension, an input and its axis of this size: from there a net reads the size."""
    sources: dict[str, tuple[str, int]] = {}
    for node in graph:
        for axis, size in enumerate(node.op.shape if isinstance(node.op, Input) else ()):
            if isinstance(size, OpenSize):
                sources.setdefault(size.name, (node.name, axis))
    return sources


def example_axis(whole: Sequence[int], part: Sequence[int]) -> int | None:
    """Return the axis in which shapes for two sizes of the batch differ; None if they are equal."""
    return next((axis for axis, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b), None)


@dataclass(frozen=True)
class DividedBatch:
    """The parts of the ranks, and the axis of examples of each input by name; None for an array without the axis."""

    parts: tuple[RankPart, ...]
    axes: Mapping[str, int | None]

    @classmethod
    def of(cls, whole: Graph, parts: Sequence[RankPart]) -> DividedBatch:
        """Return the division of the batches that the graph ``whole`` takes among ranks with these ``parts``."""
        part = smallest(parts)
        names = [node.name for node in whole if isinstance(node.op, Input) and node.name in part]
        shapes = {name: (whole.type(Ref(name)).shape, part.type(Ref(name)).shape) for name in names}
        return cls(tuple(parts), {name: example_axis(*both) for name, both in shapes.items()})

    def divide(self, arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Return the arrays of each rank: its examples, or the whole array if it has no axis of examples."""
        return [
            {
                name: array if axis is None else array[(slice(None),) * axis + (slice(part.start, part.stop),)]
                for name, array in arrays.items()
                if name in self.axes
                for axis in (self.axes[name],)
            }
            for part in self.parts
        ]

    def join(self, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Return the whole arrays of which :meth:`divide` made ``parts``."""
        return {
            name: array if axis is None else np.concatenate([part[name] for part in parts], axis)
            for name, array in parts[0].items()
            for axis in (self.axes[name],)
        }

    def shares(self, batch: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Return the further inputs of each rank: its shares of the counted labels, one number for each loss."""
        shares: list[dict[str, Array]] = [{} for _ in self.parts]
        for name, counted in self.parts[0].counted.items():
            labels, axis = batch[counted.labels], self.axes[counted.labels]
            assert axis is not None
            is_counted = labels != counted.ignored
            total = max(1, int(is_counted.sum()))
            for part, share in zip(self.parts, shares, strict=True):
                count = int(np.take(is_counted, np.arange(part.start, part.stop), axis).sum())
                share[name] = np.array(max(1, count) / total, np.float32)
        return shares


def smallest(parts: Sequence[RankPart]) -> Graph:
    return min(parts, key=lambda part: part.stop - part.start).compiled.expanded


class Batches(Protocol):
    """The arrays of each iteration by the model's input names: an iteration, counted from 0, always gets the same."""

    per_epoch: int  # after so many batches every example has been seen once

    @property
    def fingerprint(self) -> str:
        """A hash of the data and their order."""

    def batch(self, iteration: int) -> dict[str, Array]: ...


@dataclass(frozen=True)
class TrainingData:
    """The data of a net trained without lstmc; the training data are used as ``test`` data too if there are none."""

    train: Batches
    test: Batches | None = None


class TrainingCallbacks(Protocol):
    """The listener of a training. Iterations count the solver's updates from 1."""

    def stepped(self, iteration: int, loss: float, rate: float) -> None:
        """Report one update: the loss before it, and its learning rate."""

    def tested(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Report the means of the model's losses and scores over the test batches."""

    def saved(self, iteration: int, snapshot: Path) -> None:
        """Report a snapshot that is complete and on disk."""


@dataclass(frozen=True)
class TrainingRequest:
    """The request to a backend that trains; the number of updates is in the backend's own settings. ``resume``
    continues the run in ``folder``; ``overwrite`` sets that run aside and begins again. ``stop`` is called after every
    iteration; if it returns True, a snapshot is written and the run ends. ``parts`` divides each batch among ranks."""

    folder: Path
    batches: Batches
    test_batches: Batches | None
    callbacks: TrainingCallbacks
    stop: Callable[[], bool]
    resume: bool = False
    overwrite: bool = False
    gpu: bool = False
    parts: Sequence[RankPart] = ()


@dataclass(frozen=True)
class Trained:
    """The result of a run: how it ended, and the parameters by the model's own names and shapes."""

    iteration: int
    ended: Literal["finished", "stopped"]
    weights: dict[str, Array]
    snapshot: Path
