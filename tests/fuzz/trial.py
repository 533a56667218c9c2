"""A random model compiled and run in real Caffe, and held against its meaning, forward and backward.

The property tests and ``make fuzz`` judge by this one function.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lstmc.backend import Artifact, Backend, Compiled, Execution, Executor, RunArrays, training_targets
from lstmc.differential import Difference, InterpreterExecutor, Report, check, wanted_gradients
from lstmc.errors import BackendError
from lstmc.interp import named_rng
from lstmc.ir import Graph
from lstmc.ops import Array, Input
from lstmc.pipeline import compile_graph
from lstmc.testing.random_models import RandomModel
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import CaffeError, Runner

BACKEND = CaffeBackend()
SAMPLES = 5  # runs in float32 from which its rounding is known
MARGIN = 4  # Caffe may be off by so many times the largest of them


@dataclass(frozen=True)
class Trial:
    """What became of one model for one target.

    "rounding" is agreement too: past a tolerance, but not further than float32 goes by itself. ``why`` is the reason
    of a refusal without the model's own names and numbers, or the whole text of a failure.
    """

    outcome: Literal["agrees", "rounding", "refused", "failed"]
    why: str = ""

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
        keeping = Keeping(executor)
        report = check(compiled, artifact, weights, keeping, seed)
        if report.passed:
            return not_compared(backend, compiled, report, weights) or Trial("agrees")
        wrong = past_rounding(report, compiled, artifact, weights, seed, keeping.drawn)
        return Trial("failed", "\n".join(map(str, wrong))) if wrong else Trial("rounding")
    except Exception:
        return Trial("failed", traceback.format_exc())


def generic(message: str) -> str:
    """A message without what is this model's own: names and numbers."""
    message = re.sub(r"\[[\d, ]*\]", "[...]", message.splitlines()[0])
    message = re.sub(r"%?[\w.]*[/%][\w./]*|'[^']*'|\b\w*\d\w*\b", "_", message)
    return re.sub(r"_(, _)+", "_", re.sub(r"\bscan \w+", "scan _", message))


def not_compared(backend: Backend, compiled: Compiled, report: Report, weights: Mapping[str, Array]) -> Trial | None:
    """A failure where something that was wanted is not in the report: only targets that train have all gradients."""
    wanted = {("output", o.name) for o in compiled.model.outputs}
    if compiled.target in training_targets(backend):
        wanted |= {("gradient", name) for name in weights}
        outputs = (o.name for o in compiled.model.outputs)
        wanted |= {("gradient", name) for name in wanted_gradients(compiled, outputs)}
    missing = wanted - {(difference.kind, difference.name) for difference in report.differences}
    return Trial("failed", f"not compared: {sorted(missing)}") if missing else None


def past_rounding(
    report: Report,
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
    seed: int,
    drawn: Mapping[str, Array],
) -> list[Difference]:
    """The differences past their tolerance that float32 does not explain.

    A random model may cancel or grow so much that float32 itself misses the tolerance. How much it misses is measured,
    array by array: the same graph in NumPy's float32, on inputs (``drawn`` are those that the net drew) and parameters
    that are each rounded up or down at random. What remains is wrong. Where the graph means another thing in float64
    already, rounding explains nothing.
    """
    missed: dict[tuple[str, str], float] = {}
    if check(compiled, artifact, weights, Exact(drawn), seed).passed:
        for sample in range(SAMPLES):
            for one in check(compiled, artifact, weights, Rounding(drawn, sample), seed).differences:
                missed[one.kind, one.name] = max(missed.get((one.kind, one.name), 0.0), one.relative)
    wrong = [one for one in report.differences if not one.passed]
    return [
        replace(one, tolerance=allowed)
        for one in wrong
        if not one.relative <= (allowed := max(one.tolerance, MARGIN * missed.get((one.kind, one.name), 0.0)))
    ]


class Keeping:
    """An executor; ``drawn`` has the inputs that the last net filled itself."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.name = executor, executor.name
        self.drawn: Mapping[str, Array] = {}

    def unavailable(self) -> str | None:
        return self.executor.unavailable()

    def close(self) -> None:
        self.executor.close()

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        execution = self.executor.run(compiled, artifact, arrays)
        names = {node.name for node in compiled.model if isinstance(node.op, Input)} - set(arrays.inputs)
        self.drawn = {name: execution.values[name] for name in names}
        return execution


class Exact(InterpreterExecutor):
    """The written graph in float64."""

    dtype = np.float64

    def __init__(self, drawn: Mapping[str, Array]) -> None:
        self.drawn = drawn

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        return super().run(compiled, artifact, replace(arrays, inputs={**arrays.inputs, **self.drawn}))


class Rounding(Exact):
    """float32, from numbers that are each moved at random by as much as it rounds them."""

    name = "float32"
    dtype = np.float32

    def __init__(self, drawn: Mapping[str, Array], sample: int) -> None:
        super().__init__(drawn)
        self.sample = sample

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        groups = (arrays.inputs, arrays.weights, arrays.cotangents)
        off = ({name: moved(self.sample, name, array) for name, array in group.items()} for group in groups)
        return super().run(compiled, artifact, RunArrays(*off))


def moved(sample: int, name: str, array: Array) -> Array:
    """Numbers that are each moved at random by as much as float32 rounds them; whole ones stay."""
    array = np.asarray(array, np.float64)
    step = named_rng(sample, name).uniform(-1, 1, array.shape) * np.finfo(np.float32).eps
    return np.where(array == np.rint(array), array, array * (1 + step))
