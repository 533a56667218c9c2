"""Long short-term memory whose cell state is a matrix, with exponential gates."""

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
    linear,
    log_sigmoid,
    maximum,
    outer,
    sigmoid,
    split,
    sum,
    xavier,
)

N, D, H, K = dims("N D H K")


@cell
def mlstm(
    x: Value = Input(N, D),
    C: Value = State(N, H, K),
    n: Value = State(N, K),
    m: Value = State(N, 1),
    *,
    W_q: Value = Param(K, D, fill=xavier()),
    b_q: Value = Param(K, fill=constant(0)),
    W_k: Value = Param(K, D, fill=xavier()),
    b_k: Value = Param(K, fill=constant(0)),
    W_v: Value = Param(H, D, fill=xavier()),
    b_v: Value = Param(H, fill=constant(0)),
    W_o: Value = Param(H, D, fill=xavier()),
    b_o: Value = Param(H, fill=constant(0)),
    W_if: Value = Param(2, D, fill=xavier()),
    b_if: Value = Param(2, fill=constant(0)),
    sigmoid_forget: bool = False,
) -> tuple[Value, dict[str, Value]]:
    """C' = f C + i v k^T, n' = f n + i k, h = sigmoid(o) C' q / max(|n' q|, 1): a memory of values v by keys k.

    Beck et al. 2024, arXiv:2405.04517, section 2.3, equations (19) to (27), with one head. i and f, one each, are
    exponentials; with ``sigmoid_forget`` f is a sigmoid. m' = max(ln f + m, ln i) stabilises: C' and n' are over
    exp(m'), and so is the 1 of the maximum. Rows of W_if in the order i, f.
    """
    q, v = linear(x, W_q, b_q), linear(x, W_v, b_v)
    k = linear(x, W_k) * W_k.shape[0] ** -0.5 + b_k
    i, f = split(linear(x, W_if, b_if), 2)
    f = (log_sigmoid(f) if sigmoid_forget else f) + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    C, n = f[..., None] * C + outer(i * v, k), f * n + i * k
    size = maximum(abs(sum(n * q, axis=-1, keepdims=True)), exp(-m))
    h = sigmoid(linear(x, W_o, b_o)) * einsum("nhk,nk->nh", C, q) / size
    return h, {"C": C, "n": n, "m": m}
