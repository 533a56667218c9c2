"""Which library cells are an LSTM, a GRU or an RNN, and how each other first differs from what it is nearest."""

from __future__ import annotations

import pytest

from lstmc.interp import forward
from lstmc.ir import Graph, Scan
from lstmc.ops import Input, Param
from lstmc.passes import run_passes
from lstmc.patterns import GRU, LSTM, RNN, Unrecognised, recognise
from lstmc.pipeline import MODEL_PASSES
from lstmc.plugins import CELLS, entry_points_of
from lstmc.testing import random_leaves
from tests.cells.scanned import cell_graph
from tests.patterns.by_numpy import assert_computes

RECOGNISED = {
    "gru": GRU,
    "gru_reset_after": GRU,
    "lstm": LSTM,
    "lstm_cifg": LSTM,
    "lstm_peephole": LSTM,
    "rnn": RNN,
}
BY_PASSES = {"pointer": ("LSTM", "each step to return h or c alone")}  # an LSTM once what no state needs is outside
UPDATE = "h' = z * h + (1 - z) * n"
OTHERS = {
    "antisymmetric": ("GRU", UPDATE),
    "attention_lstm": ("LSTM", "a product of the state %h_prev"),
    "bahdanau": ("GRU", "a product of the state %s_prev"),
    "cfc": ("GRU", UPDATE),
    "causal_conv": ("LSTM", "two states, h and c"),
    "clockwork": ("GRU", "n = tanh(W x + b + R (r * h)), or r * (R h) in it"),
    "conv_gru": ("GRU", "states [N, H]"),
    "conv_lstm": ("LSTM", "states [N, H]"),
    "delta_net": ("GRU", "states [N, H]"),
    "gru_d": ("GRU", "one state, h"),
    "indrnn": ("RNN", "a sum of W x, R h and b"),
    "janet": ("GRU", UPDATE),
    "lstm_layernorm": ("LSTM", "h' = o * tanh(c')"),
    "lstm_multiplicative": ("LSTM", "a product of the state %h_prev"),
    "lstm_projected": ("LSTM", "states [N, H]"),
    "lmu": ("LSTM", "states [N, H]"),
    "lru": ("LSTM", "c' = f * c + i * g"),
    "luong": ("LSTM", "two states, h and c"),
    "slstm": ("LSTM", "two states, h and c"),
    "ltc": ("RNN", "h' = f(W x + b + R h), f being a function such as tanh"),
    "mamba": ("LSTM", "states [N, H]"),
    "mgu": ("GRU", "two gates, an update gate z and a reset gate r (one alone is a minimal gated unit)"),
    "min_gru": ("GRU", UPDATE),
    "min_lstm": ("GRU", UPDATE),
    "mlstm": ("LSTM", "two states, h and c"),
    "ntm": ("LSTM", "two states, h and c"),
    "phased_lstm": ("LSTM", "c' = f * c + i * g"),
    "qrnn": ("LSTM", "states [N, H]"),
    "rhn": ("GRU", UPDATE),
    "sru": ("LSTM", "two states, h and c"),
    "aaren": ("LSTM", "two states, h and c"),
    "gated_delta_net": ("GRU", "states [N, H]"),
    "gla": ("GRU", "states [N, H]"),
    "gru_blocks": ("GRU", "n = tanh(W x + b + R (r * h)), or r * (R h) in it"),
    "hgrn2": ("GRU", "states [N, H]"),
    "linoss": ("LSTM", "c' = f * c + i * g"),
    "lstm_blocks": ("LSTM", "a sum of W x, R h and b"),
    "mamba2": ("LSTM", "states [N, H]"),
    "mlstm_heads": ("LSTM", "two states, h and c"),
    "para_gru": ("GRU", "n = tanh(W x + b + R (r * h)), or r * (R h) in it"),
    "retnet": ("GRU", "states [N, H]"),
    "rg_lru": ("GRU", UPDATE),
    "rwkv6": ("LSTM", "states [N, H]"),
    "rwkv7": ("LSTM", "states [N, H]"),
    "s5": ("LSTM", "c' = f * c + i * g"),
    "slstm_heads": ("LSTM", "two states, h and c"),
    "titans": ("LSTM", "states [N, H]"),
    "ttt_linear": ("GRU", "states [N, H]"),
    "ugrnn": ("GRU", "n = tanh(W x + b + R (r * h)), or r * (R h) in it"),
}


def stages(name: str) -> tuple[Graph, Graph]:
    graph = cell_graph(name, (3, 2))
    return graph, run_passes(graph, MODEL_PASSES, ())[-1].graph


def scans(graph: Graph) -> list[str]:
    """Those of the cell: one that counts its steps is another scan."""
    return [node.name for node in graph if isinstance(node.op, Scan) and node.op.body.name != "step_index"]


def test_every_library_cell_is_here() -> None:
    names = {name for name, (point, *_) in entry_points_of(CELLS).items() if point.value.startswith("lstmc.cells.")}
    assert names == {*RECOGNISED, *BY_PASSES, *OTHERS}


@pytest.mark.parametrize("name", RECOGNISED)
def test_what_is_recognised_computes_what_the_cell_does(name: str) -> None:
    for graph in stages(name):
        (scan,) = scans(graph)
        found = recognise(graph, scan)
        assert isinstance(found, RECOGNISED[name])
        assert_computes(found, forward(graph, random_leaves(graph, Input), random_leaves(graph, Param, -1, 1)))


@pytest.mark.parametrize("name", BY_PASSES)
def test_what_is_recognised_after_the_passes_alone(name: str) -> None:
    kind, expected = BY_PASSES[name]
    written, passed = stages(name)
    (before,), (after,) = scans(written), scans(passed)
    found = recognise(written, before)
    assert isinstance(found, Unrecognised)
    assert found.differences[kind].expected == expected
    assert isinstance(recognise(passed, after), LSTM)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_says_its_first_difference(name: str) -> None:
    kind, expected = OTHERS[name]
    for graph in stages(name):
        (scan,) = scans(graph)
        found = recognise(graph, scan)
        assert isinstance(found, Unrecognised)
        assert found.differences[kind].expected == expected
