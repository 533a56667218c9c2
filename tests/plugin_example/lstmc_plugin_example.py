"""A package that adds a cell and a backend to lstmc through its entry points: what a plug-in needs, and no more."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc import Input, Param, State, Value, cell, dims, linear, sigmoid, tanh, xavier
from lstmc.backend import Artifact, Compiled
from lstmc.ir import print_graph
from lstmc.ops import CORE, Array, Op
from lstmc.passes import Dead, Expand, Pass
from lstmc.pipeline import MODEL_PASSES

N, D, H = dims("N D H")


@cell
def minimal_gated(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_f: Value = Param(H, D, fill=xavier()),
    U_f: Value = Param(H, H, fill=xavier()),
    W_h: Value = Param(H, D, fill=xavier()),
    U_h: Value = Param(H, H, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """The minimal gated unit of Zhou et al. 2016, arXiv:1603.09420, equations (5) to (7)."""
    f = sigmoid(linear(x, W_f) + linear(h, U_f))
    h = (1 - f) * h + f * tanh(linear(x, W_h) + linear(f * h, U_h))
    return h, {"h": h}


class TextBackend:
    """Writes the expanded graph of core ops as text."""

    name = "text"
    summary = "the expanded graph as text"
    targets: Mapping[str, str] = {"text": "reading"}
    ops: tuple[type[Op], ...] = CORE

    def passes(self, target: str) -> tuple[Pass, ...]:
        return (*MODEL_PASSES, Expand(), Dead())

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        graph = compiled.expanded
        return Artifact(
            files={f"{compiled.name}.lir": print_graph(graph).encode()},
            layers=len(graph),
            outputs={output.name: graph.value_name(output.ref) for output in graph.outputs},
        )
