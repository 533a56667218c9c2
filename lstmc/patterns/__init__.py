"""Recognition of recurrent cells in scans, by the formulas of their step, independent of names and notation."""

from lstmc.patterns.core_formulas import CORE_FORMULAS, multiplied
from lstmc.patterns.equations import Equations, Formula, Reading
from lstmc.patterns.linear import recurrences, scan_lines, state_lines
from lstmc.patterns.lstm_tail import LSTMTail, lstm_tails, packed
from lstmc.patterns.masks import operand_masks
from lstmc.patterns.matrix import MatrixStep, axes_of_one, matrix_step
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
from lstmc.patterns.recurrence import LEAST, Kind, Recurrence, state_arguments, states_read
from lstmc.patterns.step import Mismatch

__all__ = [
    "CORE_FORMULAS",
    "GRU",
    "GRU_ORDERS",
    "LEAST",
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
    "Kind",
    "LSTMTail",
    "Matrix",
    "MatrixStep",
    "Mismatch",
    "Place",
    "Polynomial",
    "Reading",
    "Recognised",
    "Recurrence",
    "Result",
    "State",
    "Unrecognised",
    "Valid",
    "axes_of_one",
    "describe",
    "lstm_tails",
    "match_gru",
    "match_lstm",
    "match_rnn",
    "matrix_step",
    "moved",
    "multiplied",
    "operand_masks",
    "packed",
    "recognise",
    "recurrences",
    "scan_lines",
    "state_arguments",
    "state_lines",
    "states_read",
]
