"""A backend: what every one has, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lstmc.backend import Artifact, Backend, Compiled
from lstmc.ir import print_graph
from lstmc.ops import CORE, Array, Op
from lstmc.passes import Dead, Expand, Pass
from lstmc.pipeline import MODEL_PASSES
from lstmc_plugin_example.ops import Exponential


class TextBackend(Backend):
    """Writes the expanded graph of core ops as text."""

    name = "text"
    summary = "the expanded graph as text"
    targets: ClassVar[Mapping[str, str]] = {"text": "reading"}
    ops: ClassVar[tuple[type[Op], ...]] = (*CORE, Exponential)

    def passes(self, target: str) -> tuple[Pass, ...]:
        return (*MODEL_PASSES, Expand(), Dead())

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        graph = compiled.expanded
        return Artifact(
            files={f"{compiled.name}.lir": print_graph(graph).encode()},
            layers=len(graph),
            outputs={output.name: graph.value_name(output.ref) for output in graph.outputs},
        )
