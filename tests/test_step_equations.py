"""A step as equations, for the pages: as papers have them; what has no usual sign is left out."""

from __future__ import annotations

import pytest

from docs.generate_language import SYMBOLS, traced
from docs.step_equations import equations
from lstmc.api import library_cell

LSTM = r"""$$
\begin{array}{rcl}
(i, f, o, g) &=& \mathrm{split}(W_{x} x_{t} + b + W_{h} h_{t-1}) \\
c_{t} &=& \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
h_{t} &=& \sigma(o) \odot \tanh(c_{t})
\end{array}
$$"""
LINES = {
    "mgu": [
        r"f &=& \sigma(W_{f} x_{t} + b_{f} + U_{f} h_{t-1})",
        r"n &=& \tanh(W_{h} x_{t} + b_{h} + U_{h} (f \odot h_{t-1}))",
        r"h_{t} &=& (1 - f) \odot h_{t-1} + f \odot n",
    ],
    "lstm_multiplicative": [r"m &=& (W_{mx} x_{t}) \odot (W_{mh} h_{t-1})"],
    "min_lstm": [r"h_{t} &=& (u_{1} \odot h_{t-1} + u_{2} \odot n) \odot (u_{1} + u_{2})^{-1}"],
    "slstm": [r"u_{2} &=& e^{i - m_{t}}", r"h_{t} &=& \sigma(o) \odot c_{t} \odot n_{t}^{-1}"],
    "qrnn": [r"y_{t} &=& \sigma(o) \odot c_{t}", r"\mathrm{before}_{t} &=& x_{t}"],
}


def test_the_equations_of_the_lstm() -> None:
    assert equations(library_cell("lstm").step) == LSTM


@pytest.mark.parametrize("name", LINES)
def test_equations_have_signs_and_brackets(name: str) -> None:
    drawn = equations(library_cell(name).step)
    assert drawn is not None
    assert [line for line in LINES[name] if line not in drawn] == []


@pytest.mark.parametrize("name", ["rhn", "lmu", "clockwork", "ntm", "lstm_layernorm"])
def test_what_equations_would_not_make_clearer_has_none(name: str) -> None:
    assert equations(library_cell(name).step) is None


def test_numbers_that_are_sizes_of_an_example_are_symbols() -> None:
    graph, _ = traced("mean(x, axis=-1)", "reduce")
    assert "0.1667 " in str(equations(graph))
    assert equations(graph, SYMBOLS) == str(equations(graph)).replace("0.1667", r"\frac{1}{n}")
