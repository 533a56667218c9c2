"""ParaGRU: a GRU whose recurrent matrices are diagonal, so that Newton's method solves all steps at once."""

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, uniform, xavier

N, D, H = dims("N D H")


@cell
def para_gru(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    B: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    a_z: Value = Param(H, fill=uniform(-1, 1)),
    a_r: Value = Param(H, fill=uniform(-1, 1)),
    a_h: Value = Param(H, fill=uniform(-1, 1)),
) -> tuple[Value, dict[str, Value]]:
    """h' = (1 - z) h + z c, where z = sigmoid(a_z h + x_z), r = sigmoid(a_r h + x_r), c = tanh(a_h (r h) + x_c).

    Danieli et al. 2025, arXiv:2510.21450, section 3, the ParaGRU of ParaRNN: a GRU with diagonal matrices A. (x_z, x_r,
    x_c) = B x + b, and rows of B and b are in the order z, r, c.
    """
    x_z, x_r, x_c = split(linear(x, B, b), 3)
    z = sigmoid(a_z * h + x_z)
    r = sigmoid(a_r * h + x_r)
    c = tanh(a_h * (r * h) + x_c)
    h = (1 - z) * h + z * c
    return h, {"h": h}
