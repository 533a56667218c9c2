"""Running passes: each one's contract is checked, its result verified, printed and shown to observers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lstmc.errors import LstmcError, PassError
from lstmc.files.output import write_files
from lstmc.ir import Graph, Scan, Stage, print_graph, verify
from lstmc.ops import Op
from lstmc.passes.base import Pass, PassResult
from lstmc.process.status import report_activity

PassObserver = Callable[[Pass, Graph, PassResult], None]


@dataclass(frozen=True)
class Snapshot:
    """A graph as one pass left it (``model`` is the graph before the first)."""

    pass_name: str
    stage: Stage
    graph: Graph
    counts: Mapping[str, int] = field(default_factory=dict)  # how often each of its rules was used
    seconds: float = 0.0


def unrolled_scans(history: Sequence[Snapshot]) -> dict[str, Scan]:
    """The scans that were unrolled, by name, as they were just before."""
    rolled = [snapshot.graph for snapshot in history if snapshot.stage is not Stage.EXPANDED]
    return {node.op.body.name: node.op for graph in rolled[-1:] for node in graph if isinstance(node.op, Scan)}


def run_passes(
    graph: Graph,
    passes: Sequence[Pass],
    legal: Sequence[type[Op]] | None = None,
    dump_dir: Path | None = None,
    observe: PassObserver | None = None,
) -> list[Snapshot]:
    """The graph after every pass, the model itself first.

    After each pass the graph is verified at its stage; ``legal`` are the ops allowed from LEGAL on.
    ``dump_dir`` gets each as ``NN-pass.lir``. Raises :class:`PassError` naming the pass, those before it, and the node
    that it was at; an error that is meant for the user stays what it is, and has them as notes of a traceback.
    :class:`~lstmc.errors.OutputError` where ``dump_dir`` cannot be written.
    """
    stage = Stage.MODEL
    verify(graph, stage)
    history = [Snapshot("model", stage, graph)]
    _dump(dump_dir, 0, history[0], "the model as it was written", len(graph), {})
    for number, step in enumerate(passes, 1):
        report_activity(f"pass {step.name}, {number} of {len(passes)}")
        started = time.perf_counter()
        try:
            step.requires(graph)
            outcome = step.run(graph)
            stage = step.after or stage
            if outcome.modified or step.after is not None:  # else it is the graph verified before
                verify(outcome.graph, stage, None if stage is Stage.MODEL else legal)
            step.ensures(outcome.graph)
        except LstmcError as error:
            before = ", ".join(s.pass_name for s in history[1:]) or "none"
            error.add_note(f"while running pass {step.name}, after: {before}")
            raise
        except Exception as error:
            before = ", ".join(s.pass_name for s in history[1:]) or "none"
            raise PassError(
                f"pass {step.name} failed ({type(error).__name__}: {error}), after: {before}",
                notes=getattr(error, "__notes__", ()),
            ) from error
        if observe is not None:
            observe(step, graph, outcome)
        history.append(Snapshot(step.name, stage, outcome.graph, outcome.counts, time.perf_counter() - started))
        summary = (step.__doc__ or "").strip().partition("\n")[0]
        _dump(dump_dir, number, history[-1], summary, len(graph), outcome.counts)
        graph = outcome.graph
    return history


def _dump(
    folder: Path | None, number: int, snapshot: Snapshot, summary: str, before: int, counts: dict[str, int]
) -> None:
    if folder is None:
        return
    rules = ", ".join(f"{name} {count}" for name, count in counts.items()) or "no rule used"
    header = f"# {snapshot.pass_name}: {summary}\n# nodes: {before} -> {len(snapshot.graph)}; {rules}\n"
    text = header + print_graph(snapshot.graph)
    write_files(folder, {f"{number:02d}-{snapshot.pass_name}.lir": text.encode(errors="backslashreplace")})
