"""A cell that uses the op."""

from __future__ import annotations

from lstmc import Input, Param, State, Value, cell, dims, linear, relu, tanh, xavier
from lstmc_plugin_example.ops import exponential

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
    """The minimal gated unit of Zhou et al. 2016, arXiv:1603.09420, (5) to (7), that forgets by half-lives."""
    kept = exponential(-relu(linear(x, W_f) + linear(h, U_f)), 2)  # for 1 - f
    h = kept * h + (1 - kept) * tanh(linear(x, W_h) + linear((1 - kept) * h, U_h))
    return h, {"h": h}
