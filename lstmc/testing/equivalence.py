"""Check that passes keep the meaning of graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.testing import assert_allclose

from lstmc.dsl import Model
from lstmc.errors import LstmcError
from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph, Stage, parse_graph, print_graph, verify
from lstmc.ops import Array, Input, Param
from lstmc.passes import Pass, run_passes
from lstmc.pipeline import MODEL_PASSES
from lstmc.testing.ops import uninstalled
from lstmc.testing.random_models import seeded_model


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
    """Return a cotangent for each output."""
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


def check_pass(step: Pass, graphs: Sequence[Graph] = (), models: int = 50, seed: int = 0) -> int:
    """Check a pass on graphs of yours, as ``net.graph(T=3, N=2)``, and on random models; return how many it changed.

    Random models are taken as they are written, and as the passes of stage MODEL leave them. What the pass requires and
    a graph has not is left out. Outputs and all gradients stay the same (to 1e-12, in the interpreter), a second run
    changes nothing, ``modified`` is exact, and the text parses back. Raises AssertionError, also where the pass changes
    no graph at all: then nothing is shown, and ``graphs`` must have what it is for.

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
    for number in range(seed, seed + models):
        model = seeded_model(number)
        graph = model.graph()
        again = f"again by models=1, seed={number}: {model}"
        yield f"a random model, {again}", graph
        yield (
            f"a random model after {MODEL_PASSES[-1].name}, seed={number}: {model}",
            run_passes(graph, MODEL_PASSES)[-1].graph,
        )
