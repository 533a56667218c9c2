"""Published cells that the library has not, from their papers' equations: states that are matrices and tapes, attention
with a memory of what it has read, exponents with a running maximum, several products one after the other."""

from __future__ import annotations

from lstmc import (
    Cell,
    Input,
    Param,
    State,
    cell,
    concat,
    dims,
    exp,
    layer_norm,
    linear,
    maximum,
    relu,
    sigmoid,
    softmax,
    split,
    tanh,
    uniform,
)  # fmt: skip
from lstmc import sum as total

N, D, H, S, A = dims("N D H S A")
U = uniform(-0.5, 0.5)


@cell
def mogrifier(
    x=Input(N, D),
    h=State(N, H),
    c=State(N, H),
    *,
    Q1=Param(D, H, fill=U),
    R1=Param(H, D, fill=U),
    Q2=Param(D, H, fill=U),
    W=Param(4 * H, D, fill=U),
    V=Param(4 * H, H, fill=U),
    b=Param(4 * H, fill=U),
):
    """Melis et al. 2019: x and h gate each other before the LSTM."""
    x = 2 * sigmoid(linear(h, Q1)) * x
    h = 2 * sigmoid(linear(x, R1)) * h
    x = 2 * sigmoid(linear(h, Q2)) * x
    i, f, o, g = split(linear(x, W, b) + linear(h, V), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@cell
def cornn(
    x=Input(N, D),
    y=State(N, H),
    z=State(N, H),
    *,
    W=Param(H, H, fill=U),
    Z=Param(H, H, fill=U),
    V=Param(H, D, fill=U),
    b=Param(H, fill=U),
):
    """Rusch & Mishra 2021: a damped oscillator, implicit-explicit step."""
    dt, gamma, eps = 0.1, 1.3, 0.7
    z = z + dt * (tanh(linear(y, W) + linear(z, Z) + linear(x, V, b)) - gamma * y - eps * z)
    y = y + dt * z
    return y, {"y": y, "z": z}


@cell
def wkv(
    x=Input(N, D),
    a=State(N, D),
    b=State(N, D),
    p=State(N, D),
    *,
    K=Param(D, D, fill=U),
    V=Param(D, D, fill=U),
    R=Param(D, D, fill=U),
    w=Param(D, fill=U),
    u=Param(D, fill=U),
):
    """Peng et al. 2023: RWKV's time mixing, with the running maximum of its exponents."""
    k, v, r = linear(x, K), linear(x, V), linear(x, R)
    q = maximum(p, u + k)
    e1, e2 = exp(p - q), exp(u + k - q)
    out = sigmoid(r) * (e1 * a + e2 * v) / (e1 * b + e2 + 0.001)
    decay = -exp(w)
    q = maximum(p + decay, k)
    e1, e2 = exp(p + decay - q), exp(k - q)
    return out, {"a": e1 * a + e2 * v, "b": e1 * b + e2, "p": q}


@cell
def fast_weights(
    x=Input(N, D), h=State(N, A), M=State(N, A, A), *, W=Param(A, A, fill=U), C=Param(A, D, fill=U), b=Param(A, fill=U)
):
    """Ba et al. 2016: a fast memory that attends to the recent past, two inner steps with layer norm."""
    M = 0.95 * M + 0.5 * h[:, :, None] * h[:, None, :]
    s = linear(h, W) + linear(x, C, b)
    z = relu(s)
    for _ in range(2):
        z = relu(layer_norm(s + total(M * z[:, None, :], axis=2)))
    return z, {"h": z, "M": M}


@cell
def coverage(
    x=Input(N, D),
    h=State(N, H),
    c=State(N, H),
    seen=State(N, S),
    memory=Input(N, S, D),
    *,
    W=Param(4 * H, D, fill=U),
    Wc=Param(4 * H, D, fill=U),
    V=Param(4 * H, H, fill=U),
    b=Param(4 * H, fill=U),
    Q=Param(A, H, fill=U),
    K=Param(A, D, fill=U),
    cov=Param(A, fill=U),
    v=Param(A, fill=U),
):
    """See et al. 2017: an attention decoder with a coverage vector."""
    e = total(tanh(linear(memory, K, axis=2) + linear(h, Q)[:, None, :] + seen[:, :, None] * cov) * v, axis=2)
    a = softmax(e)
    context = total(memory * a[:, :, None], axis=1)
    i, f, o, g = split(linear(x, W, b) + linear(context, Wc) + linear(h, V), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return concat(h, context), {"h": h, "c": c, "seen": seen + a}


@cell
def neural_gpu(
    x=Input(N, D),
    m=State(N, 3, D),
    *,
    K=Param(D, 3 * D, fill=U),
    KU=Param(D, 3 * D, fill=U),
    KR=Param(D, 3 * D, fill=U),
):
    """Like Kaiser & Sutskever 2016: gates of each cell of a tape from its neighbours, by products of shifted cells."""
    m = concat(m[:, :1, :] + x[:, None, :], m[:, 1:, :], axis=1)

    def near(t):
        left, right = concat(t[:, 2:, :], t[:, :2, :], axis=1), concat(t[:, 1:, :], t[:, :1, :], axis=1)
        return concat(left, t, right, axis=2)

    u, r = sigmoid(linear(near(m), KU, axis=2)), sigmoid(linear(near(m), KR, axis=2))
    m = u * m + (1 - u) * tanh(linear(near(r * m), K, axis=2))
    return m[:, 2, :], {"m": m}


CELLS: tuple[Cell, ...] = (mogrifier, cornn, wkv, fast_weights, coverage, neural_gpu)
