"""Two graphs mean the same: equal outputs, and equal gradients of every input and parameter, in the interpreter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.testing import assert_allclose

from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph
from lstmc.ops import Array, Input, Param


def random_leaves(graph: Graph, kind: type[Input | Param], low: float = -2.0, high: float = 2.0) -> dict[str, Array]:
    """An array for each input or parameter: of the input's own numbers, or uniform; the same for the same name."""
    found = {}
    for node in graph:
        if isinstance(node.op, kind):
            rng, values = named_rng(0, node.name), node.op.values if isinstance(node.op, Input) else None
            shape = node.types[0].shape
            found[node.name] = rng.uniform(low, high, shape) if values is None else values.draw(rng, shape)
    return found


def random_cotangents(graph: Graph) -> dict[str, Array]:
    """A cotangent for each output."""
    return {o.name: named_rng(1, o.name).uniform(-1, 1, graph.type(o.ref).shape) for o in graph.outputs}


def assert_same_meaning(
    before: Graph,
    after: Graph,
    low: float = -2.0,
    high: float = 2.0,
    given: Mapping[str, Array] | None = None,
    rtol: float = 1e-12,
    same_inputs: bool = True,
) -> None:
    """Interpret both, forward and backward, on inputs drawn from [low, high].

    A parameter that ``after`` no longer has must have had no gradient; without ``same_inputs`` an input too. Fixed
    arrays may be added.
    """
    inputs = random_leaves(before, Input, low, high) | dict(given or {})
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
        found = (new.inputs | new.params).get(name, np.zeros_like(value))
        assert_allclose(found, value, rtol, rtol, err_msg=f"gradient of {name}")
