"""The minimal gated unit."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, tanh, xavier

N, D, H = dims("N D H")


@cell
def mgu(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_f: Value = Param(H, D, fill=xavier()),
    U_f: Value = Param(H, H, fill=xavier()),
    b_f: Value = Param(H, fill=constant(1)),
    W_h: Value = Param(H, D, fill=xavier()),
    U_h: Value = Param(H, H, fill=xavier()),
    b_h: Value = Param(H, fill=constant(0)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A GRU with one gate for both: h' = (1 - f) h + f tanh(W_h x + U_h (f h)).

    Zhou et al. 2016, arXiv:1603.09420, equations (5) to (7).
    """
    f = gate(linear(x, W_f, b_f) + linear(h, U_f))
    n = activation(linear(x, W_h, b_h) + linear(f * h, U_h))
    h = (1 - f) * h + f * n
    return h, {"h": h}
