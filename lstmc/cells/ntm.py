"""The neural Turing machine."""

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
    linear,
    log,
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

N, D, H, S, E = dims("N D H S E")


def address(M: Value, w: Value, head: Value) -> Value:
    """Where a head looks, [N, S], from what the controller says: equations (5) to (9)."""
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
    of E elements. Each looks by content, then by a shift of -1, 0 or 1 (the places are a ring), and sharpens. Rows of
    W_r in the order k, beta, g, s, gamma; of W_w so too, then e, a; LSTM gates i, f, o, g. The output is [h', r'].
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
