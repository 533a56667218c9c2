"""Mamba-2: a state space whose heads have one decay each, the dual of masked attention."""

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
    merge_heads,
    outer,
    rms_norm,
    silu,
    softplus,
    split,
    split_heads,
    sum,
    uniform,
    xavier,
)

N, D, G, S, V, K = dims("N D G S V K")


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
