"""RWKV-7, Goose: a delta rule whose decay, learning rate and removed key are vectors."""

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
    l2_norm,
    linear,
    merge_heads,
    outer,
    params,
    sigmoid,
    split_heads,
    tanh,
    uniform,
    xavier,
)

N, D, G, K, R = dims("N D G K R")
E = 2.718281828459045


@cell
def rwkv7(
    x: Value = Input(N, D),
    before: Value = State(N, D),
    S: Value = State(N, G, K, K),
    *,
    mu: tuple[Value, ...] = params(6, D, fill=uniform(0, 1)),
    W_r: Value = Param(G * K, D, fill=xavier()),
    W_k: Value = Param(G * K, D, fill=xavier()),
    W_v: Value = Param(G * K, D, fill=xavier()),
    A_w: Value = Param(R, D, fill=xavier()),
    B_w: Value = Param(G * K, R, fill=xavier()),
    b_w: Value = Param(G * K, fill=uniform(-6, 0)),
    A_a: Value = Param(R, D, fill=xavier()),
    B_a: Value = Param(G * K, R, fill=xavier()),
    b_a: Value = Param(G * K, fill=constant(0)),
    A_g: Value = Param(R, D, fill=xavier()),
    B_g: Value = Param(G * K, R, fill=xavier()),
    xi: Value = Param(G * K, fill=constant(0.85)),
    alpha: Value = Param(G * K, fill=constant(1)),
    rho: Value = Param(G, K, fill=uniform(-0.1, 0.1)),
    gain: Value = Param(G * K, fill=constant(1)),
    bias: Value = Param(G * K, fill=constant(0)),
    W_o: Value = Param(D, G * K, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """S' = S (diag(w) - kappa^T (a kappa)) + v^T k~, o = S' r;  y = W_o (g (norm(o) + (r rho k~) v)).

    Peng et al. 2025, arXiv:2503.14456, equations (2) to (17), the time mixing of a first layer: G heads of K keys and
    values. Each of r, w, k, v, a, g is of its own mixture, mu in this order, of x and ``before``, the x of the last
    step. w = exp(-e^-0.5 sigmoid(d)), a and g have rank R, kappa is (xi k) of length 1, and k~ = k (1 + alpha (a - 1)).
    """
    x_r, x_w, x_k, x_v, x_a, x_g = (x + (before - x) * m for m in mu)
    r, k, v = split_heads(linear(x_r, W_r), G), linear(x_k, W_k), split_heads(linear(x_v, W_v), G)
    w = split_heads(exp(-(E**-0.5) * sigmoid(b_w + linear(tanh(linear(x_w, A_w)), B_w))), G)
    a = sigmoid(b_a + linear(linear(x_a, A_a), B_a))
    kappa, new = l2_norm(split_heads(xi * k, G), eps=1e-12), split_heads(k + k * alpha * (a - 1), G)
    removed = outer(einsum("ngvk,ngk->ngv", S, kappa), split_heads(a, G) * kappa)
    S = S * w[..., None, :] - removed + outer(v, new)
    o = group_norm(merge_heads(einsum("ngvk,ngk->ngv", S, r)), G, gain, bias, eps=64e-5)
    bonus = merge_heads(einsum("ngk,gk,ngk->ng", r, rho, new)[..., None] * v)
    return linear(linear(sigmoid(linear(x_g, A_g)), B_g) * (o + bonus), W_o), {"before": x, "S": S}
