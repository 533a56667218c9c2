"""Attention as a recurrent cell: softmax over all steps so far, for one learned query."""

from lstmc import Input, Param, State, Value, cell, dims, exp, gaussian, linear, maximum, sum, xavier

N, D, H, K = dims("N D H K")


@cell
def aaren(
    x: Value = Input(N, D),
    a: Value = State(N, H),
    c: Value = State(N, 1),
    m: Value = State(N, 1, fill=-1e30),
    *,
    q: Value = Param(K, fill=gaussian(0, 1)),
    W_k: Value = Param(K, D, fill=xavier()),
    W_v: Value = Param(H, D, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """o = a' / c', the attention of a query q to all steps: a' = a exp(m - m') + v exp(s - m'), with s = q k / sqrt(K).

    Feng et al. 2024, arXiv:2405.13956, section 3.1 and figure 2. c' is the sum of the weights, as a' is of the values,
    both over exp(m'), and m' = max(m, s) is the largest score so far. The query is learned.
    """
    s = sum(linear(x, W_k) * q, axis=-1, keepdims=True) * q.shape[0] ** -0.5
    u = maximum(m, s)
    old, new = exp(m - u), exp(s - u)
    a, c = a * old + linear(x, W_v) * new, c * old + new
    return a / c, {"a": a, "c": c, "m": u}
