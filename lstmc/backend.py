"""The seam between the compiler and what it compiles for: what a backend offers, and how one is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from lstmc.dsl import Cell
from lstmc.errors import PluginError
from lstmc.ir import Graph
from lstmc.ops import Array, Op
from lstmc.passes import Pass, Snapshot
from lstmc.prepare import StatePair
from lstmc.training import Source, Trained, TrainingRun

BACKENDS = "lstmc.backends"
CELLS = "lstmc.cells"


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
    states: tuple[StatePair, ...] = ()  # of a one-step net: what to read after a step and feed to the next


@dataclass(frozen=True)
class Artifact:
    """What a backend made: file contents by name, and figures for people to read."""

    files: dict[str, bytes]
    layers: int
    inputs: dict[str, str] = field(default_factory=dict)  # what to feed: the model's name -> the net's
    outputs: dict[str, str] = field(default_factory=dict)  # what to read


@dataclass(frozen=True)
class Execution:
    """One forward and backward of a written net somewhere: values by the net's names, gradients by the model's.

    ``param_gradients`` is None where the net cannot be trained there.
    """

    values: dict[str, Array]
    input_gradients: dict[str, Array]
    param_gradients: dict[str, Array] | None


class Executor(Protocol):
    """A place where written nets can be run."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot be used on this machine, or None when it can."""
        ...

    def run(
        self, compiled: Compiled, artifact: Artifact, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]
    ) -> Execution:
        """Feed ``inputs``, run forward, send ``cotangents`` (by output name) back. Shapes as in the model."""
        ...

    def close(self) -> None:
        """Give back what it holds (a worker process, say)."""
        ...


@dataclass(frozen=True)
class Finding:
    """One line of ``lstmc doctor``: what was looked for, whether it is there, and the command that mends it."""

    subject: str
    found: bool
    detail: str
    mend: str = ""


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
class LintReport:
    """What a linter found. ``unknown`` are layers whose shapes could not be found, so not all could be checked."""

    violations: tuple[Violation, ...]
    unknown: tuple[str, ...]
    layers: int


class Backend(Protocol):
    """What a backend package offers through the entry-point group ``lstmc.backends``."""

    name: str
    summary: str
    targets: Mapping[str, str]  # name -> what it is for; the first is the default
    ops: tuple[type[Op], ...]

    def passes(self, target: str) -> tuple[Pass, ...]:
        """The passes that bring a model graph from MODEL to EXPANDED for ``target``, all of them in order."""
        ...

    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        """Other ways to write the same net for ``target``, by name: whole pass lists, for ``--tune`` to measure."""
        ...

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """How long a forward and backward pass of each net takes on this machine, measured side by side."""
        ...

    def build(self) -> str:
        """What ``seconds`` measures with: a name that changes when its figures may."""
        ...

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """The files of a compiled model with these parameter values."""
        ...

    def lint(self, text: str, target: str) -> LintReport:
        """A net's text, whoever wrote it, against a target. Raises :class:`BackendError` for what is no net."""
        ...

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """The model's parameters from a trained net and the manifest written with it; and those that are not in it."""
        ...

    def executors(self) -> Sequence[Executor]:
        """Where its nets can be run."""
        ...

    def doctor(self) -> Iterable[Finding]:
        """What it needs, and what of that is there."""
        ...


class Settings(Protocol):
    """How a backend trains: its own typed settings, which have at least this."""

    @property
    def max_iter(self) -> int:
        """How many updates a run makes."""
        ...


@runtime_checkable
class TrainsModels(Protocol):
    """What a backend that trains offers besides."""

    training_targets: tuple[str, ...]  # the targets whose nets can be trained

    def settings(self, given: object | None, overrides: Sequence[str]) -> Settings:
        """A model's own settings, or the defaults, with texts ``key=value`` put over them, all checked."""
        ...

    def emit_training(self, compiled: Compiled, settings: Settings, sources: Mapping[str, Source]) -> Artifact:
        """The files that train a compiled training graph without lstmc. ``sources``: by phase, where data come from."""
        ...

    def train(self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRun) -> Trained:
        """Train a compiled training graph from these weights until it has made all updates, or is told to stop."""
        ...


class Steps(Protocol):
    """A one-step net that keeps its states from each step to the next. Shapes are the model's, states left out."""

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    states: Mapping[str, tuple[int, ...]]

    def start(self, states: Mapping[str, Array]) -> None:
        """Begin a sequence with these states; those left out begin as the model says."""
        ...

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One step's outputs."""
        ...


@runtime_checkable
class RunsNets(Protocol):
    """What a backend that runs its written nets, from their files alone, offers besides."""

    def run(self, net: Path, inputs: Mapping[str, Array], weights: Path | None, gpu: bool) -> dict[str, Array]:
        """One forward pass: outputs by name. ``weights`` may be other than those written with the net."""
        ...

    def steps(self, net: Path, weights: Path | None, gpu: bool) -> AbstractContextManager[Steps]:
        """A one-step net, loaded once for many steps."""
        ...


def find_backends() -> dict[str, EntryPoint]:
    """Every installed backend's entry point by name. Raises :class:`PluginError` for a name taken twice."""
    return _find(BACKENDS)


def find_cells() -> dict[str, EntryPoint]:
    """Every installed library cell's entry point by name. Raises :class:`PluginError` for a name taken twice."""
    return _find(CELLS)


def load_backend(name: str) -> Backend:
    """An installed backend. Raises :class:`PluginError` if there is none of that name or it does not load."""
    return cast(Backend, _load(_find(BACKENDS, name), name, "backend", lambda loaded: loaded()))


def load_cell(name: str) -> Cell:
    """An installed library cell. Raises :class:`PluginError` if there is none of that name or it does not load."""
    loaded = _load(_find(CELLS, name), name, "cell")
    if not isinstance(loaded, Cell):
        raise PluginError(f"cell {name} is not a cell: expected a function made with @cell, found {loaded!r}")
    return loaded


def _find(group: str, wanted: str | None = None) -> dict[str, EntryPoint]:
    """The entry points of a group. A name that is taken twice does not matter to who wants another one."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        twice = point.name in found and found[point.name].value != point.value
        if twice and wanted in (None, point.name):
            ours, theirs = (_distribution(p) for p in (found[point.name], point))
            raise PluginError(f"{point.name} is offered twice in {group}: by {ours} and by {theirs}")
        found[point.name] = point
    return dict(sorted(found.items()))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'an unknown distribution'} ({point.value})"


def _load(points: Mapping[str, EntryPoint], name: str, kind: str, make: Callable[[Any], Any] = lambda x: x) -> Any:
    if name not in points:
        raise PluginError(f"there is no {kind} called {name}: found {', '.join(points) or 'none'}")
    try:
        return make(points[name].load())
    except Exception as error:
        where = _distribution(points[name])
        raise PluginError(f"{kind} {name} of {where} does not load: {type(error).__name__}: {error}") from error


def target_of(backend: Backend, target: str | None) -> str:
    """The target's name, checked; the backend's first one if none is given."""
    if target is None:
        return next(iter(backend.targets))
    if target not in backend.targets:
        raise PluginError(f"backend {backend.name} has no target {target}: found {', '.join(backend.targets)}")
    return target
