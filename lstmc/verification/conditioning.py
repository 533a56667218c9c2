"""Limits of a comparison with the interpreter: values of the model that are not finite, outputs that rounding alone
changes, and parameters without effect. Training uses the first too, to name the op at which a run diverged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmc.interp import Evaluation, Gradients, backward, forward, named_rng
from lstmc.ir import Graph, Node, Output, Ref, Scan
from lstmc.ops import Arg, Array, Arrays, Binary, Dropout, Input, Leaf, Param, Pointwise
from lstmc.passes import Expand, step_pattern
from lstmc.passes.simplify import without_dead
from lstmc.prepare import fixed_masks, mask_name
from lstmc.source import SrcLoc, called

# Differences are relative to the largest magnitude in the blob, but never to less than this: where large terms
# cancel to almost nothing, float32 leaves the rounding of those terms, not of what is left.
SCALE_FLOOR = 0.1
BLOCK = 2**18  # elements that are compared, or rounded, at once


def relative_gap(actual: Any, expected: Any, scale: float = 0.0) -> float:
    """Return the largest difference divided by the largest magnitude in ``expected``, SCALE_FLOOR or ``scale``: the
    greatest. It is NaN if an element is NaN, or infinite in both. ``actual`` may have another shape with as many
    elements, as a blob may."""
    return absolute_gap(actual, expected) / max(largest(expected), SCALE_FLOOR, scale)


def absolute_gap(actual: Any, expected: Any) -> float:
    expected = np.asarray(expected)
    actual = np.asarray(actual).reshape(expected.shape)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, which no tolerance allows
        return _largest(
            np.subtract(a, b, dtype=np.float64) for a, b in zip(*map(_blocks, (actual, expected)), strict=True)
        )


def largest(array: Any) -> float:
    return _largest(block.astype(np.float64) for block in _blocks(np.asarray(array)))


def _largest(blocks: Iterable[Array]) -> float:
    return float(np.max([0.0, *(np.max(np.abs(block)) for block in blocks)]))  # NumPy's max: NaN wins


def _blocks(array: Array) -> Iterator[Array]:
    """Yield the elements of an array in pieces that are small enough to copy in float64."""
    flat = array.reshape(-1)
    yield from (flat[at : at + BLOCK] for at in range(0, flat.size, BLOCK))


@dataclass(frozen=True)
class NotFinite:
    """The first place at which a value or, if ``gradient``, a gradient is NaN or infinite.

    ``what`` is the function or op at ``loc`` in the user's file, or a parameter or an input. ``within`` are the steps
    of scans that it is in, the innermost first; ``operands`` are those of an elementwise op at the first bad element.
    """

    what: str
    value: float
    gradient: bool = False
    loc: SrcLoc | None = None
    within: tuple[tuple[str, int], ...] = ()
    operands: tuple[float, ...] = ()

    def __str__(self) -> str:
        at = f" at {self.loc.short}" if self.loc else ""
        steps = "".join(f", step {t} of {body}" for body, t in self.within) + ("," if self.within else "")
        values = " and ".join(f"{value:g}" for value in self.operands)
        cause = f" where its operand{' is' if len(self.operands) == 1 else 's are'} {values}" if values else ""
        subject = f"the gradient of {self.what}" if self.gradient else self.what
        return f"{subject}{at}{steps} is not finite: {self.value:g}{cause}"


def first_not_finite(run: Evaluation, cotangents: Mapping[str, Any]) -> NotFinite | None:
    """Return where NaN or infinity first occurs in an evaluation, or else in its gradients by ``cotangents``, or None.

    The place is a parameter or an input; or an op with finite operands whose result is not finite; or an op that makes
    NaN from operands without NaN, such as 0 times a constant infinity.
    """
    for node in run.graph:
        value = run.values[Ref(node.name)]
        if isinstance(node.op, Input | Param) and not np.isfinite(value).all():
            kind = "input" if isinstance(node.op, Input) else "parameter"
            return NotFinite(f"{kind} {node.name}", _first(value)[1], loc=node.loc)
    for fine in (np.isfinite, lambda array: ~np.isnan(array)):
        for step, node, args, results in _executed(run):
            if all(fine(arg).all() for arg in args) and not all(fine(result).all() for result in results):
                bad = next(result for result in results if not fine(result).all())
                return _located(step, node, args, bad, gradient=False)
    if not all(np.isfinite(array).all() for array in run.outputs.values()):
        return None
    return _first_gradient(run, cotangents)


def first_difference(written: Evaluation, model: Evaluation, tolerance: float) -> str:
    """Return a remark's end, or "": the first value, with its op, that the written graph computes unlike the model."""
    values = written.by_name()
    for name, op, expected in _named_values(model):
        value = values.get(name, expected)
        if value.shape == expected.shape and not relative_gap(value, expected) <= tolerance:
            rule = "" if op == Scan.name else f": see the rule or pass that writes {op}"
            return f"; the first value that differs is {name}, of {op}{rule}"
    return ""


def _named_values(run: Evaluation, prefix: str = "") -> Iterator[tuple[str, str, Array]]:
    """Yield each value's name in an expanded graph, its op, and its array, in the order of execution."""
    for node in run.graph:
        if isinstance(node.op, Scan):
            steps = run.steps[node.name]
            for t in node.op.order():
                yield from _named_values(steps[t], prefix + step_pattern(node.op) % t)
        for out, name in enumerate(node.names):
            yield prefix + name, node.op.name, run.values[Ref(node.name, out)]


def _first_gradient(run: Evaluation, cotangents: Mapping[str, Any]) -> NotFinite | None:
    """Return where a gradient first is NaN or infinite, at an op on the way back or in a sum over steps; or None."""
    found: list[NotFinite] = []

    def look(step: Evaluation, node: Node, args: Sequence[Array], cts: Arrays, back: Sequence[Array | None]) -> None:
        bad = next((array for array in back if array is not None and not np.isfinite(array).all()), None)
        if bad is not None and not found:
            found.append(_located(step, node, args, bad, gradient=True))

    gradients = backward(run, cotangents, look)
    if found:
        return found[0]
    for name, array in {**gradients.params, **gradients.inputs}.items():  # a sum over steps may overflow
        if not np.isfinite(array).all():
            return NotFinite(name, _first(array)[1], True, run.graph.node(name).loc)
    return None


def _executed(run: Evaluation) -> Iterator[tuple[Evaluation, Node, list[Array], list[Array]]]:
    """Yield for each executed node, of a scan for its steps' nodes, in order: evaluation, node, operands, results."""
    for node in run.graph:
        if isinstance(node.op, Scan):
            steps = run.steps[node.name]
            for t in node.op.order():
                yield from _executed(steps[t])
        elif not isinstance(node.op, Leaf):
            args = [run.values[ref] for ref in run.graph.args(node.name)]
            yield run, node, args, [run.values[ref] for ref in node.refs]


def _first(array: Array) -> tuple[tuple[int, ...], float]:
    index = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(array)))
    return index, float(array[index])


def _located(step: Evaluation, node: Node, args: Sequence[Array], array: Array, gradient: bool) -> NotFinite:
    """Return the place of the first element of ``array``, a result or gradient of the node, that is not finite."""
    index, value = _first(array)
    operands: tuple[float, ...] = ()
    if isinstance(node.op, Pointwise | Binary) and all(arg.shape in ((), array.shape) for arg in args):
        operands = tuple(float(arg[index if arg.shape else ()]) for arg in args)
    return NotFinite(called(node.loc) or node.op.name, value, gradient, node.loc, step.within, operands)


def without_gradient(gradients: Gradients, graph: Graph) -> list[str]:
    """Return the trained parameters whose gradient is zero everywhere, so that no comparison tests them."""
    fixed = {node.name for node in graph if isinstance(node.op, Param) and node.op.fixed}
    return [name for name, array in gradients.params.items() if not array.any() and name not in fixed]


def moved_by_numbers(model: Evaluation, rounded: Evaluation) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Yield each output's name, and the output for the same inputs in float64 and in lower precision."""
    leaves = {node.name: array for node in model.graph if (array := model.values.get(Ref(node.name))) is not None}
    inputs = {name: rounded.values.get(Ref(name), array) for name, array in leaves.items()}
    exact = forward(model.graph, inputs, leaves).outputs
    for output in rounded.graph.outputs:
        yield output.name, (exact[output.name], rounded.values[output.ref])


class RandomRounding:
    """An arithmetic that moves each computed number up or down at random by a step of ``dtype``; a sum of k terms by
    sqrt(k) steps (N. Higham, T. Mary: A new approach to probabilistic rounding error analysis, 2019).

    Results that no program rounds stay exact: elements of operands, as in a maximum, and numbers of few bits.
    """

    def __init__(self, seed: int, dtype: DTypeLike) -> None:
        self.rng, self.limits = named_rng(seed, "rounding"), np.finfo(dtype)

    def operands(self, graph: Graph, node: Node, args: Sequence[Array]) -> Sequence[Array]:
        return args

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays) -> Arrays:
        """Return results with random rounding, except those of scans, and elements that an op only moves."""
        if node.op.moves or isinstance(node.op, Scan | Arg):
            return results
        terms = max((arg.size for arg in args), default=1) / max(sum(result.size for result in results), 1)
        return tuple(self._result(args, result, sqrt(max(terms, 1))) for result in results)

    def _result(self, args: Sequence[Array], result: Array, steps: float) -> Array:
        moved = self.moved(result, steps)
        for block in (block for arg in args for block in _blocks(arg)):
            moved = np.where(np.isin(result, block), result, moved)
        return moved

    def moved(self, array: Array, steps: float = 1) -> Array:
        """Return an array with numbers moved up or down by ``steps`` steps of the type, except those of few bits."""
        return np.concatenate(
            [self._moved(block, steps) for block in _blocks(array)] or [np.empty(0, self.limits.dtype)]
        ).reshape(array.shape)

    def _moved(self, array: Array, steps: float) -> Array:
        """Return a block of an array with its numbers moved; integers and numbers of few bits stay."""
        exact = np.asarray(array, np.float64)
        off = steps * float(self.limits.eps) * self.rng.choice((-1.0, 1.0), exact.shape)
        few = np.ldexp(np.frexp(exact)[0], self.limits.nmant // 2)
        stays = (exact == np.rint(exact)) | (few == np.rint(few))
        return np.where(stays, exact, exact * (1 + off)).astype(self.limits.dtype)


def rounded_results(
    graph: Graph,
    inputs: Mapping[str, Array],
    weights: Mapping[str, Array],
    cotangents: Mapping[str, Array],
    seed: int,
    dtype: DTypeLike,
) -> tuple[Evaluation, Gradients]:
    """Return the evaluation of a graph in float32 or float16 with random rounding, and its gradients: they show the
    rounding of terms that cancel, which another program adds in another order."""
    rounding = RandomRounding(seed, dtype)
    run = forward(graph, inputs, weights, dtype, rounding=rounding)
    return run, backward(run, cotangents, convert=rounding.moved)


def changed_settings(
    model: Graph, expanded: Graph, written: Iterable[tuple[str, float]] = ()
) -> Iterator[tuple[str, float, float]]:
    """Yield the settings of training that differ between a model and its compiled graph, or the settings ``written`` in
    the net's text: the name, the model's number, and the other number. No array of a run shows such a difference.

    Parameters that the compiled graph lacks are skipped: their gradient is compared, which must be zero. States that
    are neither inputs nor outputs are skipped: a layer such as Caffe's LSTM carries them itself.
    """
    params = [node.name for node in expanded if isinstance(node.op, Param)]
    names = {node.name for node in expanded} | {output.name for output in expanded.outputs}
    inside = {_carried(o) for name, o in model.carried().items() if names.isdisjoint((name, o.name))}
    actual = _settings(expanded, params)
    for name, expected in _settings(without_dead(model, Counter()), params).items():
        if name in inside:
            continue
        if actual.get(name, 0.0) != expected:
            yield name, expected, actual.get(name, 0.0)
            continue
        for value in dict.fromkeys(value for key, value in written if key == name):
            if np.float32(value) != np.float32(expected):
                yield name, expected, value


def _settings(graph: Graph, params: Collection[str]) -> dict[str, float]:
    """Return by name the multipliers of ``params``, 1 for each output carried to the next batch, and output delays."""
    settings = dict[str, float]()
    for node in graph:
        if isinstance(node.op, Param) and node.name in params:
            settings[f"lr_mult of {node.name}"] = node.op.lr_mult
            settings[f"decay_mult of {node.name}"] = node.op.decay_mult
    settings |= {_carried(output): 1 for output in graph.carried().values()}
    settings |= {f"delay of {output.name}": output.delay for output in graph.outputs if output.delay}
    return settings


def _carried(output: Output) -> str:
    assert output.carried_to is not None
    return f"{output.name} carried to {output.carried_to.node}"


def with_masks(graph: Graph) -> tuple[Graph, dict[str, Array]]:
    """Return an expanded graph whose dropouts are products with inputs, and arrays for these inputs. Step t of a scan
    gets the numbers that one dropout of all steps has for step t: so a model and its compiled graph agree only if they
    drop the same values, even if a pass has moved a dropout into a loop or out of it. No number is 0: each element
    shows its factor."""
    expanded, masks = Expand().run(graph).graph, dict[str, Array]()
    for node in expanded:
        if isinstance(node.op, Dropout):
            shape, ratio = node.types[0].shape, node.op.ratio
            start = node.step.t * prod(shape) if node.step else 0
            drawn = named_rng(0, f"mask of {ratio}").uniform(0.5, 1.5, start + prod(shape))[start:]
            masks[mask_name(node.name)] = drawn.reshape(shape) / (1 - ratio)
    return fixed_masks(expanded), masks
