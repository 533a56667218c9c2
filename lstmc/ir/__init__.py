"""The graph IR: values, nodes, scans, their text and their laws."""

from lstmc.ir.graph import Builder, Graph, Node, Output, Ref, rename_values
from lstmc.ir.scan import Scan
from lstmc.ir.text import parse_graph, print_graph, print_node
from lstmc.ir.verify import Stage, verify

__all__ = [
    "Builder",
    "Graph",
    "Node",
    "Output",
    "Ref",
    "Scan",
    "Stage",
    "parse_graph",
    "print_graph",
    "print_node",
    "rename_values",
    "verify",
]
