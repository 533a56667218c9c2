"""Whether a scan is an LSTM, a GRU or an RNN, or where it first differs from each.

A scan is read as formulas (``equations.py``), so it is found at every stage of a model: packed in any order or apart,
with products in the loop or before it, gates written this way or that.
"""

from __future__ import annotations

from collections.abc import Callable

from lstmc.ir import Graph
from lstmc.patterns.core_formulas import CORE_FORMULAS
from lstmc.patterns.gru import match_gru
from lstmc.patterns.lstm import match_lstm
from lstmc.patterns.recognised import GRU, LSTM, RNN, Unrecognised
from lstmc.patterns.rnn import match_rnn
from lstmc.patterns.step import Formulas, Mismatch

MATCHES: dict[str, Callable[[Graph, str, Formulas], LSTM | GRU | RNN]] = {
    "LSTM": match_lstm,
    "GRU": match_gru,
    "RNN": match_rnn,
}


def recognise(graph: Graph, name: str, formulas: Formulas = CORE_FORMULAS) -> LSTM | GRU | RNN | Unrecognised:
    """What the scan called ``name`` is. ``formulas`` read a backend's ops that are no core ops."""
    differences = {}
    for kind, match in MATCHES.items():
        try:
            return match(graph, name, formulas)
        except Mismatch as mismatch:
            differences[kind] = mismatch.difference
    return Unrecognised(name, differences)
