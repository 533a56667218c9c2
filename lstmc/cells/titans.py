"""Titans' neural memory with a linear memory: gradient descent with momentum and forgetting, at each step."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    einsum,
    l2_norm,
    linear,
    outer,
    sigmoid,
    silu,
    xavier,
)

N, D, H, K = dims("N D H K")


@cell
def titans(
    x: Value = Input(N, D),
    M: Value = State(N, H, K),
    S: Value = State(N, H, K),
    *,
    W_K: Value = Param(K, D, fill=xavier()),
    W_V: Value = Param(H, D, fill=xavier()),
    W_Q: Value = Param(K, D, fill=xavier()),
    w_alpha: Value = Param(1, D, fill=xavier()),
    b_alpha: Value = Param(1, fill=constant(-3)),
    w_eta: Value = Param(1, D, fill=xavier()),
    b_eta: Value = Param(1, fill=constant(0)),
    w_theta: Value = Param(1, D, fill=xavier()),
    b_theta: Value = Param(1, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """S' = eta S - theta grad |M k - v|^2, M' = (1 - alpha) M + S';  y = M' q: surprise S moves a memory M.

    Behrouz et al. 2025, arXiv:2501.00663, equations (11) to (15), with a memory that is one matrix. Keys and queries
    are silu(W x) of length 1, and v = silu(W_V x). alpha, eta and theta are sigmoids of x.
    """
    k, v, q = l2_norm(silu(linear(x, W_K))), silu(linear(x, W_V)), l2_norm(silu(linear(x, W_Q)))
    alpha = sigmoid(linear(x, w_alpha, b_alpha))[..., None]
    eta, theta = sigmoid(linear(x, w_eta, b_eta)), sigmoid(linear(x, w_theta, b_theta))
    S = eta[..., None] * S - outer(2 * theta * (einsum("nhk,nk->nh", M, k) - v), k)
    M = (1 - alpha) * M + S
    return einsum("nhk,nk->nh", M, q), {"M": M, "S": S}
