"""Checks for authors of ops, passes and cells, with NumPy alone: each raises AssertionError, in any test runner."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from lstmc import ir
from lstmc.api import compile
from lstmc.backend import find_backends, load_backend, load_cell
from lstmc.dsl import Cell, CellModel, Model
from lstmc.errors import BackendError, LstmcError, PluginError
from lstmc.interp import backward, drawn, forward, named_rng
from lstmc.ir import Graph
from lstmc.ops import Arg, Array, Arrays, Input, Leaf, Op, Param, Sample, Tanh
from lstmc.ops.base import CORE_DIALECT, dialect_of, dialects, load_dialect, op_problems
from lstmc.passes import Pass, run_passes
from lstmc.pipeline import MODEL_PASSES
from lstmc.plugins import library_names
from lstmc.types import TensorType
from lstmc.weights import random_weights

__all__ = ["assert_same_meaning", "check_cell", "check_op", "check_pass"]


def random_leaves(graph: Graph, kind: type[Input | Param], low: float = -2.0, high: float = 2.0) -> dict[str, Array]:
    """Return an array for each leaf of a ``kind``: in an input's domain, or uniform; the same for the same name."""
    arrays = {}
    for node in graph:
        if isinstance(node.op, kind):
            rng, values = named_rng(0, node.name), node.op.values if isinstance(node.op, Input) else None
            shape = node.types[0].shape
            arrays[node.name] = rng.uniform(low, high, shape) if values is None else values.draw(rng, shape)
    return arrays


def random_cotangents(graph: Graph) -> dict[str, Array]:
    return {o.name: named_rng(1, o.name).uniform(-1, 1, graph.type(o.ref).shape) for o in graph.outputs}


def assert_same_meaning(
    before: Graph, after: Graph, low: float = -2.0, high: float = 2.0, rtol: float = 1e-12, same_inputs: bool = True
) -> None:
    """Assert that both graphs have the same outputs and gradients, in the interpreter, on inputs from [low, high].
    ``after`` may lack parameters of zero gradient, and without ``same_inputs`` such inputs; fixed arrays may be new."""
    inputs = random_leaves(before, Input, low, high)
    params = random_leaves(before, Param, low, high)
    cotangents = random_cotangents(before)
    runs = [forward(graph, inputs, params) for graph in (before, after)]
    assert list(runs[0].outputs) == list(runs[1].outputs)
    for name, value in runs[0].outputs.items():
        assert value.shape == runs[1].outputs[name].shape, name
        assert_allclose(runs[1].outputs[name], value, rtol, rtol, err_msg=f"output {name}")
    old, new = (backward(run, cotangents) for run in runs)
    assert set(new.inputs) == set(old.inputs) or (not same_inputs and set(new.inputs) < set(old.inputs))
    fixed = {node.name for node in after if isinstance(node.op, Param) and node.op.fixed}
    assert set(new.params) - fixed <= set(old.params)
    for name, value in (old.inputs | old.params).items():
        gradient = (new.inputs | new.params).get(name, np.zeros_like(value))
        assert_allclose(gradient, value, rtol, rtol, err_msg=f"gradient of {name}")


def check_pass(step: Pass, graphs: Sequence[Graph] = (), models: int = 60, seed: int = 0) -> int:
    """Check a pass on given graphs, as ``net.graph(T=3, N=2)``, and on library cells; return how many graphs changed.
    Cells, which ``seed`` draws, are scanned over sequences of random sizes, in both directions, beside an unread node:
    as written, and after the passes of stage MODEL. Graphs that do not meet the pass's precondition are skipped. The
    outputs and all gradients stay the same (to 1e-12, in the interpreter), a second run changes nothing, ``modified``
    is exact, and the text parses back. Raises AssertionError, also if no graph changes: then ``graphs`` must have one.

    >>> from lstmc.passes import Hoist
    >>> from lstmc.testing import check_pass
    >>> check_pass(Hoist(), models=5) > 0
    True
    """
    changed = tried = 0
    for what, graph in _graphs(graphs, models, seed):
        try:
            step.requires(graph)
        except LstmcError:
            continue
        tried += 1
        try:
            changed += check_pass_on(step, graph)
        except Exception as error:
            error.add_note(f"pass {step.name} on {what}")
            raise
    remedy = "give graphs= with nodes that it rewrites, or count every change"
    hint = f"{remedy}: modified says whether the pass changed the graph"
    assert changed, f"{step.name} changed none of {tried} graphs: {hint}"
    return changed


def check_pass_on(step: Pass, graph: Graph) -> bool:
    """Check a pass on a graph that meets its precondition, and return whether it changed the graph."""
    before = ir.print_graph(graph)
    outcome = step.run(graph)
    assert ir.print_graph(graph) == before, "the pass changed the graph that it was given"
    assert outcome.modified == (outcome.graph != graph), f"modified is {outcome.modified}, and the graph says otherwise"
    step.ensures(outcome.graph)
    if step.after is None:
        ir.verify(outcome.graph, ir.Stage.MODEL)
    assert_same_meaning(graph, outcome.graph)
    again = step.run(outcome.graph)
    assert not again.modified, "a second run says that it changed something"
    assert again.graph == outcome.graph, "a second run gives another graph"
    check_parsed(outcome.graph)
    return outcome.modified


def _graphs(graphs: Sequence[Graph], models: int, seed: int) -> Iterator[tuple[str, Graph]]:
    """Yield the graphs on which a pass is checked, with descriptions: given ones, then ``models`` library cells."""
    for number, graph in enumerate(graphs):
        if isinstance(graph, Model):
            raise TypeError(f"graphs[{number}] is a model: write {graph.name}.graph(T=3, N=2), with its dimensions")
        yield f"graphs[{number}]", graph
    names = sorted(library_names())
    for number in range(seed, seed + models):
        draw, cell = SeededDraw(number), load_cell(names[number % len(names)])
        sizes = {"T": draw.integer(1, 4), **{dim: SMALL.get(dim, 4) for dim in cell.dims}, "N": draw.integer(1, 3)}
        options = dict.fromkeys(draw.choice(((), ("reverse",), ("carry",))), True)
        graph = _with_unread(CellModel(cell, **options).graph(**sizes))
        again = f"again by models=1, seed={number}"
        yield f"cell {cell.name}, {again}", graph
        yield f"cell {cell.name} after {MODEL_PASSES[-1].name}, {again}", run_passes(graph, MODEL_PASSES)[-1].graph


def _with_unread(graph: Graph) -> Graph:
    rebuild = ir.Rebuild(graph)
    for node in graph:
        rebuild.copy(node)
    rebuild.builder.add(Tanh(), rebuild.new[graph.outputs[0].ref])
    return rebuild.finish(graph.outputs)


Step = Callable[..., tuple[Any, Mapping[str, Array]]]
SMALL: Mapping[str, int] = {"T": 3, "N": 2, "D": 3, "H": 4, "K": 3}  # other dimensions are 4


def check_cell(
    cell: Cell, reference: Step | None = None, *, targets: Collection[str] | None = None,
    sizes: Mapping[str, int] | None = None, seed: int = 0,
) -> dict[str, str]:  # fmt: skip
    """Check a cell with random weights and inputs; return the outcome of each target, by its name.
    The weights are those of ``lstmc verify``, none of them zero. ``reference`` is one step in NumPy, with the arguments
    of the cell (inputs, states, parameters by name) and its results: ``(y, {"h": h})``. Outputs over time and last
    states from zero states are compared with it, to 1e-6. Then the net of each target of every installed backend is
    compared with the model, by the interpreter, outputs and gradients. A target that cannot express the cell is
    reported with its reason; this is a failure if ``targets`` names it. Raises AssertionError.

    >>> from lstmc.cells import rnn
    >>> from lstmc.testing import check_cell
    >>> def step(x, h, W_x, W_h, b):
    ...     h = np.tanh(x @ W_x.T + h @ W_h.T + b)
    ...     return h, {"h": h}
    >>> check_cell(rnn, step, targets=["flat"])
    {'flat': 'agrees'}
    """
    bound = {dim: SMALL.get(dim, 4) for dim in ("T", *cell.dims)} | dict(sizes or {})
    if reference is not None:
        _check_reference(cell, reference, bound, seed)
    outcomes = {}
    for backend, target in _targets(targets):
        try:
            net = compile(cell, target=target, backend=backend, sizes=bound, seed=seed)
        except BackendError as refused:
            if targets is not None:
                raise AssertionError(f"target {target} does not take {cell.name}: {refused.message}") from refused
            outcomes[target] = refused.message
            continue
        verified = net.verify(on=["interpreter"])
        assert verified, f"target {target}: {verified}"
        outcomes[target] = "agrees"
    unknown = set(targets or ()) - set(outcomes)
    assert not unknown, f"no installed backend has target {', '.join(sorted(unknown))}"
    assert "agrees" in outcomes.values(), f"no target takes {cell.name}: {outcomes}"
    return outcomes


def _targets(names: Collection[str] | None) -> Iterator[tuple[str, str]]:
    for name in find_backends():
        with suppress(PluginError):  # a backend that does not load: `lstmc doctor` reports it
            yield from ((name, target) for target in load_backend(name).targets if names is None or target in names)


def _check_reference(cell: Cell, reference: Step, sizes: Mapping[str, int], seed: int) -> None:
    """Assert that a cell's outputs and last states, from zero states, are those of the reference's steps."""
    weights = random_weights(CellModel(cell).graph(**sizes), seed)
    net = compile(cell, sizes=sizes, weights=weights)
    inputs = {}
    for name, shape in net.inputs.items():
        inputs[name] = drawn(seed, name, shape, cell.inputs[name].values)
    actual = net.run(inputs, on="interpreter")
    params = {name.rpartition("/")[2]: value for name, value in weights.items()}
    states: dict[str, Array] = {name: np.zeros(actual[f"{name}_T"].shape) for name in cell.states}
    outputs: list[dict[str, Array]] = []
    for t in range(sizes["T"]):
        y, following = reference(**{name: x[t] for name, x in inputs.items()}, **states, **params)
        states = {name: following[name] for name in states}
        outputs.append(_named(y))
    expected = {name: np.stack([each[name] for each in outputs]) for name in outputs[0]}
    expected |= {f"{name}_T": value for name, value in states.items()}
    for name, value in expected.items():
        why = f"{name}: the cell (actual) and the reference (desired)"
        assert_allclose(actual[name], value, rtol=1e-6, atol=1e-6, err_msg=why)


def _named(y: Any) -> dict[str, Array]:
    """Return a step's outputs by their names in a net of this cell."""
    if isinstance(y, Mapping):
        return dict(y)
    return {f"y_{i}": value for i, value in enumerate(y)} if isinstance(y, tuple) else {} if y is None else {"y": y}


T = TypeVar("T")
APART = 1e-5  # of the elements of a sample, ten steps of a finite difference
KINK = 0.01  # operands keep about this far from 0, where relu, abs and elu have no derivative
FED = (Input, Param, Arg)  # ops whose values are given, not computed


class SeededDraw:
    """A :class:`lstmc.ops.Draw` of a random generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self.choice(range(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        return self.random.choice(options)


def check_op(kind: type[Op], samples: int = 25, seed: int = 0) -> None:
    """Check the contract of an op on random samples, from ``kind.sample``; another ``seed`` draws other samples.
    It checks that inferred types are the types of the values; ``vjp`` equals finite differences; ``eval`` and ``vjp``
    are repeatable and change no operand; ``along`` holds for each axis, in both directions; a node prints and parses
    back; a layer of Caffe is written and read back. Raises AssertionError.

    >>> from lstmc.ops import Tanh
    >>> from lstmc.testing import check_op
    >>> check_op(Tanh)
    """
    check_documented(kind)
    check_class(kind)
    for number in range(seed, seed + samples):
        draw = SeededDraw(number)
        sample = None
        try:
            sample = kind.sample(draw)
            check_legal(kind, sample)
            check_frozen(sample.op)
            check_domains(sample)
            check_text(sample)
            sample.op.check(sample.operands)
            if not issubclass(kind, FED):
                check_types(sample, number)
                check_types(sample, number, np.float32)
                check_repeats(sample, number)
                check_gradients(sample, number)
                check_precision_of_gradients(sample, number)
                check_along(sample, number)
                places = [None if draw.integer(0, 1) else 0 for _ in sample.operands]
                check_over_axis(sample, number, draw.integer(1, 4), places)
                places = [draw.choice((None, *range(t.rank + 1))) for t in sample.operands]
                check_over_axis(sample, number, draw.integer(1, 4), places)
        except Exception as error:  # whatever the methods of the class do
            again = f"again: check_op({kind.__name__}, samples=1, seed={number})"
            if isinstance(sample, Sample):
                again = f"{sample.op} of {', '.join(map(str, sample.operands)) or 'no operands'}; {again}"
            if isinstance(error, AssertionError):
                error.add_note(again)
                raise
            failure = AssertionError(f"{kind.__name__} raises {type(error).__name__}: {error}")
            failure.add_note(again)
            raise failure from error


def operands_of(sample: Sample, seed: int, dtype: type = np.float64) -> list[Array]:
    """Return random operands whose elements differ by more than the step of a finite difference, and are not near 0,
    except in operands with a domain."""
    rng = np.random.default_rng(seed)
    sizes = [prod(t.shape) for t in sample.operands]
    drawn = rng.uniform(sample.low, sample.high, sum(sizes))
    away = np.where(abs(drawn) < KINK, drawn + np.copysign(KINK, drawn), drawn)
    apart = away + APART * away.argsort().argsort()
    parts = np.split(apart, np.cumsum(sizes)[:-1]) if sizes else []
    domains = sample.op.domains(*sample.operands)
    return [
        (x.reshape(t.shape) if values is None else values.draw(rng, t.shape)).astype(dtype)
        for x, t, values in zip(parts, sample.operands, domains, strict=True)
    ]


def cotangents_of(outs: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 1])
    return tuple(rng.uniform(-1, 1, out.shape).astype(out.dtype) for out in outs)


def check_documented(kind: type[Op]) -> None:
    text = (kind.__dict__.get("__doc__") or "").strip()
    documented = text.endswith(".") and not text.startswith(f"{kind.__name__}(")
    assert documented, f"{kind.__name__} needs a docstring that says what it computes and ends in a full stop"


def check_class(kind: type[Op]) -> None:
    """Assert that the class is a frozen dataclass whose name is a dialect, a dot, and the op."""
    for expected, actual in op_problems(kind):
        raise AssertionError(f"{kind.__name__}: expected {expected}, found {actual}")
    name = getattr(kind, "name", None)
    parts = name.split(".") if isinstance(name, str) else []
    of_core = load_dialect(CORE_DIALECT).get(str(name)) is kind
    named = of_core or (len(parts) > 1 and all(part.isidentifier() for part in parts))
    assert named, f'{kind.__name__}.name: expected DIALECT.NAME, as in name = "example.cube", found {name!r}'


def check_legal(kind: type[Op], sample: Sample) -> None:
    """Assert that a sample is of its class, and that its types are legal; a fed op must have its declared shape."""
    assert isinstance(sample, Sample), f"{kind.__name__}.sample: expected a lstmc.ops.Sample, found {sample!r}"
    assert type(sample.op) is kind, f"{kind.__name__}.sample gives a {type(sample.op).__name__}"
    assert len(sample.op.infer(*sample.operands)) >= 1, "infer gives no result"
    least = 1 if kind.operands and kind.operands[-1].startswith("*") else 0
    most = len(kind.operands) if least == 0 else len(sample.operands)
    assert least <= len(sample.operands) <= most, f"operands are {kind.operands}, sample gives {len(sample.operands)}"
    if issubclass(kind, FED):
        assert isinstance(sample.op, Leaf)
        assert sample.op.infer() == (TensorType(sample.op.shape),)


def check_types(sample: Sample, seed: int, dtype: type = np.float64) -> None:
    """Assert that ``infer`` gives the types that ``eval`` returns, in the operands' precision."""
    outs = sample.op.eval(*operands_of(sample, seed, dtype))
    inferred, evaluated = sample.op.infer(*sample.operands), tuple(TensorType(out.shape) for out in outs)
    assert inferred == evaluated, f"infer gives {', '.join(map(str, inferred))}, eval {', '.join(map(str, evaluated))}"
    if sample.operands:  # without operands there is no precision to keep
        dtypes = {str(out.dtype) for out in outs}
        assert dtypes == {np.dtype(dtype).name}, f"operands are {np.dtype(dtype).name}, eval gives {', '.join(dtypes)}"


def check_gradients(sample: Sample, seed: int) -> None:
    """Assert that ``vjp`` equals finite differences, and is None for operands that get no gradient by declaration."""
    op, operands = sample.op, operands_of(sample, seed)
    outs = op.eval(*operands)
    cotangents = cotangents_of(outs, seed)
    gradients = op.vjp(cotangents, outs, *operands)
    assert len(gradients) == len(operands), f"vjp gives {len(gradients)} cotangents of {len(operands)} operands"
    if op.stops_gradient:
        passed = [slot for slot, gradient in enumerate(gradients) if gradient is not None]
        valid = "an op with stops_gradient = True gives None for each operand"
        assert not passed, f"{valid}: vjp gives a cotangent of {passed}"
        return
    for slot, gradient in enumerate(gradients):
        if slot in op.undifferentiated:
            assert gradient is None, f"operand {slot} is undifferentiated: expected None"
            continue
        expected = finite_differences(op, operands, slot, cotangents)
        cotangent = np.zeros_like(expected) if gradient is None else gradient
        assert cotangent.shape == expected.shape, f"operand {slot} is {expected.shape}, its cotangent {cotangent.shape}"
        why = f"cotangent of operand {slot}: vjp (actual) and finite differences (desired)"
        assert_allclose(cotangent, expected, rtol=1e-6, atol=1e-6, err_msg=why)


def finite_differences(op: Op, operands: Sequence[Array], slot: int, cotangents: Arrays, step: float = 1e-6) -> Array:
    """Return the derivative of sum(cotangents * results) by each element of one operand."""
    result = np.zeros_like(operands[slot])
    for index in np.ndindex(*operands[slot].shape):
        sides = []
        for sign in (1, -1):
            moved = [x.copy() for x in operands]
            moved[slot][index] += sign * step
            sides.append(sum(np.vdot(ct, out) for ct, out in zip(cotangents, op.eval(*moved), strict=True)))
        result[index] = (sides[0] - sides[1]) / (2 * step)
    return result


def check_precision_of_gradients(sample: Sample, seed: int) -> None:
    operands = operands_of(sample, seed, np.float32)
    outs = sample.op.eval(*operands)
    for slot, gradient in enumerate(sample.op.vjp(cotangents_of(outs, seed), outs, *operands)):
        assert gradient is None or gradient.dtype == np.float32, f"operand {slot} is float32, found {gradient.dtype}"


def check_repeats(sample: Sample, seed: int) -> None:
    operands, untouched = operands_of(sample, seed), operands_of(sample, seed)
    outs = sample.op.eval(*operands)
    kept = [out.copy() for out in outs]
    cotangents = cotangents_of(outs, seed)
    first = [None if g is None else g.copy() for g in sample.op.vjp(cotangents, outs, *operands)]
    second = sample.op.vjp(cotangents, outs, *operands)
    for before, after in zip(
        [*untouched, *kept, *kept, *cotangents_of(outs, seed), *first],
        [*operands, *outs, *sample.op.eval(*operands), *cotangents, *second],
        strict=True,
    ):
        assert_array_equal(after, before, err_msg="eval and vjp give the same again, and change no operand")


def check_along(sample: Sample, seed: int) -> None:
    """Assert for each axis that the op that the rule ``along`` gives computes the results at each place on the axis."""
    operands = operands_of(sample, seed)
    outs = sample.op.eval(*operands)
    for slot, type_ in enumerate(sample.operands):
        for axis, size in enumerate(type_.shape):
            along = sample.op.along(slot, axis, *sample.operands)
            if along is None:
                continue
            text = f"axis {axis} of operand {slot}: {along}"
            assert along.operands[slot] == axis, text
            assert (len(along.operands), len(along.results)) == (len(operands), len(outs)), text
            sizes = [x.shape[place] for x, place in zip(operands, along.operands, strict=True) if place is not None]
            assert along.op is None or {*sizes} <= {1, max(sizes)}, text
            if along.op is None or size != max(sizes):
                continue
            for at in range(size):
                one = [_taken(x, at, place) for x, place in zip(operands, along.operands, strict=True)]
                try:
                    inferred, results = along.op.infer(*(TensorType(x.shape) for x in one)), along.op.eval(*one)
                except LstmcError:  # the op does not exist with an axis less, as a layer on four axes
                    break
                expected = [_taken(out, at, place) for out, place in zip(outs, along.results, strict=True)]
                assert [t.shape for t in inferred] == [out.shape for out in expected], text
                for result, other in zip(results, expected, strict=True):
                    assert_allclose(result, other, rtol=1e-12, atol=1e-12, err_msg=text)


def _taken(x: Array, at: int, axis: int | None) -> Array:
    return x if axis is None else np.asarray(np.take(x, min(at, x.shape[axis] - 1), axis))


def check_over_axis(sample: Sample, seed: int, size: int, places: Sequence[int | None]) -> None:
    """Assert that the op over a new axis at ``places``, None for an operand that all elements share, computes the op at
    each element, and that ``along`` of the new op gives the op again. An op without such a form passes."""
    wide = ir.op_of_all(sample.op, size, sample.operands, places)
    if wide is None:
        return
    op, at = wide
    each = [operands_of(sample, seed + element) for element in range(size)]
    operands = [
        each[0][slot] if place is None else np.stack([one[slot] for one in each], place)
        for slot, place in enumerate(places)
    ]
    for one in each:
        one[:] = [same if place is None else own for own, same, place in zip(one, each[0], places, strict=True)]
    expected = zip(*(sample.op.eval(*one) for one in each), strict=True)
    for stacked, results, place in zip(op.eval(*operands), expected, at, strict=True):
        assert_allclose(stacked, np.stack(results, place), rtol=1e-12, atol=1e-12, err_msg=f"{op}, of {size} elements")
    types = [TensorType(x.shape) for x in operands]
    along = ir.op_of_one(op, types, places)
    back = None if along is None else along.op
    assert back == sample.op, "the rule of the op of all elements leads back to the op of one"
    if {*places} <= {None, 0} and {*at} <= {0}:
        mapped = [place == 0 for place in places]
        assert ir.op_over_time(sample.op, size, sample.operands, mapped) == op
        assert ir.op_of_step(op, types, mapped) == sample.op


def check_domains(sample: Sample) -> None:
    domains = sample.op.domains(*sample.operands)
    assert len(domains) == len(sample.operands), f"domains gives {len(domains)} for {len(sample.operands)} operands"
    slots = {slot for slot, values in enumerate(domains) if values is not None}
    assert slots <= set(sample.op.undifferentiated), f"operands {sorted(slots)} have domains: they are undifferentiated"


def check_text(sample: Sample) -> None:
    """Assert that a graph of the op alone is printed, and parsed back to itself."""
    builder = ir.Builder("one")
    operands = [builder.add(Input(t.shape), names=(f"x{i}",))[0] for i, t in enumerate(sample.operands)]
    results = builder.add(sample.op, *operands)
    graph = builder.finish([(f"out{i}", ref) for i, ref in enumerate(results)])
    check_parsed(graph)


def check_parsed(graph: Graph) -> None:
    """Assert that a graph is printed, and parsed back to itself."""
    text = ir.print_graph(graph)
    again = ir.parse_graph(text, uninstalled([graph]))
    assert again == graph, f"the text is parsed as another graph:\n{text}"
    assert ir.print_graph(again) == text


def uninstalled(graphs: Iterable[Graph]) -> tuple[type[Op], ...]:
    """Return the ops of graphs that belong to no installed dialect: parsing a text needs them as an argument."""
    installed, ops = set(dialects()), {type(node.op) for graph in graphs for node in ir.all_nodes(graph)}
    return tuple(op for op in ops if not issubclass(op, ir.Scan) and dialect_of(op.name) not in installed)


def check_frozen(op: Op) -> None:
    twin = type(op)(**{field.name: getattr(op, field.name) for field in fields(op)})
    assert twin == op
    assert hash(twin) == hash(op)
    for field in fields(op):
        try:
            setattr(op, field.name, None)
        except FrozenInstanceError:
            continue
        raise AssertionError(f"{field.name} can be set: write @dataclass(frozen=True) above class {type(op).__name__}")
