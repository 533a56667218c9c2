"""The interface of passes, lists of passes, and running them.

A pass is a frozen dataclass; a pass without settings may be a function, by :func:`graph_pass` or :func:`node_pass`. It
never changes its input: it returns a new graph, or the same one and ``modified=False``. Its docstring lists its rules,
numbered, as ``before => after``. Packages have passes as entry points of the group ``lstmc.passes``, each an
:class:`Insertion` of a pass into lists.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from importlib.metadata import EntryPoint
from pathlib import Path
from pkgutil import resolve_name
from typing import ClassVar, Self

from lstmc.errors import BackendError, LstmcError, PassError
from lstmc.files.output import write_files
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, Stage, all_nodes, print_graph, print_node, verify
from lstmc.ops import Arg, Input, Op, Param, Role
from lstmc.plugins import entry_points_of, load_point, malformed, only_entry_point
from lstmc.process.status import report_activity
from lstmc.text import did_you_mean

__all__ = ["CheckOps", "FunctionPass", "Insertion", "NodePass", "Pass", "PassList", "PassObserver", "PassResult"]
__all__ += ["Refs", "Snapshot", "compared", "graph_pass", "in_bodies", "installed_passes", "load_insertion"]
__all__ += ["node_pass", "numbered", "place_of", "result", "rewrite", "rewrite_all", "run_passes", "unrolled_scans"]
__all__ += ["with_bodies", "with_installed", "with_role"]

MAX_JOINED = 24  # characters
Refs = tuple[Ref, ...]
Visit = Callable[[Builder, Node, Refs], Refs | None]
Change = Callable[[Graph, Counter[str]], Graph]
CountedVisit = Callable[[Builder, Node, Refs, Counter[str]], Refs | None]


@dataclass(frozen=True)
class PassResult:
    """A pass's graph, whether it differs from the input, and how often each rule was used."""

    graph: Graph
    modified: bool
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass(ABC):
    """One transformation of a graph. ``after`` is the stage to which the pass brings a graph; None keeps the stage.
    ``before_peel`` is true of a pass that changes one body of a scan: the pass ``peel`` gives scans a second body."""

    name: ClassVar[str]
    after: ClassVar[Stage | None] = None
    before_peel: ClassVar[bool] = False

    def requires(self, graph: Graph) -> None:
        """Raise :class:`~lstmc.errors.LstmcError` unless ``graph`` meets the precondition of this pass."""
        for node in graph:
            if self.before_peel and isinstance(node.op, Scan) and node.op.first is not None:
                found = f"expected scans of one body, found %{node.name} with a first step"
                raise PassError(f"{self.name} comes before peel: {found}", loc=node.loc)

    def for_states(self, after: Mapping[str, str]) -> Pass:
        """Return the pass for a one-step net; ``after`` maps each state's input to the output with its next value."""
        return self

    @abstractmethod
    def run(self, graph: Graph) -> PassResult: ...

    @property
    def summary(self) -> str:
        return (self.__doc__ or "").strip().partition("\n")[0]

    def ensures(self, graph: Graph) -> None:  # noqa: B027
        """Raise :class:`~lstmc.errors.LstmcError` unless the result meets the postcondition of this pass."""


@dataclass(frozen=True)
class CheckOps(Pass):
    """Reject losses, scores, and ops for which ``check`` raises; ``nets`` names the nets in errors, as in "ONNX"."""

    nets: str
    check: Callable[[Op], object]
    name = "check_ops"
    after = Stage.LEGAL

    def requires(self, graph: Graph) -> None:
        """Raise :class:`~lstmc.errors.BackendError` at the first node with such an op."""
        for node in all_nodes(graph):
            if node.op.for_training:
                found = f"{node.op.name} is for training, and {self.nets} nets are not trained"
                expected = "expected the model as it is deployed, without losses and scores"
                raise BackendError(f"{found}: {expected}", loc=node.loc)
            if not isinstance(node.op, Scan | Input | Param | Arg):
                try:
                    self.check(node.op)
                except LstmcError as error:
                    raise error.located(node.loc) from None

    def run(self, graph: Graph) -> PassResult:
        return PassResult(graph, False)


@dataclass(frozen=True)
class NodePass(Pass):
    """Base of passes that rewrite node by node, in a model and in the bodies of its scans alike.

    With ``bodies = False`` a pass visits the nodes of the model alone, and so can rewrite scans.
    """

    bodies: ClassVar[bool] = True

    @abstractmethod
    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        """Return the values that replace a node's results, and count the rule used; return None to keep the node."""

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        after = rewrite(graph, lambda b, node, args: self.visit(b, node, args, counts), self.bodies)
        return result(graph, after, counts)


@dataclass(frozen=True)
class FunctionPass(Pass):
    """A pass without settings, with the name and docstring of ``change``, which counts each use of a rule."""

    change: Change
    before_peel: bool = field(default=False, kw_only=True)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.change.__doc__)

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.change.__name__

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        # by name: in its module the name of the function is that of the pass, so pickle does not find the function
        return resolve_name, (f"{self.change.__module__}:{self.change.__qualname__}",)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, self.change(graph, counts), counts)


def graph_pass(*, before_peel: bool = False) -> Callable[[Change], FunctionPass]:
    """Return a decorator that makes a :class:`FunctionPass`."""
    return partial(FunctionPass, before_peel=before_peel)


def node_pass(*, bodies: bool = True, before_peel: bool = False) -> Callable[[CountedVisit], FunctionPass]:
    """Return a decorator that makes a pass of a function like :meth:`NodePass.visit`."""

    def pass_of(visit: CountedVisit) -> FunctionPass:
        @wraps(visit)
        def change(graph: Graph, counts: Counter[str]) -> Graph:
            return rewrite(graph, lambda b, node, args: visit(b, node, args, counts), bodies)

        return FunctionPass(change, before_peel=before_peel)

    return pass_of


def rewrite_all(graph: Graph, visit: Visit, counts: Counter[str]) -> Graph:
    """Return the graph rewritten until ``visit`` counts no further use of a rule."""
    while True:
        before = counts.total()
        rewritten = rewrite(graph, visit)
        if counts.total() == before:
            return graph
        graph = rewritten


def rewrite(graph: Graph, visit: Visit, bodies: bool = False) -> Graph:
    """Rebuild a graph node by node. ``visit`` returns the new values of a node, or None to keep the node. With
    ``bodies`` it visits the nodes inside the bodies of each scan instead of the scan."""
    rebuild = Rebuild(graph)
    for node in graph:
        operands = rebuild.args(node)
        try:
            if bodies and isinstance(node.op, Scan):
                scan = in_bodies(node.op, lambda body: rewrite(body, visit, bodies))
                values = rebuild.builder.copy(node, operands, scan)
            else:
                values = visit(rebuild.builder, node, operands) or rebuild.builder.copy(node, operands)
        except Exception as error:
            note_node(error, graph, node)
            raise
        rebuild.put(node, values)
    return rebuild.finish()


def note_node(error: Exception, graph: Graph, node: Node) -> None:
    """Add a note with the node being rewritten to an error, and the node's location if the error has none."""
    if isinstance(error, LstmcError):
        error.located(node.loc)
    error.add_note(f"at {print_node(graph, node)} of {graph.name}{f', {node.loc}' if node.loc else ''}")


def in_bodies(scan: Scan, change: Callable[[Graph], Graph]) -> Scan:
    """Return the scan with ``change`` applied to its bodies."""
    first = None if scan.first is None else change(scan.first)
    return replace(scan, body=change(scan.body), first=first)


def with_bodies(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """Return the graph with ``change`` applied to the bodies of its scans."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        return b.copy(node, args, in_bodies(node.op, change)) if isinstance(node.op, Scan) else None

    return rewrite(graph, visit)


def with_role(body: Graph, slots: Collection[int], role: Role) -> Graph:
    """Return a scan's body in which the arguments at the indices ``slots`` have the role ``role``."""
    names = {body.body_args()[slot].name for slot in slots}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name not in names:
            return None
        assert isinstance(node.op, Arg)
        return b.add(replace(node.op, role=role), names=node.names, loc=node.loc)

    return rewrite(body, visit) if names else body


def joined_name(names: Sequence[str]) -> str:
    """Return a name for one value that replaces neighbours called ``names``; common first words are written once.
    ``i_f_o`` for i, f and o; ``W_i_f`` for W_i and W_f; ``first_to_last`` if that is long."""
    words = [name.split("_") for name in names]
    common = 0  # the number of common first words, without the last word of each name
    while all(len(name) > common + 1 and name[common] == words[0][common] for name in words):
        common += 1
    together = "_".join([*words[0][:common], *("_".join(name[common:]) for name in words)])
    return together if len(together) <= MAX_JOINED else f"{names[0]}_to_{names[-1]}"


def result(before: Graph, after: Graph, counts: Counter[str]) -> PassResult:
    """Return the outcome of a pass that counts its rules: the graph is modified if a rule was used."""
    used = {rule: count for rule, count in counts.items() if count}
    return PassResult(after if used else before, bool(used), used)


def compared(before: Graph, after: Graph, counts: Counter[str]) -> PassResult:
    """Return the outcome of a pass whose rules may change nothing: the graph is modified if ``after`` differs."""
    return PassResult(before, False) if after == before else PassResult(after, True, dict(counts))


PassObserver = Callable[[Pass, Graph, PassResult], None]


@dataclass(frozen=True)
class Snapshot:
    """A graph as a pass left it (``model`` is the graph before the first pass)."""

    pass_name: str
    stage: Stage
    graph: Graph
    counts: Mapping[str, int] = field(default_factory=dict)  # how often each rule of the pass was used
    seconds: float = 0.0


def unrolled_scans(history: Sequence[Snapshot]) -> dict[str, Scan]:
    """Return the unrolled scans by the names of their bodies, from the last graph before the stage EXPANDED."""
    rolled = [snapshot.graph for snapshot in history if snapshot.stage is not Stage.EXPANDED]
    return {node.op.body.name: node.op for graph in rolled[-1:] for node in graph if isinstance(node.op, Scan)}


def run_passes(
    graph: Graph,
    passes: Sequence[Pass],
    legal: Sequence[type[Op]] | None = None,
    dump_dir: Path | None = None,
    observe: PassObserver | None = None,
) -> list[Snapshot]:
    """Run passes, and return a snapshot of the graph after each, the model itself first. After each pass the graph is
    verified at its stage; ``legal`` are the ops allowed from LEGAL on. ``dump_dir`` gets each graph as ``NN-pass.lir``.
    Raises the :class:`~lstmc.errors.LstmcError` of a pass, with a note on this pass and those before;
    :class:`PassError` for any other error; :class:`~lstmc.errors.OutputError` if ``dump_dir`` cannot be written."""
    stage = Stage.MODEL
    verify(graph, stage)
    history = [Snapshot("model", stage, graph)]
    _dump(dump_dir, 0, history[0], "the model as it was written", len(graph))
    for number, step in enumerate(passes, 1):
        report_activity(f"pass {step.name}, {number} of {len(passes)}")
        started = time.perf_counter()
        try:
            step.requires(graph)
            outcome = step.run(graph)
            stage = step.after or stage
            if outcome.modified or step.after is not None:  # otherwise the graph was verified already
                verify(outcome.graph, stage, None if stage is Stage.MODEL else legal)
            step.ensures(outcome.graph)
        except Exception as error:
            before = ", ".join(s.pass_name for s in history[1:]) or "none"
            if isinstance(error, LstmcError):
                error.add_note(f"while running pass {step.name}, after: {before}")
                raise
            failure = f"pass {step.name} failed ({type(error).__name__}: {error}), after: {before}"
            raise PassError(failure, notes=getattr(error, "__notes__", ())) from error
        if observe is not None:
            observe(step, graph, outcome)
        history.append(Snapshot(step.name, stage, outcome.graph, outcome.counts, time.perf_counter() - started))
        _dump(dump_dir, number, history[-1], step.summary, len(graph))
        graph = outcome.graph
    return history


def _dump(folder: Path | None, number: int, snapshot: Snapshot, summary: str, old_nodes: int) -> None:
    """Write a graph, headed by its pass and the rules used, as ``NN-pass.lir`` to a folder, if there is one."""
    if folder is not None:
        rules = ", ".join(f"{name} {count}" for name, count in snapshot.counts.items()) or "no rule used"
        header = f"# {snapshot.pass_name}: {summary}\n# nodes: {old_nodes} -> {len(snapshot.graph)}; {rules}\n"
        text = (header + print_graph(snapshot.graph)).encode(errors="backslashreplace")
        write_files(folder, {f"{number:02d}-{snapshot.pass_name}.lir": text})


def numbered(names: Sequence[str]) -> list[str]:
    """Return the names of passes in order, with the runs of a repeated pass numbered: ``cse:1``, ``cse:2``."""
    counts, seen = Counter(names), Counter[str]()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(f"{name}:{seen[name]}" if counts[name] > 1 else name)
    return labels


def place_of(names: Sequence[str], name_or_run: str) -> int:
    """Return the index of a pass: ``cse:2`` is the second run, ``cse`` the last. Raises :class:`PassError` for none."""
    runs = [i for i, name in enumerate(names) if name == name_or_run]
    if runs:
        return runs[-1]
    each = numbered(names)
    for name in (name_or_run, name_or_run.removesuffix(":1")):  # also the first run of a pass that runs once
        if name in each:
            return each.index(name)
    near = did_you_mean(name_or_run, names) or f": found {', '.join(each) or 'none'}"
    raise PassError(f"there is no pass {name_or_run}{near}")


class PassList(list[Pass]):
    """The passes that a model goes through, in order. It is a list, with places found by name. Run 2 of a repeated pass
    is ``cse:2``; for a pass that runs once its name is enough. The methods that change the list return it."""

    @property
    def names(self) -> list[str]:
        """The names of the passes, numbered if repeated: ``["simplify:1", "hoist", ...]``."""
        return numbered([step.name for step in self])

    def at(self, name: str) -> int:
        """Return the index of the pass called ``name``. Raises :class:`PassError` if none or several have the name."""
        runs = [i for i, step in enumerate(self) if step.name == name]
        if len(runs) > 1:
            listed = ", ".join(self.names[i] for i in runs)
            raise PassError(f"{name} runs {len(runs)} times: name one of {listed}")
        return place_of([step.name for step in self], name)

    def last(self, name: str) -> int:
        """Return the index of the last run of a pass. Raises :class:`PassError` if it does not run."""
        return place_of([step.name for step in self], name)

    def insert_before(self, name: str, *passes: Pass) -> Self:
        """Put passes before the pass called ``name``."""
        place = self.at(name)
        self[place:place] = passes
        return self

    def insert_after(self, name: str, *passes: Pass) -> Self:
        """Put passes after the pass called ``name``."""
        place = self.at(name) + 1
        self[place:place] = passes
        return self

    def replace(self, name: str, *passes: Pass) -> Self:
        """Put passes in place of the pass called ``name``; without ``passes`` the named pass is removed."""
        place = self.at(name)
        self[place : place + 1] = passes
        return self

    def upto(self, index: int) -> Self:
        """Return the passes up to an index, that pass included."""
        return type(self)(self[: index + 1])

    def stage_after(self, index: int) -> Stage:
        """Return the stage of the graph after the pass at an index; for -1, the stage of the model as written."""
        reached = [step.after for step in self[: index + 1] if step.after is not None]
        return reached[-1] if reached else Stage.MODEL

    def end_of(self, stage: Stage) -> int:
        """Return the index of the last pass after which the graph is at a stage; -1 if only the model before all passes
        is at this stage. Raises :class:`PassError` if no pass brings a graph to the stage."""
        last_index = {self.stage_after(index): index for index in range(-1, len(self))}
        if stage not in last_index:
            found = ", ".join(reached.value for reached in last_index)
            raise PassError(f"no pass brings a graph to stage {stage.value}: found {found}")
        return last_index[stage]


PASSES = "lstmc.passes"


@dataclass(frozen=True)
class Insertion:
    """A pass to insert into each list that has the pass called ``before`` or ``after`` (``cse:2``), beside that pass.
    ``backend`` and ``targets`` restrict the insertion to a backend and to targets."""

    step: Pass
    before: str | None = None
    after: str | None = None
    backend: str | None = None
    targets: Collection[str] | None = None

    @property
    def place(self) -> str:
        """Return where the pass runs, for listings: ``after sink, backend caffe, target flat``."""
        where = [f"after {self.after}" if self.before is None else f"before {self.before}"]
        where += [] if self.backend is None else [f"backend {self.backend}"]
        where += [] if self.targets is None else [f"target {' or '.join(self.targets)}"]
        return ", ".join(where)

    @property
    def anchor(self) -> str:
        name = self.after if self.before is None else self.before
        assert name is not None
        return name

    def put_into(self, passes: PassList, backend: str | None, target: str | None) -> bool:
        """Insert the pass into a list, and return whether the list has the anchor and the insertion is for this net."""
        applies = self.backend in (None, backend) and (self.targets is None or target in self.targets)
        if applies:
            try:
                passes.insert(passes.at(self.anchor) + (self.before is None), self.step)
            except PassError:
                return False
        return applies


def installed_passes() -> dict[str, Insertion]:
    """Return the passes of all packages by name. Raises :class:`~lstmc.errors.PluginError` for a malformed pass. A
    broken pass is not skipped: the net would silently be another net."""
    return {name: load_insertion(name) for name in entry_points_of(PASSES)}


def load_insertion(name: str) -> Insertion:
    """Return the installed pass called ``name``. Raises :class:`~lstmc.errors.PluginError` for none or a faulty one."""
    point = only_entry_point(PASSES, name, "pass")
    insertion = load_point(point, "pass")
    for expected, actual in _problems(insertion, point):
        raise malformed(point, "pass", expected, actual)
    assert isinstance(insertion, Insertion)
    return insertion


def _problems(insertion: object, point: EntryPoint) -> Iterator[tuple[str, str]]:
    """Yield each fault of an entry point's object as a pair: what was expected, and what was found."""
    if not isinstance(insertion, Insertion):
        yield 'a lstmc.passes.Insertion, as in Insertion(MyPass(), after="sink")', repr(insertion)
        return
    step = insertion.step
    if not isinstance(step, Pass):
        yield "an Insertion of a Pass", f"one of {step!r}"
    elif step.name != point.name:
        yield f'a pass whose name is that of the entry point, name = "{point.name}"', repr(step.name)
    elif step.after is not None:
        yield "a pass that keeps the stage of the graph", f"one that brings it to {step.after.value}"
    if (insertion.before is None) == (insertion.after is None):
        yield "one of before= and after=", "both" if insertion.before else "neither"
    if isinstance(insertion.targets, str):
        yield "targets as a tuple of names", repr(insertion.targets)


def with_installed(passes: PassList, backend: str | None, target: str | None) -> PassList:
    """Return the list with the passes of packages in it; passes at the same place are sorted by name. Insertion is
    repeated until nothing is added: a pass may stand beside a pass of another package."""
    waiting = dict(sorted(installed_passes().items()))
    while True:
        before = [name for name, each in waiting.items() if each.before is not None]
        after = [name for name, each in waiting.items() if each.before is None]
        placed = [name for name in (*before, *reversed(after)) if waiting[name].put_into(passes, backend, target)]
        if not placed:
            return passes
        for name in placed:
            del waiting[name]
