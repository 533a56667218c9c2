"""Small graphs by the lines that are of interest, and what is of interest in a graph."""

from __future__ import annotations

from lstmc.ir import Graph, parse_graph, print_graph
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS

LEAVES = {
    "x": "f32[2,3,4] = input()",
    "u": "f32[2,3,4] = input()",
    "m": "f32[2,3] = input()",
    "s": "f32[3,1] = input()",
    "e": "f32[1] = input()",
    "V": "f32[5,4] = param()",
    "b": "f32[5] = param()",
    "d": "f32[4] = param()",
    "P": "f32[2,3,4] = param()",
    "Q": "f32[3,4] = param()",
    "c": "f32[3,1] = param()",
}


def graph_of(lines: str, returned: str = "z=%z", leaves: dict[str, str] = LEAVES) -> Graph:
    """The leaves that the lines use and do not make, the lines, and what is returned."""
    used = {name for name in leaves if f"%{name}," in lines + returned + "," or f"%{name})" in lines}
    used -= {name for name in leaves if f"%{name}: " in lines}
    first = "".join(f"  %{name}: {leaves[name]}\n" for name in leaves if name in used)
    body = "".join(f"  {line.strip()}\n" for line in lines.strip().splitlines())
    return parse_graph(f"graph g {{\n{first}{body}  return {returned}\n}}\n", CAFFE_OPS + HOST_OPS)


def lines_of(graph: Graph) -> str:
    """The lines of a graph without inputs and parameters."""
    lines = [line.strip() for line in print_graph(graph).splitlines()[1:-1]]
    return "\n".join(line for line in lines if "input(" not in line and not line.endswith("param()"))
