"""What a comparison with the interpreter cannot show: where the model itself is not finite, where rounding alone moves
it, and which parameters nothing depends on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmc.interp import Evaluation, Gradients, named_rng
from lstmc.ir import Graph, Ref, Scan
from lstmc.ops import Array, Input, IntegerRange, Param

HALF_STEP = 2.0**-24  # the largest relative error of rounding to float32


def not_finite(run: Evaluation, of: str = "") -> str | None:
    """Where an evaluation has NaN or infinity first, in words; None where it has none."""
    for ref, array in run.values.items():
        bad = ~np.isfinite(array)
        if not bad.any():
            continue
        node = run.graph.node(ref.node)
        if isinstance(node.op, Scan):
            steps = run.steps[node.name]
            for t in node.op.order():
                found = not_finite(steps[t], f" of step {t} of {node.op.body.name}")
                if found is not None:
                    return found
        place = f", made at {node.loc.short}" if node.loc else ""
        return (
            f"the model itself is not finite with these inputs and parameters: {node.op.name} gives"
            f" {array[bad].flat[0]} in {run.graph.value_name(ref)}{of}{place}"
        )
    return None


def without_gradient(gradients: Gradients, graph: Graph) -> list[str]:
    """The parameters whose gradient is zero everywhere, so that no comparison shows what they are used for.

    Not those that stay as they are.
    """
    fixed = {node.name for node in graph if isinstance(node.op, Param) and node.op.fixed}
    return [name for name, array in gradients.params.items() if not array.any() and name not in fixed]


def rounded(
    inputs: Mapping[str, Array], weights: Mapping[str, Array], graph: Graph, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and weights, each element off by what rounding to float32 may be; whole numbers as they are."""
    whole = {n.name for n in graph if isinstance(n.op, Input) and isinstance(n.op.values, IntegerRange)}

    def off(name: str, array: Array) -> Array:
        signs = named_rng(seed, f"rounding of {name}").choice((-1.0, 1.0), np.shape(array))
        return np.asarray(array, np.float64) * (1 + HALF_STEP * signs)

    moved = {name: array if name in whole else off(name, array) for name, array in inputs.items()}
    return moved, {name: off(name, array) for name, array in weights.items()}


def zeros_dropped(run: Evaluation, dropouts: Mapping[str, Ref]) -> list[str]:
    """The dropouts that read a zero: whether it was dropped cannot be told from what they gave."""
    return [name for name, ref in dropouts.items() if (run.values[ref] == 0).any()]
