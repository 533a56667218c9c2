"""``python -m tests.fuzz.readers --models 200 opencv mnn``: random models in other programs, whole and one step.

Each model is compiled for the reader's own target. What a reader refuses or computes wrongly is saved in
``out/readers``, with the command that shows it; the counts go to ``docs/readers/found``.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lstmc.errors import BackendError, LstmcError, PassError
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.testing.random_models import RandomModel, seeded_model
from lstmc.verification.differential import check
from lstmc.verification.report import NOT_FINITE
from lstmc.weights import initial_weights
from lstmc_caffe.install.report import Report
from lstmc_caffe.readers.executor import ReaderError, ReaderExecutor, ReaderSession, make
from lstmc_caffe.readers.known import Reader, load_reader, reader_names
from tests.fuzz.streams import NO_STEP, streamed
from tests.fuzz.trial import BACKEND, generic
from tools.readers.found import Found, known
from tools.readers.table import write_table

FAILED = ("wrong", "refused")
OUTCOMES = ("right", "rounding", *FAILED, "not written", "not judged")


@dataclass(frozen=True)
class Outcome:
    """What became of one net in a reader: one of OUTCOMES, with the reason of a refusal or the text of a failure."""

    outcome: str
    why: str = ""


def try_in_reader(model: RandomModel, step: bool, reader: Reader, executor: ReaderExecutor) -> Outcome:
    """Return the outcome of a model in a reader, one of OUTCOMES. It never raises.

    "rounding" is past the tolerance, but no further than float32, or the reader's float16, takes the model itself.
    """
    try:
        try:
            graph = deploy_graph(model.graph())
            graph = streamed(graph) if step else graph
            weights = initial_weights(graph, model.seed)
            compiled = compile_graph(graph, BACKEND, reader.target, step=step)
            artifact = BACKEND.emit(compiled, weights)
        except (BackendError, PassError) as error:
            if isinstance(error, PassError) and not any(words in error.message for words in NO_STEP):
                raise
            return Outcome("not written", generic(error.message))
        try:
            report = check(compiled, artifact, weights, executor, model.seed)
        except ReaderError as error:
            return Outcome("refused", "\n".join((error.message, *error.notes)))
        return _judged(report)
    except Exception:
        return Outcome("wrong", traceback.format_exc())


def _judged(report: Report) -> Outcome:
    if any(remark.startswith(NOT_FINITE) for remark in report.remarks):
        return Outcome("not judged", report.remarks[0])
    if report.passed:
        return Outcome("rounding" if report.rounding else "right")
    return Outcome("wrong", "\n".join(str(one) for one in report.differences if not one.passed))


def hunt(reader: Reader, executor: ReaderExecutor, seeds: Iterable[int], out: Path, until: float) -> Counter[str]:
    """Try the models of seeds until the time is over; the outcomes, and each failure saved as a file."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for seed in seeds:
        if time.monotonic() > until:
            break
        model = seeded_model(seed, wide=True)
        for step in (False, True):
            trial = try_in_reader(model, step, reader, executor)
            counts[trial.outcome] += 1
            if trial.outcome == "not written":
                reasons[trial.why] += 1
            if trial.outcome in FAILED:
                path = save(model, reader, trial, step, out / f"{reader.name.replace('-', '_')}_{seed}.py")
                print(f"{reader.name}: seed {seed}{' --step' if step else ''}: {trial.outcome}: {path}", flush=True)
    for why, count in reasons.most_common(12):
        print(f"{reader.name}: not written {count} times: {why}", flush=True)
    return counts


def save(model: RandomModel, reader: Reader, trial: Outcome, step: bool, path: Path) -> Path:
    """The model as a file, which begins with what was wrong and the command that shows it."""
    path = path.with_stem(f"{path.stem}_step") if step else path
    path.parent.mkdir(parents=True, exist_ok=True)
    more = " --step" if step else ""
    command = (
        f"lstmc verify {path} -D T={model.T} -D N={model.N} --seed {model.seed} --fillers --on {reader.name}{more}"
    )
    said = "".join(f"#   {line}".rstrip() + "\n" for line in trial.why.splitlines()[:40])
    path.write_text(f"# {reader.title}: {trial.outcome}. To see it:\n#   {command}\n{said}\n{model.source}")
    return path


def run_reader(name: str, seeds: Iterable[int], out: Path, minutes: float) -> bool:
    """Try random models in one reader and keep the counts. Return whether none failed."""
    reader = load_reader(name)
    try:
        make(reader, Report.on_standard_error())
        with ReaderSession(reader) as session:
            version = session.version()
    except LstmcError as error:
        print(f"{name}: not run: {error.message}", flush=True)
        return True
    executor = ReaderExecutor(reader)
    try:
        counts = hunt(reader, executor, seeds, out, time.monotonic() + 60 * minutes)
    finally:
        executor.close()
    print(f"{name}: {', '.join(f'{counts[outcome]} {outcome}' for outcome in OUTCOMES)}", flush=True)
    found = known(name) or Found(reader.title, reader.target, version)
    found.random = {outcome: counts[outcome] for outcome in OUTCOMES}
    found.keep(name)
    write_table()
    return not any(counts[outcome] for outcome in FAILED)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.readers", description=__doc__)
    parser.add_argument("reader", nargs="*", help="those to run; all without")
    parser.add_argument("--models", type=int, default=200, help="for each reader (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first model (default: 0)")
    parser.add_argument("--minutes", type=float, default=30.0, help="for each reader at the most")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/readers"), help="where failures go")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.models)
    right = [run_reader(name, seeds, given.out, given.minutes) for name in given.reader or reader_names()]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
