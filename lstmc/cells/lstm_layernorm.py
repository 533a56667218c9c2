"""Long short-term memory with layer normalization."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, layer_norm, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def lstm_layernorm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    gain_x: Value = Param(4 * H, fill=constant(1)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    gain_h: Value = Param(4 * H, fill=constant(1)),
    b: Value = Param(4 * H, fill=constant(0)),
    gain_c: Value = Param(H, fill=constant(1)),
    b_c: Value = Param(H, fill=constant(0)),
    eps: float = 1e-5,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """Gates are LN(W_x x) + LN(W_h h) + b, all four normalized as one;  h' = sigmoid(o) tanh(LN(c')).

    Ba et al. 2016, arXiv:1607.06450, the LSTM of its supplementary material. The biases of the first two
    normalizations and b, which are three in the paper, are only ever seen as their sum, here b. Gates in the order
    i, f, o, g.
    """
    gates = layer_norm(linear(x, W_x), gain_x, eps=eps) + layer_norm(linear(h, W_h), gain_h, eps=eps)
    i, f, o, g = split(gates + b, 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = gate(o) * activation(layer_norm(c, gain_c, b_c, eps=eps))
    return h, {"h": h, "c": c}
