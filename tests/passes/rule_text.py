"""Short graphs for rules: the same leaves every time, then the lines that matter."""

from __future__ import annotations

import re

from lstmc.ir import Graph, parse_graph, print_graph


def graph_of(lines: str) -> Graph:
    """``x: f32[2,6]``, ``y: f32[6]``, ``W: f32[4,6]``, ``b: f32[4]`` and the given lines; the last ones returned."""
    text = f"""\
graph g {{
%x: f32[2,6] = input()
%y: f32[6] = input()
%W: f32[4,6] = param()
%b: f32[4] = param()
{lines.strip()}
}}
"""
    return parse_graph(text)


def shown(graph: Graph) -> str:
    """The lines after the four leaves, those of parameters that are gone included."""
    lines = [line.strip() for line in print_graph(graph).splitlines()[1:-1]]
    return "\n".join(line for line in lines if not re.match(r"%[xyWb]:", line))


def dedented(lines: str) -> str:
    return "\n".join(line.strip() for line in lines.strip().splitlines())
