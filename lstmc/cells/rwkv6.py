"""RWKV-6, Finch: linear attention with a decay that depends on the input, and a bonus for the present step."""

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
    group_norm,
    linear,
    merge_heads,
    outer,
    params,
    silu,
    split_heads,
    tanh,
    uniform,
    xavier,
)

N, D, G, K, V, R = dims("N D G K V R")


@cell
def rwkv6(
    x: Value = Input(N, D),
    before: Value = State(N, D),
    S: Value = State(N, G, K, V),
    *,
    mu_x: Value = Param(D, fill=uniform(0, 1)),
    mu: tuple[Value, ...] = params(5, D, fill=uniform(0, 1)),
    A: tuple[Value, ...] = params(5, R, D, fill=uniform(-0.01, 0.01)),
    B: tuple[Value, ...] = params(5, D, R, fill=uniform(-0.01, 0.01)),
    W_r: Value = Param(G * K, D, fill=xavier()),
    W_k: Value = Param(G * K, D, fill=xavier()),
    W_v: Value = Param(G * V, D, fill=xavier()),
    W_g: Value = Param(G * V, D, fill=xavier()),
    A_w: Value = Param(R, D, fill=uniform(-0.01, 0.01)),
    B_w: Value = Param(G * K, R, fill=uniform(-0.01, 0.01)),
    b_w: Value = Param(G * K, fill=uniform(-6, 0)),
    u: Value = Param(G, K, fill=uniform(-1, 1)),
    gain: Value = Param(G * V, fill=constant(1)),
    bias: Value = Param(G * V, fill=constant(0)),
    W_o: Value = Param(D, G * V, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """o = (diag(u) k v^T + S)^T r, S' = diag(w) S + k v^T;  y = W_o (silu(g) norm(o)), with w = exp(-exp(d)).

    Peng et al. 2024, arXiv:2404.05892, equations (11) to (20), the time mixing of one layer: G heads of K keys and V
    values. r, k, v, g and d are products of mixtures of x and ``before``, the x of the last step, of which the shares
    depend on both by a matrix of rank R. mu, A and B are in the order r, k, v, g, d; d is b_w + B_w tanh(A_w x_d).
    """
    ahead = before - x
    shared = x + ahead * mu_x
    mixed = [x + ahead * (m + linear(tanh(linear(shared, a)), b)) for m, a, b in zip(mu, A, B, strict=True)]
    r, k, v = (split_heads(linear(z, W), G) for z, W in zip(mixed[:3], (W_r, W_k, W_v), strict=True))
    w = split_heads(exp(-exp(b_w + linear(tanh(linear(mixed[4], A_w)), B_w))), G)
    new = outer(k, v)
    o = group_norm(merge_heads(einsum("ngkv,ngk->ngv", u[..., None] * new + S, r)), G, gain, bias)
    return linear(silu(linear(mixed[3], W_g)) * o, W_o), {"before": x, "S": w[..., None] * S + new}
