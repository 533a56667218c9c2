"""``python -m tests.on_demand.fuzz.readers --models 200 opencv mnn flat onnx``: random models in readers of nets.

A model is compiled for a reader's own target; ``flat`` and ``noslice`` run in Caffe, ``onnx`` in ONNX Runtime. What
became of each net is a line of ``out/readers/NAME.jsonl``: the next run goes on from there, and tries failures again.
A net that a program refuses or computes wrongly is saved there, made smaller, with the command that shows it; the
counts go to ``docs/readers/found``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from lstmc.backend import Backend, Executor, load_backend
from lstmc.errors import BackendError, LstmcError, PassError
from lstmc.ir import Graph, Scan
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.verification.differential import check_scales
from lstmc.verification.report import NOT_FINITE
from lstmc.verification.report import Report as Comparison
from lstmc.weights import initial_weights
from lstmc_caffe.install.report import Report
from lstmc_caffe.processes.process import CaffeError
from lstmc_caffe.readers.executor import ReaderExecutor, ReaderSession, make
from lstmc_caffe.readers.known import load_reader, reader_names
from tests.on_demand.fuzz.smaller import smaller
from tests.on_demand.fuzz.streams import NO_STEP, streamed
from tests.on_demand.fuzz.trial import generic, save_model
from tests.random_models.models import RandomModel, seeded_model
from tools.readers.found import Found, known
from tools.readers.grid import digest
from tools.readers.table import write_table

FAILED = ("wrong", "refused")
OUTCOMES = ("right", "rounding", *FAILED, "not written", "not judged")


@dataclass(frozen=True)
class Runtime:
    """What nets of a target run in; ``programs`` are files that change what is computed, besides the net."""

    name: str
    title: str
    target: str
    version: str
    backend: Backend
    executor: Executor
    programs: tuple[Path, ...] = ()


def runtime(name: str) -> Runtime:
    """Return what a name of the command stands for, installed if it is a reader.

    Raises :class:`LstmcError` where it cannot be had.
    """
    if name in reader_names():
        reader = load_reader(name)
        make(reader, Report.on_standard_error())
        with ReaderSession(reader) as session:
            version = session.version()
        programs = tuple(program.file for program in reader.programs)
        backend = load_backend("caffe")
        return Runtime(name, reader.title, reader.target, version, backend, ReaderExecutor(reader), programs)
    backend = load_backend("onnx" if name == "onnx" else "caffe")
    executor = backend.executors()[0]
    if missing := executor.unavailable():
        raise BackendError(missing)
    return Runtime(name, executor.name, name, executor.name, backend, executor)


@dataclass(frozen=True)
class Trial:
    """What became of one net in a program: one of OUTCOMES, and why; a digest of what was run, and the model's ops."""

    outcome: str
    why: str = ""
    files: str = ""
    ops: tuple[str, ...] = ()


def try_net(model: RandomModel, step: bool, runtime: Runtime, before: Trial | None = None) -> Trial:
    """Return the outcome of a net, which is that of ``before`` if the same files were right. It never raises.

    "rounding" is past the tolerance, but no further than float32, or the program's float16, takes the model itself.
    """
    try:
        try:
            graph = streamed(_deployed(model)) if step else _deployed(model)
            weights = initial_weights(graph, model.seed)
            compiled = compile_graph(graph, runtime.backend, runtime.target, step=step)
            artifact = runtime.backend.emit(compiled, weights)
        except CaffeError:
            raise
        except (BackendError, PassError) as error:
            if isinstance(error, PassError) and not any(words in error.message for words in NO_STEP):
                raise
            return Trial("not written", generic(error.message))
        files, ops = digest(artifact, runtime.programs), tuple(sorted(_ops(compiled.model)))
        if before is not None and before.files == files and before.outcome not in FAILED:
            return before
        try:
            report = check_scales(compiled, artifact, weights, runtime.executor, model.seed)
        except BackendError as error:
            return Trial("refused", "\n".join((error.message, *error.notes)), files, ops)
        return Trial(*_judged(report), files, ops)
    except Exception:
        return Trial("wrong", traceback.format_exc())


@lru_cache(maxsize=2)
def _deployed(model: RandomModel) -> Graph:
    return deploy_graph(model.graph())


def _ops(graph: Graph) -> set[str]:
    """The names of the ops of a graph and of its loops."""
    inside = (_ops(body) for node in graph if isinstance(node.op, Scan) for body in node.op.bodies)
    return {type(node.op).__name__ for node in graph}.union(*inside)


def _judged(report: Comparison) -> tuple[str, str]:
    if any(remark.startswith(NOT_FINITE) for remark in report.remarks):
        return "not judged", report.remarks[0]
    if report.passed:
        return ("rounding" if report.rounding else "right"), ""
    return "wrong", "\n".join(str(one) for one in report.differences if not one.passed)


class Journal(dict[tuple[int, bool], Trial]):
    """What became of each net, by its seed and whether it is one step, kept in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            seed, step, trial = json.loads(line)
            self[seed, step] = Trial(**{**trial, "ops": tuple(trial["ops"])})

    def keep(self, seed: int, step: bool, trial: Trial) -> None:
        self[seed, step] = trial
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([seed, step, asdict(trial)]) + "\n")

    def counts(self) -> dict[str, int]:
        """How many nets had each outcome."""
        counts = Counter(trial.outcome for trial in self.values())
        return {outcome: counts[outcome] for outcome in OUTCOMES}

    def __str__(self) -> str:
        """The counts, why nets were not written, and how many of the others contain each op."""
        lines = [", ".join(f"{count} {outcome}" for outcome, count in self.counts().items())]
        reasons = Counter(trial.why for trial in self.values() if trial.outcome == "not written")
        lines += [f"not written {count} times: {why}" for why, count in reasons.most_common(12)]
        ops = Counter(op for trial in self.values() for op in trial.ops)
        lines.append(f"ops: {', '.join(f'{op} {count}' for op, count in ops.most_common())}")
        return "\n".join(lines)


def hunt(runtime: Runtime, seeds: Iterable[int], journal: Journal, until: float, again: bool = False) -> None:
    """Try the nets of seeds that are not in the journal, or failed there, until the time is over; with ``again`` also
    those whose files have changed.
    """
    for seed in seeds:
        if time.monotonic() > until:
            break
        model = seeded_model(seed, wide=True)
        for step in (False, True):
            before = journal.get((seed, step))
            if before is not None and before.outcome not in FAILED and not again:
                continue
            trial = try_net(model, step, runtime, before)
            if trial != before:
                journal.keep(seed, step, trial)
            if trial.outcome in FAILED:
                path = save_failure(model, step, runtime, trial, journal.path.parent / f"{runtime.name}_{seed}.py")
                print(f"{runtime.name}: seed {seed}{' --step' if step else ''}: {trial.outcome}: {path}", flush=True)


def save_failure(model: RandomModel, step: bool, runtime: Runtime, trial: Trial, path: Path) -> Path:
    """Save a model, made smaller, as a file that says what was wrong and by which command to see it."""

    def fails(candidate: RandomModel) -> bool:
        other = try_net(candidate, step, runtime)
        return other.outcome == trial.outcome and other.why[:9] == trial.why[:9]  # no traceback for a wrong number

    small = smaller(model, fails)
    options = f"--fillers --target {runtime.target} --on {runtime.executor.name}"
    if step:
        options += " --step"
        with suppress(Exception):  # what was wrong may be this; an output without a step would be refused
            options += "".join(f" --keep {output.name}" for output in streamed(_deployed(small)).outputs)
    path = path.with_name(f"{path.stem}_step.py" if step else path.name)
    wrong = f"{runtime.title}: {trial.outcome}"
    return save_model(small, path, wrong, "lstmc verify", options, try_net(small, step, runtime).why)


def run(name: str, seeds: Iterable[int], out: Path, minutes: float, again: bool) -> bool:
    """Try random models in one program and keep the counts. Return whether none failed."""
    try:
        program = runtime(name)
    except LstmcError as error:
        print(f"{name}: not run: {error.message}", flush=True)
        return True
    journal = Journal(out / f"{name}.jsonl")
    with closing(program.executor):
        hunt(program, seeds, journal, time.monotonic() + 60 * minutes, again)
    print(f"{name}: {journal}".replace("\n", f"\n{name}: "), flush=True)
    found = known(name) or Found(program.title, program.target, program.version)
    found.random = journal.counts()
    found.keep(name)
    write_table()
    return not any(found.random[outcome] for outcome in FAILED)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.fuzz.readers", description=__doc__)
    parser.add_argument("name", nargs="*", help="readers, flat, noslice, caffe, onnx; all readers without")
    parser.add_argument("--models", type=int, default=200, help="for each (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first model (default: 0)")
    parser.add_argument("--minutes", type=float, default=30.0, help="for each at the most")
    parser.add_argument("--again", action="store_true", help="also nets that are other files now")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/readers"), help="where outcomes and failures go")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.models)
    names = given.name or reader_names()
    right = [run(name, seeds, given.out, given.minutes, given.again) for name in names]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
