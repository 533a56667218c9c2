"""Long short-term memory whose gates see the cell state."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, uniform, xavier

N, D, H = dims("N D H")


@cell
def lstm_peephole(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    p_i: Value = Param(H, fill=uniform(-0.1, 0.1)),
    p_f: Value = Param(H, fill=uniform(-0.1, 0.1)),
    p_o: Value = Param(H, fill=uniform(-0.1, 0.1)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """Input and forget gate see c, the output gate sees c', each through a diagonal matrix.

    Gers, Schraudolph and Schmidhuber 2002, "Learning precise timing with LSTM recurrent networks"; equations (7)
    to (11) of Graves, arXiv:1308.0850. Gates in the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    new_c = gate(f + c * p_f) * c + gate(i + c * p_i) * activation(g)
    h = gate(o + new_c * p_o) * activation(new_c)
    return h, {"h": h, "c": new_c}
