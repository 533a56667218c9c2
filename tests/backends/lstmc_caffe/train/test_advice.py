"""What is advised where a loss has gone wrong."""

from __future__ import annotations

import numpy as np

from lstmc.runs.solver import Solver
from lstmc.runs.updates import training_advice
from lstmc.verification.conditioning import NotFinite


def test_what_to_try() -> None:
    good, bad = np.zeros(2), np.array([0, np.inf])
    assert training_advice(Solver(base_lr=0.5), [{"x": good}]) == (
        "try base_lr below 0.5, clip_gradients=5, or smaller initial weights",
    )
    assert training_advice(Solver(clip_gradients=2), [{}]) == (
        "try base_lr below 0.01, clip_gradients below 2, or smaller initial weights",
    )
    assert training_advice(Solver(), [{"x": good, "t": bad, "m": bad}]) == (
        "its batch has NaN or infinity in t, m: check the data",
    )
    at = NotFinite("log", -np.inf, operands=(0.0,))
    assert training_advice(Solver(), [{"x": good}], at) == (
        "log is not finite: -inf where its operand is 0",
        "keep its operand in range, as with maximum(x, 1e-6) or clip(x, -50, 50)",
    )
    assert training_advice(Solver(), [{"x": good}], NotFinite("linear", np.inf)) == (
        "linear is not finite: inf",
        "try base_lr below 0.01, clip_gradients=5, or smaller initial weights",
    )
