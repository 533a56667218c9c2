"""Long short-term memory whose output is projected to fewer units."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H, P = dims("N D H P")


@cell
def lstm_projected(
    x: Value = Input(N, D),
    h: Value = State(N, P),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, P, fill=xavier()),
    W_p: Value = Param(P, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = W_p (sigmoid(o) tanh(c')), of P units where c has H: the recurrent product is P / H as large.

    Sak et al. 2014, arXiv:1402.1128, equations (1) to (6), without peepholes, as PyTorch's ``proj_size``. Gates in
    the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = linear(gate(o) * activation(c), W_p)
    return h, {"h": h, "c": c}
