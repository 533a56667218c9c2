"""A cell that uses the op."""

from __future__ import annotations

from lstmc import Input, Param, State, Value, cell, dims, linear, sigmoid, xavier
from lstmc_plugin_example.ops import leaky_relu

N, D, H = dims("N D H")


@cell
def minimal_gated(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_f: Value = Param(H, D, fill=xavier()),
    U_f: Value = Param(H, H, fill=xavier()),
    W_h: Value = Param(H, D, fill=xavier()),
    U_h: Value = Param(H, H, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """The minimal gated unit of Zhou et al. 2016, arXiv:1603.09420, (5) to (7), with a leaky relu for the tanh."""
    f = sigmoid(linear(x, W_f) + linear(h, U_f))
    h = (1 - f) * h + f * leaky_relu(linear(x, W_h) + linear(f * h, U_h), 0.125)
    return h, {"h": h}
