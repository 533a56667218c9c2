"""Proof that two graphs compute the same for all real inputs, at the sizes that they have.

Both are run by the interpreter on the same symbols (:mod:`lstmc.verification.symbols`), forward and backward. Arrays
with equal normal forms are equal for all real numbers. The numbers are exact: a proof does not cover rounding. First
both graphs run on random floats: if they differ, a proof is not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial, reduce
from math import isfinite
from textwrap import shorten
from typing import Any

import numpy as np

from lstmc.errors import InterpreterError
from lstmc.interp import Evaluation, backward, drawn, forward
from lstmc.ir import Graph, Node, differentiable_outputs
from lstmc.ops import Array, Constant, Input, IntegerRange, Param, Values
from lstmc.process.status import gc_paused, report_activity
from lstmc.types import shape_text
from lstmc.verification.conditioning import SCALE_FLOOR
from lstmc.verification.functions import equal, log, maximum, positive, relu, symmetric
from lstmc.verification.symbols import Algebra, BudgetExceeded, NoRule, Number, exp, power, rational

BUDGET = 1_000_000  # products of two terms: some seconds
POINTS = 2  # random points at which graphs are compared before a proof
DIFFERENT = 1e-6  # relative difference in float64, far more than rounding
OTHERS_DIFFER = "equal at random numbers; no proof is tried, as other arrays differ"
MOST_TEXT = 160  # characters of a normal form in a reason
# The most terms of a product, of a value of a graph, and of a step of a comparison, tried in order: few are fast and
# prove large sizes, and many prove more.
LIMITS = ((1, 16, 300), (1, None, 300), (32, None, 300), (1, 16, 20_000), (800, None, 300), (3000, None, 300))


@dataclass(frozen=True)
class Claim:
    """One array, an output or a gradient, that two graphs compute. ``reason`` says why the arrays are not proved equal,
    and is empty if they are. ``refuted``: the arrays differ at some numbers."""

    kind: str
    name: str
    reason: str = ""
    refuted: bool = False

    @property
    def proved(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Proof:
    """The claims on two graphs. ``shapes`` are those of the inputs. The proof holds only for the drawn values of the
    ``integers`` inputs, and if ``trained`` only for the trained parameters. ``rounded``: constants agree in the digits
    of floats."""

    claims: tuple[Claim, ...]
    shapes: Mapping[str, tuple[int, ...]]
    integers: tuple[str, ...] = ()
    rounded: bool = False
    trained: bool = False

    @property
    def proved(self) -> bool:
        return all(claim.proved for claim in self.claims)

    @property
    def scope(self) -> str:
        """The numbers and sizes for which the proof holds, as the end of a sentence."""
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        drawn = f", and for the drawn values of {', '.join(self.integers)}" if self.integers else ""
        rounded = "; constants agree within their rounding" if self.rounded else ""
        leaves = "inputs, with the trained parameters," if self.trained else "inputs and parameters"
        return f"for all real {leaves} at these sizes ({shapes}){drawn}{rounded}"

    def lines(self) -> list[str]:
        """Return a sentence with all proved claims, and one for each reason with the claims that are not proved."""
        groups: dict[str, dict[str, list[str]]] = {}
        for claim in sorted(self.claims, key=lambda claim: not claim.refuted):
            groups.setdefault(claim.reason, {}).setdefault(claim.kind, []).append(claim.name)
        refuted = {claim.reason for claim in self.claims if claim.refuted}

        def listed(kinds: Mapping[str, Sequence[str]]) -> str:
            return "; ".join(f"{kind}{'s' * (len(names) > 1)} {', '.join(names)}" for kind, names in kinds.items())

        proved = groups.pop("", None)
        unproved = [
            f"{'different' if reason in refuted else 'only tested, not proved'}: {listed(kinds)}: {reason}"
            for reason, kinds in groups.items()
        ]
        return [f"proved {self.scope}: {listed(proved)}", *unproved] if proved else unproved


def prove(before: Graph, after: Graph, gradients: bool = True, budget: int = BUDGET) -> Proof:
    """Return a proof with a claim for each output of ``before``, and for each gradient of its inputs and parameters:
    whether ``after`` computes the same.

    Inputs and parameters are matched by name; ``after`` may have further fixed arrays. The gradients are of the sum of
    all outputs, each times a cotangent of symbols.
    """
    report_activity("proving that the compiled graph is equal to the model")
    return _refutation(before, after, gradients) or best_proof(partial(_prove, before, after, gradients), budget)


def _refutation(before: Graph, after: Graph, gradients: bool) -> Proof | None:
    """Return a proof that names the arrays that differ at random numbers, and proves nothing. Return None if none
    differs, or if the interpreter cannot compute with real numbers."""
    refuted, names = dict[tuple[str, str], str](), list[tuple[str, str]]()
    integers = tuple(node.name for node in _free_leaves(before, Input) if _is_integer(node))
    for seed in range(POINTS):
        inputs, params = ({n.name: _drawn(n, seed) for n in _free_leaves(before, kind)} for kind in (Input, Param))
        try:
            runs = [forward(graph, inputs, params) for graph in (before, after)]
        except InterpreterError:  # indices that are real numbers
            return None
        results = {"output": [run.outputs for run in runs]}
        cotangents = {
            name: drawn(seed, f"cotangent of {name}", runs[0].outputs[name].shape)
            for name in differentiable_outputs(before)
        }
        if gradients and cotangents:
            results["gradient"] = [_gradients(run, cotangents) for run in runs]
        wanted = {"output": list(runs[0].outputs), "gradient": [n for n in (*inputs, *params) if n not in integers]}
        names = [(kind, name) for kind in results for name in wanted[kind]]
        for kind, name in names:
            pair = [found.get(name) for found in results[kind]]
            given = next((array for array in pair if array is not None), None)
            if given is None or (kind == "output" and pair[1] is None):
                continue  # the proof itself reports an absent array
            both = (np.zeros_like(given) if array is None else np.asarray(array) for array in pair)
            if text := _counterexample(*both):
                refuted.setdefault((kind, name), text)
    if not refuted:
        return None
    claims = [Claim(*key, refuted.get(key, OTHERS_DIFFER), key in refuted) for key in names]
    return Proof(tuple(claims), {name: np.shape(array) for name, array in inputs.items()}, integers)


def _counterexample(expected: Array, actual: Array) -> str:
    """Return in words the element at which two arrays of floats differ most, with both numbers. Return "" if the arrays
    differ by no more than rounding, or have different shapes."""
    if expected.shape != actual.shape:
        return ""  # the proof itself reports different shapes
    known = np.isfinite(expected) & np.isfinite(actual)
    gaps = np.where(known, np.abs(np.where(known, expected, 0) - np.where(known, actual, 0)), 0)
    if not gaps.size or gaps.max() <= DIFFERENT * max(np.abs(expected[known]).max(initial=0), SCALE_FLOOR):
        return ""
    at = np.unravel_index(gaps.argmax(), gaps.shape)
    place = f" at [{','.join(map(str, at))}]" if at else ""
    return f"at random numbers it is {actual[at]:.6g}{place}, expected {expected[at]:.6g}"


@gc_paused()
def best_proof(attempt: Callable[[Algebra], Proof], budget: int = BUDGET) -> Proof:
    """Return the proof with the most proved claims, of attempts with the entries of LIMITS up to a complete proof."""
    proofs: list[Proof] = []
    for limits in LIMITS:
        algebra = Algebra(budget, *limits)
        proofs.append(replace(attempt(algebra), rounded=algebra.rounded))
        algebra.clear()
        if proofs[-1].proved:
            break
    return max(proofs, key=lambda proof: sum(claim.proved for claim in proof.claims))


Pair = tuple[Mapping[str, Array], Mapping[str, Array]]


def claims(kind: str, names: Sequence[str], compute: Callable[[], Pair]) -> list[Claim]:
    """Return a claim for each name: that both results of ``compute`` have equal arrays of this name."""
    try:
        expected, actual = compute()
    except (InterpreterError, BudgetExceeded) as error:
        return [Claim(kind, name, _reason(error)) for name in names]
    return [Claim(kind, name, _difference(kind, expected[name], actual.get(name))) for name in names]


def _prove(before: Graph, after: Graph, gradients: bool, algebra: Algebra) -> Proof:
    """Return the proof of one attempt: both graphs run on the same symbols, forward and backward, and are compared."""
    inputs = symbolic_leaves(before, Input, algebra)
    params = symbolic_leaves(before, Param, algebra)
    shapes = {name: array.shape for name, array in inputs.items()}
    integers = tuple(name for name, array in inputs.items() if not isinstance(array, SymbolicArray))
    outs = {output.name: before.type(output.ref).shape for output in before.outputs}
    cotangents = {name: symbols(algebra, f"cotangent of {name}", outs[name]) for name in differentiable_outputs(before)}
    runs: list[Evaluation] = []

    def outputs() -> Pair:
        convert = partial(as_symbolic, algebra=algebra)
        runs.extend(forward(graph, inputs, params, convert=convert) for graph in (before, after))
        return runs[0].outputs, runs[1].outputs

    found = claims("output", [output.name for output in before.outputs], outputs)
    if gradients and cotangents:
        names = [name for name in (*inputs, *params) if name not in integers]
        if len(runs) == 2:
            one, other = runs
            found += claims("gradient", names, lambda: (_gradients(one, cotangents), _gradients(other, cotangents)))
        else:
            found += [Claim("gradient", name, found[0].reason) for name in names]
    return Proof(tuple(found), shapes, integers)


def symbolic_leaves(graph: Graph, kind: type[Input | Param], algebra: Algebra) -> dict[str, Array]:
    """Return symbols for each input that is fed or parameter that is trained; integers for an input of integers."""
    return {
        node.name: _drawn(node, 0) if _is_integer(node) else symbols(algebra, node.name, node.types[0].shape)
        for node in _free_leaves(graph, kind)
    }


def _free_leaves(graph: Graph, kind: type[Input | Param]) -> Iterator[Node]:
    """Yield the inputs that are fed, or the parameters that are trained."""
    for node in graph:
        op = node.op
        filled = isinstance(op, Input) and isinstance(op.fill, Constant | Values)
        if isinstance(op, kind) and not filled and not (isinstance(op, Param) and op.fixed):
            yield node


def _is_integer(node: Node) -> bool:
    return isinstance(node.op, Input) and isinstance(node.op.values, IntegerRange)


def _drawn(node: Node, seed: int) -> Array:
    domain = node.op.values if isinstance(node.op, Input) else None
    return drawn(seed, node.name, node.types[0].shape, domain)


def _gradients(run: Evaluation, cotangents: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradients of inputs and parameters by name, for the cotangents of outputs that the graph has."""
    outputs = {output.name for output in run.graph.outputs}
    gradients = backward(run, {name: ct for name, ct in cotangents.items() if name in outputs})
    return gradients.inputs | gradients.params


def _difference(kind: str, expected: Array, actual: Array | None) -> str:
    """Return in words where two arrays' normal forms first differ, or why they cannot be compared; "" without
    difference. An absent gradient is zero."""
    if actual is None and kind == "output":
        return "the compiled graph does not have it"
    actual = np.zeros(expected.shape) if actual is None else actual
    if actual.shape != expected.shape:
        return f"the shapes differ: {shape_text(expected.shape)} and {shape_text(actual.shape)}"
    for at in np.ndindex(expected.shape):
        one, other = (Number.of(array[at]) for array in (expected, actual))
        try:
            same = equal(one, other)
        except (BudgetExceeded, OverflowError) as error:
            return _reason(error)
        if not same:
            place = f"[{','.join(map(str, at))}]"
            forms = "; ".join(shorten(str(number), MOST_TEXT, placeholder=" ...") for number in (one, other))
            return f"the normal forms differ at {place}: {forms}"
    return ""


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, BudgetExceeded):
        return "its normal form is past the budget"
    return error.message if isinstance(error, InterpreterError) else str(error)


# arrays of symbolic numbers, which the ops' own eval and vjp take in place of floats ---------------------------

# NumPy's functions on symbolic numbers, where NumPy's arithmetic on objects is not enough.
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "tanh": symmetric("tanh", np.tanh, -1),
    "rint": symmetric("rint", np.rint, -1),
    "sin": symmetric("sin", np.sin, -1),
    "cos": symmetric("cos", np.cos, 1),
    "exp": exp,
    "expm1": lambda x: exp(x) - 1,
    "log": log,
    "log1p": lambda x: log(1 + x),
    "logaddexp": lambda x, y: log(exp(x) + exp(y)),
    "sqrt": lambda x: power(x, Fraction(1, 2)),
    "power": lambda x, exponent: power(x, rational(float(exponent))),
    "absolute": lambda x: relu(x).scaled(2) - x,
    "maximum": maximum,
    "minimum": lambda x, y: -maximum(-x, -y),
    "greater": lambda x, y: positive(x - y),
    "less": lambda x, y: positive(y - x),
    "greater_equal": lambda x, y: 1 - positive(y - x),
    "less_equal": lambda x, y: 1 - positive(x - y),
    "equal": lambda x, y: (1 - positive(x - y)) * (1 - positive(y - x)),
    "not_equal": lambda x, y: 1 - (1 - positive(x - y)) * (1 - positive(y - x)),
    "bitwise_and": lambda x, y: x * y,  # of numbers that are 0 or 1
    "bitwise_or": lambda x, y: x + y - x * y,
    "invert": lambda x: 1 - x,
    "isnan": lambda x: Number(),
}


class SymbolicArray(np.ndarray):
    """An array of numbers, which NumPy's functions take; the results are symbolic too."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Apply the function in FUNCTIONS with the ufunc's name to symbolic operands; leave other calls to NumPy."""
        own = FUNCTIONS.get(ufunc.__name__)
        if own is None or not any(np.asarray(each).dtype == object for each in inputs):
            if "out" in kwargs:
                kwargs["out"] = tuple(_plain(out) for out in kwargs["out"])
            return symbolic(getattr(ufunc, method)(*map(_plain, inputs), **kwargs))
        if method == "reduce":
            return symbolic(_reduced(own, _plain(inputs[0]), **kwargs))
        if method == "accumulate":
            return symbolic(np.frompyfunc(own, 2, 1).accumulate(_plain(inputs[0]), kwargs["axis"]))
        if method != "__call__" or kwargs.get("out") is not None:
            raise NoRule(f"it calls {ufunc.__name__}.{method}")

        def normal(*operands: Any) -> Any:
            return own(*(each if each == -np.inf else Number.of(each) for each in operands))

        return symbolic(np.frompyfunc(normal, ufunc.nin, 1)(*map(_plain, inputs)))

    def __array_function__(self, function: Any, types: Iterable[type], args: Any, kwargs: Any) -> Any:
        """Compute np.where of symbolic operands by arithmetic; leave other functions to NumPy."""
        if function is np.where and any(np.asarray(each).dtype == object for each in args):
            where, one, other = (symbolic(np.asarray(each, object)) for each in args)
            return where * one + (1 - where) * other
        if function is np.einsum:
            kwargs = {**kwargs, "optimize": False}
        return symbolic(super().__array_function__(function, types, args, kwargs))


def _reduced(function: Callable[..., Any], x: Any, axis: int | None = 0, keepdims: bool = False, **_: Any) -> Any:
    rows = np.moveaxis(x, axis or 0, 0) if axis is not None else x.reshape(-1)
    reduced = np.asarray(reduce(np.frompyfunc(function, 2, 1), rows), object)
    return np.expand_dims(reduced, axis) if keepdims and axis is not None else reduced


def symbols(algebra: Algebra, name: str, shape: tuple[int, ...]) -> SymbolicArray:
    """Return an array of new symbols, ``name[0,1]`` and so on."""
    array = np.empty(shape, object)
    for at in np.ndindex(*shape):
        array[at] = algebra.symbol(f"{name}[{','.join(map(str, at))}]" if at else name)
    return array.view(SymbolicArray)


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, SymbolicArray) else x


def symbolic(x: Any) -> Any:
    """Return an array of numbers as a :class:`SymbolicArray`; arrays of other types, such as booleans, unchanged."""
    if isinstance(x, list | tuple):
        return type(x)(map(symbolic, x))
    if isinstance(x, Number):
        x = np.array(x, object)
    if not isinstance(x, np.ndarray):
        return x
    return x.view(SymbolicArray if x.dtype == object else np.ndarray)


def as_symbolic(x: Any, algebra: Algebra) -> Array:
    """Return an array as an array of symbolic numbers: floats become constants; infinities and NaN stay floats."""

    def number(each: Any) -> Any:
        if isinstance(each, Number):
            return algebra.shortened(each)
        return Number.of(each) if isfinite(each) else each

    result: Array = symbolic(np.asarray(np.frompyfunc(number, 1, 1)(_plain(np.asarray(x))), object))
    return result
