"""xLSTM's sLSTM with heads: exponential gates, block-diagonal recurrent matrices, a norm of each head."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    block_linear,
    cell,
    constant,
    dims,
    exp,
    group_norm,
    linear,
    log_sigmoid,
    maximum,
    sigmoid,
    split,
    tanh,
    xavier,
)

N, D, G, V = dims("N D G V")


@cell
def slstm_heads(
    x: Value = Input(N, D),
    h: Value = State(N, G * V),
    c: Value = State(N, G * V),
    n: Value = State(N, G * V),
    m: Value = State(N, G * V),
    *,
    W: Value = Param(4 * G * V, D, fill=xavier()),
    b: Value = Param(4 * G * V, fill=constant(0)),
    R_i: Value = Param(G, V, V, fill=xavier()),
    R_f: Value = Param(G, V, V, fill=xavier()),
    R_z: Value = Param(G, V, V, fill=xavier()),
    R_o: Value = Param(G, V, V, fill=xavier()),
    gain: Value = Param(G * V, fill=constant(1)),
) -> tuple[Value, dict[str, Value]]:
    """c' = f c + i tanh(z), n' = f n + i, h' = sigmoid(o) c' / n': an sLSTM of G heads, each with V units.

    Beck et al. 2024, arXiv:2405.04517, section 2.2, equations (8) to (18), and appendix A.1 for the heads. i is an
    exponential and f a sigmoid; m' = max(ln f + m, ln i) stabilises, and c' and n' are over exp(m'). y is h' with a
    group norm over heads. Rows of W and b in the order i, f, z, o.
    """
    x_i, x_f, x_z, x_o = split(linear(x, W, b), 4)
    i = x_i + block_linear(h, R_i)
    f = log_sigmoid(x_f + block_linear(h, R_f)) + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    c, n = f * c + i * tanh(x_z + block_linear(h, R_z)), f * n + i
    h = sigmoid(x_o + block_linear(h, R_o)) * (c / n)
    return group_norm(h, G, gain), {"h": h, "c": c, "n": n, "m": m}
