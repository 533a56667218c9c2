"""The gated recurrent unit of images: products are convolutions."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, conv, dims, sigmoid, split, tanh, xavier

N, C, F, Y, X, K = dims("N C F Y X K")


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
