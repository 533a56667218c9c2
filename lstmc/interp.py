"""The meaning of every graph, at every stage: forward and reverse-mode backward, two folds over the nodes.
It computes in NumPy, by default in float64. Results of passes and backends are compared with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import DTypeLike

from lstmc.errors import InterpreterError
from lstmc.ir import Graph, Node, Ref, Rounding, Scan, print_node
from lstmc.ops import Array, Arrays, Domain, Input, Leaf, Param
from lstmc.process.status import with_progress
from lstmc.types import TensorType

T = TypeVar("T")
Conversion = Callable[[Any], Array]


@dataclass
class Evaluation:
    """One forward evaluation of a graph: all its values, kept for reading and for :func:`backward`.
    ``steps`` has the evaluations of each scan's steps. ``within`` are the enclosing steps, the innermost first: the
    name of a scan's body, and the step's place in time. ``convert`` makes arrays of values that are no numbers
    (:mod:`lstmc.verification.proof`). ``rounding`` is the arithmetic of a simulated device (:mod:`lstmc.numerics`)."""

    graph: Graph
    values: dict[Ref, Array]
    steps: dict[str, dict[int, Evaluation]] = field(default_factory=dict)
    within: tuple[tuple[str, int], ...] = ()
    convert: Conversion | None = None
    rounding: Rounding | None = None
    quiet: bool = False  # whether no progress is reported

    @property
    def outputs(self) -> dict[str, Array]:
        return {output.name: self.values[output.ref] for output in self.graph.outputs}

    def by_name(self) -> dict[str, Array]:
        return {self.graph.value_name(ref): array for ref, array in self.values.items()}


# a callback of :func:`backward` for each node: operands, cotangents of results, cotangents of operands
Observer = Callable[[Evaluation, Node, Sequence[Array], Arrays, Sequence[Array | None]], None]


@dataclass
class Gradients:
    """Cotangents of a graph's inputs and parameters, by name; zero for a leaf that no output depends on."""

    inputs: dict[str, Array]
    params: dict[str, Array]


def forward(
    graph: Graph, inputs: Mapping[str, Any] = {}, params: Mapping[str, Any] = {}, dtype: DTypeLike = np.float64,
    seed: int = 0, convert: Conversion | None = None, rounding: Rounding | None = None,
    values: Mapping[Ref, Array] | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate a graph. ``inputs`` and ``params`` are arrays by name, in the declared shapes. A missing input with a
    fill is drawn from the fill (``seed``), a missing fixed array has the model's own numbers. ``convert`` makes an
    array of each value, of any objects: then ``dtype`` is not used. ``values`` of an earlier evaluation are not
    computed again. Raises :class:`InterpreterError` for a missing array, or another shape."""
    run = Evaluation(graph, dict(values or {}), convert=convert, rounding=rounding, quiet=values is not None)
    as_array = convert or partial(np.asarray, dtype=dtype)
    leaves: dict[str, Array] = {}
    for node in graph:
        if Ref(node.name) in run.values:
            continue
        if isinstance(node.op, Input):
            array = inputs.get(node.name)
            if array is None and node.op.fill is not None:
                array = node.op.fill.draw(named_rng(seed, node.name), node.op.shape)
            leaves[node.name] = _checked_array("input", node.name, array, node.types[0], as_array)
        elif isinstance(node.op, Param):
            array = params.get(node.name)
            if array is None and node.op.fixed:
                array = node.op.fill.draw(named_rng(seed, node.name), node.op.shape)
            leaves[node.name] = _checked_array("parameter", node.name, array, node.types[0], as_array)
    with np.errstate(all="ignore"):  # inf and NaN are values here; the caller looks for them
        return _evaluate(run, leaves, as_array)


def named_rng(seed: int, name: str) -> np.random.Generator:
    """Return a generator for one named array, independent of all other names and of the order of drawing."""
    return np.random.default_rng([seed, crc32(name.encode())])


def drawn(seed: int, name: str, shape: tuple[int, ...], values: Domain | None = None) -> Array:
    """Return random numbers for one named array, from the domain of its elements or else normal."""
    rng = named_rng(seed, name)
    return rng.normal(size=shape) if values is None else values.draw(rng, shape)


def _checked_array(kind: str, name: str, value: Any, expected: TensorType, as_array: Conversion) -> Array:
    """Return an array that was given by name. Raise InterpreterError if it is missing or has another shape."""
    if value is None:
        raise InterpreterError(f"{kind} {name} is not given: expected {expected}")
    array = as_array(value)
    if array.shape != expected.shape:
        actual = TensorType(array.shape, expected.dtype)
        raise InterpreterError(f"{kind} {name} has the wrong shape: expected {expected}, found {actual}")
    return array


def _evaluate(run: Evaluation, leaves: Mapping[str, Array], as_array: Conversion) -> Evaluation:
    """Compute the missing values of an evaluation, and return it; ``leaves`` are its inputs and parameters."""
    graph, computed = run.graph, frozenset(run.values)
    for node in _counted_nodes(run, graph, "computing"):
        if Ref(node.name) in computed:
            continue
        args: Sequence[Array] = [run.values[ref] for ref in graph.args(node.name)]
        if run.rounding is not None:
            args = run.rounding.operands(graph, node, args)
        if node.name in leaves:
            results: tuple[Array, ...] = (leaves[node.name],)
        elif isinstance(node.op, Scan):
            results = _run_scan(run, node, node.op, args, as_array)
        else:
            try:
                results = node.op.eval(*args)
            except Exception as error:
                raise _op_error(graph, node, "executing", error) from error
            if isinstance(node.op, Leaf):
                results = (as_array(results[0]),)
        if run.convert is not None:
            results = tuple(map(run.convert, results))
        if run.rounding is not None:
            results = run.rounding.results(graph, node, args, results)
        run.values.update((Ref(node.name, i), array) for i, array in enumerate(results))
    return run


def _counted(run: Evaluation, items: Collection[T], what: str) -> Iterable[T]:
    return items if run.quiet else with_progress(items, f"{what} {run.graph.name}")


def _counted_nodes(run: Evaluation, nodes: Collection[Node], what: str) -> Iterable[Node]:
    """Return the nodes to loop over. Unless the run is quiet, the loop reports progress, or steps of its scans do."""
    whole = run.quiet or any(isinstance(node.op, Scan) for node in nodes)
    return nodes if whole else _counted(run, nodes, what)


def _op_error(graph: Graph, node: Node, doing: str, error: Exception) -> InterpreterError:
    """Return the error for an op that raised an exception: its ``eval`` or ``vjp``, or its operands, are wrong."""
    problem = f"{node.op.name} failed ({type(error).__name__}: {error})"
    return InterpreterError(problem, loc=node.loc, notes=(f"while {doing} {print_node(graph, node)}",))


def _body(scan: Scan, position: int) -> Graph:
    return scan.first if position == 0 and scan.first is not None else scan.body


def _step_index(scan: Scan, t: int) -> int | slice:
    """Return the index of step ``t`` along time: with ``kept`` a slice, so that the axis stays, with size 1."""
    return slice(t, t + 1) if scan.kept else t


def _run_scan(run: Evaluation, node: Node, scan: Scan, args: Sequence[Array], as_array: Conversion) -> Arrays:
    """Run a scan's body once for each step. Return its outputs, stacked along time, and the last states."""
    roles = [scan.role(i) for i in range(len(args))]
    states = [arg for arg, role in zip(args, roles, strict=True) if role == "state"]
    # with ``convert`` elements may be symbols, which are not rounded
    rounding = run.rounding if run.convert or scan.rounding is None else scan.rounding
    outputs: dict[int, list[Array]] = {}
    steps = run.steps[node.name] = {}
    for position, t in enumerate(_counted(run, scan.order(), "computing")):
        body = _body(scan, position)
        following = iter(states)
        leaves = {
            param.name: arg[_step_index(scan, t)] if role == "x" else next(following) if role == "state" else arg
            for param, arg, role in zip(body.body_args(), args, roles, strict=True)
        }
        try:
            within = ((body.name, t), *run.within)
            inner = Evaluation(body, {}, within=within, convert=run.convert, rounding=rounding, quiet=True)
            step = steps[t] = _evaluate(inner, leaves, as_array)
        except InterpreterError as error:
            error.located(notes=(f"in step {t} of %{node.name}",))
            raise
        results = [step.values[output.ref] for output in body.outputs]
        cut = len(results) - len(states)
        outputs[t], states = results[:cut], results[cut:]
    join = np.concatenate if scan.kept else np.stack
    stacked = [join(values) for values in zip(*(outputs[t] for t in range(scan.length)), strict=True)]
    return (*stacked, *states)


def backward(
    run: Evaluation, cotangents: Mapping[str, Any], observer: Observer | None = None, convert: Conversion | None = None
) -> Gradients:
    """Propagate cotangents of the outputs (by name; a missing one is zero) to inputs and parameters.
    ``observer`` is called with each node after its differentiation, also in steps of scans. ``convert``, instead of the
    evaluation's, is applied to each cotangent. Raises :class:`InterpreterError` for a cotangent of another shape."""
    seeds: dict[Ref, Array] = {}
    for output in run.graph.outputs:
        if output.name in cotangents:
            as_array = run.convert or partial(np.asarray, dtype=run.values[output.ref].dtype)
            ct = _checked_array("cotangent", output.name, cotangents[output.name], run.graph.type(output.ref), as_array)
            _accumulate(seeds, output.ref, ct)
    with np.errstate(all="ignore"):
        all_cotangents = _propagate(run, seeds, observer, convert or run.convert)

    def cotangents_of(kind: type[Leaf]) -> dict[str, Array]:
        leaves = (node for node in run.graph if isinstance(node.op, kind))
        return {n.name: all_cotangents.get(Ref(n.name), np.zeros_like(run.values[Ref(n.name)])) for n in leaves}

    return Gradients(cotangents_of(Input), cotangents_of(Param))


def _accumulate(into: dict[Ref, Array], ref: Ref, ct: Array) -> None:
    into[ref] = into[ref] + ct if ref in into else ct


def _propagate(
    run: Evaluation, seeds: dict[Ref, Array], observer: Observer | None, convert: Conversion | None
) -> dict[Ref, Array]:
    """Return the cotangents of the leaves, which are computed back from the cotangents ``seeds`` of some values."""
    cts = dict(seeds)
    for node in _counted_nodes(run, list(reversed(list(run.graph))), "gradients of"):
        refs = node.refs
        if isinstance(node.op, Leaf) or not any(ref in cts for ref in refs):
            continue
        outs = tuple(run.values[ref] for ref in refs)
        result_cts = tuple(cts.pop(r) if r in cts else np.zeros_like(out) for r, out in zip(refs, outs, strict=True))
        operands = run.graph.args(node.name)
        args = [run.values[ref] for ref in operands]
        if isinstance(node.op, Scan):
            back: tuple[Array | None, ...] = _propagate_scan(run, node, node.op, result_cts, args, observer, convert)
        else:
            try:
                back = node.op.vjp(result_cts, outs, *args)
            except Exception as error:
                raise _op_error(run.graph, node, "differentiating", error) from error
            if observer is not None:
                observer(run, node, args, result_cts, back)
        if convert is not None:
            back = tuple(None if ct is None else convert(ct) for ct in back)
        for ref, ct in zip(operands, back, strict=True):
            if ct is not None:
                _accumulate(cts, ref, ct)
    return cts


def _propagate_scan(
    run: Evaluation, node: Node, scan: Scan, cts: tuple[Array, ...], args: list[Array], observer: Observer | None,
    convert: Conversion | None,
) -> Arrays:  # fmt: skip
    """Return the cotangent of each operand of a scan: for a sequence, of each step; for weights, the sum over steps."""
    roles = [scan.role(i) for i in range(len(args))]
    count = len(cts) - scan.states
    state_cts = list(cts[count:])
    grads = [np.zeros_like(arg) for arg in args]
    for position, t in _counted(run, list(reversed(list(enumerate(scan.order())))), "gradients of"):
        step, body = run.steps[node.name][t], _body(scan, position)
        seeds: dict[Ref, Array] = {}
        for output, seed in zip(
            body.outputs, [*(c[_step_index(scan, t)] for c in cts[:count]), *state_cts], strict=True
        ):
            _accumulate(seeds, output.ref, seed)
        try:
            body_cts = _propagate(step, seeds, observer, convert)
        except InterpreterError as error:
            error.located(notes=(f"in step {t} of %{node.name}",))
            raise
        state_cts = []
        for i, (param, role) in enumerate(zip(body.body_args(), roles, strict=True)):
            ct = body_cts.get(Ref(param.name))
            if role == "state":
                state_cts.append(np.zeros_like(step.values[Ref(param.name)]) if ct is None else ct)
            elif ct is not None and role == "x":
                grads[i][_step_index(scan, t)] = ct
            elif ct is not None:
                grads[i] += ct
    initial = iter(state_cts)
    return tuple(next(initial) if role == "state" else grad for role, grad in zip(roles, grads, strict=True))
