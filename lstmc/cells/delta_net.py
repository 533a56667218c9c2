"""A linear transformer with the delta rule, one step at a time."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    einsum,
    linear,
    outer,
    rsqrt,
    sigmoid,
    silu,
    sum,
    xavier,
)

N, D, H, K = dims("N D H K")


@cell
def delta_net(
    x: Value = Input(N, D),
    S: Value = State(N, H, K),
    *,
    W_q: Value = Param(K, D, fill=xavier()),
    W_k: Value = Param(K, D, fill=xavier()),
    W_v: Value = Param(H, D, fill=xavier()),
    w_beta: Value = Param(1, D, fill=xavier()),
    b_beta: Value = Param(1, fill=constant(0)),
    eps: float = 1e-6,
) -> tuple[Value, dict[str, Value]]:
    """S' = S + beta (v - S k) k^T;  y = S' q: what S holds for the key k moves to v by a share beta.

    Schlag et al. 2021, arXiv:2102.11174, section 4.2; keys and queries as in Yang et al. 2024, arXiv:2406.06484,
    section 3.3: k = silu(W_k x) over its length, the square root of its squares' sum plus ``eps``, and so is q.
    beta = sigmoid(w_beta x + b_beta).
    """
    q, k = silu(linear(x, W_q)), silu(linear(x, W_k))
    q = q * rsqrt(sum(q * q, axis=-1, keepdims=True) + eps)
    k = k * rsqrt(sum(k * k, axis=-1, keepdims=True) + eps)
    beta = sigmoid(linear(x, w_beta, b_beta))
    S = S + outer(beta * (linear(x, W_v) - einsum("nhk,nk->nh", S, k)), k)
    return einsum("nhk,nk->nh", S, q), {"S": S}
