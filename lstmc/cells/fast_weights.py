"""Matrices that a step writes to and reads from: linear attention, the delta rule, learning in the state."""

import numpy as np

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    const,
    constant,
    cos,
    dims,
    einsum,
    exp,
    group_norm,
    l2_norm,
    layer_norm,
    linear,
    log_sigmoid,
    merge_heads,
    outer,
    params,
    rms_norm,
    rsqrt,
    sigmoid,
    silu,
    sin,
    softplus,
    split,
    split_heads,
    step_index,
    sum,
    tanh,
    uniform,
    xavier,
)

N, D, H, K, G, V, R = dims("N D H K G V R")
E = 2.718281828459045


# A linear transformer with the delta rule, one step at a time
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
    section 3.3: k = silu(W_k x) divided by its length, sqrt(sum of squares + ``eps``), and q likewise.
    beta = sigmoid(w_beta x + b_beta).
    """
    q, k = silu(linear(x, W_q)), silu(linear(x, W_k))
    q = q * rsqrt(sum(q * q, axis=-1, keepdims=True) + eps)
    k = k * rsqrt(sum(k * k, axis=-1, keepdims=True) + eps)
    beta = sigmoid(linear(x, w_beta, b_beta))
    S = S + outer(beta * (linear(x, W_v) - einsum("nhk,nk->nh", S, k)), k)
    return einsum("nhk,nk->nh", S, q), {"S": S}


# DeltaNet with a gate: a memory that forgets by a share, and is written by the delta rule
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

    Yang et al. 2024, arXiv:2412.06464, equation (10) and section 3.4, without the short convolutions (put
    ``causal_conv`` before the cell for these): G heads of K keys and V values; q and k are silu(W x) of length 1. alpha
    = exp(-exp(A_log) softplus(W_alpha x + b_alpha)) and beta = sigmoid(W_beta x) are one number for each head.
    """
    q, k, v = (split_heads(silu(linear(x, W)), G) for W in (W_q, W_k, W_v))
    q, k = l2_norm(q), l2_norm(k)
    alpha = exp(-exp(A_log) * softplus(linear(x, W_alpha, b_alpha)))[..., None]
    beta = sigmoid(linear(x, W_beta))[..., None]
    old = alpha * einsum("ngvk,ngk->ngv", S, k)
    S = alpha[..., None] * S + outer(beta * (v - old), k)
    o = merge_heads(rms_norm(einsum("ngvk,ngk->ngv", S, q)))
    return linear(silu(linear(x, W_g)) * o, W_o), {"S": S}


# Gated linear attention: a matrix for each head, of which every row of keys decays by a gate of its own
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

    Yang et al. 2023, arXiv:2312.06635, sections 4.1 and 4.4: G heads of K keys and V values each; norm is a layer norm
    of each head. The gate is alpha = sigmoid(W_2 W_1 x + b)^(1 / tau), of the low rank R.
    """
    q, k, v = (split_heads(linear(x, W), G) for W in (W_Q, W_K, W_V))
    alpha = split_heads(exp(log_sigmoid(linear(linear(x, W_1), W_2, b)) / tau), G)
    S = alpha[..., None] * S + outer(k, v)
    o = merge_heads(layer_norm(einsum("ngkv,ngk->ngv", S, q)))
    return linear(silu(linear(x, W_r, b_r)) * o, W_O), {"S": S}


# Retention: linear attention whose heads forget at fixed rates, with rotated queries and keys
@cell
def retnet(
    x: Value = Input(N, D),
    S: Value = State(N, G, 2 * K, H),
    *,
    W_Q: Value = Param(2 * G * K, D, fill=xavier()),
    W_K: Value = Param(2 * G * K, D, fill=xavier()),
    W_V: Value = Param(G * H, D, fill=xavier()),
    W_G: Value = Param(G * H, D, fill=xavier()),
    W_O: Value = Param(D, G * H, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """S' = gamma S + k v^T, o = S'^T q;  y = W_O (silu(W_G x) norm(o)), with q and k turned by n theta in step n.

    Sun et al. 2023, arXiv:2307.08621, equations (3), (6) and (8): G heads of H values and 2 K keys, where two keys make
    a complex number. Head g has gamma = 1 - 2^(-5 - g), and pair j has theta = 10000^(-j / K).
    """
    _, heads, keys, _ = S.shape
    pair = np.arange(keys) % (keys // 2)
    angle = step_index() * const(10000.0 ** (-2 * pair / keys))
    c, s = cos(angle), sin(angle) * const(np.where(np.arange(keys) == pair, -1, 1))
    q, k, v = (split_heads(linear(x, W), heads) for W in (W_Q, W_K, W_V))
    q, k = (u * c + concat(*split(u, 2)[::-1]) * s for u in (q, k))
    S = const(1 - 2.0 ** (-5 - np.arange(heads)))[:, None, None] * S + outer(k, v)
    o = group_norm(merge_heads(einsum("ngkv,ngk->ngv", S, q)), heads)
    return linear(silu(linear(x, W_G)) * o, W_O), {"S": S}


# Test-time training: the state is a linear model, of which each step is a step of gradient descent
@cell
def ttt_linear(
    x: Value = Input(N, D),
    W: Value = State(N, K, K),
    *,
    theta_K: Value = Param(K, D, fill=xavier()),
    theta_V: Value = Param(K, D, fill=xavier()),
    theta_Q: Value = Param(K, D, fill=xavier()),
    theta_lr: Value = Param(1, D, fill=xavier()),
    eta_base: float = 1,
) -> tuple[Value, dict[str, Value]]:
    """W' = W - eta grad |f(k; W) - v|^2;  y = f(q; W'), where f(z; W) = z + W z, and k, v, q are views of x.

    Sun et al. 2024, arXiv:2407.04620, equations (4) and (5), with one head and a gradient at every step. eta is
    eta_base sigmoid(theta_lr x), as in section 2.7. The paper's f also has a layer norm of W z. It is left out here:
    while W is near zero, the gradient of the norm, and so a rounding error, is as large as 1 / sqrt(eps).
    """
    k, v, q = linear(x, theta_K), linear(x, theta_V), linear(x, theta_Q)
    eta = eta_base * sigmoid(linear(x, theta_lr))
    error = k + einsum("nij,nj->ni", W, k) - v
    W = W - outer(2 * eta * error, k)
    return q + einsum("nij,nj->ni", W, q), {"W": W}


# Titans' neural memory with a linear memory: gradient descent with momentum and forgetting, at each step
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

    Behrouz et al. 2025, arXiv:2501.00663, equations (11) to (15), with a single matrix as the memory. Keys and queries
    are silu(W x) of length 1, and v = silu(W_V x). alpha, eta and theta are sigmoids of x.
    """
    k, v, q = l2_norm(silu(linear(x, W_K))), silu(linear(x, W_V)), l2_norm(silu(linear(x, W_Q)))
    alpha = sigmoid(linear(x, w_alpha, b_alpha))[..., None]
    eta, theta = sigmoid(linear(x, w_eta, b_eta)), sigmoid(linear(x, w_theta, b_theta))
    S = eta[..., None] * S - outer(2 * theta * (einsum("nhk,nk->nh", M, k) - v), k)
    M = (1 - alpha) * M + S
    return einsum("nhk,nk->nh", M, q), {"M": M, "S": S}


# RWKV-6, Finch: linear attention with a decay that depends on the input, and a bonus for the present step
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
    values. r, k, v, g and d are products of mixtures of x and ``before``, the x of the last step; the shares of a
    mixture depend on both through a matrix of rank R. mu, A and B are in the order r, k, v, g, d; d is b_w + B_w
    tanh(A_w x_d).
    """
    ahead = before - x
    shared = x + ahead * mu_x
    mixed = [x + ahead * (m + linear(tanh(linear(shared, a)), b)) for m, a, b in zip(mu, A, B, strict=True)]
    r, k, v = (split_heads(linear(z, W), G) for z, W in zip(mixed[:3], (W_r, W_k, W_v), strict=True))
    w = split_heads(exp(-exp(b_w + linear(tanh(linear(mixed[4], A_w)), B_w))), G)
    new = outer(k, v)
    o = group_norm(merge_heads(einsum("ngkv,ngk->ngv", u[..., None] * new + S, r)), G, gain, bias)
    return linear(silu(linear(mixed[3], W_g)) * o, W_o), {"before": x, "S": w[..., None] * S + new}


# RWKV-7, Goose: a delta rule whose decay, learning rate and removed key are vectors
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
    values. Each of r, w, k, v, a, g reads another mixture of x and ``before``, the x of the last step; mu is in this
    order. w = exp(-e^-0.5 sigmoid(d)), a and g have rank R, kappa is (xi k) of length 1, and k~ = k (1 + alpha (a -
    1)).
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
