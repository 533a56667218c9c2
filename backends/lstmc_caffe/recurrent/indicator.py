"""Indicators: sequences of 0 and 1 that states are multiplied by, 0 where a sequence begins, as Caffe's ``cont``."""

from __future__ import annotations

from lstmc.ir import Graph, Ref, Scan
from lstmc.ops import Input, IntegerRange
from lstmc.patterns import Place


def indicator(graph: Graph, reset: Place, scan: Scan) -> Ref | None:
    """The input [T, N] of 0 and 1 that the states of a scan are multiplied by; None if it is none.

    Through anything else a gradient may have to flow, and LSTMUnit, LSTM and RNN give none to their ``cont``
    (``lstm_unit_layer.cpp`` and ``recurrent_layer.cpp``, Backward_cpu: "Cannot backpropagate to sequence indicators").
    """
    if reset.where != "sequence":
        return None
    op = graph.node(reset.ref.node).op
    if not isinstance(op, Input) or not isinstance(op.values, IntegerRange):
        return None
    zero_or_one = {op.values.low, op.values.high, op.values.also} <= {0, 1, None}
    return reset.ref if zero_or_one and len(op.shape) == 2 and op.shape[0] == scan.length else None
