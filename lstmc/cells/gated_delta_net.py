"""DeltaNet with a gate: a memory that forgets by a share, and is written by the delta rule."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    dims,
    einsum,
    exp,
    l2_norm,
    linear,
    merge_heads,
    outer,
    rms_norm,
    sigmoid,
    silu,
    softplus,
    split_heads,
    uniform,
    xavier,
)

N, D, G, K, V = dims("N D G K V")


@cell
def gated_delta_net(
    x: Value = Input(N, D),
    S: Value = State(N, G, V, K),
    *,
    W_q: Value = Param(G * K, D, fill=xavier()),
    W_k: Value = Param(G * K, D, fill=xavier()),
    W_v: Value = Param(G * V, D, fill=xavier()),
    W_alpha: Value = Param(G, D, fill=xavier()),
    b_alpha: Value = Param(G, fill=uniform(-6.9, -2.3)),
    A_log: Value = Param(G, fill=uniform(0, 2.8)),
    W_beta: Value = Param(G, D, fill=xavier()),
    W_g: Value = Param(G * V, D, fill=xavier()),
    W_o: Value = Param(D, G * V, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """S' = alpha S (1 - beta k k^T) + beta v k^T, o = S' q;  y = W_o (silu(W_g x) rms_norm(o)).

    Yang et al. 2024, arXiv:2412.06464, equation (10) and section 3.4, without the short convolutions (``causal_conv``
    before it is one): G heads of K keys and V values; q and k are silu(W x) of length 1. alpha = exp(-exp(A_log)
    softplus(W_alpha x + b_alpha)) and beta = sigmoid(W_beta x), one of each for a head.
    """
    q, k, v = (split_heads(silu(linear(x, W)), G) for W in (W_q, W_k, W_v))
    q, k = l2_norm(q), l2_norm(k)
    alpha = exp(-exp(A_log) * softplus(linear(x, W_alpha, b_alpha)))[..., None]
    beta = sigmoid(linear(x, W_beta))[..., None]
    old = alpha * einsum("ngvk,ngk->ngv", S, k)
    S = alpha[..., None] * S + outer(beta * (v - old), k)
    o = merge_heads(rms_norm(einsum("ngvk,ngk->ngv", S, q)))
    return linear(silu(linear(x, W_g)) * o, W_o), {"S": S}
