"""A random model compiled and run in real Caffe, and held against its meaning, forward and backward.

The property tests and ``make fuzz`` judge by this one function.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lstmc.backend import Backend, Compiled, Executor
from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check, wanted_gradients
from lstmc.verification.report import Report
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.processes.process import CaffeError
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.random_models.models import RandomModel

BACKEND = CaffeBackend()


@dataclass(frozen=True)
class Trial:
    """What became of one model for one target.

    "rounding" is agreement too: past a tolerance, but not further than float32 takes the model itself. ``why`` is the
    reason of a refusal without the model's own names and numbers, or the whole text of a failure. ``rules`` are
    those of passes that were used.
    """

    outcome: Literal["agrees", "rounding", "refused", "failed"]
    why: str = ""
    rules: frozenset[str] = frozenset()

    @property
    def passed(self) -> bool:
        return self.outcome in ("agrees", "rounding")


def try_model(model: RandomModel, target: str, runner: Runner) -> Trial:
    """A model in real Caffe. It never raises: whatever is raised is a failure, except a refusal by the target."""
    try:
        return try_graph(model.graph(), model.seed, BACKEND, target, CaffeExecutor(runner, "cpu"))
    except Exception:
        return Trial("failed", traceback.format_exc())


def try_graph(
    graph: Graph, seed: int, backend: Backend, target: str, executor: Executor, form: str | None = None
) -> Trial:
    """Compile, write and run a model of any backend. It never raises, as :func:`try_model`."""
    try:
        weights = initial_weights(graph, seed)
        try:
            compiled = compile_graph(graph, backend, target, form=form)
            artifact = backend.emit(compiled, weights)
        except CaffeError:
            raise
        except BackendError as error:
            return Trial("refused", generic(error.message))
        report = check(compiled, artifact, weights, executor, seed)
        if report.passed:
            rules = frozenset(rule for snapshot in compiled.history for rule in snapshot.counts)
            outcome = Trial("rounding" if report.rounding else "agrees", rules=rules)
            return not_compared(backend, compiled, report, weights) or outcome
        return Trial("failed", "\n".join(str(one) for one in report.differences if not one.passed))
    except Exception:
        return Trial("failed", traceback.format_exc())


def generic(message: str) -> str:
    """A message without what is this model's own: names and numbers."""
    message = re.sub(r"\[[\d, ]*\]", "[...]", message.splitlines()[0])
    message = re.sub(r"%?[\w.]*[/%][\w./]*|'[^']*'|\b\w*\d\w*\b", "_", message)
    return re.sub(r"_(, _)+", "_", re.sub(r"\bscan \w+", "scan _", message))


def save_model(model: RandomModel, path: Path, wrong: str, command: str, options: str, why: str) -> Path:
    """Save a model as a file that begins with what is wrong, the command that shows it, and why.

    The text is the drawn one: ``print_python`` would have numbers for T and N, and none for a model that is not traced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    command = f"{command} {path} -D T={model.T} -D N={model.N} --seed {model.seed} {options}"
    lines = "".join(f"#   {line}".rstrip() + "\n" for line in why.splitlines()[:40])
    path.write_text(f"# {wrong}. To see it:\n#   {command}\n{lines}\n{model.source}", encoding="utf-8")
    return path


def not_compared(backend: Backend, compiled: Compiled, report: Report, weights: Mapping[str, Array]) -> Trial | None:
    """A failure where something that was wanted is not in the report: only targets that train have all gradients."""
    wanted = {("output", o.name) for o in compiled.model.outputs}
    if compiled.target in backend.training_targets:
        wanted |= {("gradient", name) for name in weights}
        outputs = (o.name for o in compiled.model.outputs)
        wanted |= {("gradient", name) for name in wanted_gradients(compiled, outputs)}
    missing = wanted - {(difference.kind, difference.name) for difference in report.differences}
    return Trial("failed", f"not compared: {sorted(missing)}") if missing else None
