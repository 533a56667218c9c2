"""Every library cell's step in plain NumPy, from the equations that its docstring names: the truth it is held to.

``p`` has the cell's parameters, ``x`` its inputs and ``s`` its states, by the cell's own names. Each function returns
the step's output and its next states.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace as Named
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.signal import cont2discrete

from lstmc.ops import Array

Step = tuple[Array, dict[str, Array]]
Reference = Callable[[Named, Named, Named], Step]
REFERENCES: dict[str, Reference] = {}


def reference(step: Reference) -> Reference:
    REFERENCES[step.__name__] = step
    return step


def sigmoid(x: Array) -> Array:
    """The logistic function, from its definition."""
    return 1 / (1 + np.exp(-x))


def rows(matrix: Array, units: int) -> list[Array]:
    """A matrix or vector of several gates as those of each gate."""
    return [matrix[k : k + units] for k in range(0, len(matrix), units)]


def lstm_state(i: Array, f: Array, o: Array, g: Array, c: Array) -> Step:
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, {"h": h, "c": c}


@reference
def rnn(p: Named, x: Named, s: Named) -> Step:
    h = np.tanh(x.x @ p.W_x.T + s.h @ p.W_h.T + p.b)
    return h, {"h": h}


@reference
def lstm(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    return lstm_state(i, f, o, g, s.c)


@reference
def lstm_peephole(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    c = sigmoid(f + p.p_f * s.c) * s.c + sigmoid(i + p.p_i * s.c) * np.tanh(g)
    h = sigmoid(o + p.p_o * c) * np.tanh(c)
    return h, {"h": h, "c": c}


@reference
def lstm_cifg(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    f, o, g = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    c = sigmoid(f) * s.c + (1 - sigmoid(f)) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, {"h": h, "c": c}


@reference
def lstm_projected(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.c.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    m, states = lstm_state(i, f, o, g, s.c)
    return m @ p.W_p.T, {"h": m @ p.W_p.T, "c": states["c"]}


@reference
def lstm_multiplicative(p: Named, x: Named, s: Named) -> Step:
    m = (x.x @ p.W_mx.T) * (s.h @ p.W_mh.T)
    gates = zip(*(rows(w, s.h.shape[1]) for w in (p.W_x, p.W_m, p.b)), strict=True)
    i, f, o, g = (x.x @ W.T + m @ U.T + b for W, U, b in gates)
    return lstm_state(i, f, o, g, s.c)


@reference
def gru(p: Named, x: Named, s: Named) -> Step:
    units = s.h.shape[1]
    (W_z, W_r, W), (b_z, b_r, b), (U_z, U_r) = rows(p.W_x, units), rows(p.b, units), rows(p.W_h, units)
    r = sigmoid(x.x @ W_r.T + s.h @ U_r.T + b_r)  # (5)
    z = sigmoid(x.x @ W_z.T + s.h @ U_z.T + b_z)  # (6)
    n = np.tanh(x.x @ W.T + (r * s.h) @ p.U.T + b)  # (8)
    h = z * s.h + (1 - z) * n  # (7)
    return h, {"h": h}


@reference
def gru_reset_after(p: Named, x: Named, s: Named) -> Step:
    """ONNX operator GRU: ht = tanh(Xt Wh' + rt (Ht-1 Rh' + Rbh) + Wbh); Ht = (1 - zt) ht + zt Ht-1."""
    units = s.h.shape[1]
    (W_r, W_z, W_h), (R_r, R_z, R_h) = rows(p.W_x, units), rows(p.W_h, units)
    (Wb_r, Wb_z, Wb_h), (Rb_r, Rb_z, Rb_h) = rows(p.b_x, units), rows(p.b_h, units)
    z = sigmoid(x.x @ W_z.T + s.h @ R_z.T + Wb_z + Rb_z)
    r = sigmoid(x.x @ W_r.T + s.h @ R_r.T + Wb_r + Rb_r)
    n = np.tanh(x.x @ W_h.T + r * (s.h @ R_h.T + Rb_h) + Wb_h)
    h = (1 - z) * n + z * s.h
    return h, {"h": h}


@reference
def mgu(p: Named, x: Named, s: Named) -> Step:
    f = sigmoid(x.x @ p.W_f.T + s.h @ p.U_f.T + p.b_f)
    n = np.tanh(x.x @ p.W_h.T + (f * s.h) @ p.U_h.T + p.b_h)
    h = (1 - f) * s.h + f * n
    return h, {"h": h}


@reference
def ugrnn(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    g, c = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    h = sigmoid(g) * s.h + (1 - sigmoid(g)) * np.tanh(c)
    return h, {"h": h}


@reference
def janet(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    forget, c = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    h = sigmoid(forget) * s.h + (1 - sigmoid(forget - 1.0)) * np.tanh(c)
    return h, {"h": h}


@reference
def indrnn(p: Named, x: Named, s: Named) -> Step:
    h = np.maximum(x.x @ p.W.T + p.u * s.h + p.b, 0)
    return h, {"h": h}


@reference
def sru(p: Named, x: Named, s: Named) -> Step:
    W, W_f, W_r = rows(p.W, s.c.shape[1])
    f = sigmoid(x.x @ W_f.T + p.v_f * s.c + p.b_f)  # (1)
    c = f * s.c + (1 - f) * (x.x @ W.T)  # (2)
    r = sigmoid(x.x @ W_r.T + p.v_r * s.c + p.b_r)  # (3)
    return r * c + (1 - r) * x.x, {"c": c}  # (4)


@reference
def qrnn(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.c.shape[1]) for m in (p.W, p.V, p.b)), strict=True)
    z, f, o = (s.before @ V.T + x.x @ W.T + b for W, V, b in gates)  # (2)
    c = sigmoid(f) * s.c + (1 - sigmoid(f)) * np.tanh(z)  # (4)
    return sigmoid(o) * c, {"before": x.x, "c": c}


@reference
def min_gru(p: Named, x: Named, s: Named) -> Step:
    z, n = (x.x @ W.T + b for W, b in zip(rows(p.W, s.h.shape[1]), rows(p.b, s.h.shape[1]), strict=True))
    h = (1 - sigmoid(z)) * s.h + sigmoid(z) * n
    return h, {"h": h}


@reference
def min_lstm(p: Named, x: Named, s: Named) -> Step:
    f, i, n = (x.x @ W.T + b for W, b in zip(rows(p.W, s.h.shape[1]), rows(p.b, s.h.shape[1]), strict=True))
    share = sigmoid(f) / (sigmoid(f) + sigmoid(i))
    h = share * s.h + (1 - share) * n
    return h, {"h": h}


@reference
def cfc(p: Named, x: Named, s: Named) -> Step:
    z = np.tanh(np.concatenate([x.x, s.h], 1) @ p.W.T + p.b)
    g, k, a, t = (z @ V.T + v for V, v in zip(rows(p.V, s.h.shape[1]), rows(p.v, s.h.shape[1]), strict=True))
    late = sigmoid(a * x.dt + t)
    h = (1 - late) * np.tanh(g) + late * np.tanh(k)
    return h, {"h": h}


@reference
def ltc(p: Named, x: Named, s: Named) -> Step:
    h, d = s.h, 1.0 / 6
    for _ in range(6):
        f = np.tanh(x.x @ p.W.T + h @ p.U.T + p.b)
        h = (h + d * f * p.A) / (1 + d * (1 / p.tau + f))  # (3)
    return h, {"h": h}


@reference
def gru_d(p: Named, x: Named, s: Named) -> Step:
    units = s.h.shape[1]
    near = np.exp(-np.maximum(0, p.w * x.delta + p.b_x))  # (10), W diagonal
    known = x.mask * x.x + (1 - x.mask) * (near * s.seen + (1 - near) * p.mean)  # (11)
    h = np.exp(-np.maximum(0, x.delta @ p.W_d.T + p.b_d)) * s.h  # (12)
    (Z, R, W), (b_z, b_r, b), (U_z, U_r) = rows(p.W_x, units), rows(p.b, units), rows(p.W_h, units)
    both = np.concatenate([known, x.mask], 1)
    z = sigmoid(both @ Z.T + h @ U_z.T + b_z)  # (14)
    r = sigmoid(both @ R.T + h @ U_r.T + b_r)  # (13)
    n = np.tanh(both @ W.T + (r * h) @ p.U.T + b)  # (15)
    h = (1 - z) * h + z * n  # (16)
    return h, {"h": h, "seen": np.where(x.mask == 1, x.x, s.seen)}


def correlated(images: Array, window: Array) -> Array:
    """Images [N, C, Y, X] and windows [F, C, K, K] to [N, F, Y, X], zeros around the images."""
    size = window.shape[-1]
    pad = size // 2
    padded = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    height, width = images.shape[2:]
    found = np.zeros((len(images), len(window), height, width))
    for i in range(size):
        for j in range(size):
            found += np.einsum("ncyx,fc->nfyx", padded[:, :, i : i + height, j : j + width], window[:, :, i, j])
    return found


@reference
def conv_lstm(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (correlated(x.x, W) + correlated(s.h, U) + b[:, None, None] for W, U, b in gates)
    return lstm_state(i, f, o, g, s.c)


@reference
def causal_conv(p: Named, x: Named, s: Named) -> Step:
    frames = [*np.split(s.past, s.past.shape[1] // x.x.shape[1], axis=1), x.x]
    taps = np.split(p.W, len(frames), axis=1)
    y = sum((frame @ tap.T for frame, tap in zip(frames, taps, strict=True)), p.b)
    return y, {"past": np.concatenate(frames[1:], axis=1)}


@reference
def conv_gru(p: Named, x: Named, s: Named) -> Step:
    units = s.h.shape[1]
    (W_z, W_r, W), (U_z, U_r) = rows(p.W_x, units), rows(p.W_h, units)
    b_z, b_r, b = (b[:, None, None] for b in rows(p.b, units))
    z = sigmoid(correlated(x.x, W_z) + correlated(s.h, U_z) + b_z)  # (6)
    r = sigmoid(correlated(x.x, W_r) + correlated(s.h, U_r) + b_r)  # (7)
    n = np.tanh(correlated(x.x, W) + correlated(r * s.h, p.U) + b)  # (8)
    h = (1 - z) * s.h + z * n  # (9)
    return h, {"h": h}


@reference
def lru(p: Named, x: Named, s: Named) -> Step:
    eigenvalue = np.exp(-np.exp(p.nu_log) + 1j * np.exp(p.theta_log))
    B, B_im = rows(p.B, s.re.shape[1])
    state = eigenvalue * (s.re + 1j * s.im) + np.exp(p.gamma_log) * (x.x @ (B + 1j * B_im).T)
    y = (state @ (p.C_re + 1j * p.C_im).T).real + x.x @ p.W.T
    return y, {"re": state.real, "im": state.imag}


@reference
def linoss(p: Named, x: Named, s: Named) -> Step:
    """Equation (3) as it stands: the implicit step of each oscillator is a system of two equations."""
    z, y, drive = np.empty_like(s.z), np.empty_like(s.y), x.x @ p.B.T
    for unit, (A, dt) in enumerate(zip(np.maximum(p.A, 0), sigmoid(p.dt), strict=True)):
        new = np.array([s.z[:, unit] + dt * drive[:, unit], s.y[:, unit]])
        z[:, unit], y[:, unit] = np.linalg.solve([[1, dt * A], [-dt, 1]], new)
    return y @ p.C.T + x.x @ p.W.T, {"z": z, "y": y}


@reference
def rg_lru(p: Named, x: Named, s: Named) -> Step:
    """The decay as a power of sigmoid(Lambda), which the paper writes, of -Lambda here."""
    r, i = sigmoid(x.x @ p.W_a.T + p.b_a), sigmoid(x.x @ p.W_x.T + p.b_x)  # (1), (2)
    a = sigmoid(-p.Lambda) ** (8 * r)  # (3)
    h = a * s.h + np.sqrt((1 - a) * (1 + a)) * i * x.x  # (4)
    return h, {"h": h}


@reference
def aaren(p: Named, x: Named, s: Named) -> Step:
    """Softmax attention to what was before, which weighs c exp(m) together, and to this step."""
    score = (x.x @ p.W_k.T) @ p.q / np.sqrt(len(p.q))
    before, now = np.exp(s.m[:, 0]), np.exp(score)
    top = np.maximum(s.m[:, 0], score)
    a, c = s.a * before[:, None] + now[:, None] * (x.x @ p.W_v.T), s.c[:, 0] * before + now
    scale = np.exp(top)
    return a / c[:, None], {"a": a / scale[:, None], "c": (c / scale)[:, None], "m": top[:, None]}


@reference
def rhn(p: Named, x: Named, s: Named) -> Step:
    units, state = s.s.shape[1], s.s
    (W_h, W_t), drive = rows(p.W, units), x.x
    for R, b in ((p.R, p.b), *((vars(p)[f"layer_{k}/R"], vars(p)[f"layer_{k}/b"]) for k in (2, 3))):
        (R_h, R_t), (b_h, b_t) = rows(R, units), rows(b, units)
        t = sigmoid(drive @ W_t.T + state @ R_t.T + b_t)
        state = t * np.tanh(drive @ W_h.T + state @ R_h.T + b_h) + (1 - t) * state
        drive = np.zeros_like(drive)  # the first layer alone sees x
    return state, {"s": state}


def softmax(x: Array) -> Array:
    """Along the last axis."""
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@reference
def attention_lstm(p: Named, x: Named, s: Named) -> Step:
    seen = np.einsum("ns,nsd->nd", softmax(s.h @ p.W_s.T), x.X)
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (seen @ W.T + s.h @ U.T + b for W, U, b in gates)
    return lstm_state(i, f, o, g, s.c)


@reference
def bahdanau(p: Named, x: Named, s: Named) -> Step:
    units, words = s.s.shape[1], x.x.shape[1]
    e = np.stack([np.tanh(s.s @ p.W_a.T + h @ p.U_a.T) @ p.v[0] for h in x.memory], 1)
    c = np.einsum("ns,sne->ne", softmax(e), x.memory)  # (5), (6)
    (W_z, W_r, W), (C_z, C_r, C) = rows(p.W[:, :words], units), rows(p.W[:, words:], units)
    (U_z, U_r), (b_z, b_r, b) = rows(p.U_g, units), rows(p.b, units)
    z = sigmoid(x.x @ W_z.T + s.s @ U_z.T + c @ C_z.T + b_z)
    r = sigmoid(x.x @ W_r.T + s.s @ U_r.T + c @ C_r.T + b_r)
    state = (1 - z) * s.s + z * np.tanh(x.x @ W.T + (r * s.s) @ p.U.T + c @ C.T + b)
    return state, {"s": state}


@reference
def luong(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (np.concatenate([x.x, s.fed], 1) @ W.T + s.h @ U.T + b for W, U, b in gates)
    h, states = lstm_state(i, f, o, g, s.c)
    scores = np.einsum("nh,he,sne->ns", h, p.W_a, x.memory)  # (8)
    context = np.einsum("ns,sne->ne", softmax(scores), x.memory)  # (7)
    fed = np.tanh(np.concatenate([context, h], 1) @ p.W_c.T)  # (5)
    return fed, {"fed": fed, **states}


@reference
def pointer(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, g = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    h, states = lstm_state(i, f, o, g, s.c)
    u = np.stack([np.tanh(e @ p.W_1.T + h @ p.W_2.T) @ p.v[0] for e in x.memory], 1)  # (3)
    return softmax(u), states


@reference
def slstm(p: Named, x: Named, s: Named) -> Step:
    gates = zip(*(rows(m, s.h.shape[1]) for m in (p.W_x, p.W_h, p.b)), strict=True)
    i, f, o, z = (x.x @ W.T + s.h @ U.T + b for W, U, b in gates)
    m = np.maximum(f + s.m, i)  # ln f is f
    i, f = np.exp(i - m), np.exp(f + s.m - m)
    c, n = f * s.c + i * np.tanh(z), f * s.n + i
    h = sigmoid(o) * (c / n)
    return h, {"h": h, "c": c, "n": n, "m": m}


@reference
def lmu(p: Named, x: Named, s: Named) -> Step:
    order, theta = s.m.shape[1], 64.0
    A = np.array(
        [[(2 * i + 1) / theta * (-1 if i < j else (-1) ** (i - j + 1)) for j in range(order)] for i in range(order)]
    )
    B = np.array([[(2 * i + 1) / theta * (-1) ** i] for i in range(order)])
    A_held, B_held, *_ = cont2discrete((A, B, np.eye(order), np.zeros((order, 1))), 1.0, "zoh")
    u = x.x @ p.e_x.T + s.h @ p.e_h.T + s.m @ p.e_m.T
    m = s.m @ A_held.T + u @ B_held.T
    h = np.tanh(x.x @ p.W_x.T + s.h @ p.W_h.T + m @ p.W_m.T)
    return h, {"h": h, "m": m}


def normalised(x: Array, gain: Array, bias: Array) -> Array:
    """Layer normalization of the last axis, with the epsilon of the cell."""
    away = x - x.mean(-1, keepdims=True)
    return gain * away / np.sqrt(x.var(-1, keepdims=True) + 1e-5) + bias


@reference
def lstm_layernorm(p: Named, x: Named, s: Named) -> Step:
    gates = normalised(s.h @ p.W_h.T, p.gain_h, 0) + normalised(x.x @ p.W_x.T, p.gain_x, 0) + p.b
    i, f, o, g = np.split(gates, 4, axis=1)
    c = sigmoid(f) * s.c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(normalised(c, p.gain_c, p.b_c))
    return h, {"h": h, "c": c}


@reference
def mlstm(p: Named, x: Named, s: Named) -> Step:
    """Equations (19) to (27) as they stand, of C, n and the 1 times exp(m), which the cell has over exp(m)."""
    y, C, n, m = [], [], [], []
    for row in range(len(x.x)):
        v_in, scale = x.x[row], np.exp(s.m[row, 0])
        q, v = p.W_q @ v_in + p.b_q, p.W_v @ v_in + p.b_v  # (22), (24)
        k = p.W_k @ v_in / np.sqrt(len(q)) + p.b_k  # (23)
        i, f = np.exp(p.W_if @ v_in + p.b_if)  # (25), (26)
        whole_C = f * scale * s.C[row] + i * np.outer(v, k)  # (19)
        whole_n = f * scale * s.n[row] + i * k  # (20)
        o = sigmoid(p.W_o @ v_in + p.b_o)  # (27)
        y.append(o * (whole_C @ q) / max(abs(whole_n @ q), 1))  # (21)
        size = max(f * scale, i)
        C, n, m = [*C, whole_C / size], [*n, whole_n / size], [*m, [np.log(size)]]
    return np.array(y), {"C": np.array(C), "n": np.array(n), "m": np.array(m)}


@reference
def mamba(p: Named, x: Named, s: Named) -> Step:
    """The selective scan channel by channel: algorithm 2, its convolution and gate."""
    channels, steps = p.w.shape[1], np.concatenate([s.before, (x.x @ p.W_in.T)[:, None, : p.w.shape[1]]], 1)
    z = (x.x @ p.W_in.T)[:, channels:]
    u = np.stack([np.einsum("nk,k->n", steps[:, :, e], p.w[:, e]) + p.b[e] for e in range(channels)], 1)
    u = u * sigmoid(u)
    dt = np.log1p(np.exp(u @ p.W_r.T @ p.W_dt.T + p.b_dt))
    B, C, state, y = u @ p.W_B.T, u @ p.W_C.T, np.empty_like(s.s), np.empty_like(u)
    for e in range(channels):
        for n in range(len(u)):
            decay = np.exp(-dt[n, e] * np.exp(p.A_log[:, e]))
            state[n, :, e] = decay * s.s[n, :, e] + dt[n, e] * B[n] * u[n, e]
            y[n, e] = C[n] @ state[n, :, e] + p.skip[e] * u[n, e]
    return (y * z * sigmoid(z)) @ p.W_out.T, {"before": steps[:, 1:], "s": state}


@reference
def delta_net(p: Named, x: Named, s: Named) -> Step:
    y, S = [], []
    for row, old in zip(x.x, s.S, strict=True):
        q, k = (a * sigmoid(a) for a in (p.W_q @ row, p.W_k @ row))
        q, k = (a / np.sqrt(a @ a + 1e-6) for a in (q, k))
        beta = sigmoid(p.w_beta @ row + p.b_beta)
        S.append(old @ (np.eye(len(k)) - beta * np.outer(k, k)) + beta * np.outer(p.W_v @ row, k))
        y.append(S[-1] @ q)
    return np.array(y), {"S": np.array(S)}


def looked(M: Array, w: Array, head: Array) -> Array:
    """Equations (5) to (9) of a neural Turing machine, for one sequence: M [S, E], w [S]."""
    places, size = M.shape
    k, (beta, g, *s, gamma) = head[:size], head[size:]
    like = np.array([k @ row / np.sqrt((k @ k) * (row @ row) + 1e-8) for row in M])  # (6)
    focus = softmax(np.log1p(np.exp(beta)) * like)  # (5)
    gated = sigmoid(g) * focus + (1 - sigmoid(g)) * w  # (7)
    shift = dict(zip((-1, 0, 1), softmax(np.array(s)), strict=True))
    turned = np.array(
        [sum(gated[(i - d) % places] * share for d, share in shift.items()) for i in range(places)]
    )  # (8)
    sharp = (turned + 1e-8) ** (1 + np.log1p(np.exp(gamma)))
    return sharp / sharp.sum()  # (9)


@reference
def ntm(p: Named, x: Named, s: Named) -> Step:
    i, f, o, u = np.split(np.concatenate([x.x, s.r], 1) @ p.W.T + s.h @ p.U.T + p.b, 4, axis=1)
    h, states = lstm_state(i, f, o, u, s.c)
    size, new = s.M.shape[2], dict[str, list[Array]](r=[], M=[], w_r=[], w_w=[])
    for row in range(len(h)):
        write, read = p.W_w @ h[row] + p.b_w, p.W_r @ h[row] + p.b_r
        w_w = looked(s.M[row], s.w_w[row], write[: size + 6])
        erase, add = sigmoid(write[size + 6 : 2 * size + 6]), np.tanh(write[2 * size + 6 :])
        M = s.M[row] * (1 - np.outer(w_w, erase)) + np.outer(w_w, add)  # (3), (4)
        w_r = looked(M, s.w_r[row], read)
        for name, value in (("r", w_r @ M), ("M", M), ("w_r", w_r), ("w_w", w_w)):
            new[name].append(value)
    states |= {name: np.array(values) for name, values in new.items()}
    return np.concatenate([h, states["r"]], 1), states


@reference
def clockwork(p: Named, x: Named, s: Named) -> Step:
    """Module by module: those that tick see themselves and the slower ones."""
    size, h = s.h.shape[1] // 4, s.h.copy()
    for k, period in enumerate((1, 2, 4, 8)):
        if x.step_index % period == 0:
            own = slice(k * size, (k + 1) * size)
            h[:, own] = np.tanh(x.x @ p.W[own].T + p.b[own] + s.h[:, k * size :] @ p.U[own, k * size :].T)
    return h, {"h": h}


@reference
def phased_lstm(p: Named, x: Named, s: Named, open_ratio: float = 0.05) -> Step:
    i, f, o, g = np.split(x.x @ p.W_x.T + s.h @ p.W_h.T + p.b, 4, axis=1)
    phase = np.mod(x.time - p.s, p.tau) / p.tau  # (5)
    rise = np.where(phase < open_ratio / 2, 2 * phase / open_ratio, 2 - 2 * phase / open_ratio)
    k = np.where(phase < open_ratio, rise, 0.001 * phase)  # (6)
    _, new = lstm_state(i, f, o, g, s.c)
    c, h = k * new["c"] + (1 - k) * s.c, k * new["h"] + (1 - k) * s.h  # (7) to (10)
    return h, {"h": h, "c": c}


@reference
def antisymmetric(p: Named, x: Named, s: Named) -> Step:
    A = p.W - p.W.T - 0.01 * np.eye(len(p.W))
    z = sigmoid(s.h @ A.T + x.x @ p.V_z.T + p.b_z)
    h = s.h + 0.1 * z * np.tanh(s.h @ A.T + x.x @ p.V.T + p.b)
    return h, {"h": h}


def of_heads(x: Array, heads: int) -> Array:
    """The last axis as so many parts: [N, heads, size]."""
    return x.reshape(len(x), heads, -1)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


@reference
def gla(p: Named, x: Named, s: Named) -> Step:
    """Head by head, with the diagonal matrix written out; the gates' root by a power."""
    heads = s.S.shape[1]
    gate = sigmoid(x.x @ p.W_1.T @ p.W_2.T + p.b) ** (1 / 16)
    q, k, v, alpha = (of_heads(u, heads) for u in (x.x @ p.W_Q.T, x.x @ p.W_K.T, x.x @ p.W_V.T, gate))
    S, o = np.empty_like(s.S), np.empty_like(v)
    for n, g in np.ndindex(*q.shape[:2]):
        S[n, g] = np.diag(alpha[n, g]) @ s.S[n, g] + np.outer(k[n, g], v[n, g])
        o[n, g] = normalised(q[n, g] @ S[n, g], np.ones(v.shape[2]), 0)
    return (silu(x.x @ p.W_r.T + p.b_r) * o.reshape(len(o), -1)) @ p.W_O.T, {"S": S}


@reference
def hgrn2(p: Named, x: Named, s: Named) -> Step:
    heads = s.h.shape[1]
    f, i, o = (of_heads(x.x @ W.T + b, heads) for W, b in ((p.W_g, p.b_g), (p.W_i, p.b_i), (p.W_o, p.b_o)))
    h, y = np.empty_like(s.h), np.empty_like(i)
    for n, g in np.ndindex(*i.shape[:2]):
        keep = np.diag(sigmoid(f[n, g]))
        h[n, g] = s.h[n, g] @ keep + np.ones_like(s.h[n, g]) @ (np.eye(len(keep)) - keep) * i[n, g][:, None]
        y[n, g] = h[n, g] @ sigmoid(o[n, g])
    return y.reshape(len(y), -1), {"h": h}


@reference
def retnet(p: Named, x: Named, s: Named) -> Step:
    """In complex numbers: the two halves of keys and queries are real and imaginary parts."""
    _, heads, keys, _ = s.S.shape
    half, size = keys // 2, s.S.shape[3]
    angle = 10000.0 ** -(np.arange(half) / half)
    turn = np.exp(1j * x.step_index * angle)
    q, k = (of_heads(x.x @ W.T, heads) for W in (p.W_Q, p.W_K))
    q, k = ((u[..., :half] + 1j * u[..., half:]) * turn for u in (q, k))
    v, memory = of_heads(x.x @ p.W_V.T, heads), s.S[:, :, :half] + 1j * s.S[:, :, half:]
    decay = 1 - 0.5 ** (5 + np.arange(heads))
    memory = decay[:, None, None] * memory + np.einsum("ngk,ngv->ngkv", k, v)
    o = np.einsum("ngk,ngkv->ngv", q, memory.conj()).real
    o = normalised(o, np.ones(size), 0).reshape(len(o), -1)
    return (silu(x.x @ p.W_G.T) * o) @ p.W_O.T, {"S": np.concatenate([memory.real, memory.imag], axis=2)}


@reference
def mamba2(p: Named, x: Named, s: Named) -> Step:
    """Channel by channel, each with its head's numbers."""
    (heads, channels, states), inner = s.h.shape[1:], len(p.gain)
    z, new, dt = np.split(x.x @ p.W_in.T, [inner, len(p.W_in) - heads], axis=1)
    steps = np.concatenate([s.before, new[:, None]], axis=1)
    u, B, C = np.split(silu(np.einsum("nke,ke->ne", steps, p.w) + p.b), [inner, inner + states], axis=1)
    h, y = np.empty_like(s.h), np.empty_like(u)
    for n, e in np.ndindex(*u.shape):
        head, channel = divmod(e, channels)
        step = np.log1p(np.exp(dt[n, head] + p.b_dt[head]))
        decay = np.exp(-step * np.exp(p.A_log[head]))
        h[n, head, channel] = decay * s.h[n, head, channel] + step * u[n, e] * B[n]
        y[n, e] = h[n, head, channel] @ C[n] + p.skip[head] * u[n, e]
    y = y * silu(z)
    y = p.gain * y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
    return y @ p.W_out.T, {"before": steps[:, 1:], "h": h}


def gradient(loss: Callable[[Array], Any], at: Array) -> Array:
    """The gradient by steps along the imaginary axis, which lose no digits."""
    found = np.empty_like(at)
    for index in np.ndindex(*at.shape):
        moved = at.astype(complex)
        moved[index] += 1e-100j
        found[index] = loss(moved).imag / 1e-100
    return found


@reference
def ttt_linear(p: Named, x: Named, s: Named) -> Step:
    y, new = [], []
    for row, W in zip(x.x, s.W, strict=True):
        k, v, q = p.theta_K @ row, p.theta_V @ row, p.theta_Q @ row
        new.append(W - sigmoid(p.theta_lr @ row) * gradient(lambda W, k=k, v=v: ((k + W @ k - v) ** 2).sum(), W))
        y.append((np.eye(len(q)) + new[-1]) @ q)
    return np.array(y), {"W": np.array(new)}


@reference
def titans(p: Named, x: Named, s: Named) -> Step:
    y, memories, surprises = [], [], []
    for row, M, S in zip(x.x, s.M, s.S, strict=True):
        k, v, q = (silu(W @ row) for W in (p.W_K, p.W_V, p.W_Q))
        k, q = (u / np.sqrt(u @ u + 1e-6) for u in (k, q))
        gates = ((p.w_alpha, p.b_alpha), (p.w_eta, p.b_eta), (p.w_theta, p.b_theta))
        alpha, eta, theta = (sigmoid(w @ row + b) for w, b in gates)
        S = eta * S - theta * gradient(lambda M, k=k, v=v: ((M @ k - v) ** 2).sum(), M)
        M = (1 - alpha) * M + S
        y, memories, surprises = [*y, M @ q], [*memories, M], [*surprises, S]
    return np.array(y), {"M": np.array(memories), "S": np.array(surprises)}


@reference
def gated_delta_net(p: Named, x: Named, s: Named) -> Step:
    """Equation (10) as it stands, head by head."""
    heads, size = s.S.shape[1], s.S.shape[2]
    q, k, v = (silu(of_heads(x.x @ W.T, heads)) for W in (p.W_q, p.W_k, p.W_v))
    alpha = np.exp(-np.exp(p.A_log) * np.log1p(np.exp(x.x @ p.W_alpha.T + p.b_alpha)))
    beta = sigmoid(x.x @ p.W_beta.T)
    S, o = np.empty_like(s.S), np.empty_like(v)
    for n, g in np.ndindex(*beta.shape):
        key, query = (u / np.sqrt(u @ u + 1e-6) for u in (k[n, g], q[n, g]))
        moved = alpha[n, g] * (np.eye(len(key)) - beta[n, g] * np.outer(key, key))
        S[n, g] = s.S[n, g] @ moved + beta[n, g] * np.outer(v[n, g], key)
        o[n, g] = S[n, g] @ query
    o = o / np.sqrt((o**2).sum(-1, keepdims=True) / size + 1e-5)
    return (silu(x.x @ p.W_g.T) * o.reshape(len(o), -1)) @ p.W_o.T, {"S": S}


@reference
def s5(p: Named, x: Named, s: Named) -> Step:
    """In complex numbers, with both of each pair of conjugate states."""
    eigenvalue, delta = -np.exp(p.Lambda_log) + 1j * p.Lambda_im, np.exp(p.Delta_log)
    B, B_im = rows(p.B, s.re.shape[1])
    held = np.exp(eigenvalue * delta)
    state = held * (s.re + 1j * s.im) + (held - 1) / eigenvalue * (x.x @ (B + 1j * B_im).T)  # (6)
    C = p.C_re + 1j * p.C_im
    y = state @ C.T + state.conj() @ C.conj().T + x.x @ p.W.T
    return y.real, {"re": state.real, "im": state.imag}


@reference
def para_gru(p: Named, x: Named, s: Named) -> Step:
    units = s.h.shape[1]
    (B_z, B_r, B_c), (b_z, b_r, b_c) = rows(p.B, units), rows(p.b, units)
    A_z, A_r, A_h = np.diag(p.a_z), np.diag(p.a_r), np.diag(p.a_h)
    z, r = sigmoid(s.h @ A_z + x.x @ B_z.T + b_z), sigmoid(s.h @ A_r + x.x @ B_r.T + b_r)
    c = np.tanh((r * s.h) @ A_h + x.x @ B_c.T + b_c)
    h = s.h + z * (c - s.h)
    return h, {"h": h}


def driven(p: Named, x: Named, h: Array, *recurrent: Array) -> list[Array]:
    """W x + b + R h of each gate, with whole matrices R of blocks along the diagonal."""
    gates = zip(rows(p.W, h.shape[1]), rows(p.b, h.shape[1]), recurrent, strict=True)
    return [x.x @ W.T + b + h @ block_diag(*R).T for W, b, R in gates]


@reference
def lstm_blocks(p: Named, x: Named, s: Named) -> Step:
    i, f, z, o = driven(p, x, s.h, p.R_i, p.R_f, p.R_z, p.R_o)
    return lstm_state(i, f, o, z, s.c)


@reference
def gru_blocks(p: Named, x: Named, s: Named) -> Step:
    r, z, x_n = driven(p, x, s.h, p.R_r, p.R_z, np.zeros_like(p.R_n))
    n = np.tanh(x_n + sigmoid(r) * (s.h @ block_diag(*p.R_n).T + p.b_n))
    h = n + sigmoid(z) * (s.h - n)
    return h, {"h": h}


def head_norms(h: Array, heads: int, gain: Array) -> Array:
    parts = of_heads(h, heads)
    return gain * normalised(parts, np.ones(parts.shape[2]), 0).reshape(h.shape)


@reference
def slstm_heads(p: Named, x: Named, s: Named) -> Step:
    """Equations (8) to (14), not stabilised: of c, n times exp(m)."""
    i, f, z, o = driven(p, x, s.h, p.R_i, p.R_f, p.R_z, p.R_o)
    c, n = (np.exp(s.m) * sigmoid(f) * u for u in (s.c, s.n))
    c, n = c + np.exp(i) * np.tanh(z), n + np.exp(i)
    h = sigmoid(o) * c / n
    m = np.maximum(np.log(sigmoid(f)) + s.m, i)
    return head_norms(h, len(p.R_i), p.gain), {"h": h, "c": c * np.exp(-m), "n": n * np.exp(-m), "m": m}


@reference
def mlstm_heads(p: Named, x: Named, s: Named) -> Step:
    """Equations (19) to (27), head by head, not stabilised: of C, n and the 1 times exp(m)."""
    heads, keys = s.n.shape[1:]
    q, k, v = (of_heads(x.x @ W.T, heads) for W in (p.W_q, p.W_k, p.W_v))
    i, f = np.split(x.x @ p.W_if.T + p.b_if, 2, axis=1)
    i, f = np.exp(i), sigmoid(f) * np.exp(s.m)
    C, n, h = np.empty_like(s.C), np.empty_like(s.n), np.empty_like(v)
    for at in np.ndindex(*i.shape):
        key = k[at] / np.sqrt(keys)
        C[at] = f[at] * s.C[at] + i[at] * np.outer(v[at], key)
        n[at] = f[at] * s.n[at] + i[at] * key
        h[at] = C[at] @ q[at] / max(abs(n[at] @ q[at]), 1)
    size = np.maximum(i, f)
    y = sigmoid(x.x @ p.W_o.T) * head_norms(h.reshape(len(h), -1), heads, p.gain)
    return y, {"C": C / size[..., None, None], "n": n / size[..., None], "m": np.log(size)}


def numbered(p: Named, name: str, count: int) -> list[Array]:
    """The parameters of a list, by the names that a net has for them."""
    return [vars(p)[f"{name}.{k}"] for k in range(count)]


@reference
def rwkv6(p: Named, x: Named, s: Named) -> Step:
    """Sequence by sequence and head by head, with diagonal matrices written out."""
    (heads, keys, values), y, new = s.S.shape[1:], [], np.empty_like(s.S)
    for n, (row, before) in enumerate(zip(x.x, s.before, strict=True)):
        shared = (1 - p.mu_x) * row + p.mu_x * before
        mixed = []
        for mu, A, B in zip(*(numbered(p, name, 5) for name in ("mu", "A", "B")), strict=True):
            share = mu + B @ np.tanh(A @ shared)
            mixed.append((1 - share) * row + share * before)
        r, k, v, g = (W @ z for W, z in zip((p.W_r, p.W_k, p.W_v, p.W_g), mixed, strict=False))
        w = np.exp(-np.exp(p.b_w + p.B_w @ np.tanh(p.A_w @ mixed[4])))
        o = []
        for h in range(heads):
            of_k, of_v = slice(h * keys, (h + 1) * keys), slice(h * values, (h + 1) * values)
            kv = np.outer(k[of_k], v[of_v])
            o.append((np.diag(p.u[h]) @ kv + s.S[n, h]).T @ r[of_k])
            new[n, h] = np.diag(w[of_k]) @ s.S[n, h] + kv
        y.append(p.W_o @ (silu(g) * (head_norms(np.concatenate(o)[None], heads, p.gain)[0] + p.bias)))
    return np.array(y), {"before": x.x, "S": new}


@reference
def rwkv7(p: Named, x: Named, s: Named) -> Step:
    """Equation (17) as it stands, the transition of each head as a matrix."""
    (heads, keys), y, new = s.S.shape[1:3], [], np.empty_like(s.S)
    for n, (row, before) in enumerate(zip(x.x, s.before, strict=True)):
        x_r, x_w, x_k, x_v, x_a, x_g = ((1 - mu) * row + mu * before for mu in numbered(p, "mu", 6))
        r, k, v = p.W_r @ x_r, p.W_k @ x_k, p.W_v @ x_v
        w = np.exp(-np.exp(-0.5) * sigmoid(p.b_w + p.B_w @ np.tanh(p.A_w @ x_w)))
        a, g = sigmoid(p.b_a + p.B_a @ p.A_a @ x_a), p.B_g @ sigmoid(p.A_g @ x_g)
        kappa, replaced = p.xi * k, k * ((1 - p.alpha) + p.alpha * a)
        o, bonus = [], []
        for h in range(heads):
            own = slice(h * keys, (h + 1) * keys)
            key = kappa[own] / np.linalg.norm(kappa[own])
            moved = np.diag(w[own]) - np.outer(key, a[own] * key)
            new[n, h] = s.S[n, h] @ moved + np.outer(v[own], replaced[own])
            out = new[n, h] @ r[own]
            o.append((out - out.mean()) / np.sqrt(out.var() + 64e-5))
            bonus.append((r[own] * p.rho[h] * replaced[own]).sum() * v[own])
        y.append(p.W_o @ (g * (p.gain * np.concatenate(o) + p.bias + np.concatenate(bonus))))
    return np.array(y), {"before": x.x, "S": new}
