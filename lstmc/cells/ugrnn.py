"""The update gate recurrent network."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def ugrnn(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(2 * H, D, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = g h + (1 - g) tanh(c): an Elman network with one gate that keeps the old state.

    Collins et al. 2016, arXiv:1611.09913, section 2 (UGRNN). Rows in the order g, c.
    """
    g, c = split(linear(x, W_x, b) + linear(h, W_h), 2)
    g = gate(g)
    h = g * h + (1 - g) * activation(c)
    return h, {"h": h}
