"""Mamba: a state space whose step, input and output depend on what is seen."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    constant,
    dims,
    einsum,
    exp,
    linear,
    outer,
    silu,
    softplus,
    split,
    sum,
    uniform,
    xavier,
)

N, D, E, S, R, K = dims("N D E S R K")


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
