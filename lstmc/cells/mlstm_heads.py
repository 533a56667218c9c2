"""xLSTM's mLSTM with heads: a matrix memory for each head, with gates of its own."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    abs,
    cell,
    constant,
    dims,
    einsum,
    exp,
    group_norm,
    linear,
    log_sigmoid,
    maximum,
    merge_heads,
    outer,
    sigmoid,
    split,
    split_heads,
    xavier,
)

N, D, G, K, V = dims("N D G K V")


@cell
def mlstm_heads(
    x: Value = Input(N, D),
    C: Value = State(N, G, V, K),
    n: Value = State(N, G, K),
    m: Value = State(N, G),
    *,
    W_q: Value = Param(G * K, D, fill=xavier()),
    W_k: Value = Param(G * K, D, fill=xavier()),
    W_v: Value = Param(G * V, D, fill=xavier()),
    W_if: Value = Param(2 * G, D, fill=xavier()),
    b_if: Value = Param(2 * G, fill=constant(0)),
    W_o: Value = Param(G * V, D, fill=xavier()),
    gain: Value = Param(G * V, fill=constant(1)),
) -> tuple[Value, dict[str, Value]]:
    """C' = f C + i v k^T, n' = f n + i k, h = C' q / max(|n' q|, 1), for G heads;  y = sigmoid(W_o x) norm(h).

    Beck et al. 2024, arXiv:2405.04517, section 2.3, equations (19) to (27), with heads as in section 2.4: i is an
    exponential and f a sigmoid, one of each for a head. m' = max(ln f + m, ln i) stabilises: C', n' and the 1 are over
    exp(m'). norm is a group norm of each head, with ``gain``. Rows of W_if in the order i, f.
    """
    q, k, v = (split_heads(linear(x, W), G) for W in (W_q, W_k, W_v))
    k = k * k.shape[-1] ** -0.5
    i, f = split(linear(x, W_if, b_if), 2)
    f = log_sigmoid(f) + m
    m = maximum(f, i)
    i, f = exp(i - m)[..., None], exp(f - m)[..., None]
    C, n = f[..., None] * C + outer(i * v, k), f * n + i * k
    size = maximum(abs(einsum("ngk,ngk->ng", n, q)), exp(-m))
    h = einsum("ngvk,ngk->ngv", C, q) / size[..., None]
    return sigmoid(linear(x, W_o)) * group_norm(merge_heads(h), G, gain), {"C": C, "n": n, "m": m}
