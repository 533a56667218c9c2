"""Retention: linear attention whose heads forget at fixed rates, with rotated queries and keys."""

import numpy as np

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    const,
    cos,
    dims,
    einsum,
    group_norm,
    linear,
    merge_heads,
    outer,
    silu,
    sin,
    split,
    split_heads,
    step_index,
    xavier,
)

N, D, G, K, H = dims("N D G K H")


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

    Sun et al. 2023, arXiv:2307.08621, equations (3), (6) and (8): G heads of 2 K keys, of which two make a complex
    number, and H values. Head g has gamma = 1 - 2^(-5 - g), and pair j theta = 10000^(-j / K).
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
