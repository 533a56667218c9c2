"""The differential check: a written net against the meaning of the model it was made from.

Every output, every blob and every gradient that an executor reads back is compared with the float64 interpreter; values
that it does not return are listed with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from math import inf
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmc import ir, ops
from lstmc.backend import Artifact, Compiled, Execution, Executor, RunArrays
from lstmc.interp import Evaluation, Gradients, backward, drawn, forward, named_rng
from lstmc.ir import Graph, Node, Ref, Scan
from lstmc.loops.layer import other_ties, product_numbers
from lstmc.loops.low_precision import FLOAT32
from lstmc.ops import Array
from lstmc.passes import step_pattern
from lstmc.prepare import fixed_masks, mask_name
from lstmc.process.status import report_activity, with_progress
from lstmc.verification import conditioning
from lstmc.verification.conditioning import first_difference, largest, relative_gap, rounded_results
from lstmc.verification.report import (
    GRADIENT_TOLERANCE,
    MARGIN,
    NOT_FINITE,
    VALUE_TOLERANCE,
    Difference,
    Key,
    NotCompared,
    Report,
    bounded,
)

ROUNDINGS = 3  # runs from which a graph's own rounding is known
NO_NUMBER = "not finite in the model itself"
NO_GRADIENT = "its gradient is zero everywhere, so the comparison does not test it"


class InterpreterExecutor(Executor):
    """Runs the compiled graph in the interpreter, in float32 like a net, without Caffe."""

    name = "interpreter"
    dtype: DTypeLike = np.float32

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        return interpreted(compiled.expanded, arrays, self.dtype)


def wanted_gradients(compiled: Compiled, outputs: Iterable[str]) -> tuple[str, ...]:
    """Return the inputs for which gradients of ``outputs`` are compared: without indices, labels and other inputs that
    have no gradient. The model decides, not the compiled graph: a gradient that a pass lost is a difference. A state
    that a layer carries itself (Caffe's LSTM) is not an input of the net."""
    whole = {
        n.name for n in compiled.model if isinstance(n.op, ops.Input) and isinstance(n.op.values, ops.IntegerRange)
    }
    inside = compiled.model.carried().keys() - {node.name for node in compiled.expanded}
    return tuple(name for name in ir.differentiable_inputs(compiled.model, outputs) if name not in whole | inside)


def forward_only(
    compiled: Compiled, arrays: RunArrays, values: dict[str, Array], absent: str, program: str, **more: Any
) -> Execution:
    """Return the execution of a net without a backward pass; ``absent`` says why some values are missing."""
    gradients = [*wanted_gradients(compiled, arrays.cotangents), *arrays.weights]
    names = (name for node in compiled.expanded for name in node.names if name not in values)
    lost = dict.fromkeys(gradients, f"{program} has no backward pass")
    return Execution(values, {}, {}, dict.fromkeys(names, absent), lost, **more)


def _as_run(compiled: Compiled, arrays: RunArrays, execution: Execution) -> RunArrays:
    """Return the arrays of a run, with the inputs that the net itself drew in this run by a random filler."""
    drawn = {n.name for n in compiled.model if isinstance(n.op, ops.Input)} - set(arrays.inputs)
    return replace(arrays, inputs={**arrays.inputs, **{name: execution.values[name] for name in drawn}})


def check(
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
    executor: Executor,
    seed: int = 0,
    given: Mapping[str, Array] | None = None,
    scale: float = 1.0,
) -> Report:
    """Run a compiled net in ``executor`` and compare it with the interpreter; inputs not ``given`` are random."""
    arrays = random_arrays(compiled, weights, seed, given, scale)
    report_activity(f"running the net on {executor.name}")
    execution = executor.run(compiled, artifact, arrays)
    exact = {name: np.asarray(array, np.float64) for name, array in weights.items()}  # once for all evaluations
    arrays = replace(_as_run(compiled, arrays, execution), weights=exact)
    report_activity(f"comparing {executor.name} with the float64 interpreter")
    reference = forward(compiled.model, arrays.inputs, exact)
    return _report(executor.name, compiled, arrays, reference, (reference, compiled.expanded), execution)


def check_training(
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
    executor: Executor,
    seed: int = 0,
    given: Mapping[str, Array] | None = None,
) -> Report:
    """Run a net with dropouts as training does, and compare it with the interpreter on the masks that the net drew.
    These belong to the compiled net's steps, so its graph is the reference: this checks the places and the effects of
    dropouts, and :func:`check` checks the rest."""
    arrays = random_arrays(compiled, weights, seed, given)
    report_activity(f"running the net on {executor.name}, as in training")
    execution = executor.run_training(compiled, artifact, arrays)
    arrays = _as_run(compiled, arrays, execution)
    graph = fixed_masks(compiled.expanded)
    masks, read = {}, {}
    for node in compiled.expanded:
        if isinstance(node.op, ops.Dropout):
            masks[mask_name(node.name)] = np.where(execution.values[node.name] == 0, 0, 1 / (1 - node.op.ratio))
            read[node.name] = graph.args(node.name)[0]
    arrays = replace(arrays, inputs={**arrays.inputs, **masks})
    model, reference = (forward(each, arrays.inputs, weights) for each in (compiled.model, graph))
    report = _report(f"{executor.name} in training", compiled, arrays, model, (reference, graph), execution)
    unknown = [name for name, ref in read.items() if (reference.values[ref] == 0).any()]
    if not unknown:
        return report
    # nobody knows whether a zero was dropped: the gradient that flows back through it to inputs is not known
    reason = f"{unknown[0]} reads a zero, whose output is the same whether it was dropped or not"
    inputs = {node.name for node in compiled.model if isinstance(node.op, ops.Input)}
    kept = tuple(d for d in report.differences if d.kind != "gradient" or d.name not in inputs)
    left_out = (NotCompared(d.kind, d.name, d.count, reason) for d in report.differences if d not in kept)
    return replace(report, differences=kept, not_compared=(*report.not_compared, *left_out))


def _report(
    name: str,
    compiled: Compiled,
    arrays: RunArrays,
    model: Evaluation,
    against: tuple[Evaluation, Graph],
    execution: Execution,
) -> Report:
    """Return the report of an execution. ``against`` is the reference, with the graph whose values correspond to the
    net's blobs. ``model`` is evaluated on the same arrays: only its own rounding can excuse a difference."""
    reference, graph = against
    expanded = forward(graph, arrays.inputs, arrays.weights, rounding=execution.rounding)
    gradients = backward(reference, arrays.cotangents)
    loops = product_numbers(graph)
    rounded, bound = execution.rounding is not None or loops != FLOAT32, execution.bound or loops.tolerance
    if loops != FLOAT32:  # such loops compute gradients from rounded numbers, as the expanded graph does
        own = backward(expanded, arrays.cotangents)
        gradients = Gradients({**gradients.inputs, **own.inputs}, {**gradients.params, **own.params})
    scans, by_numbers = compiled.scans, conditioning.moved_by_numbers(model, expanded) if bound else ()
    inputs = wanted_gradients(compiled, arrays.cotangents)
    compared = [
        *_outputs(compiled.expanded, expanded if rounded else reference, execution),
        *(_compare("numbers", name, [pair], bound) for name, pair in by_numbers),
        *_blobs(expanded, execution, scans),
        *_gradients(gradients, execution, inputs),
        *(_compare("function", name, [pair], 0.0) for name, pair in execution.exact.items()),
        *_settings(compiled, execution),
        *_dropouts(compiled, arrays),
    ]
    remarks = [f"{p}: {NO_GRADIENT}" for p in conditioning.without_gradient(gradients, compiled.model)]
    passed = all(difference.passed for difference in compared)
    own = gradients if model is reference else backward(model, arrays.cotangents)
    problem, lost = _not_finite(model, own, arrays, passed)
    rounding, not_compared = list[Difference](), list[NotCompared]()
    if problem and not lost:
        remarks = [problem]
    else:
        infinite = [d for d in compared if d.kind == "gradient" and d.name in lost]
        not_compared = [NotCompared(d.kind, d.name, d.count, NO_NUMBER) for d in infinite]
        compared = [d for d in compared if d.kind != "gradient" or d.name not in lost]
        written = own_rounding(expanded, arrays, inputs, scans, execution.dtype)
        limits, exact = compared, execution.tolerance is None and execution.rounding is None
        own_runs = own_rounding(model, arrays, inputs, dtype=execution.dtype, gradients=own)
        by_written = ("blob",) if loops == FLOAT32 else ("blob", "output", "gradient")
        compared = bounded(compared, written, own_runs, exact, by_written)
        rounding = [d for limit, d in zip(limits, compared, strict=True) if d.passed and not limit.passed]
        remarks = [*([problem] if problem else remarks), *(ill_conditioned(d, execution.dtype) for d in rounding)]
        if not all(difference.passed for difference in compared):
            remarks += _written_faults(compared, model, compiled, arrays)
    reasons = execution.not_available
    absent = (NotCompared("gradient", n, 1, reasons[n]) for n in gradients.inputs | gradients.params if n in reasons)
    gaps = (*not_compared, *_absent_blobs(graph, execution, scans), *absent)
    remarks += [*([POSITIVE] if arrays.positive else []), *compiled.delay_notes()]
    ran = execution.device, tuple(rounding), execution.files
    return Report(name, tuple(compared), gaps, tuple(remarks), *ran)


def _not_finite(model: Evaluation, gradients: Gradients, arrays: RunArrays, passed: bool) -> tuple[str, frozenset[str]]:
    """Return a remark on NaN or infinity in the model itself, "" if there is none, and the names of such gradients, if
    all values are finite. The model is evaluated in float64, and also in float32 if the net differs."""
    runs: Iterator[tuple[Evaluation, Gradients, str]] = iter([(model, gradients, "with these inputs and parameters")])
    if not passed:
        single = forward(model.graph, arrays.inputs, arrays.weights, np.float32)
        runs = chain(runs, [(single, backward(single, arrays.cotangents), "in float32, in which nets compute")])
    for run, back, where in runs:
        lost = frozenset(name for name, array in (back.inputs | back.params).items() if not np.isfinite(array).all())
        if lost or not all(np.isfinite(array).all() for array in run.values.values()):
            first = conditioning.first_not_finite(run, arrays.cotangents)
            if first and not first.gradient:
                return f"{NOT_FINITE} {where}: {first}", frozenset()
            if first and lost:
                return f"the model's own gradients are not finite {where}: {first}", lost
    return "", frozenset()


def interpreted(graph: Graph, arrays: RunArrays, dtype: DTypeLike) -> Execution:
    """Run a graph in the interpreter, forward and backward, and return all values and gradients."""
    run = forward(graph, arrays.inputs, arrays.weights, dtype)
    return _execution(run, backward(run, arrays.cotangents))


def _execution(run: Evaluation, gradients: Gradients) -> Execution:
    return Execution(run.by_name(), gradients.inputs, gradients.params)


def own_rounding(
    run: Evaluation,
    arrays: RunArrays,
    inputs: Iterable[str] = (),
    scans: Mapping[str, Scan] | None = None,
    dtype: DTypeLike = np.float32,
    gradients: Gradients | None = None,
) -> Iterator[dict[Key, float]]:
    """Yield how much rounding to ``dtype`` changes a graph's results, by kind and name: the largest relative
    differences of all runs so far, with random rounding, of the outputs, of the gradients of ``inputs`` and all
    parameters, and with ``scans`` of every blob. ``gradients`` are the graph's exact gradients, if known."""
    moved = dict[Key, float]()
    gradients = backward(run, arrays.cotangents) if gradients is None else gradients
    inputs = [name for name in inputs if name in gradients.inputs]  # a compiled graph may do without one
    for sample in range(ROUNDINGS):
        graph = other_ties(run.graph, sample)
        rounded = _execution(*rounded_results(graph, arrays.inputs, arrays.weights, arrays.cotangents, sample, dtype))
        blobs = () if scans is None else _blobs(run, rounded, scans)
        for each in (*_outputs(run.graph, run, rounded), *_gradients(gradients, rounded, inputs), *blobs):
            key = each.kind, each.name
            moved[key] = float(np.max([moved.get(key, 0.0), each.relative]))  # NumPy's max: NaN wins
        del rounded, blobs  # before the next run makes its own
        yield moved


def within_rounding(
    compared: Sequence[Difference],
    graph: Graph,
    inputs: Mapping[str, Array],
    weights: Mapping[str, Array],
    dtype: DTypeLike,
) -> tuple[Difference, ...]:
    """Return a graph's differences; outputs that rounding to ``dtype`` moves further get a larger tolerance."""

    def own() -> Iterator[dict[Key, float]]:
        yield from own_rounding(forward(graph, inputs, weights), RunArrays(inputs, weights, {}), dtype=dtype)

    return tuple(bounded(compared, iter(()), own(), exact=False))


def ill_conditioned(difference: Difference, dtype: DTypeLike) -> str:
    """Return the remark on a difference that passes only because rounding to ``dtype`` alone moves the value as far."""
    where = "net" if difference.kind == "blob" else "model"
    return (
        f"{difference.kind} {difference.name} is ill-conditioned: rounding to {np.dtype(dtype)} alone moves it by"
        f" {difference.tolerance / MARGIN:.0e} in the {where} itself"
    ) + ("; this comparison says nothing about it" if difference.tolerance >= 1 else "")


def _written_faults(
    compared: Iterable[Difference], model: Evaluation, compiled: Compiled, arrays: RunArrays
) -> Iterator[str]:
    """Yield a remark for each output that differs in the interpreter too: the layers are wrong, or round more."""
    failed = [d for d in compared if d.kind == "output" and not d.passed]
    if not failed:
        return
    exact, rounded = (
        forward(compiled.expanded, arrays.inputs, arrays.weights, dtype) for dtype in (np.float64, np.float32)
    )
    for difference in failed:
        expected = model.outputs[difference.name]
        off, alone = (relative_gap(written.outputs[difference.name], expected) for written in (exact, rounded))
        if not off <= difference.tolerance:
            yield (
                f"output {difference.name} is off by {off:.0e} in the interpreter too, in float64: the net as written"
                f" computes something else than the model{first_difference(exact, model, difference.tolerance)}"
            )
        elif difference.relative <= MARGIN * alone:
            yield (
                f"output {difference.name} is off by {alone:.0e} in the interpreter too, where it computes the net in"
                f" float32: target {compiled.target} writes layers that it does not have by others that round more"
            )


def _settings(compiled: Compiled, execution: Execution) -> Iterable[Difference]:
    """Yield a difference for each setting of training that is not the model's; a net that is not trained has none."""
    if not compiled.trained:
        return
    for name, expected, actual in conditioning.changed_settings(compiled.model, compiled.expanded, execution.settings):
        off = abs(actual - expected)
        yield Difference("setting", name, 1, off, off / max(abs(expected), conditioning.SCALE_FLOOR), 0.0)


def _dropouts(compiled: Compiled, arrays: RunArrays) -> Iterable[Difference]:
    """Yield how a trained net differs when all dropouts multiply by the same numbers: a dropout was moved elsewhere."""
    graphs = (compiled.model, compiled.expanded) if compiled.trained else ()
    if not any(isinstance(node.op, ops.Dropout) for graph in graphs for node in ir.all_nodes(graph)):
        return
    model, masks = conditioning.with_masks(compiled.model)
    reference = forward(model, {**arrays.inputs, **masks}, arrays.weights)
    expanded, masks = conditioning.with_masks(compiled.expanded)
    execution = interpreted(expanded, replace(arrays, inputs={**arrays.inputs, **masks}), np.float64)
    gradients = backward(reference, arrays.cotangents)
    for difference in (
        *_outputs(expanded, reference, execution),
        *_gradients(gradients, execution, wanted_gradients(compiled, arrays.cotangents)),
    ):
        if not difference.passed:
            yield replace(difference, kind="setting", name=f"dropouts of {difference.kind} {difference.name}")


def _outputs(graph: Graph, reference: Evaluation, execution: Execution) -> Iterable[Difference]:
    """Yield the differences of the executed graph's outputs from those of the reference."""
    for output in graph.outputs:
        actual = execution.values[graph.value_name(output.ref)]
        yield _compare("output", output.name, [(reference.outputs[output.name], actual)], _tolerance(execution))


def _tolerance(execution: Execution) -> float:
    return VALUE_TOLERANCE if execution.tolerance is None else execution.tolerance


def _blobs(expanded: Evaluation, execution: Execution, scans: Mapping[str, Scan]) -> Iterable[Difference]:
    """Yield the differences of the net's blobs from the values of the expanded graph, all steps of one name together. A
    piece is as exact as the blob that it was cut from: its difference is relative to that blob's magnitude."""
    groups: dict[str, list[tuple[Array, Array, float]]] = {}
    scales: dict[Ref, float] = {}
    for ref, value in expanded.values.items():
        scales[ref] = largest(value)
        if isinstance(expanded.graph.node(ref.node).op, ops.Split | ops.Reshape):
            scales[ref] = scales[expanded.graph.args(ref.node)[0]]
        name = expanded.graph.value_name(ref)
        if name in execution.values:
            group = _of_all_steps(expanded.graph, ref, scans)
            groups.setdefault(group, []).append((value, execution.values[name], scales[ref]))
    for group, pairs in with_progress(groups.items(), "comparing blobs"):
        tolerance, measured_by = _tolerance(execution), [pair[2] for pair in pairs]
        yield _compare("blob", group, [pair[:2] for pair in pairs], tolerance, measured_by)


def _of_all_steps(graph: Graph, ref: Ref, scans: Mapping[str, Scan]) -> str:
    """Return the name of a value with ``*`` for its step: ``lstm/t*/h``."""
    name, step = graph.value_name(ref), graph.node(ref.node).of_step(ref.out)
    return name if step is None else f"{step.scan}/t*/{name.removeprefix(step_pattern(scans[step.scan]) % step.t)}"


def _gradients(reference: Gradients, execution: Execution, inputs: Iterable[str]) -> Iterable[Difference]:
    """Yield the differences of the gradients of ``inputs`` and of parameters, except those that are not available."""
    for expected, actual in (
        ({name: reference.inputs[name] for name in inputs}, execution.input_gradients),
        (reference.params, execution.param_gradients),
    ):
        for name, value in expected.items():
            if name in execution.not_available:
                continue
            # a parameter or input that no layer of the net uses has no blob there: its gradient must be zero
            yield _compare("gradient", name, [(value, actual.get(name, np.zeros_like(value)))], GRADIENT_TOLERANCE)


def _absent_blobs(expanded: Graph, execution: Execution, scans: Mapping[str, Scan]) -> Iterable[NotCompared]:
    """Yield the values of the expanded graph, except weights, that the executor does not return, with the reason."""
    groups: dict[tuple[str, str], int] = {}
    precomputed = ir.precomputed_nodes(expanded)
    for ref in expanded.refs():
        name = expanded.value_name(ref)
        if name not in execution.values and ref.node not in precomputed and not ir.is_weight(expanded, ref):
            key = _of_all_steps(expanded, ref, scans), execution.absent.get(name, "it is not read back")
            groups[key] = groups.get(key, 0) + 1
    for (group, reason), count in groups.items():
        yield NotCompared("blob", group, count, reason)


def _compare(
    kind: str, name: str, pairs: Sequence[tuple[Any, Any]], tolerance: float, scales: Iterable[float] = repeat(0.0)
) -> Difference:
    """Return the largest absolute and relative difference over pairs (expected, actual) of arrays. The latter is
    relative to the magnitude of the expected array or, if larger, to the pair's number in ``scales``."""
    gaps, relative_gaps = [0.0], [0.0]
    for (expected, actual), scale in zip(pairs, scales, strict=False):
        gaps.append(conditioning.absolute_gap(actual, expected))
        relative_gaps.append(relative_gap(actual, expected, scale))
    # NumPy's max, not Python's: a NaN in any step must win over every number
    return Difference(kind, name, len(pairs), float(np.max(gaps)), float(np.max(relative_gaps)), tolerance)


POSITIVE = (
    "inputs were drawn without negative numbers, with which the model is not finite; to declare what an input may hold:"
    " Input(..., values=reals(LOW, HIGH))"
)


def free_inputs(compiled: Compiled, given: Collection[str] = ()) -> list[str]:
    """Return the names of the inputs that may hold any number, and are not ``given``."""
    leaves = ((node.name, node.op) for node in compiled.model if node.name not in given)
    return [name for name, op in leaves if isinstance(op, ops.Input) and op.fill is None and op.values is None]


def random_inputs(
    compiled: Compiled, seed: int, given: Mapping[str, Array] | None = None, scale: float = 1.0
) -> dict[str, Array]:
    """Return random float64 values for every input that is fed, and the values of constant inputs. ``given`` inputs are
    unchanged; others are normal numbers of standard deviation ``scale``, or from the input's domain ``values``. Of an
    input that the model compares with a number, about every fourth row is that number."""
    inputs: dict[str, Array] = dict(given or {})
    compared = compared_inputs(compiled.model)
    for node in compiled.model:
        if isinstance(node.op, ops.Input) and node.name not in inputs:
            if node.op.fill is None:
                numbers = drawn(seed, node.name, node.op.shape, node.op.values)
                if node.op.values is None:
                    numbers = scale * numbers.astype(np.float32).astype(np.float64)
                    for number, axis in compared.get(node.name, ()):
                        rng = named_rng(seed, f"rows of {node.name} equal to {number}")
                        shape = [1 if place == axis else size for place, size in enumerate(numbers.shape)]
                        draws = rng.random(shape)
                        rows = draws <= (np.quantile(draws, 0.25) if draws.size > 3 else 0.25)
                        numbers = np.where(rows, number, numbers)
                inputs[node.name] = numbers
            elif isinstance(node.op.fill, ops.Constant):
                inputs[node.name] = node.op.fill.draw(named_rng(seed, node.name), node.op.shape)
    return inputs


def compared_inputs(graph: Graph) -> dict[str, list[tuple[float, int | None]]]:
    """Return by input the numbers that the model compares its elements with, which a random number never equals. With
    each is the axis along which all elements must be equal to it, or None.

    Such a comparison is ``step(abs(x - number))``, or the step of the largest of these along an axis.
    """

    def operand(node: Node) -> Node:
        return graph.node(graph.args(node.name)[0].node)

    found: dict[str, list[tuple[float, int | None]]] = {}
    for comparison in (node for node in graph if isinstance(node.op, ops.StopGradient)):
        axis: int | None = None
        maker, number = operand(comparison), 0.0
        while maker.op.moves:
            maker = operand(maker)
        if isinstance(largest := maker.op, ops.Max):
            maker, axis = operand(maker), largest.axis
        if isinstance(maker.op, ops.Abs):
            maker = operand(maker)
            if isinstance(affine := maker.op, ops.Affine) and abs(affine.shift) < 1e38 * abs(affine.scale):
                maker, number = operand(maker), float(np.float32(-affine.shift / affine.scale))
            if isinstance(maker.op, ops.Input):
                found.setdefault(maker.name, []).append((number, axis))
    return found


def inputs_of_domain(
    compiled: Compiled,
    weights: Mapping[str, Array],
    seed: int,
    given: Mapping[str, Array] | None = None,
    scale: float = 1.0,
) -> tuple[dict[str, Array], bool]:
    """Return random inputs, and whether they have no negative numbers because the model, with a logarithm or a power,
    is not finite with these. An input with declared ``values`` is drawn from these."""
    inputs = random_inputs(compiled, seed, given, scale)
    if not any(isinstance(node.op, ops.Log | ops.Power) for node in ir.all_nodes(compiled.model)):
        return inputs, False
    free = free_inputs(compiled, given or {})
    positive = {name: np.abs(a) if name in free else a for name, a in inputs.items()}
    for tried in (inputs, positive):
        outputs = forward(compiled.model, tried, weights).outputs.values()
        if all(np.isfinite(array).all() for array in outputs):
            return tried, tried is positive
    return inputs, False


def random_arrays(
    compiled: Compiled,
    weights: Mapping[str, Array],
    seed: int,
    given: Mapping[str, Array] | None = None,
    scale: float = 1.0,
) -> RunArrays:
    """Return inputs, times ``scale``, and cotangents drawn by ``seed``, with ``given`` inputs unchanged. An output that
    the compiled graph lacks, such as a state that a layer carries itself, gets no cotangent."""
    types = {o.name: compiled.model.type(o.ref) for o in compiled.model.outputs}
    written = {o.name for o in compiled.expanded.outputs}
    cotangents = {
        name: np.asarray(drawn(seed, f"cotangent of {name}", types[name].shape), np.float32)
        for name in ir.differentiable_outputs(compiled.model)
        if name in written
    }
    inputs, positive = inputs_of_domain(compiled, weights, seed, given, scale)
    return RunArrays(inputs, weights, cotangents, positive)


LARGE = 8.0  # how much larger the inputs of the second comparison are
# Where gates saturate, libraries differ more in how they round than a few runs that round at random show: by three
# times the tolerance in ONNX Runtime's sigmoid. A fault is larger. Of low precision no limit holds there, as its ranges
# were measured on other inputs.
SLACK = 10
LIMITS = {
    "output": VALUE_TOLERANCE,
    "blob": VALUE_TOLERANCE,
    "gradient": GRADIENT_TOLERANCE,
    "setting": 0.0,
    "function": 0.0,
    "numbers": inf,
}


def check_scales(
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
    executor: Executor,
    seed: int = 0,
    given: Mapping[str, Array] | None = None,
) -> Report:
    """Check a net as :func:`check` does, and then with inputs ``LARGE`` times as large, which saturate gates."""
    report = check(compiled, artifact, weights, executor, seed, given)
    if not report.passed or not free_inputs(compiled, given or {}):
        return report
    larger = check(compiled, artifact, weights, executor, seed, given, LARGE)
    problem = next((remark for remark in larger.remarks if remark.startswith(NOT_FINITE)), "")
    if problem:
        text = f"inputs {LARGE:g} times as large were not compared: {problem}"
        return replace(report, remarks=(*report.remarks, text))
    limited = (replace(d, tolerance=max(LIMITS[d.kind], SLACK * d.tolerance)) for d in larger.differences)
    failed = {(d.kind, d.name): d for d in limited if not d.passed}
    differences = [failed.get((d.kind, d.name), d) for d in report.differences]
    named = (d if d.passed else replace(d, name=f"{d.name}, of inputs x {LARGE:g}") for d in differences)
    return replace(report, differences=tuple(named), remarks=larger.remarks if failed else report.remarks)
