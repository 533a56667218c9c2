"""Checks of an imported model: the written model against the net that was read, and against the source's program."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from lstmc.backend import Compiled
from lstmc.errors import Argument
from lstmc.importers.importer import ImportedModel
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.ops import with_core_ops
from lstmc.importers.ir.recur import with_plain_scans
from lstmc.importers.ir.values import OpenSize
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import SourceCheck
from lstmc.interp import Conversion, forward
from lstmc.ir import Graph, with_sizes
from lstmc.ops import Array, Input
from lstmc.process.status import report_activity
from lstmc.verification.conditioning import absolute_gap, relative_gap
from lstmc.verification.differential import inputs_of_domain, random_inputs, within_rounding
from lstmc.verification.proof import Proof, as_symbolic, best_proof, claims, symbolic_leaves
from lstmc.verification.report import LEAST_TOLERANCE, Difference
from lstmc.verification.symbols import Algebra

__all__ = ["TOLERANCE", "check_net", "check_source", "prove_net"]

TOLERANCE = 1e-9  # the difference of two computations of the same value in float64
Values = Mapping[str, Array]  # inputs, weights or outputs by name
LATE = "it gives the last step alone, which comes late: the net as it was read is compared, some steps before the last"


def check_net(model: ImportedModel, compiled: Compiled, weights: Values, seed: int = 0) -> tuple[Difference, ...]:
    """Return the difference of each output between the written model and the imported net, on random inputs. Sizes that
    are numbers in the source must have these numbers in ``compiled`` (``Net.sizes``)."""
    report_activity("comparing the model with its source's description")
    if model.frames:
        fed, actual = _drawn(model, compiled, weights, seed)
        return _compared(model, evaluate(model.described, fed), actual, fed, TOLERANCE)
    inputs, _ = inputs_of_domain(compiled, weights, seed)
    pairs = _pairs(model, compiled.model, weights, inputs)
    compared = [difference(name, *pair, TOLERANCE) for name, pair in pairs.items()]
    return within_rounding(compared, compiled.model, inputs, weights, np.float64)


def _drawn(model: ImportedModel, compiled: Compiled, weights: Values, seed: int) -> tuple[Values, Values]:
    """Run the model frame by frame on random inputs; return all frames' inputs and outputs in the source's layout."""
    net, frames = model.net, model.frames
    lengths = {model.described.inputs[name][axis] for name, axis in frames.items() if name in model.described.inputs}
    first, positive = inputs_of_domain(compiled, weights, seed)
    draws = [first, *(random_inputs(compiled, seed + t) for t in range(1, max(lengths)))]
    draws = [{name: np.abs(array) if positive else array for name, array in drawn.items()} for drawn in draws]
    given = model.described.inputs  # states that are inputs of the source begin as drawn, all others from zero
    state = {name: draws[0][name] if name in given else np.zeros_like(draws[0][name]) for name in net.states}
    steps = []
    for drawn in draws:
        drawn |= {name: draws[0][name] for name in drawn if name not in frames}
        steps.append(forward(compiled.model, {**drawn, **state}, weights).outputs)
        state = {name: steps[-1][after] for name, after in net.states.items()}

    def joined(arrays: list[dict[str, Array]], name: str) -> Array:
        each = [to_source(net, name, array[name]) for array in arrays]
        return np.concatenate(each, frames[name]) if name in frames else each[-1]

    inputs = {name: joined(draws, name) for name in model.described.inputs}
    return inputs, {name: joined(steps, name) for name in model.described.outputs}


def _compared(
    model: ImportedModel, expected: Values, actual: Values, fed: Values, tolerance: float
) -> tuple[Difference, ...]:
    """Return the difference of each output between a model of one frame, run over all frames, and its source."""
    compared = list[Difference]()
    for name, array in actual.items():
        lag, axis = model.net.delays.get(name, 0), model.frames.get(name, 0)
        compared.append(difference(name, *_from_begin(lag, axis, expected[name], array), tolerance))
    graph, weights = _evaluated(model.described, fed)
    return within_rounding(compared, graph, fed, weights, np.float64 if tolerance == TOLERANCE else np.float32)


def prove_net(model: ImportedModel, graph: Graph, weights: Values) -> Proof:
    """Return a proof for each output of the written model: whether it equals the imported net's output, with these
    weights, for all inputs. Raises :class:`SourceError` for a model of one frame."""
    if model.frames:
        raise SourceError(
            f"{model.net.origin}: a model of one frame is compared with all frames of its source, and not proved equal:"
            f" expected no {Argument('prove', 'True')}"
        )
    report_activity("proving that the model is equal to its source's description")

    def proof(algebra: Algebra) -> Proof:
        inputs, convert = symbolic_leaves(graph, Input, algebra), partial(as_symbolic, algebra=algebra)

        def outputs() -> tuple[dict[str, Array], dict[str, Array]]:
            pairs = _pairs(model, graph, weights, inputs, convert)
            return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}

        found = claims("output", [output.name for output in graph.outputs], outputs)
        return Proof(tuple(found), {name: array.shape for name, array in inputs.items()}, trained=True)

    return best_proof(proof)


def _pairs(
    model: ImportedModel, graph: Graph, weights: Values, inputs: Values, convert: Conversion | None = None
) -> dict[str, tuple[Array, Array]]:
    """Return each output of the imported net and the written model, in the source's order of axes, at equal steps."""
    fed = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    earlier = {} if model.net.earlier is None else evaluate(model.net.earlier, fed, convert)
    expected = {**evaluate(model.described, fed, convert), **earlier}
    return _in_source(model.net, expected, forward(graph, inputs, weights, convert=convert).outputs, earlier)


def evaluate(net: Net, inputs: Values, convert: Conversion | None = None) -> dict[str, Array]:
    """Return the outputs of a net, computed by the interpreter from the text of its model in float64."""
    graph, weights = _evaluated(net, inputs)
    return forward(graph, inputs, weights, convert=convert).outputs


def _evaluated(net: Net, inputs: Values) -> tuple[Graph, dict[str, Array]]:
    """Return the net's graph at the sizes of these inputs, and the values of its parameters."""
    pairs = [pair for name, array in inputs.items() for pair in zip(net.inputs[name], array.shape, strict=True)]
    sizes = {size.name: number for size, number in pairs if isinstance(size, OpenSize)}
    net = with_plain_scans(replace(net, graph=with_sizes(net.graph, sizes)))
    return with_core_ops(net.graph), {name: weight.array() for name, weight in net.params.items()}


def check_source(model: ImportedModel, compiled: Compiled, weights: Values, seed: int = 0) -> SourceCheck | None:
    """Return the comparison of the model with the source's program; None if the source has no program to run."""
    if model.runtime is None:
        return None
    report_activity(f"comparing the model with its source, by {model.runtime.name}")
    reason = model.runtime.unavailable()
    if reason is not None:
        return SourceCheck(model.runtime.name, (), reason)
    inputs, _ = inputs_of_domain(compiled, weights, seed)
    fed: Values = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    if model.frames:
        fed, actual = _drawn(model, compiled, weights, seed)
    try:
        expected = model.runtime.run(fed)
    except SourceError as error:
        return SourceCheck(model.runtime.name, (), error.message)
    if model.frames:
        return SourceCheck(model.runtime.name, _compared(model, expected, actual, fed, LEAST_TOLERANCE))
    pairs = _in_source(model.net, expected, forward(compiled.model, inputs, weights).outputs)
    compared = [difference(name, *pair, LEAST_TOLERANCE) for name, pair in pairs.items()]
    differences = within_rounding(compared, compiled.model, inputs, weights, np.float32)
    return SourceCheck(model.runtime.name, differences, None if differences else LATE)


def _in_source(
    net: Net, expected: Values, actual: Values, in_step: Collection[str] = ()
) -> dict[str, tuple[Array, Array]]:
    """Return pairs (expected, actual) of outputs in the source's order of axes; an output ``in_step`` is not late."""
    pairs = {name: (expected[name], to_source(net, name, array)) for name, array in actual.items()}
    aligned = {name: pair if name in in_step else _in_step(net, name, *pair) for name, pair in pairs.items()}
    return {name: pair for name, pair in aligned.items() if pair is not None}


def _in_step(net: Net, name: str, expected: Array, actual: Array) -> tuple[Array, Array] | None:
    """Return a source's and a model's output, cut to the steps of both; the model's may be late, and may be longer.
    None for a late output without time: the model's has then seen fewer steps."""
    lag = net.delays.get(name)
    if lag is None and expected.shape == actual.shape:
        return expected, actual
    places = [axis for axis, size in enumerate(net.shapes[net.outputs[name]]) if size in net.time]
    if len(places) != 1:
        return (expected, actual) if lag is None else None
    return _from_begin(lag or 0, net.axes[name][places[0]] if name in net.axes else places[0], expected, actual)


def _from_begin(lag: int, axis: int, expected: Array, actual: Array) -> tuple[Array, Array]:
    """Return both arrays along their time axis, cut to one length; ``actual`` without its first ``lag`` steps."""
    if not lag and expected.shape == actual.shape:
        return expected, actual
    actual = actual[(slice(None),) * axis + (slice(lag, None),)]
    count = min(expected.shape[axis], actual.shape[axis])
    return expected.take(range(count), axis), actual.take(range(count), axis)


def to_source(net: Net, name: str, array: Array) -> Array:
    """Return an input or output of the written model with the source's order of axes."""
    return np.transpose(array, np.argsort(net.axes[name])) if name in net.axes else array


def difference(name: str, expected: Array, actual: Array, tolerance: float) -> Difference:
    """Return how far an output is from the expected output, relative to its largest number."""
    return Difference("output", name, 1, absolute_gap(actual, expected), relative_gap(actual, expected), tolerance)
