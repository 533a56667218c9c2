"""The differential check: a written net against the meaning of the model it was made from.

Every output, every blob and every gradient that an executor reads back is compared with the float64 interpreter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmc.backend import Artifact, Compiled, Execution, Executor
from lstmc.interp import Evaluation, Gradients, backward, forward, named_rng
from lstmc.ir import Scan, differentiable_inputs, differentiable_outputs
from lstmc.ops import Array, Constant, Input, Param
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
class Report:
    """One executor's differences."""

    executor: str
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        return all(difference.passed for difference in self.differences)


class InterpreterExecutor:
    """The compiled graph itself, run by the interpreter, in float32 as a net is: no Caffe is needed."""

    name = "interpreter"

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        self.dtype = dtype

    def unavailable(self) -> str | None:
        return None

    def run(
        self, compiled: Compiled, artifact: Artifact, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]
    ) -> Execution:
        weights = {node.name: inputs[node.name] for node in compiled.expanded if isinstance(node.op, Param)}
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
    execution = executor.run(compiled, artifact, inputs | dict(weights), cotangents)
    # what a net draws anew at each forward (an input with a random fill) is taken from the net
    drawn = {n.name for n in compiled.model if isinstance(n.op, Input)} - set(inputs)
    inputs |= {name: execution.values[name] for name in drawn}
    reference = forward(compiled.model, inputs, weights)
    expanded = forward(compiled.expanded, inputs, weights)
    gradients = backward(reference, cotangents)
    return Report(
        executor.name,
        (
            *_outputs(compiled, reference, execution),
            *_blobs(expanded, execution, unrolled_scans(compiled.history)),
            *_gradients(gradients, execution, wanted_gradients(compiled, cotangents)),
        ),
    )


def _outputs(compiled: Compiled, reference: Evaluation, execution: Execution) -> Iterable[Difference]:
    for output in compiled.expanded.outputs:
        found = execution.values[compiled.expanded.value_name(output.ref)]
        yield _compare("output", output.name, [(reference.outputs[output.name], found)], VALUE_TOLERANCE)


def _blobs(expanded: Evaluation, execution: Execution, scans: Mapping[str, Scan]) -> Iterable[Difference]:
    """Every blob of the net against the same value of the expanded graph, the steps of one name together."""
    groups: dict[str, list[tuple[Array, Array]]] = {}
    patterns = {title: step_pattern(scan) for title, scan in scans.items()}
    for ref, value in expanded.values.items():
        name, step = expanded.graph.value_name(ref), expanded.graph.node(ref.node).of_step(ref.out)
        if name in execution.values:
            group = name
            if step is not None:
                group = f"{step.scan}/t*/{name.removeprefix(patterns[step.scan] % step.t)}"
            groups.setdefault(group, []).append((value, execution.values[name]))
    for name, pairs in groups.items():
        yield _compare("blob", name, pairs, VALUE_TOLERANCE)


def _gradients(reference: Gradients, execution: Execution, inputs: Iterable[str]) -> Iterable[Difference]:
    for kind, wanted, found in (
        ("gradient", {name: reference.inputs[name] for name in inputs}, execution.input_gradients),
        ("gradient", reference.params, execution.param_gradients),
    ):
        if found is None:
            continue
        for name, value in wanted.items():
            # what no layer of the net uses has no blob there; its gradient must then be zero
            yield _compare(kind, name, [(value, found.get(name, np.zeros_like(value)))], GRADIENT_TOLERANCE)


def _compare(kind: str, name: str, pairs: list[tuple[Any, Any]], tolerance: float) -> Difference:
    gaps, relative_gaps = [0.0], [0.0]
    for wanted, found in pairs:
        gap = float(np.max(np.abs(np.asarray(wanted) - np.asarray(found).reshape(np.shape(wanted))), initial=0.0))
        gaps.append(gap)
        relative_gaps.append(gap / max(float(np.max(np.abs(wanted), initial=0.0)), SCALE_FLOOR))
    # NumPy's max, not Python's: a NaN in any step must win over every number
    return Difference(kind, name, len(pairs), float(np.max(gaps)), float(np.max(relative_gaps)), tolerance)
