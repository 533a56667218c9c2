"""The base class of backends, what they return, and their discovery.

A backend has the first six members of :class:`Backend`; without the others the base class does nothing, or raises an
error that names the missing members. Backends, library cells, and functions that write ops in a format are found by
entry point; each is checked when it is loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from lstmc.backend.compiled import (
    Artifact,
    Compiled,
    Execution,
    Finding,
    Layer,
    LintReport,
    Parts,
    RunArrays,
    Trained,
    TrainingData,
    TrainingRequest,
)
from lstmc.dsl import Cell
from lstmc.errors import Argument, BackendError, PassError, PluginError
from lstmc.files.arrays import AnyArray
from lstmc.files.output import Content
from lstmc.ir import Graph
from lstmc.ops import Array, Input, Op, Price
from lstmc.ops.base import OpType, dialects, load_dialect
from lstmc.passes import Insertion, Pass, PassList
from lstmc.passes.base import PASSES, installed_passes, load_insertion, with_installed
from lstmc.plugins import BACKENDS, CELLS, does_not_load, entry_points_of, load, load_point, malformed, only_entry_point
from lstmc.text import brief, did_you_mean, nearest_or_all

__all__ = ["Backend", "Executor", "OpenNet", "Ranks", "Settings", "backend_for", "check_place", "find_backends"]
__all__ += ["find_cells", "load_backend", "load_cell", "load_placed", "offers", "plugin_faults", "target_of"]


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
        """Return the backend whose graph of a step names every value, also the values of each iteration of loops."""
        return self

    def for_integers(self, wide_states: bool) -> Backend:
        """Return the backend that writes nets of integers; ``wide_states``: states of 16 bits in nets of 8 bits."""
        return self

    def with_options(self, values: Mapping[str, str]) -> Backend:
        """Return the backend with these ``options``. Raises :class:`~lstmc.errors.BackendError` for invalid values."""
        return self

    def open_dims(self, compiled: Compiled) -> Collection[str]:
        """Return the dimensions that a net may leave open: :meth:`Compiled.written` returns the graphs."""
        return ()

    def price(self, target: str) -> Price | None:
        """Return the price of work in a target's readers; if it is None, linear recurrences are unrolled by default."""
        return None

    def explain(self, graph: Graph) -> str:
        """Return a description of a compiled graph's generated code; empty if it has none."""
        return ""

    def built(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the files that are built on this machine from a net's files, by name; empty if there are none. Raises
        :class:`~lstmc.errors.BackendError` if this machine lacks a requirement."""
        return {}

    def example(self, compiled: Compiled, artifact: Artifact, language: str) -> Mapping[str, bytes]:
        """Return a program, by file name, that runs a net of one step on a stream. Raises
        :class:`~lstmc.errors.BackendError` for a ``language`` or a target without a program."""
        raise self._lacking("write programs that run its nets", "example")

    # The same net in several forms, of which the fastest on this machine is taken
    def forms(self, target: str) -> Mapping[str, tuple[Pass, ...]]:
        """Return the forms besides the target's own, by name: each is a complete list of passes."""
        return {}

    def seconds(self, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """Return the time of a forward and backward pass of each net on this machine, measured side by side."""
        raise self._lacking("measure forms of a net", "forms", "seconds", "build")

    def build(self) -> str:
        """Return the name of the build that trains and that ``seconds`` measures; it changes when times may change."""
        raise self._lacking("measure forms of a net", "forms", "seconds", "build")

    # What it finds in nets, and on this machine
    def lint(self, net: Path, target: str) -> LintReport:
        """Check a net's file against a target. Raises :class:`~lstmc.errors.BackendError` for a file that is no net."""
        raise self._lacking("check nets", "lint")

    def layers(self, net: bytes) -> tuple[Layer, ...]:
        """Return the layers of a net's file. Raises :class:`~lstmc.errors.BackendError` for a file that is no net."""
        raise self._lacking("list layers", "layers")

    def parts(self, file: str, content: bytes) -> Parts | None:
        """Return the parts of a net's file by kind and name, to compare nets; None: by their text. Raises
        BackendError."""
        return None

    def doctor(self) -> Iterable[Finding]:
        """Return a finding for each requirement: whether this machine meets it, or how to install it."""
        return (Finding(f"backend {self.name}", True, self.summary),)

    # Where nets run, for the comparison with the interpreter
    readers: ClassVar[Collection[str]] = ()  # names of all other programs that can read its nets, installed or not

    def executors(self) -> Sequence[Executor]:
        """Return the runtimes of its nets, which run them forward and backward."""
        return ()

    def reader(self, name: str) -> Executor:
        """Return a reader, which runs nets forward. Raises :class:`~lstmc.errors.PluginError` for an unusable one."""
        raise self._lacking("run nets in other programs", "readers", "reader")

    def interpreter(self, reader: str) -> tuple[Path, Mapping[str, str]]:
        """Return the Python with the packages of a reader that quantises nets, and the environment variables to start
        it. Raises :class:`~lstmc.errors.BackendError` for a reader that is not installed, with how to install it."""
        raise self._lacking("have its nets quantised by other programs", "interpreter")

    # Written nets, from their files alone: lstmc.nets.session.RunsFiles has most of it
    weights_suffix: ClassVar[str] = ""  # of the file beside ``NAME.manifest.json`` that has the parameters

    def opened(self, net: Path, weights: Path | None, gpu: bool) -> OpenNet:
        """Return a net for many passes, loaded with the first; ``weights`` may differ from those written with it."""
        raise self._lacking("run nets", "opened")

    def run(self, net: Path, inputs: Mapping[str, AnyArray], weights: Path | None, gpu: bool) -> dict[str, Array]:
        """Run one forward pass: outputs by name."""
        with closing(self.opened(net, weights, gpu)) as opened:
            return opened.run(inputs)

    def read_weights(self, trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
        """Return the model's parameters from a trained net and its manifest, and the names of missing parameters."""
        raise self._lacking("read weights back", "weights_suffix", "read_weights")

    # Training, which needs the first three, and ``build``
    training_targets: ClassVar[Collection[str]] = ()  # the targets whose nets can be trained

    def settings(self, own: object | None, overrides: Sequence[str]) -> Settings:
        """Return a model's own settings, or the defaults, overridden by texts ``key=value``, all checked."""
        raise self._lacking("train", "training_targets", "settings", "train", "build")

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train a compiled training graph from these weights, until it has made all updates or is asked to stop."""
        raise self._lacking("train", "training_targets", "settings", "train", "build")

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, Content]:
        """Return the files that train a compiled training graph without lstmc, with ``data`` if any is given."""
        raise self._lacking("write what trains a net without lstmc", "emit_training")

    def ranks(self, count: int | None, gpu: bool) -> Ranks:
        """Start ``count`` processes that train one model together; for None join those of an MPI launcher. In all but
        the first of these, the call works for the first until that closes them, and then raises SystemExit. Without a
        launcher this process is the only one."""
        raise self._lacking("train by several processes", "ranks")

    def _lacking(self, purpose: str, *members: str) -> BackendError:
        missing = ", ".join(member for member in members if not offers(self, member))
        return BackendError(f"backend {self.name} does not {purpose}: it has no {missing}")


def offers(backend: Backend, member: str) -> bool:
    """Return whether a backend has an optional member of its own."""
    return getattr(type(backend), member) is not getattr(Backend, member)


class Executor(ABC):
    """A runtime for written nets. ``name`` is its name for ``--on``. Without its special ``hardware`` it is silently
    left out unless requested. ``trains``: it can also run a net in training mode. ``target`` is the default target of
    its nets, for programs other than the backend's own."""

    name: str
    hardware: str = ""
    trains: bool = False
    target: str = ""

    def unavailable(self) -> str | None:
        """Return the reason why it cannot be used on this machine; None if it can."""
        return None

    def emulation(self) -> str | None:
        """Return why it is used only on request, as its hardware is emulated; None for real hardware."""
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
    """The base of a backend's typed settings of training."""

    @property
    def max_iter(self) -> int:
        """The number of updates of a run."""

    @property
    def iter_size(self) -> int:
        """The number of batches whose gradients one update accumulates."""


class Ranks(Protocol):
    """``count`` processes that together train one model for this process. They last until ``close``."""

    count: int

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        """Train by the ``parts`` of a run; apart from rounding the weights are those of ``Backend.train``."""

    def close(self) -> None:
        """End the processes."""


class OpenNet(Protocol):
    """A written net that is loaded once for many passes. Shapes are the model's, as it was compiled.

    ``optional`` are inputs that no output depends on: a pass needs no array for them. ``training_inputs`` are inputs of
    the model that only its losses and scores read: the net lacks them. ``states`` of a net of one step have an
    ``input``, the ``output`` that is fed to it at the next step, and the ``initial`` value; for other nets it is None.
    ``delays`` has the number of steps by which each late output is late. ``name`` is for errors.
    """

    name: str
    inputs: Mapping[str, tuple[int, ...]]
    optional: Collection[str]
    training_inputs: Collection[str]
    outputs: Mapping[str, tuple[int, ...]]
    states: Mapping[str, Any] | None
    delays: Mapping[str, int]

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, Array]:
        """Run one forward pass: outputs by name."""

    def close(self) -> None:
        """Release the resources of passes."""


MICROCONTROLLERS = ("stm32", "esp32", "arduino", "cortex-m", "microcontroller", "mcu", "tinyml")
DEFAULT = "caffe"  # the backend if neither a backend nor another backend's target is named
# what a backend's members must be: in words, and as a test
MEMBERS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a text", lambda name: isinstance(name, str)),
    "summary": ("a text", lambda summary: isinstance(summary, str)),
    "targets": (
        "a dict from each target's name to its purpose, the default first",
        lambda targets: isinstance(targets, Mapping) and all(isinstance(name, str) for name in targets),
    ),
    "ops": (
        "a tuple of classes of ops, lstmc.ops.Input among them",
        lambda ops: (
            isinstance(ops, tuple)
            and all(isinstance(op, OpType) for op in ops)
            and any(issubclass(op, Input) for op in ops)
        ),
    ),
}


def find_backends() -> tuple[str, ...]:
    """Return the names of all installed backends, the default one first."""
    return tuple(sorted(entry_points_of(BACKENDS), key=lambda name: (name != DEFAULT, name)))


def find_cells() -> tuple[str, ...]:
    """Return the names of all installed library cells."""
    return tuple(entry_points_of(CELLS))


def load_backend(name: str) -> Backend:
    """Return an installed backend. Raises :class:`PluginError` if it is incomplete, or not in exactly one package."""
    point = only_entry_point(BACKENDS, name, "backend")
    make = load_point(point, "backend")
    try:
        backend = make()
    except Exception as error:  # the class of a package may raise anything
        raise does_not_load(point, "backend", error) from error
    if not isinstance(backend, Backend):
        raise malformed(point, "backend", "a subclass of lstmc.backend.Backend", brief(backend))
    for member, (expected, holds) in MEMBERS.items():
        value = getattr(backend, member, None)
        if not holds(value):
            raise malformed(point, "backend", f"{member} to be {expected}", brief(value))
    return backend


def backend_for(name: str | None, target: str | None = None) -> Backend:
    """Return the backend with a name; without one, the backend that has the target, or else the default backend."""
    if name is not None:
        return load_backend(name)
    default = load_backend(DEFAULT)
    if target is None or target in default.targets:
        return default
    other = _other_with(target, DEFAULT)
    return default if other is None else load_backend(other)


def _other_with(target: str, name: str) -> str | None:
    """Return the name of an installed backend, other than ``name``, that has a target; None if there is none."""
    for other in find_backends():
        with suppress(PluginError):
            if other != name and target in load_backend(other).targets:
                return other
    return None


def load_cell(name: str) -> Cell:
    """Return an installed cell. Raises :class:`PluginError` if the object is no cell, or not in exactly one package."""
    point = only_entry_point(CELLS, name, "cell")
    cell = load_point(point, "cell")
    if not isinstance(cell, Cell):
        raise malformed(point, "cell", "a function made with @cell", repr(cell))
    return cell


def plugin_faults() -> Iterator[Finding]:
    """Load all installed cells, dialects and passes, and yield their faults; each backend reports its own."""
    kinds: tuple[tuple[str, Iterable[str], Callable[[str], object]], ...] = (
        ("cell", find_cells(), load_cell),
        ("dialect", dialects(), load_dialect),
        ("pass", entry_points_of(PASSES), load_placed),
    )
    for kind, names, loaded in kinds:
        for name in names:
            try:
                loaded(name)
            except PluginError as error:
                yield Finding(f"{kind} {name}", False, error.message, faulty=True)


def load_placed(name: str) -> Insertion:
    """Return an installed pass. Raises :class:`PluginError` if it is incomplete, or runs for no target."""
    insertion = load_insertion(name)
    try:
        installed_passes()
    except PluginError:  # another pass is faulty: its own finding names it
        return insertion
    check_place(name, insertion)
    if not any(insertion.step in passes for passes in _pass_lists()):
        raise _misplaced(name, f"none that has it: {insertion.place}")
    return insertion


def check_place(name: str, insertion: Insertion) -> None:
    """Raise :class:`PluginError` for a pass whose neighbour is in no list of any target of the installed backends. If
    the pass is for a backend that cannot be loaded, the lists are unknown, and nothing is raised."""
    if insertion.backend is not None and insertion.backend not in [backend.name for backend in _whole_backends()]:
        return
    anchor, step_names, runs = insertion.anchor, set[str](), set[str]()
    for passes in _pass_lists():
        with suppress(PassError):
            passes.at(anchor)
            return
        step_names |= {step.name for step in passes}
        runs |= {run for step, run in zip(passes, passes.names, strict=True) if step.name == anchor}
    hint = f", which runs several times: name one of {', '.join(sorted(runs))}"
    raise _misplaced(name, f"{insertion.place}{hint if runs else did_you_mean(anchor, step_names)}")


def _misplaced(name: str, actual: str) -> PluginError:
    point = only_entry_point(PASSES, name, "pass")
    return malformed(point, "pass", "a position in the pass list of some target", actual)


def _pass_lists() -> Iterator[PassList]:
    """Yield the passes of each usable target and of its other forms, with the passes of packages."""
    for backend in _whole_backends():
        for target in backend.targets:
            try:
                lists = [backend.passes(target), *backend.forms(target).values()]
            except (BackendError, PluginError):  # a target of a package: its backend's doctor names it
                continue
            yield from (with_installed(PassList(passes), backend.name, target) for passes in lists)


def _whole_backends() -> Iterator[Backend]:
    for name in find_backends():
        with suppress(PluginError):
            yield load_backend(name)


def target_of(backend: Backend, target: str | None) -> str:
    """Return the name of a backend's target, by default the first. Raises PluginError if there is no such target."""
    if target is None:
        return next(iter(backend.targets))
    if target in backend.targets:
        return target
    other = _other_with(target, backend.name)
    if other is None:
        rest = {name: each for each in _whole_backends() if each.name != backend.name for name in each.targets}
        hint, in_c = did_you_mean(target, {**backend.targets, **rest}), Argument("target", "c")
        if target.lower().startswith(MICROCONTROLLERS) or (not hint and did_you_mean(target, MICROCONTROLLERS)):
            hint = f": for a microcontroller write C: {in_c}"
        others = f"; of other backends {', '.join(rest)}" if rest else ""
        hint = hint or f"{nearest_or_all(target, backend.targets)}{others}"
        raise PluginError(f"backend {backend.name} has no target {target}{hint}")
    own, expected = Argument("backend", backend.name), Argument("backend", other)
    raise PluginError(f"{own}: target {target} is one of backend {other}: give {expected}, or the target alone")


Function = TypeVar("Function")


class Lowerings(Generic[Function]):
    """The functions that write ops in the format ``to``: a backend's ``own`` table, and tables of packages in a
    ``group`` of entry points. It iterates over the ops."""

    def __init__(self, own: Mapping[type[Op], Function], group: str, to: str) -> None:
        self._own, self._group, self._to = own, group, to

    @cached_property
    def _table(self) -> Mapping[type[Op], Function]:
        """Return all lowerings. Raises :class:`~lstmc.errors.PluginError` if a package's table does not load."""
        tables, what = dict(self._own), f"{self._to} lowerings"
        for name, points in entry_points_of(self._group).items():
            table: Any = load(self._group, name, what)
            if not isinstance(table, Mapping):
                raise malformed(points[0], what, "a table from ops to functions that write them", repr(table))
            tables.update(table)
        return tables

    def __iter__(self) -> Iterator[type[Op]]:
        return iter(self._table)

    def of(self, op: Op) -> Function:
        """Return the lowering of an op, or of the class that it derives from. Raises :class:`BackendError` for none."""
        for kind in type(op).__mro__:
            if kind in self._table:
                return self._table[kind]
        raise BackendError(
            f"{op.name} has no lowering to {self._to}: a package can bring one by an entry point in {self._group}"
        )
