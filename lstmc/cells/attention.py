"""Attention and external memory: decoders that read an encoder's states, and a memory with addresses."""

from collections.abc import Callable

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
    dims,
    einsum,
    exp,
    expand,
    gaussian,
    linear,
    log,
    maximum,
    outer,
    rsqrt,
    sigmoid,
    softmax,
    softplus,
    split,
    sum,
    tanh,
    xavier,
)

N, S, D, H, E, A, K = dims("N S D H E A K")


# Long short-term memory that looks at one place of its input after another
@cell
def attention_lstm(
    X: Value = Input(N, S, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_s: Value = Param(S, H, fill=xavier()),
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """An LSTM of x = the sum of l_s X_s over the S places of a frame, with l = softmax(W_s h).

    Sharma et al. 2015, arXiv:1511.04119, section 3. X has D features of each place, S = K K of them in the paper.
    Gates in the order i, f, o, g.
    """
    x = einsum("ns,nsd->nd", softmax(linear(h, W_s)), X)
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}


# A decoder that looks at all states of an encoder, before each word
@cell
def bahdanau(
    x: Value = Input(N, D),
    memory: Value = Input(S, N, E),
    s: Value = State(N, H),
    *,
    U_a: Value = Param(A, E, fill=xavier()),
    W_a: Value = Param(A, H, fill=xavier()),
    v: Value = Param(1, A, fill=xavier()),
    W: Value = Param(3 * H, D + E, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    U_g: Value = Param(2 * H, H, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """A GRU of the last word x and of c = the sum of a_j memory_j; a = softmax(v tanh(W_a s + U_a memory_j)) over j.

    Bahdanau et al. 2014, arXiv:1409.0473, equations (5) and (6) and appendix A.2.2: s' = (1 - z) s + z n. ``memory`` is
    static: the output of an encoder's scan, S steps of E elements. Rows of W and b in the order z, r, n, its columns x
    then c; rows of U_g in the order z, r.
    """
    e = linear(tanh(linear(memory, U_a) + linear(s, W_a)), v)
    c = sum(softmax(e, axis=0) * memory, axis=0)
    x_z, x_r, x_n = split(linear(concat(x, c), W, b), 3)
    s_z, s_r = split(linear(s, U_g), 2)
    z, r = sigmoid(x_z + s_z), sigmoid(x_r + s_r)
    s = (1 - z) * s + z * tanh(x_n + linear(r * s, U))
    return s, {"s": s}


# A decoder that looks at all states of an encoder, after each step of its own, and is fed the result
@cell
def luong(
    x: Value = Input(N, D),
    memory: Value = Input(S, N, E),
    fed: Value = State(N, H),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D + H, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    W_a: Value = Param(H, E, fill=xavier()),
    W_c: Value = Param(H, E + H, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """An LSTM, then tanh(W_c [context, h]), which the next step is fed; scores are h' W_a memory_j.

    Luong et al. 2015, arXiv:1508.04025, global attention: equations (5) and (7), the general score of (8), input
    feeding (section 3.3). ``memory`` is static: the output of an encoder's scan, S steps of E elements. Gates in
    the order i, f, o, g.
    """
    i, f, o, g = split(linear(concat(x, fed), W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    scores = sum(linear(memory, W_a) * h, axis=-1, keepdims=True)
    context = sum(softmax(scores, axis=0) * memory, axis=0)
    fed = tanh(linear(concat(context, h), W_c))
    return fed, {"fed": fed, "h": h, "c": c}


# The pointer network: a decoder whose answers are places of its input
@cell
def pointer(
    x: Value = Input(N, D),
    memory: Value = Input(S, N, E),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    W_1: Value = Param(A, E, fill=xavier()),
    W_2: Value = Param(A, H, fill=xavier()),
    v: Value = Param(1, A, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """An LSTM, then the probability of each place, p = softmax(v tanh(W_1 memory_j + W_2 h')) over j: [N, S].

    Vinyals et al. 2015, arXiv:1506.03134, equation (3). ``memory`` is static: the output of an encoder's scan, S steps
    of E elements; x is the element that the last answer points to. Gates in the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    keys = linear(memory, W_1)
    u = linear(tanh(keys + expand(linear(h, W_2), keys.shape)), v)
    return softmax(u[..., 0].T), {"h": h, "c": c}


# Attention as a recurrent cell: softmax over all steps so far, for one learned query
@cell
def aaren(
    x: Value = Input(N, D),
    a: Value = State(N, H),
    c: Value = State(N, 1),
    m: Value = State(N, 1, fill=-1e30),
    *,
    q: Value = Param(K, fill=gaussian(0, 1)),
    W_k: Value = Param(K, D, fill=xavier()),
    W_v: Value = Param(H, D, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """o = a' / c', the attention of a query q to all steps: a' = a exp(m - m') + v exp(s - m'), with s = q k / sqrt(K).

    Feng et al. 2024, arXiv:2405.13956, section 3.1 and figure 2. c' is the sum of the weights and a' the sum of the
    weighted values, both divided by exp(m'); m' = max(m, s) is the largest score so far. The query is learned.
    """
    s = sum(linear(x, W_k) * q, axis=-1, keepdims=True) * q.shape[0] ** -0.5
    u = maximum(m, s)
    old, new = exp(m - u), exp(s - u)
    a, c = a * old + linear(x, W_v) * new, c * old + new
    return a / c, {"a": a, "c": c, "m": u}


# The neural Turing machine
def address(M: Value, w: Value, head: Value) -> Value:
    """Return the new attention weights of a head, [N, S], from the controller's output: equations (5) to (9)."""
    k, beta, g, s, gamma = split(head, [E, 1, 1, 3, 1])
    length = sum(M * M, axis=-1) * sum(k * k, axis=-1, keepdims=True)
    g, like = sigmoid(g), einsum("nse,ne->ns", M, k) * rsqrt(length + 1e-8)
    w = g * softmax(softplus(beta) * like) + (1 - g) * w
    back, stay, ahead = split(softmax(s), 3)
    turn = np.roll(np.eye(M.shape[1]), 1, axis=0)
    w = back * linear(w, const(turn.T)) + stay * w + ahead * linear(w, const(turn))
    w = exp((1 + softplus(gamma)) * log(w + 1e-8))
    total: Value = sum(w, axis=-1, keepdims=True)
    return w / total


@cell
def ntm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    r: Value = State(N, E),
    M: Value = State(N, S, E, fill=constant(0.01)),
    w_r: Value = State(N, S),
    w_w: Value = State(N, S),
    *,
    W: Value = Param(4 * H, D + E, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    U: Value = Param(4 * H, H, fill=xavier()),
    W_r: Value = Param(E + 6, H, fill=xavier()),
    b_r: Value = Param(E + 6, fill=constant(0)),
    W_w: Value = Param(3 * E + 6, H, fill=xavier()),
    b_w: Value = Param(3 * E + 6, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """An LSTM of x and r that erases and adds at w_w, M' = M (1 - w_w e) + w_w a, then reads at w_r, r' = w_r M'.

    Graves et al. 2014, arXiv:1410.5401, equations (2) to (9), one head that writes and one that reads, over S places
    of E elements. Each head addresses by content, shifts by -1, 0 or 1 (the places form a ring), and sharpens. Rows of
    W_r are in the order k, beta, g, s, gamma; rows of W_w k, beta, g, s, gamma, e, a; LSTM gates i, f, o, g. The output
    is [h', r'].
    """
    i, f, o, u = split(linear(concat(x, r), W, b) + linear(h, U), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(u)
    h = sigmoid(o) * tanh(c)
    head, erase, add = split(linear(h, W_w, b_w), [E + 6, E, E])
    w_w = address(M, w_w, head)
    M = M * (1 - outer(w_w, sigmoid(erase))) + outer(w_w, tanh(add))
    w_r = address(M, w_r, linear(h, W_r, b_r))
    r = einsum("ns,nse->ne", w_r, M)
    return concat(h, r), {"h": h, "c": c, "r": r, "M": M, "w_r": w_r, "w_w": w_w}
