"""Recurrent cells found in scans: what their step computes, whatever its nodes are called and however it is written."""

from lstmc.patterns.cells import (
    GRU,
    LSTM,
    RNN,
    Cell,
    Difference,
    Entering,
    Gate,
    Result,
    State,
    Unrecognised,
    Valid,
    describe,
)
from lstmc.patterns.core_rules import CORE_RULES, multiplied
from lstmc.patterns.equations import Equations, Reading, Rule
from lstmc.patterns.gate_order import GRU_ORDERS, LSTM_ORDERS, moved
from lstmc.patterns.gru import match_gru
from lstmc.patterns.lstm import match_lstm
from lstmc.patterns.lstm_tail import LSTMTail, lstm_tails, packed
from lstmc.patterns.polynomial import Columns, Matrix, Place, Polynomial
from lstmc.patterns.recognise import recognise
from lstmc.patterns.rnn import match_rnn
from lstmc.patterns.step import Mismatch

__all__ = [
    "CORE_RULES",
    "GRU",
    "GRU_ORDERS",
    "LSTM",
    "LSTM_ORDERS",
    "RNN",
    "Cell",
    "Columns",
    "Difference",
    "Entering",
    "Equations",
    "Gate",
    "LSTMTail",
    "Matrix",
    "Mismatch",
    "Place",
    "Polynomial",
    "Reading",
    "Result",
    "Rule",
    "State",
    "Unrecognised",
    "Valid",
    "describe",
    "lstm_tails",
    "match_gru",
    "match_lstm",
    "match_rnn",
    "moved",
    "multiplied",
    "packed",
    "recognise",
]
