"""Recurrent cells found in scans: what their step computes, whatever its nodes are called and however it is written."""

from lstmc.patterns.core_formulas import CORE_FORMULAS, multiplied
from lstmc.patterns.equations import Equations, Formula, Reading
from lstmc.patterns.lstm_tail import LSTMTail, lstm_tails, packed
from lstmc.patterns.polynomial import Columns, Matrix, Place, Polynomial
from lstmc.patterns.recognise import match_gru, match_lstm, match_rnn, recognise
from lstmc.patterns.recognised import (
    GRU,
    GRU_ORDERS,
    LSTM,
    LSTM_ORDERS,
    RNN,
    Activation,
    Clipped,
    Difference,
    Entering,
    Gate,
    HardSigmoid,
    Recognised,
    Result,
    State,
    Unrecognised,
    Valid,
    describe,
    moved,
)
from lstmc.patterns.step import Mismatch

__all__ = [
    "CORE_FORMULAS",
    "GRU",
    "GRU_ORDERS",
    "LSTM",
    "LSTM_ORDERS",
    "RNN",
    "Activation",
    "Clipped",
    "Columns",
    "Difference",
    "Entering",
    "Equations",
    "Formula",
    "Gate",
    "HardSigmoid",
    "LSTMTail",
    "Matrix",
    "Mismatch",
    "Place",
    "Polynomial",
    "Reading",
    "Recognised",
    "Result",
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
