"""Check that passes keep the meaning of graphs, and that a cell and its net for every target compute its equations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.testing import assert_allclose

from lstmc.api import compile
from lstmc.backend import find_backends, load_backend, load_cell
from lstmc.dsl import Cell, CellModel, Model
from lstmc.errors import BackendError, LstmcError, PluginError
from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph, Rebuild, Stage, parse_graph, print_graph, verify
from lstmc.ops import Array, Input, Param, Tanh
from lstmc.passes import Pass, run_passes
from lstmc.pipeline import MODEL_PASSES
from lstmc.plugins import library_names
from lstmc.testing.ops import SeededDraw, uninstalled
from lstmc.weights import random_weights


def random_leaves(graph: Graph, kind: type[Input | Param], low: float = -2.0, high: float = 2.0) -> dict[str, Array]:
    """Return an array for each input or parameter: in the input's domain, or uniform; the same for the same name."""
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
    before: Graph,
    after: Graph,
    low: float = -2.0,
    high: float = 2.0,
    arrays: Mapping[str, Array] | None = None,
    rtol: float = 1e-12,
    same_inputs: bool = True,
) -> None:
    """Interpret both graphs, forward and backward, on inputs drawn from [low, high].

    A parameter that ``after`` no longer has must have had no gradient; without ``same_inputs`` an input too. Fixed
    arrays may be added.
    """
    inputs = random_leaves(before, Input, low, high) | dict(arrays or {})
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
    """Check a pass on graphs of yours, as ``net.graph(T=3, N=2)``, and on library cells; return how many it changed.

    Cells are scanned over sequences of random sizes, in both directions, beside a node that nothing reads. They are
    taken as they are written, and as the passes of stage MODEL leave them; another ``seed`` draws others. What the pass
    requires and a graph has not is left out. Outputs and all gradients stay the same (to 1e-12, in the interpreter), a
    second run changes nothing, ``modified`` is exact, and the text parses back. Raises AssertionError, also where the
    pass changes no graph at all: then nothing is shown, and ``graphs`` must have what it is for.

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
    assert changed, (
        f"{step.name} changed none of {tried} graphs: give graphs= with nodes that it rewrites, or count every"
        " change: modified says whether the pass changed the graph"
    )
    return changed


def check_pass_on(step: Pass, graph: Graph) -> bool:
    """Check a pass on one graph; return whether it changed it."""
    before = print_graph(graph)
    outcome = step.run(graph)
    assert print_graph(graph) == before, "the pass changed the graph that it was given"
    assert outcome.modified == (outcome.graph != graph), f"modified is {outcome.modified}, and the graph says otherwise"
    step.ensures(outcome.graph)
    if step.after is None:
        verify(outcome.graph, Stage.MODEL)
    assert_same_meaning(graph, outcome.graph)
    again = step.run(outcome.graph)
    assert not again.modified, "a second run says that it changed something"
    assert again.graph == outcome.graph, "a second run gives another graph"
    text = print_graph(outcome.graph)
    assert parse_graph(text, uninstalled([outcome.graph])) == outcome.graph, (
        f"the text is parsed as another graph:\n{text}"
    )
    return outcome.modified


def _graphs(graphs: Sequence[Graph], models: int, seed: int) -> Iterator[tuple[str, Graph]]:
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
    """Return the graph with a node that nothing reads."""
    rebuild = Rebuild(graph)
    for node in graph:
        rebuild.copy(node)
    rebuild.builder.add(Tanh(), rebuild.new[graph.outputs[0].ref])
    return rebuild.finish(graph.outputs)


Step = Callable[..., tuple[Any, Mapping[str, Array]]]
SMALL: Mapping[str, int] = {"T": 3, "N": 2, "D": 3, "H": 4, "K": 3}  # other dimensions are 4


def check_cell(
    cell: Cell,
    reference: Step | None = None,
    *,
    targets: Collection[str] | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Check a cell with random weights and inputs; return the outcome of each target, by its name.

    The weights are those of ``lstmc verify``: none is zero, whatever its filler, so that each one that the cell reads
    is checked.

    ``reference`` is one step in NumPy, with the arguments of the cell (inputs, states, parameters by name) and its
    results: ``(y, {"h": h})``. Outputs over time and last states from zero states are compared with it, to 1e-6. Then
    the net of each target of every installed backend is compared with the model, by the interpreter, outputs and
    gradients. A target that cannot express the cell is reported with its reason; it is a failure where ``targets``
    names it. Raises AssertionError.

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
        with suppress(PluginError):  # `lstmc doctor` speaks of it
            yield from ((name, target) for target in load_backend(name).targets if names is None or target in names)


def _check_reference(cell: Cell, reference: Step, sizes: Mapping[str, int], seed: int) -> None:
    """Compare the interpreter with steps in NumPy."""
    weights = random_weights(CellModel(cell).graph(**sizes), seed)
    net = compile(cell, sizes=sizes, weights=weights)
    inputs = {}
    for name, shape in net.inputs.items():
        rng, declared = named_rng(seed, name), cell.inputs[name].values
        inputs[name] = rng.normal(size=shape) if declared is None else declared.draw(rng, shape)
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
    """Return a step's outputs by the names that they have in a net of the cell alone."""
    if isinstance(y, Mapping):
        return dict(y)
    return {f"y_{i}": value for i, value in enumerate(y)} if isinstance(y, tuple) else {} if y is None else {"y": y}
