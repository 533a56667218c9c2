"""The data between the compiler and a backend: a compiled model, its files, findings, and a rank's part of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.passes import Snapshot
from lstmc.prepare import Counted, StatePair

LARGER = 1009  # by how much: so that no size is another by chance


@dataclass(frozen=True)
class Compiled:
    """A model that went through a backend's passes. ``history`` has the graph after each of them."""

    name: str
    source: str  # what it was made from, for people: demo.py:demo
    backend: str
    target: str
    model: Graph
    expanded: Graph
    history: tuple[Snapshot, ...]
    states: tuple[StatePair, ...] | None = None  # of a one-step net: what to read after a step and feed to the next
    trained: bool = True  # whether nets for the target can be trained: others keep nothing for training
    resized: Mapping[str, Graph] = field(default_factory=dict)  # the expanded graph with one dimension LARGER, by name


@dataclass(frozen=True)
class Artifact:
    """What a backend made: file contents by name, the net's own first, and figures for people to read."""

    files: dict[str, bytes]
    layers: int
    inputs: dict[str, str] = field(default_factory=dict)  # what to feed: the model's name -> the net's
    outputs: dict[str, str] = field(default_factory=dict)  # what to read
    notes: tuple[str, ...] = ()  # what was chosen, and why

    @property
    def net(self) -> str:
        """The name of the net's own file, which is run and read."""
        return next(iter(self.files))


@dataclass(frozen=True)
class RunArrays:
    """What a compiled net is run on, forward and backward. Names and shapes are the model's.

    ``weights`` are those that its artifact was emitted with: every parameter. ``cotangents`` are by output.
    """

    inputs: Mapping[str, Array]
    weights: Mapping[str, Array]
    cotangents: Mapping[str, Array]


@dataclass(frozen=True)
class Execution:
    """One forward and backward of a written net somewhere: values by the net's names, gradients by the model's.

    ``absent``: why a value that the expanded graph has is not in the net, by name. ``untold``: why the gradient of a
    parameter or of an input cannot be had there, by name. A parameter that is in neither ``param_gradients`` nor
    ``untold`` is in no layer of the net: its gradient is zero. ``tolerance`` is for values, relative, where they are
    not computed in float32. ``device`` is the name of the GPU that it ran on.
    """

    values: dict[str, Array]
    input_gradients: dict[str, Array]
    param_gradients: dict[str, Array]
    absent: Mapping[str, str] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)
    tolerance: float | None = None
    device: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer of a written net: what it reads, what it writes, and the shapes of that (None: not found)."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Finding:
    """A finding of ``lstmc doctor``: a component, whether it is there, and the command that installs or repairs it.

    Findings of one ``group`` share a line, unless -v is given.
    """

    subject: str
    found: bool
    detail: str
    fix: str = ""
    group: str = ""


@dataclass(frozen=True)
class Violation:
    """One place where a net breaks a target's rule: what was found, what was expected, why, and where that is said.

    ``limit``: a size of the model itself is past what the target can have.
    """

    layer: str
    type: str
    found: str
    expected: str
    reason: str
    source: str
    limit: bool = False


@dataclass(frozen=True)
class Warned:
    """What a reader of some ``version`` gets wrong in a net without a word: at which layers, and where that is said."""

    name: str
    layers: tuple[str, ...]
    text: str
    version: str
    source: str

    def __str__(self) -> str:
        return f"warning {self.name} ({self.version}): {self.text}"


@dataclass(frozen=True)
class LintReport:
    """What a linter found. ``unknown`` are layers whose shapes could not be found, so not all could be checked;
    ``warnings`` are of a net that the target takes."""

    violations: tuple[Violation, ...]
    unknown: tuple[str, ...]
    layers: int
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True)
class RankPart:
    """What one rank trains: the examples from ``start`` up to ``stop`` of each batch, in the order of the batch axis.

    The losses of all parts add up to the loss of the whole batch. ``counted`` are inputs to feed: one number each, the
    part's share of the labels that are counted.
    """

    compiled: Compiled
    start: int
    stop: int
    counted: Mapping[str, Counted]
