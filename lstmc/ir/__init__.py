"""The graph IR: values, nodes, scans, their text and their laws."""

from lstmc.ir.analysis import depending, differentiable_inputs, differentiable_outputs, flops, has_gradient, node_flops
from lstmc.ir.graph import Builder, Graph, Node, Output, Ref, Step, Steps
from lstmc.ir.rebuild import GraphValue, Rebuild, broadcast, rename_values, renewed, reshape_source, reshaped
from lstmc.ir.scan import Rounding, Scan, node_count, of_step, op_of_step, op_over_time, over_steps, values_over_time
from lstmc.ir.text import parse_filler, parse_graph, print_graph, print_node
from lstmc.ir.verify import Stage, verify
from lstmc.ir.weight_graph import (
    NEGATE,
    is_weight,
    is_weight_op,
    made_of_parameters,
    precomputed_nodes,
    twice_stored,
    weight_graph,
)

__all__ = [
    "NEGATE",
    "Builder",
    "Graph",
    "GraphValue",
    "Node",
    "Output",
    "Rebuild",
    "Ref",
    "Rounding",
    "Scan",
    "Stage",
    "Step",
    "Steps",
    "broadcast",
    "depending",
    "differentiable_inputs",
    "differentiable_outputs",
    "flops",
    "has_gradient",
    "is_weight",
    "is_weight_op",
    "made_of_parameters",
    "node_count",
    "node_flops",
    "of_step",
    "op_of_step",
    "op_over_time",
    "over_steps",
    "parse_filler",
    "parse_graph",
    "precomputed_nodes",
    "print_graph",
    "print_node",
    "rename_values",
    "renewed",
    "reshape_source",
    "reshaped",
    "twice_stored",
    "values_over_time",
    "verify",
    "weight_graph",
]
