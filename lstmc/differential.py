"""The differential check: a written net against the meaning of the model it was made from.

Every output, every blob and every gradient that an executor reads back is compared with the float64 interpreter; what
it does not give is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmc.backend import Artifact, Compiled, Execution, Executor
from lstmc.interp import Evaluation, Gradients, backward, forward, named_rng
from lstmc.ir import Graph, Ref, Scan, differentiable_inputs, differentiable_outputs, is_weight
from lstmc.ops import Array, Constant, Input, Reshape, Split
from lstmc.passes import step_pattern, unrolled_scans

VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
# Differences are relative to the largest magnitude in the blob, but never to less than this: where large terms
# cancel to almost nothing, float32 leaves the rounding of those terms, not of what is left.
SCALE_FLOOR = 0.1


@dataclass(frozen=True)
class Difference:
    """How far one kind of array is off: ``kind`` is output, blob, gradient; ``name`` has ``*`` for every step."""

    kind: str
    name: str
    count: int
    absolute: float
    relative: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.relative <= self.tolerance  # NaN does not pass


@dataclass(frozen=True)
class NotCompared:
    """What an executor could not give, and why: ``count`` arrays under one name, which has ``*`` for every step."""

    kind: str
    name: str
    count: int
    reason: str


@dataclass(frozen=True)
class Report:
    """One executor's differences, and what it gave nothing for."""

    executor: str
    differences: tuple[Difference, ...]
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all that was compared agrees."""
        return all(difference.passed for difference in self.differences)

    def verdict(self) -> str:
        """One line: how many agree, and how many were not compared for which reason."""
        count, failed = len(self.differences), sum(not difference.passed for difference in self.differences)
        said = f"{failed} of {count} differ" if failed else f"all {count} agree"
        if not self.not_compared:
            return said
        groups: dict[tuple[str, str], int] = {}
        for gap in self.not_compared:
            groups[gap.kind, gap.reason] = groups.get((gap.kind, gap.reason), 0) + 1
        listed = (f"{n} {kind}{'s' if n > 1 else ''} ({reason})" for (kind, reason), n in groups.items())
        return f"{said}; not compared: {', '.join(listed)}"


class InterpreterExecutor:
    """The compiled graph itself, run by the interpreter, in float32 as a net is: no Caffe is needed."""

    name = "interpreter"
    dtype: DTypeLike = np.float32

    def unavailable(self) -> str | None:
        return None

    def run(
        self,
        compiled: Compiled,
        artifact: Artifact,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        cotangents: Mapping[str, Array],
    ) -> Execution:
        done = forward(compiled.expanded, inputs, weights, self.dtype)
        found = backward(done, cotangents)
        return Execution(done.by_name(), found.inputs, found.params)

    def close(self) -> None:
        pass


def random_inputs(compiled: Compiled, seed: int) -> dict[str, Array]:
    """What every input that is to be fed may hold, and the values of constant ones; float64.

    Standard normal numbers, or such as the input's ``values`` say.
    """
    found: dict[str, Array] = {}
    for node in compiled.model:
        if isinstance(node.op, Input):
            rng = named_rng(seed, node.name)
            if node.op.fill is None and node.op.values is not None:
                found[node.name] = node.op.values.draw(rng, node.op.shape)
            elif node.op.fill is None:
                found[node.name] = rng.normal(size=node.op.shape).astype(np.float32).astype(np.float64)
            elif isinstance(node.op.fill, Constant):
                found[node.name] = node.op.fill.draw(rng, node.op.shape)
    return found


def wanted_gradients(compiled: Compiled, outputs: Iterable[str]) -> tuple[str, ...]:
    """The inputs whose gradients of ``outputs`` are compared: not indices, labels and what else has none."""
    whole = {n.name for n in compiled.model if isinstance(n.op, Input) and n.op.values is not None}
    return tuple(name for name in differentiable_inputs(compiled.expanded, outputs) if name not in whole)


def check(
    compiled: Compiled, artifact: Artifact, weights: Mapping[str, Array], executor: Executor, seed: int = 0
) -> Report:
    """Run a compiled net in ``executor`` on random inputs, and compare all that it gives with the interpreter."""
    inputs = random_inputs(compiled, seed)
    types = {o.name: compiled.model.type(o.ref) for o in compiled.model.outputs}
    cotangents = {
        name: np.asarray(named_rng(seed, f"cotangent of {name}").normal(size=types[name].shape), np.float32)
        for name in differentiable_outputs(compiled.expanded)
    }
    execution = executor.run(compiled, artifact, inputs, weights, cotangents)
    # what a net draws anew at each forward (an input with a random fill) is taken from the net
    drawn = {n.name for n in compiled.model if isinstance(n.op, Input)} - set(inputs)
    inputs |= {name: execution.values[name] for name in drawn}
    reference = forward(compiled.model, inputs, weights)
    expanded = forward(compiled.expanded, inputs, weights)
    gradients = backward(reference, cotangents)
    scans = unrolled_scans(compiled.history)
    return Report(
        executor.name,
        (
            *_outputs(compiled, reference, execution),
            *_blobs(expanded, execution, scans),
            *_gradients(gradients, execution, wanted_gradients(compiled, cotangents)),
        ),
        (*_absent_blobs(compiled.expanded, execution, scans), *_untold_gradients(gradients, execution)),
    )


def _outputs(compiled: Compiled, reference: Evaluation, execution: Execution) -> Iterable[Difference]:
    for output in compiled.expanded.outputs:
        found = execution.values[compiled.expanded.value_name(output.ref)]
        yield _compare("output", output.name, [(reference.outputs[output.name], found)], VALUE_TOLERANCE)


def _blobs(expanded: Evaluation, execution: Execution, scans: Mapping[str, Scan]) -> Iterable[Difference]:
    """Every blob of the net against the same value of the expanded graph, the steps of one name together.

    A piece of a blob is as exact as the blob that it was cut from, so it is measured by the magnitude of that.
    """
    groups: dict[str, list[tuple[Array, Array, float]]] = {}
    scales: dict[Ref, float] = {}
    for ref, value in expanded.values.items():
        scales[ref] = float(np.max(np.abs(value), initial=0.0))
        if isinstance(expanded.graph.node(ref.node).op, Split | Reshape):
            scales[ref] = scales[expanded.graph.args(ref.node)[0]]
        name = expanded.graph.value_name(ref)
        if name in execution.values:
            group = _of_all_steps(expanded.graph, ref, scans)
            groups.setdefault(group, []).append((value, execution.values[name], scales[ref]))
    for group, found in groups.items():
        yield _compare("blob", group, [pair[:2] for pair in found], VALUE_TOLERANCE, [pair[2] for pair in found])


def _of_all_steps(graph: Graph, ref: Ref, scans: Mapping[str, Scan]) -> str:
    """The name of a value with ``*`` for the step that it is of: ``lstm/t*/h``."""
    name, step = graph.value_name(ref), graph.node(ref.node).of_step(ref.out)
    return name if step is None else f"{step.scan}/t*/{name.removeprefix(step_pattern(scans[step.scan]) % step.t)}"


def _gradients(reference: Gradients, execution: Execution, inputs: Iterable[str]) -> Iterable[Difference]:
    for wanted, found in (
        ({name: reference.inputs[name] for name in inputs}, execution.input_gradients),
        (reference.params, execution.param_gradients),
    ):
        for name, value in wanted.items():
            if name in execution.untold:
                continue
            # what no layer of the net uses has no blob there; its gradient must then be zero
            yield _compare("gradient", name, [(value, found.get(name, np.zeros_like(value)))], GRADIENT_TOLERANCE)


def _absent_blobs(expanded: Graph, execution: Execution, scans: Mapping[str, Scan]) -> Iterable[NotCompared]:
    """The values of the expanded graph that the executor does not give. Weights are none of them: they are given."""
    groups: dict[tuple[str, str], int] = {}
    for ref in (Ref(node.name, out) for node in expanded for out in range(len(node.names))):
        name = expanded.value_name(ref)
        if name not in execution.values and not is_weight(expanded, ref):
            key = _of_all_steps(expanded, ref, scans), execution.absent.get(name, "it is not read back")
            groups[key] = groups.get(key, 0) + 1
    for (group, reason), count in groups.items():
        yield NotCompared("blob", group, count, reason)


def _untold_gradients(reference: Gradients, execution: Execution) -> Iterable[NotCompared]:
    for name in (*reference.inputs, *reference.params):
        if name in execution.untold:
            yield NotCompared("gradient", name, 1, execution.untold[name])


def relative_gap(found: Any, wanted: Any, scale: float = 0.0) -> float:
    """The largest difference, relative to the largest magnitude in ``wanted``, SCALE_FLOOR or ``scale``; NaN if any is,
    and where both are infinite.

    ``found`` may have another shape of as many elements, as blobs have.
    """
    wanted = np.asarray(wanted, np.float64)
    return _gap(found, wanted) / max(float(np.max(np.abs(wanted), initial=0.0)), SCALE_FLOOR, scale)


def _gap(found: Any, wanted: Any) -> float:
    """The largest difference."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, which no tolerance allows
        return float(np.max(np.abs(found.reshape(wanted.shape) - wanted), initial=0.0))


def _compare(
    kind: str, name: str, pairs: Sequence[tuple[Any, Any]], tolerance: float, scales: Iterable[float] = repeat(0.0)
) -> Difference:
    gaps, relative_gaps = [0.0], [0.0]
    for (wanted, found), scale in zip(pairs, scales, strict=False):
        gaps.append(_gap(found, wanted))
        relative_gaps.append(relative_gap(found, wanted, scale))
    # NumPy's max, not Python's: a NaN in any step must win over every number
    return Difference(kind, name, len(pairs), float(np.max(gaps)), float(np.max(relative_gaps)), tolerance)
