"""The protocols of backends: every backend implements :class:`Backend`, and each other protocol is optional.

A backend offers a protocol by having its members; :func:`require` asks for one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from lstmc.backend.compiled import (
    Artifact,
    Compiled,
    Execution,
    Finding,
    Layer,
    LintReport,
    Parts,
    RankPart,
    RunArrays,
    Trained,
    TrainingData,
    TrainingRequest,
)
from lstmc.errors import BackendError
from lstmc.files.arrays import AnyArray
from lstmc.files.output import Content
from lstmc.ir import Graph
from lstmc.ops import Array, Op
from lstmc.passes import Pass


@runtime_checkable
class Backend(Protocol):
    """A backend, which writes nets; packages register theirs by the entry-point group ``lstmc.backends``."""

    name: str
    summary: str
    targets: Mapping[str, str]  # name -> what it is for; the first is the default
    ops: tuple[type[Op], ...]

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the passes that bring a model graph from MODEL to EXPANDED for ``target``, all of them in order."""
        ...

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """Return the files of a compiled model with these parameter values."""
        ...


@runtime_checkable
class TakesOptions(Protocol):
    """A backend with settings of its own for writing nets."""

    options: Mapping[str, str]  # name -> what it is, and its default

    def with_options(self, values: Mapping[str, str]) -> Backend:
        """Return the backend with these options, whose names are among ``options``.

        Raises :class:`~lstmc.errors.BackendError` for a text that is no value of one.
        """
        ...


@runtime_checkable
class WritesSteps(Protocol):
    """A backend that writes nets of one step only: each model that has a scan is compiled as one."""

    one_step: bool


@runtime_checkable
class LeavesOpen(Protocol):
    """A backend that writes nets with dynamic axes."""

    def open_dims(self, compiled: Compiled) -> Collection[str]:
        """Return the dimensions that a net may leave open: :meth:`Compiled.written` has the graphs."""
        ...


@runtime_checkable
class CostsLayers(Protocol):
    """A backend that knows the cost of a layer, to choose the cheapest form of linear recurrences."""

    def layer_cost(self, target: str) -> float | None:
        """Return the cost of a layer in the readers of a target, in elements of an elementwise op. None if it is not
        known: recurrences are then unrolled, unless another form is asked for.
        """
        ...


@runtime_checkable
class Lints(Protocol):
    """A backend that checks nets, its own or others, against a target."""

    def lint(self, net: Path, target: str) -> LintReport:
        """Check a net's file against a target. Raises :class:`~lstmc.errors.BackendError` for a file that is no net."""
        ...


@runtime_checkable
class ListsLayers(Protocol):
    """A backend that reads a net as layers."""

    def layers(self, net: bytes) -> tuple[Layer, ...]:
        """Return the layers of a net's file, in order.

        Raises :class:`~lstmc.errors.BackendError` for what is no net.
        """
        ...


@runtime_checkable
class TakesApart(Protocol):
    """A backend that takes its files apart, so that two nets can be compared by layer and weight."""

    def parts(self, file: str, content: bytes) -> Parts | None:
        """Return a file's parts by kind and name; None for one that is compared as text. Raises BackendError."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A backend that writes nets with generated code."""

    def explain(self, graph: Graph) -> str:
        """Return a description of a compiled graph's generated code; empty if it has none."""
        ...


@runtime_checkable
class Builds(Protocol):
    """A backend that builds files for this machine."""

    def built(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the files built here from a net's files, by name; empty if nothing is to be built.

        Raises :class:`~lstmc.errors.BackendError` for what this machine lacks.
        """
        ...


@runtime_checkable
class WritesExamples(Protocol):
    """A backend that writes programs to run its nets."""

    def example(self, compiled: Compiled, artifact: Artifact, language: str) -> Mapping[str, bytes]:
        """Return a program, by file name, that streams through a net of one step which was written so.

        Raises :class:`~lstmc.errors.BackendError` for a ``language`` or a target that it has none for.
        """
        ...


@runtime_checkable
class LimitsWeights(Protocol):
    """A backend whose files of weights have a maximum size."""

    most_weights: int  # numbers, in all parameters of a model


@runtime_checkable
class Tunes(Protocol):
    """A backend that writes one net in several forms, and measures which is the fastest on this machine."""

    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        """Return the forms besides the target's own, by name: a whole list of passes each."""
        ...

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """Return the time of a forward and backward pass of each net on this machine, measured side by side."""
        ...

    def build(self) -> str:
        """Return the name of the build that ``seconds`` measures with: it changes when the times may change."""
        ...


class Executor(Protocol):
    """A runtime for written nets."""

    name: str

    def unavailable(self) -> str | None:
        """Return the reason why it cannot be used on this machine; None if it can."""
        ...

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Feed the inputs, run forward, and propagate the cotangents back."""
        ...

    def close(self) -> None:
        """Release its resources, such as a worker process."""
        ...


@runtime_checkable
class OnHardware(Executor, Protocol):
    """An executor on hardware that few machines have: without it, nothing is said unless the executor was asked for."""

    hardware: str  # empty for one that every machine has

    def emulation(self) -> str | None:
        """Return the reason why it is used only on request, emulated hardware; None for real hardware."""
        ...


@runtime_checkable
class RunsTraining(Executor, Protocol):
    """A runtime that can also run a net in training mode, with its dropouts."""

    def run_training(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run as ``run`` does, in training mode; the values include results of dropouts, which show the masks."""
        ...


@runtime_checkable
class Executes(Protocol):
    """A backend that runs a compiled net forward and backward, for the comparison with the interpreter."""

    def executors(self) -> Sequence[Executor]:
        """Return the runtimes of its nets."""
        ...


class Reader(Executor, Protocol):
    """Another program that reads nets; ``target`` is the one that its nets are compiled for by default."""

    target: str


@runtime_checkable
class HasReaders(Protocol):
    """A backend whose nets other programs read too, and can run forward, for a comparison."""

    readers: Collection[str]  # the names of all that are known, installed or not

    def reader(self, name: str) -> Reader:
        """Return a reader by its name. Raises :class:`~lstmc.errors.PluginError` for one that cannot be used."""
        ...


@runtime_checkable
class HasQuantisers(Protocol):
    """A backend whose nets other programs quantise."""

    def interpreter(self, reader: str) -> tuple[Path, Mapping[str, str]]:
        """Return the Python that has a reader's packages, and the environment variables to start it with.

        Raises :class:`~lstmc.errors.BackendError` for a reader that is not installed, with how to install it.
        """
        ...


class Settings(Protocol):
    """A backend's own typed settings of training, which have at least these."""

    @property
    def max_iter(self) -> int:
        """The number of updates of a run."""
        ...

    @property
    def iter_size(self) -> int:
        """The number of batches whose gradients one update accumulates."""
        ...


@runtime_checkable
class Trains(Protocol):
    """A backend that trains models."""

    training_targets: Collection[str]  # the targets whose nets can be trained

    def settings(self, own: object | None, overrides: Sequence[str]) -> Settings:
        """Return a model's own settings, or the defaults, with texts ``key=value`` put over them, all checked."""
        ...

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train a compiled training graph from these weights, until it has made all updates or is asked to stop."""
        ...

    def build(self) -> str:
        """Return the name of the build that it trains with, for the record of a run."""
        ...


@runtime_checkable
class WritesTraining(Protocol):
    """A backend that writes the files to train a model without lstmc."""

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, Content]:
        """Return the files that train a compiled training graph without lstmc, on ``data`` if there are some."""
        ...


class Ranks(Protocol):
    """``count`` processes that train one model together, the first of them for this one. They last until ``close``."""

    count: int

    def train(
        self,
        compiled: Compiled,
        parts: Sequence[RankPart],
        weights: Mapping[str, Array],
        settings: Settings,
        run: TrainingRequest,
    ) -> Trained:
        """Train as ``Trains.train`` does, to the same weights but for rounding; ``compiled`` has the whole batch."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


@runtime_checkable
class TrainsByRanks(Protocol):
    """A backend that trains a model by several processes at once."""

    def ranks(self, count: int | None, gpu: bool) -> Ranks:
        """Start ``count`` processes, or for None join those that an MPI launcher has started, of which this is one.

        All of the launcher's but the first work for it in this call, until it closes them, and then leave it by
        SystemExit. Where no launcher has started this process, it is the only one.
        """
        ...


class Steps(Protocol):
    """A one-step net that keeps its states from each step to the next. Shapes are the model's, states left out.

    ``delays`` has the number of steps by which an output is late, of those that are.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    states: Mapping[str, tuple[int, ...]]
    delays: Mapping[str, int]

    def start(self, states: Mapping[str, AnyArray]) -> None:
        """Begin a sequence with these states; those left out begin as the model says."""
        ...

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one step, and return its outputs."""
        ...


class OpenNet(Protocol):
    """A written net that is loaded once for many passes. Shapes are the model's, as it was compiled.

    ``optional`` are inputs that no output depends on: a pass needs no array for them. ``training_inputs`` are those of
    the model that only its losses and scores read, which the net does not have.
    """

    inputs: Mapping[str, tuple[int, ...]]
    optional: Collection[str]
    training_inputs: Collection[str]
    outputs: Mapping[str, tuple[int, ...]]

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, Array]:
        """Run one forward pass: outputs by name."""
        ...

    def close(self) -> None:
        """Release the resources of passes."""
        ...


@runtime_checkable
class Runs(Protocol):
    """A backend that runs its written nets from their files alone."""

    def run(self, net: Path, inputs: Mapping[str, AnyArray], weights: Path | None, gpu: bool) -> dict[str, Array]:
        """Run one forward pass: outputs by name. ``weights`` may be other than those written with the net."""
        ...

    def opened(self, net: Path, weights: Path | None, gpu: bool) -> OpenNet:
        """Return a net for many passes, loaded with the first."""
        ...

    def steps(self, net: Path, weights: Path | None, gpu: bool) -> AbstractContextManager[Steps]:
        """Return a one-step net, loaded once for many steps."""
        ...


@runtime_checkable
class ReadsWeights(Protocol):
    """A backend that reads parameters from trained nets."""

    weights_suffix: str  # of the file beside ``NAME.manifest.json`` that has them

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """Return the model's parameters from a trained net and its manifest, and the names of those missing."""
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A backend that checks its requirements on this machine."""

    def doctor(self) -> Iterable[Finding]:
        """Return a finding for each requirement: whether it is met, or how to install it."""
        ...


# What an error says that a backend does not do.
WORDS: Mapping[type, str] = {
    TakesOptions: "take options of its own",
    WritesSteps: "write nets of one step alone",
    LeavesOpen: "leave sizes open",
    CostsLayers: "know what layers cost",
    Lints: "check nets",
    ListsLayers: "list layers",
    TakesApart: "take nets apart",
    Explains: "have code of its own to explain",
    Builds: "make files for this machine",
    WritesExamples: "write programs that run its nets",
    Tunes: "measure forms of a net",
    Executes: "run nets for a comparison",
    HasReaders: "run nets in other programs",
    HasQuantisers: "have its nets quantised by other programs",
    Trains: "train",
    WritesTraining: "write what trains a net without lstmc",
    TrainsByRanks: "train by several processes",
    Runs: "run nets",
    ReadsWeights: "read weights back",
    Diagnoses: "look for what it needs",
}
Offered = TypeVar("Offered")


def require(backend: Backend, protocol: type[Offered]) -> Offered:
    """Return the backend if it implements ``protocol``. Raises :class:`BackendError` that names the missing members."""
    if isinstance(backend, protocol):
        return backend
    lacking = ", ".join(lacks(backend, protocol))
    raise BackendError(f"backend {backend.name} does not {WORDS[protocol]}: it has no {lacking}")


def lacks(backend: object, protocol: type) -> list[str]:
    """Return the members of a protocol that an object does not have."""
    members = [*protocol.__annotations__, *(name for name in vars(protocol) if not name.startswith("_"))]
    return [name for name in members if not hasattr(backend, name)]
