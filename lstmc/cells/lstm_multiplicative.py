"""Long short-term memory with a transition of its own for each input."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def lstm_multiplicative(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_mx: Value = Param(H, D, fill=xavier()),
    W_mh: Value = Param(H, H, fill=xavier()),
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_m: Value = Param(4 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """The gates see m = (W_mx x) (W_mh h), element by element, in place of h.

    Krause et al. 2016, arXiv:1609.07959, equations (16) to (21). Gates in the order i, f, o, g.
    """
    m = linear(x, W_mx) * linear(h, W_mh)
    i, f, o, g = split(linear(x, W_x, b) + linear(m, W_m), 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}
