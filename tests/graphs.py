"""Graphs of models on their way through the passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.api import AnyModel, CompileOptions, model_graph
from lstmc.ir import Graph, Stage

OPTIONS = ("phase", "step", "target", "backend", "form", "time", "passes")


def graph_after(
    model: AnyModel,
    name: str | None = None,
    stage: Stage | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    **more: Any,
) -> Graph:
    """The graph after a pass or a stage; ``more`` are options of compiling, and sizes."""
    options = {key: more.pop(key) for key in OPTIONS if key in more}
    return model_graph(model, CompileOptions(sizes={**(sizes or {}), **more}, **options), name, stage)
