"""A GRU with heads: its recurrent matrices are block-diagonal."""

from lstmc import Input, Param, State, Value, block_linear, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, G, V = dims("N D G V")


@cell
def gru_blocks(
    x: Value = Input(N, D),
    h: Value = State(N, G * V),
    *,
    W: Value = Param(3 * G * V, D, fill=xavier()),
    b: Value = Param(3 * G * V, fill=constant(0)),
    R_r: Value = Param(G, V, V, fill=xavier()),
    R_z: Value = Param(G, V, V, fill=xavier()),
    R_n: Value = Param(G, V, V, fill=xavier()),
    b_n: Value = Param(G * V, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """h' = z h + (1 - z) n, n = tanh(x_n + r (R_n h + b_n)): a GRU of G heads, each with V units.

    Poeppel et al. 2024, arXiv:2412.07752 (FlashRNN), section 3.1: each head sees its own h alone, by a block of the
    matrices R. Rows of W and b in the order r, z, n.
    """
    x_r, x_z, x_n = split(linear(x, W, b), 3)
    r = sigmoid(x_r + block_linear(h, R_r))
    z = sigmoid(x_z + block_linear(h, R_z))
    n = tanh(x_n + r * block_linear(h, R_n, b_n))
    h = z * h + (1 - z) * n
    return h, {"h": h}
