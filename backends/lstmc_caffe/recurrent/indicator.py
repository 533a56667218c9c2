"""Indicators: sequences of 0 and 1 that states are multiplied by, 0 where a sequence begins, as Caffe's ``cont``."""

from __future__ import annotations

from typing import NamedTuple

from lstmc.ir import Graph, Ref, Scan
from lstmc.ops import Arg, Input
from lstmc_caffe import ops as caffe


class MaskedState(NamedTuple):
    """A state of a body times one number for each sequence of the batch, which is an argument of the body."""

    state: Ref
    factor: Ref


def masked_state(body: Graph, ref: Ref) -> MaskedState | None:
    """What ``ref`` is the product of, if it is a state [N, ...], or [1, N, ...], times an ``x`` argument [N]."""
    node = body.node(ref.node)
    args = body.args(node.name)
    if isinstance(node.op, caffe.Scale) and not node.op.learned and node.op.axis == 0:
        pairs = [args]
    elif isinstance(node.op, caffe.Eltwise) and node.op.operation == "PROD" and len(args) == 2:
        pairs = [args, args[::-1]]  # a state of one element: shapes are the same
    else:
        return None
    for state, factor in pairs:
        of, by = body.node(state.node).op, body.node(factor.node).op
        if isinstance(of, Arg) and isinstance(by, Arg) and (of.role, by.role) == ("state", "x"):
            return MaskedState(state, factor)
    return None


def indicator(graph: Graph, sequence: Ref, scan: Scan) -> Ref | None:
    """The input [T, N] of 0 and 1 that a sequence is, perhaps in another shape; None if it is none.

    Through anything else a gradient may have to flow, and LSTMUnit, LSTM and RNN give none to their ``cont``
    (``lstm_unit_layer.cpp`` and ``recurrent_layer.cpp``, Backward_cpu: "Cannot backpropagate to sequence indicators").
    """
    while isinstance(graph.node(sequence.node).op, caffe.ReshapeLayer):
        (sequence,) = graph.args(sequence.node)
    op = graph.node(sequence.node).op
    if not isinstance(op, Input) or op.values is None:
        return None
    zero_or_one = {op.values.low, op.values.high, op.values.also} <= {0, 1, None}
    return sequence if zero_or_one and len(op.shape) == 2 and op.shape[0] == scan.length else None
