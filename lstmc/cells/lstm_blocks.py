"""An LSTM with heads: its recurrent matrices are block-diagonal."""

from lstmc import Input, Param, State, Value, block_linear, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, G, V = dims("N D G V")


@cell
def lstm_blocks(
    x: Value = Input(N, D),
    h: Value = State(N, G * V),
    c: Value = State(N, G * V),
    *,
    W: Value = Param(4 * G * V, D, fill=xavier()),
    b: Value = Param(4 * G * V, fill=constant(0)),
    R_i: Value = Param(G, V, V, fill=xavier()),
    R_f: Value = Param(G, V, V, fill=xavier()),
    R_z: Value = Param(G, V, V, fill=xavier()),
    R_o: Value = Param(G, V, V, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """c' = sigmoid(f) c + sigmoid(i) tanh(z), h' = sigmoid(o) tanh(c'): an LSTM of G heads, each with V units.

    Poeppel et al. 2024, arXiv:2412.07752 (FlashRNN), section 3.1: each head sees its own h alone, by a block of the
    matrices R. Rows of W and b in the order i, f, z, o.
    """
    x_i, x_f, x_z, x_o = split(linear(x, W, b), 4)
    i = sigmoid(x_i + block_linear(h, R_i))
    f = sigmoid(x_f + block_linear(h, R_f))
    z = tanh(x_z + block_linear(h, R_z))
    o = sigmoid(x_o + block_linear(h, R_o))
    c = f * c + i * z
    h = o * tanh(c)
    return h, {"h": h, "c": c}
