"""Gated linear attention: a matrix for each head, of which every row of keys decays by a gate of its own."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    einsum,
    exp,
    layer_norm,
    linear,
    log_sigmoid,
    merge_heads,
    outer,
    silu,
    split_heads,
    xavier,
)

N, D, G, K, V, R = dims("N D G K V R")


@cell
def gla(
    x: Value = Input(N, D),
    S: Value = State(N, G, K, V),
    *,
    W_Q: Value = Param(G * K, D, fill=xavier()),
    W_K: Value = Param(G * K, D, fill=xavier()),
    W_V: Value = Param(G * V, D, fill=xavier()),
    W_1: Value = Param(R, D, fill=xavier()),
    W_2: Value = Param(G * K, R, fill=xavier()),
    b: Value = Param(G * K, fill=constant(0)),
    W_r: Value = Param(G * V, D, fill=xavier()),
    b_r: Value = Param(G * V, fill=constant(0)),
    W_O: Value = Param(D, G * V, fill=xavier()),
    tau: float = 16,
) -> tuple[Value, dict[str, Value]]:
    """S' = diag(alpha) S + k v^T, o = S'^T q;  y = W_O (silu(W_r x + b_r) norm(o)): every key fades by its own gate.

    Yang et al. 2023, arXiv:2312.06635, sections 4.1 and 4.4: G heads of K keys and V values each; norm is that of a
    layer, of each head. The gate is alpha = sigmoid(W_2 W_1 x + b)^(1 / tau), of the low rank R.
    """
    q, k, v = (split_heads(linear(x, W), G) for W in (W_Q, W_K, W_V))
    alpha = split_heads(exp(log_sigmoid(linear(linear(x, W_1), W_2, b)) / tau), G)
    S = alpha[..., None] * S + outer(k, v)
    o = merge_heads(layer_norm(einsum("ngkv,ngk->ngv", S, q)))
    return linear(silu(linear(x, W_r, b_r)) * o, W_O), {"S": S}
