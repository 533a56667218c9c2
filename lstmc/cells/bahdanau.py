"""A decoder that looks at all states of an encoder, before each word."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    constant,
    dims,
    linear,
    sigmoid,
    softmax,
    split,
    sum,
    tanh,
    xavier,
)

N, D, S, E, A, H = dims("N D S E A H")


@cell
def bahdanau(
    x: Value = Input(N, D),
    memory: Value = Input(S, N, E),
    s: Value = State(N, H),
    *,
    U_a: Value = Param(A, E, fill=xavier()),
    W_a: Value = Param(A, H, fill=xavier()),
    v: Value = Param(1, A, fill=xavier()),
    W: Value = Param(3 * H, D + E, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    U_g: Value = Param(2 * H, H, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """A GRU of the last word x and of c = the sum of a_j memory_j; a = softmax(v tanh(W_a s + U_a memory_j)) over j.

    Bahdanau et al. 2014, arXiv:1409.0473, equations (5) and (6) and appendix A.2.2: s' = (1 - z) s + z n. ``memory``
    is static: what an encoder's scan returned, S steps of E elements. Rows of W and b in the order z, r, n, its
    columns x then c; rows of U_g in the order z, r.
    """
    e = linear(tanh(linear(memory, U_a) + linear(s, W_a)), v)
    c = sum(softmax(e, axis=0) * memory, axis=0)
    x_z, x_r, x_n = split(linear(concat(x, c), W, b), 3)
    s_z, s_r = split(linear(s, U_g), 2)
    z, r = sigmoid(x_z + s_z), sigmoid(x_r + s_r)
    s = (1 - z) * s + z * tanh(x_n + linear(r * s, U))
    return s, {"s": s}
