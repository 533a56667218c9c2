"""State spaces: linear recurrences that discretise a differential equation."""

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
    gaussian,
    linear,
    merge_heads,
    outer,
    relu,
    rms_norm,
    sigmoid,
    silu,
    sin,
    softplus,
    split,
    split_heads,
    sum,
    tanh,
    uniform,
    xavier,
)

N, D, H, P, M, E, S, R, K, G, V = dims("N D H P M E S R K G V")


# The linear recurrent unit: a diagonal of complex numbers, in real arithmetic
@cell
def lru(
    x: Value = Input(N, D),
    re: Value = State(N, H),
    im: Value = State(N, H),
    *,
    nu_log: Value = Param(H, fill=uniform(-4.6, -0.7)),
    theta_log: Value = Param(H, fill=uniform(-3, 1.8)),
    gamma_log: Value = Param(H, fill=uniform(-2, -0.2)),
    B: Value = Param(2 * H, D, fill=xavier()),
    C_re: Value = Param(P, H, fill=xavier()),
    C_im: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """s' = lambda s + exp(gamma_log) B x;  y = Re(C s') + W x, with lambda = exp(-exp(nu_log) + i exp(theta_log)).

    Orvieto et al. 2023, arXiv:2303.06349, section 3 and appendix A: complex lambda, B, C and s. ``re`` and ``im`` are
    the parts of s; rows of B in the order real, imaginary; y has P elements. The paper starts gamma_log at ln sqrt(1 -
    |lambda|^2) for the drawn lambda; the fill here draws it from the same range.
    """
    size, theta = exp(-exp(nu_log)), exp(theta_log)
    a, b, gamma = size * cos(theta), size * sin(theta), exp(gamma_log)
    x_re, x_im = split(linear(x, B), 2)
    re, im = a * re - b * im + gamma * x_re, b * re + a * im + gamma * x_im
    y = linear(re, C_re) - linear(im, C_im) + linear(x, W)
    return y, {"re": re, "im": im}


# The Legendre memory unit
def legendre(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A [M, M] and B [M, 1] of one step of a delay of ``theta`` steps, by zero-order hold: exp of [[A, B], [0, 0]]."""
    i, j = np.mgrid[:order, :order]
    a = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) / theta
    b = (2 * i[:, :1] + 1) * (-1.0) ** i[:, :1] / theta
    held = np.block([[a, b], [np.zeros((1, order + 1))]])
    halvings = max(0, int(np.ceil(np.log2(np.abs(held).sum(1).max()))) + 1)
    term = total = np.eye(order + 1)
    for k in range(1, 20):  # a norm of at most 1/2: the rest is below 1e-20
        term = term @ held / 2**halvings / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total[:order, :order], total[:order, order:]


@cell
def lmu(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    m: Value = State(N, M),
    *,
    e_x: Value = Param(1, D, fill=xavier()),
    e_h: Value = Param(1, H, fill=xavier()),
    e_m: Value = Param(1, M, fill=constant(0)),
    W_x: Value = Param(H, D, fill=xavier()),
    W_h: Value = Param(H, H, fill=xavier()),
    W_m: Value = Param(H, M, fill=xavier()),
    theta: float = 64.0,
) -> tuple[Value, dict[str, Value]]:
    """u = e_x x + e_h h + e_m m;  m' = A m + B u;  h' = tanh(W_x x + W_h h + W_m m').

    Voelker et al. 2019, "Legendre Memory Units: continuous-time representation in recurrent neural networks",
    section 2: m holds the last ``theta`` steps of u as M Legendre polynomials. A and B are fixed: the paper's matrices,
    discretised over one step with u constant during the step.
    """
    A, B = legendre(m.shape[-1], theta)
    u = linear(x, e_x) + linear(h, e_h) + linear(m, e_m)
    m = linear(m, const(A)) + linear(u, const(B))
    h = tanh(linear(x, W_x) + linear(h, W_h) + linear(m, W_m))
    return h, {"h": h, "m": m}


# Mamba: a state space whose step, input and output depend on what is seen
@cell
def mamba(
    x: Value = Input(N, D),
    before: Value = State(N, K - 1, E),
    s: Value = State(N, S, E),
    *,
    W_in: Value = Param(2 * E, D, fill=xavier()),
    w: Value = Param(K, E, fill=uniform(-0.5, 0.5)),
    b: Value = Param(E, fill=constant(0)),
    W_r: Value = Param(R, E, fill=xavier()),
    W_dt: Value = Param(E, R, fill=xavier()),
    b_dt: Value = Param(E, fill=uniform(-6.9, -2.3)),
    W_B: Value = Param(S, E, fill=xavier()),
    W_C: Value = Param(S, E, fill=xavier()),
    A_log: Value = Param(S, E, fill=uniform(0, 2.8)),
    skip: Value = Param(E, fill=constant(1)),
    W_out: Value = Param(D, E, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """s' = exp(dt A) s + dt u B(u);  y = W_out (silu(z) (s' C(u) + skip u)), with dt = softplus(W_dt W_r u + b_dt).

    Gu and Dao 2023, arXiv:2312.00752, algorithm 2 in the block of section 3.4: x is widened to u and z of E channels,
    and u is convolved over the last K steps, channel by channel, then silu. Each channel has S states with A =
    -exp(A_log), which is held for a step of dt, and Euler's rule for B, as in the authors' program. ``before`` is the
    last K - 1 of u. The block has neither norm nor residual: ``residual(mamba)`` adds its input. Rows of W_in in the
    order u, z.
    """
    u, z = split(linear(x, W_in), 2)
    seen = concat(before, u[:, None], axis=1)
    u = silu(sum(seen * w, axis=1) + b)
    dt = softplus(linear(linear(u, W_r), W_dt, b_dt))
    s = exp(dt[:, None] * -exp(A_log)) * s + outer(linear(u, W_B), dt * u)
    y = einsum("ns,nse->ne", linear(u, W_C), s) + skip * u
    return linear(silu(z) * y, W_out), {"before": seen[:, 1:], "s": s}


# A linear oscillatory state space: a forced harmonic oscillator for each unit, discretised implicitly
@cell
def linoss(
    x: Value = Input(N, D),
    z: Value = State(N, H),
    y: Value = State(N, H),
    *,
    A: Value = Param(H, fill=uniform(0, 1)),
    dt: Value = Param(H, fill=uniform(-2, 2)),
    B: Value = Param(H, D, fill=xavier()),
    C: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """z' = S (z - dt A y + dt B x), y' = y + dt z', with S = 1 / (1 + dt^2 A): the oscillators y'' = -A y + B x.

    Rusch and Rus 2024, arXiv:2410.03943, section 2, the implicit scheme LinOSS-IM. A is relu(A), so that the model is
    stable, and the time step sigmoid(dt). The output is C y' + W x, of P elements.
    """
    a, delta = relu(A), sigmoid(dt)
    S = 1 / (1 + delta * delta * a)
    z = S * (z - delta * a * y + delta * linear(x, B))
    y = y + delta * z
    return linear(y, C) + linear(x, W), {"z": z, "y": y}


# Mamba-2: a state space whose heads have one decay each, the dual of masked attention
@cell
def mamba2(
    x: Value = Input(N, D),
    before: Value = State(N, K - 1, G * V + 2 * S),
    h: Value = State(N, G, V, S),
    *,
    W_in: Value = Param(2 * G * V + 2 * S + G, D, fill=xavier()),
    w: Value = Param(K, G * V + 2 * S, fill=uniform(-0.5, 0.5)),
    b: Value = Param(G * V + 2 * S, fill=constant(0)),
    b_dt: Value = Param(G, fill=uniform(-6.9, -2.3)),
    A_log: Value = Param(G, fill=uniform(0, 2.8)),
    skip: Value = Param(G, fill=constant(1)),
    gain: Value = Param(G * V, fill=constant(1)),
    W_out: Value = Param(D, G * V, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """h' = exp(dt A) h + dt u B^T, y = h' C + skip u;  W_out rms_norm(silu(z) y), with one dt and one A for each head.

    Dao and Gu 2024, arXiv:2405.21060, sections 2 and 7: G heads of V channels with S states each; u, B and C are
    convolved over the last K steps, then silu, and B and C are the same for all heads. A = -exp(A_log), and dt =
    softplus. ``before`` is the last K - 1 of (u, B, C). Rows of W_in in the order z, (u, B, C), dt.
    """
    z, new, dt = split(linear(x, W_in), (G * V, G * V + 2 * S, G))
    seen = concat(before, new[:, None], axis=1)
    u, B, C = split(silu(sum(seen * w, axis=1) + b), (G * V, S, S))
    dt, u = softplus(dt + b_dt), split_heads(u, G)
    h = exp(dt * -exp(A_log))[..., None, None] * h + outer(dt[..., None] * u, B[:, None])
    y = einsum("ngvs,ns->ngv", h, C) + skip[:, None] * u
    return linear(rms_norm(silu(z) * merge_heads(y), gain), W_out), {"before": seen[:, 1:], "h": h}


# S5: a diagonal state space of many inputs and outputs, discretised by holding the input
@cell
def s5(
    x: Value = Input(N, D),
    re: Value = State(N, H),
    im: Value = State(N, H),
    *,
    Lambda_log: Value = Param(H, fill=uniform(-1, 0)),
    Lambda_im: Value = Param(H, fill=uniform(0.5, 3.1)),
    Delta_log: Value = Param(H, fill=uniform(-6.9, -2.3)),
    B: Value = Param(2 * H, D, fill=xavier()),
    C_re: Value = Param(P, H, fill=xavier()),
    C_im: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """s' = exp(Lambda Delta) s + (exp(Lambda Delta) - 1) / Lambda B x;  y = 2 Re(C s') + W x, in complex numbers.

    Smith et al. 2022, arXiv:2208.04933, section 3 and equations (5) and (6): one state of each conjugate pair is
    stored. Lambda = -exp(Lambda_log) + i Lambda_im, and the step is exp(Delta_log). ``re`` and ``im`` are the parts of
    s; rows of B in the order real, imaginary; y has P elements.
    """
    l_re, delta = -exp(Lambda_log), exp(Delta_log)
    size, turn = exp(l_re * delta), Lambda_im * delta
    a, b = size * cos(turn), size * sin(turn)
    square = l_re * l_re + Lambda_im * Lambda_im
    f, g = ((a - 1) * l_re + b * Lambda_im) / square, (b * l_re - (a - 1) * Lambda_im) / square
    x_re, x_im = split(linear(x, B), 2)
    re, im = a * re - b * im + f * x_re - g * x_im, b * re + a * im + g * x_re + f * x_im
    y = 2 * (linear(re, C_re) - linear(im, C_im)) + linear(x, W)
    return y, {"re": re, "im": im}
