"""Cells with clocks, in continuous time, and for series with missing values."""

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
    exp,
    expand,
    linear,
    minimum,
    mod,
    relu,
    sigmoid,
    split,
    step,
    step_index,
    tanh,
    uniform,
    where,
    xavier,
    zeros_like,
)

N, D, H, B = dims("N D H B")


# The closed-form continuous-time network
@cell
def cfc(
    x: Value = Input(N, D),
    dt: Value = Input(N, 1),
    h: Value = State(N, H),
    *,
    W: Value = Param(B, D + H, fill=xavier()),
    b: Value = Param(B, fill=constant(0)),
    V: Value = Param(4 * H, B, fill=xavier()),
    v: Value = Param(4 * H, fill=constant(0)),
    backbone: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = (1 - s) g + s k, with s = sigmoid(a dt + t): steps may be any time ``dt`` apart.

    Hasani et al. 2022, arXiv:2106.13898, equation (10) with a backbone of B units, as in the authors' own program,
    whose backbone's activation is 1.7159 tanh(2/3 x) by default. Rows of V and v in the order g, k, a, t.
    """
    z = backbone(linear(concat(x, h), W, b))
    g, k, a, t = split(linear(z, V, v), 4)
    s = sigmoid(a * dt + t)
    h = (1 - s) * tanh(g) + s * tanh(k)
    return h, {"h": h}


# The liquid time-constant network
@cell
def ltc(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
    A: Value = Param(H, fill=uniform(-1, 1)),
    tau: Value = Param(H, fill=constant(1)),
    dt: float = 1.0,
    unfolds: int = 6,
) -> tuple[Value, dict[str, Value]]:
    """The state follows dh/dt = -(1 / tau + f) h + f A, f = tanh(W x + U h + b), over a time ``dt``.

    Hasani et al. 2021, arXiv:2006.04439, equations (1) to (3): ``unfolds`` steps of the fused solver,
    h = (h + d f A) / (1 + d (1 / tau + f)), where d is dt / unfolds, with both sides of the fraction multiplied by tau.
    """
    d, drive = dt / unfolds, linear(x, W, b)
    for _ in range(unfolds):
        f = tanh(drive + linear(h, U))
        h = tau * (h + d * f * A) / (tau * (1 + d * f) + d)
    return h, {"h": h}


# The gated recurrent unit for series with missing values
@cell
def gru_d(
    x: Value = Input(N, D),
    mask: Value = Input(N, D),
    delta: Value = Input(N, D),
    h: Value = State(N, H),
    seen: Value = State(N, D),
    *,
    mean: Value = Param(D, fill=constant(0)),
    w: Value = Param(D, fill=constant(0)),
    b_x: Value = Param(D, fill=constant(0)),
    W_d: Value = Param(H, D, fill=xavier()),
    b_d: Value = Param(H, fill=constant(0)),
    W_x: Value = Param(3 * H, 2 * D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A missing value decays from the last one that was seen to the mean, and the state to zero, with the time since.

    Che et al. 2016, arXiv:1606.01865, equations (10) to (16). ``mask`` is 1 where x is observed, ``delta`` the time
    since the last observation of each variable; ``seen`` is the last observed value. Rows of W_x and b in the order z,
    r, n, its columns x then mask; rows of W_h in the order z, r.
    """
    near = exp(-relu(w * delta + b_x))
    h = exp(-relu(linear(delta, W_d, b_d))) * h
    known = mask * x + (1 - mask) * (near * seen + (1 - near) * mean)
    x_z, x_r, x_n = split(linear(concat(known, mask), W_x, b), 3)
    h_z, h_r = split(linear(h, W_h), 2)
    z, r = gate(x_z + h_z), gate(x_r + h_r)
    h = (1 - z) * h + z * activation(x_n + linear(r * h, U))
    return h, {"h": h, "seen": mask * x + (1 - mask) * seen}


# The clockwork recurrent network: modules that tick at periods of their own
@cell
def clockwork(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
    U: Value = Param(H, H, fill=xavier()),
    periods: tuple[int, ...] = (1, 2, 4, 8),
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = tanh(W x + b + U h) of the modules whose period goes into the number of the step; the others keep h.

    Koutnik et al. 2014, arXiv:1402.3511, section 3: the units are divided equally into a module for each of the rising
    ``periods``. A module reads itself and modules with longer periods; the other blocks of U are not used.
    """
    period = np.repeat(periods, h.shape[-1] // len(periods))
    heard = [
        linear(h * const(period >= own), rows)
        for own, rows in zip(periods, split(U, len(periods), axis=0), strict=True)
    ]
    due = 1 - minimum(mod(step_index(), const(period)), 1)
    h = where(due, activation(linear(x, W, b) + concat(heard)), h)
    return h, {"h": h}


# Long short-term memory whose units are open for a part of a cycle of their own
@cell
def phased_lstm(
    x: Value = Input(N, D),
    time: Value = Input(N, 1),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    tau: Value = Param(H, fill=uniform(1, 20)),
    s: Value = Param(H, fill=uniform(0, 20)),
    open_ratio: float = 0.05,
    leak: float = 0.001,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """c' and h' are k of those of an LSTM and 1 - k of the old ones; k rises and falls once in each cycle of ``time``.

    Neil et al. 2016, arXiv:1610.09513, equations (5) to (10), the LSTM without peepholes: phase = ((time - s) mod tau)
    / tau; k goes from 0 to 1 and back while the phase is below ``open_ratio``, and is ``leak`` times the phase after
    that. tau is positive. Gates in the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    cycle = tau + zeros_like(h)  # for readers that repeat nothing else
    phase = mod(expand(time, h.shape) - s, cycle) / cycle
    rise = 2 / open_ratio * phase
    k = where(step(open_ratio - phase), minimum(rise, 2 - rise), leak * phase)
    open_c = gate(f) * c + gate(i) * activation(g)
    c = where(k, open_c, c)
    h = where(k, gate(o) * activation(open_c), h)
    return h, {"h": h, "c": c}
