"""Long short-term memory of images: products are convolutions."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, conv, dims, sigmoid, split, tanh, xavier

N, C, F, Y, X, K = dims("N C F Y X K")


@cell
def conv_lstm(
    x: Value = Input(N, C, Y, X),
    h: Value = State(N, F, Y, X),
    c: Value = State(N, F, Y, X),
    *,
    W_x: Value = Param(4 * F, C, K, K, fill=xavier()),
    b: Value = Param(4 * F, fill=constant(0)),
    W_h: Value = Param(4 * F, F, K, K, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """An LSTM with a K x K window (K odd) in place of each matrix: images [C, Y, X] in, F maps of the same size out.

    Shi et al. 2015, arXiv:1506.04214, equation (3), without peepholes. Gates in the order i, f, o, g.
    """
    pad = W_x.shape[-1] // 2
    i, f, o, g = split(conv(x, W_x, b, pad=pad) + conv(h, W_h, pad=pad), 4, axis=1)
    c = gate(f) * c + gate(i) * activation(g)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}
