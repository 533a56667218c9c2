"""The minimal GRU, which can be trained as a parallel scan."""

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, xavier

N, D, H = dims("N D H")


@cell
def min_gru(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(2 * H, D, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """h' = (1 - z) h + z n, where gate and value see x alone: one product for the whole sequence.

    Feng et al. 2024, arXiv:2410.01201, section 3.1. Rows in the order z, n.
    """
    z, n = split(linear(x, W, b), 2)
    z = sigmoid(z)
    h = (1 - z) * h + z * n
    return h, {"h": h}
