"""Cells whose products are convolutions, over images or over time."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, concat, constant, conv, dims, linear, sigmoid, split, tanh, xavier

N, D, H, K, C, F, Y, X = dims("N D H K C F Y X")


# A convolution over time that sees no future frame: its state is the past
@cell
def causal_conv(
    x: Value = Input(N, D),
    past: Value = State(N, (K - 1) * D),
    *,
    W: Value = Param(H, K * D, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """y[t] = W (x[t - K + 1], ..., x[t]) + b: a causal convolution of width K, one product of the last K frames.

    van den Oord et al. 2016, arXiv:1609.03499, section 2.1. The state ``past`` has the last K - 1 frames, the oldest
    first. W comes from PyTorch's Conv1d as ``weight.transpose(1, 2).reshape(H, K * D)``.
    """
    window = concat(past, x, axis=1)
    return linear(window, W, b), {"past": window[:, x.shape[1] :]}


# Long short-term memory of images: products are convolutions
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


# The gated recurrent unit of images: products are convolutions
@cell
def conv_gru(
    x: Value = Input(N, C, Y, X),
    h: Value = State(N, F, Y, X),
    *,
    W_x: Value = Param(3 * F, C, K, K, fill=xavier()),
    b: Value = Param(3 * F, fill=constant(0)),
    W_h: Value = Param(2 * F, F, K, K, fill=xavier()),
    U: Value = Param(F, F, K, K, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A GRU with a K x K window (K odd) in place of each matrix: images [C, Y, X] in, F maps of the same size out.

    Ballas et al. 2015, arXiv:1511.06432, equations (6) to (9): h' = (1 - z) h + z n. Rows of W_x and b in the order
    z, r, n; of W_h in the order z, r.
    """
    pad = W_x.shape[-1] // 2
    x_z, x_r, x_n = split(conv(x, W_x, b, pad=pad), 3, axis=1)
    h_z, h_r = split(conv(h, W_h, pad=pad), 2, axis=1)
    z, r = gate(x_z + h_z), gate(x_r + h_r)
    h = (1 - z) * h + z * activation(x_n + conv(r * h, U, pad=pad))
    return h, {"h": h}
