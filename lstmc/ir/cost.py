"""What a graph costs to run, in floating-point operations: a product and a sum are two, a function of an element one,
and moving elements nothing."""

from __future__ import annotations

from math import prod

from lstmc.ir.graph import Graph
from lstmc.ir.node import Node
from lstmc.ir.scan import Scan
from lstmc.ops import Concat, Conv, Leaf, Linear, Reshape, Split, Stack, Sum, Tile, Transpose, Unstack


def flops(graph: Graph) -> int:
    """What one forward of a graph costs, with every step of its scans."""
    return sum(node_flops(graph, node) for node in graph)


def node_flops(graph: Graph, node: Node) -> int:
    """What one forward of a node costs."""
    whole = node.op.cost(tuple(graph.type(ref) for ref in graph.args(node.name)))
    if whole is not None:
        return whole
    results = sum(type_.size for type_ in node.types)
    operands = [graph.type(ref).shape for ref in graph.args(node.name)]
    match node.op:
        case Scan(body=body, first=first, length=length):
            return (length - 1) * flops(body) + flops(body if first is None else first)
        case Linear() | Conv():
            return results * 2 * prod(operands[1][1:])  # a bias takes the place of the first sum
        case Leaf() | Split() | Concat() | Reshape() | Tile() | Transpose() | Stack() | Unstack():
            return 0
        case Sum():
            return prod(operands[0])
    return results
