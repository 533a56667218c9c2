"""The base class of backends, and the protocols of what they return: runtimes, open nets, settings of training.

A backend has the first six members of :class:`Backend`. All others are optional: the base class says what a backend
without them does, which is nothing, or an error that names the missing members.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import inf
from pathlib import Path
from typing import ClassVar, Protocol

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
from lstmc.ops import Array, Op, Price
from lstmc.passes import Pass

__all__ = ["Backend", "Executor", "OpenNet", "Ranks", "Settings", "Steps", "offers"]


class Backend(ABC):
    """A backend, which writes nets; packages register theirs by the entry-point group ``lstmc.backends``."""

    name: ClassVar[str]
    summary: ClassVar[str]
    targets: ClassVar[Mapping[str, str]]  # name -> what it is for; the first is the default
    ops: ClassVar[tuple[type[Op], ...]]

    @abstractmethod
    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the passes that bring a model graph from MODEL to EXPANDED for ``target``, all of them in order."""

    @abstractmethod
    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        """Return the files of a compiled model with these parameter values."""

    # How it writes nets
    options: ClassVar[Mapping[str, str]] = {}  # its own: name -> what it is, and its default
    one_step: ClassVar[bool] = False  # whether each model that has a scan is compiled as a net of one step
    most_weights: ClassVar[float] = inf  # numbers in all parameters of a model, by the size of its files

    def with_each_value(self) -> Backend:
        """Return the backend whose graph of a step has each value by its name: of loops those of each turn."""
        return self

    def for_integers(self, wide_states: bool) -> Backend:
        """Return the backend whose nets are those of integers; ``wide_states``: with states of 16 bits among 8."""
        return self

    def with_options(self, values: Mapping[str, str]) -> Backend:
        """Return the backend with these options, whose names are among ``options``.

        Raises :class:`~lstmc.errors.BackendError` for a text that is no value of one.
        """
        return self

    def open_dims(self, compiled: Compiled) -> Collection[str]:
        """Return the dimensions that a net may leave open: :meth:`Compiled.written` has the graphs."""
        return ()

    def price(self, target: str) -> Price | None:
        """Return the price of work in the readers of a target. None if it is not known: recurrences are then unrolled,
        unless another form is asked for.
        """
        return None

    def explain(self, graph: Graph) -> str:
        """Return a description of a compiled graph's generated code; empty if it has none."""
        return ""

    def built(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the files built here from a net's files, by name; empty if nothing is to be built.

        Raises :class:`~lstmc.errors.BackendError` for what this machine lacks.
        """
        return {}

    def example(self, compiled: Compiled, artifact: Artifact, language: str) -> Mapping[str, bytes]:
        """Return a program, by file name, that streams through a net of one step which was written so.

        Raises :class:`~lstmc.errors.BackendError` for a ``language`` or a target that it has none for.
        """
        raise self._lacking("write programs that run its nets", "example")

    # The same net in several forms, of which the fastest on this machine is taken
    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        """Return the forms besides the target's own, by name: a whole list of passes each."""
        return {}

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """Return the time of a forward and backward pass of each net on this machine, measured side by side."""
        raise self._lacking("measure forms of a net", "forms", "seconds", "build")

    def build(self) -> str:
        """Return the name of the build that ``seconds`` measures with, and that trains, for the record of a run: it
        changes when the times may change.
        """
        raise self._lacking("measure forms of a net", "forms", "seconds", "build")

    # What it finds in nets, and on this machine
    def lint(self, net: Path, target: str) -> LintReport:
        """Check a net's file, its own or another, against a target. Raises :class:`~lstmc.errors.BackendError` for a
        file that is no net."""
        raise self._lacking("check nets", "lint")

    def layers(self, net: bytes) -> tuple[Layer, ...]:
        """Return the layers of a net's file, in order.

        Raises :class:`~lstmc.errors.BackendError` for what is no net.
        """
        raise self._lacking("list layers", "layers")

    def parts(self, file: str, content: bytes) -> Parts | None:
        """Return a file's parts by kind and name, by which two nets are compared; None for one that is compared as
        text. Raises BackendError."""
        return None

    def doctor(self) -> Iterable[Finding]:
        """Return a finding for each requirement: whether this machine meets it, or how to install it."""
        return (Finding(f"backend {self.name}", True, self.summary),)

    # Where nets run, for the comparison with the interpreter
    readers: ClassVar[Collection[str]] = ()  # the names of all other programs that are known, installed or not

    def executors(self) -> Sequence[Executor]:
        """Return the runtimes of its nets, which run them forward and backward."""
        return ()

    def reader(self, name: str) -> Executor:
        """Return a reader by its name, which runs nets forward. Raises :class:`~lstmc.errors.PluginError` for one that
        cannot be used."""
        raise self._lacking("run nets in other programs", "readers", "reader")

    def interpreter(self, reader: str) -> tuple[Path, Mapping[str, str]]:
        """Return the Python that has the packages of a reader which quantises nets, and the environment variables to
        start it with.

        Raises :class:`~lstmc.errors.BackendError` for a reader that is not installed, with how to install it.
        """
        raise self._lacking("have its nets quantised by other programs", "interpreter")

    # Written nets, from their files alone: lstmc.nets.session.RunsFiles has most of it
    weights_suffix: ClassVar[str] = ""  # of the file beside ``NAME.manifest.json`` that has the parameters

    def run(self, net: Path, inputs: Mapping[str, AnyArray], weights: Path | None, gpu: bool) -> dict[str, Array]:
        """Run one forward pass: outputs by name. ``weights`` may be other than those written with the net."""
        raise self._lacking("run nets", "run", "opened", "steps")

    def opened(self, net: Path, weights: Path | None, gpu: bool) -> OpenNet:
        """Return a net for many passes, loaded with the first."""
        raise self._lacking("run nets", "run", "opened", "steps")

    def steps(self, net: Path, weights: Path | None, gpu: bool) -> AbstractContextManager[Steps]:
        """Return a one-step net, loaded once for many steps."""
        raise self._lacking("run nets", "run", "opened", "steps")

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """Return the model's parameters from a trained net and its manifest, and the names of those missing."""
        raise self._lacking("read weights back", "weights_suffix", "read_weights")

    # Training, which needs the first three, and ``build``
    training_targets: ClassVar[Collection[str]] = ()  # the targets whose nets can be trained

    def settings(self, own: object | None, overrides: Sequence[str]) -> Settings:
        """Return a model's own settings, or the defaults, with texts ``key=value`` put over them, all checked."""
        raise self._lacking("train", "training_targets", "settings", "train", "build")

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train a compiled training graph from these weights, until it has made all updates or is asked to stop."""
        raise self._lacking("train", "training_targets", "settings", "train", "build")

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, Content]:
        """Return the files that train a compiled training graph without lstmc, on ``data`` if there are some."""
        raise self._lacking("write what trains a net without lstmc", "emit_training")

    def ranks(self, count: int | None, gpu: bool) -> Ranks:
        """Start ``count`` processes that train one model together; for None join the processes of an MPI launcher.

        In the launcher's other processes this call serves the first process until that closes them, and ends in
        SystemExit. Without a launcher this process is the only one.
        """
        raise self._lacking("train by several processes", "ranks")

    def _lacking(self, purpose: str, *members: str) -> BackendError:
        missing = ", ".join(member for member in members if not offers(self, member))
        return BackendError(f"backend {self.name} does not {purpose}: it has no {missing}")


def offers(backend: Backend, member: str) -> bool:
    """Return whether a backend has an optional member of its own."""
    return getattr(type(backend), member) is not getattr(Backend, member)


class Executor(ABC):
    """A runtime for written nets. ``name`` is the one that ``--on`` takes.

    ``hardware`` is what few machines have: without it, nothing is said unless the executor was asked for. ``trains``:
    it can also run a net in training mode. ``target``, of another program that reads nets, is the one that these are
    compiled for by default.
    """

    name: str
    hardware: str = ""
    trains: bool = False
    target: str = ""

    def unavailable(self) -> str | None:
        """Return the reason why it cannot be used on this machine; None if it can."""
        return None

    def emulation(self) -> str | None:
        """Return the reason why it is used only on request, emulated hardware; None for real hardware."""
        return None

    @abstractmethod
    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Feed the inputs, run forward, and propagate the cotangents back."""

    def run_training(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run as ``run`` does, with dropouts; the values include results of dropouts, which show the masks."""
        raise BackendError(f"{self.name} does not run nets in training mode")

    def close(self) -> None:  # noqa: B027
        """Release its resources, such as a worker process."""


class Settings(Protocol):
    """A backend's own typed settings of training, which have at least these."""

    @property
    def max_iter(self) -> int:
        """The number of updates of a run."""

    @property
    def iter_size(self) -> int:
        """The number of batches whose gradients one update accumulates."""


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
        """Train as ``Backend.train`` does, to the same weights but for rounding; ``compiled`` has the whole batch."""

    def close(self) -> None:
        """End the processes."""


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

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one step, and return its outputs."""


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

    def close(self) -> None:
        """Release the resources of passes."""
