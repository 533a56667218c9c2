"""Random arrays for a comparison: inputs such as the model takes, and cotangents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from lstmc.backend import Compiled, RunArrays
from lstmc.interp import forward, named_rng
from lstmc.ir import Graph, Node, Scan, differentiable_outputs
from lstmc.ops import Array, Constant, Input, Log, Power

POSITIVE = (
    "inputs were drawn without negative numbers, with which the model is not finite; to declare what an input may hold:"
    " Input(..., values=reals(LOW, HIGH))"
)


def free_inputs(compiled: Compiled, given: Collection[str] = ()) -> list[str]:
    """Return the inputs that may hold any number, and are not ``given``."""
    ops = ((node.name, node.op) for node in compiled.model if isinstance(node.op, Input) and node.name not in given)
    return [name for name, op in ops if op.fill is None and op.values is None]


def random_inputs(
    compiled: Compiled, seed: int, given: Mapping[str, Array] | None = None, scale: float = 1.0
) -> dict[str, Array]:
    """Return random values for every input that is fed, and the values of constant ones; float64.

    Those that are ``given``; else normal numbers of standard deviation ``scale``, or such as the input's ``values``
    say.
    """
    inputs: dict[str, Array] = dict(given or {})
    for node in compiled.model:
        if isinstance(node.op, Input) and node.name not in inputs:
            rng = named_rng(seed, node.name)
            if node.op.fill is None and node.op.values is not None:
                inputs[node.name] = node.op.values.draw(rng, node.op.shape)
            elif node.op.fill is None:
                inputs[node.name] = scale * rng.normal(size=node.op.shape).astype(np.float32).astype(np.float64)
            elif isinstance(node.op.fill, Constant):
                inputs[node.name] = node.op.fill.draw(rng, node.op.shape)
    return inputs


def inputs_of_domain(
    compiled: Compiled,
    weights: Mapping[str, Array],
    seed: int,
    given: Mapping[str, Array] | None = None,
    scale: float = 1.0,
) -> tuple[dict[str, Array], bool]:
    """Return random inputs, and whether they are drawn without negative numbers: as with them the model is not finite.

    A logarithm or a power of an input says so; an input that declares its ``values`` is drawn from these.
    """
    inputs = random_inputs(compiled, seed, given, scale)
    if not any(isinstance(node.op, Log | Power) for node in _all_nodes(compiled.model)):
        return inputs, False
    free = free_inputs(compiled, given or {})
    positive = {name: np.abs(a) if name in free else a for name, a in inputs.items()}
    for drawn in (inputs, positive):
        outputs = forward(compiled.model, drawn, weights).outputs.values()
        if all(np.isfinite(array).all() for array in outputs):
            return drawn, drawn is positive
    return inputs, False


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph:
        yield node
        if isinstance(node.op, Scan):
            yield from _all_nodes(node.op.body)


def random_arrays(
    compiled: Compiled,
    weights: Mapping[str, Array],
    seed: int,
    given: Mapping[str, Array] | None = None,
    scale: float = 1.0,
) -> RunArrays:
    """Return inputs, times ``scale``, and cotangents drawn by ``seed``, with ``given`` inputs unchanged.

    An output that the compiled graph does not have, as a state that a layer carries by itself, gets no cotangent.
    """
    types = {o.name: compiled.model.type(o.ref) for o in compiled.model.outputs}
    written = {o.name for o in compiled.expanded.outputs}
    cotangents = {
        name: np.asarray(named_rng(seed, f"cotangent of {name}").normal(size=types[name].shape), np.float32)
        for name in differentiable_outputs(compiled.model)
        if name in written
    }
    inputs, positive = inputs_of_domain(compiled, weights, seed, given, scale)
    return RunArrays(inputs, weights, cotangents, positive)
