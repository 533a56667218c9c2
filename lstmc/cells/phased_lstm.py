"""Long short-term memory whose units are open for a part of a cycle of their own."""

from collections.abc import Callable

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    expand,
    linear,
    minimum,
    mod,
    sigmoid,
    split,
    step,
    tanh,
    uniform,
    where,
    xavier,
    zeros_like,
)

N, D, H = dims("N D H")


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

    Neil et al. 2016, arXiv:1610.09513, equations (5) to (10), the LSTM without peepholes: phase is (time - s) mod tau
    over tau; k goes from 0 to 1 and back while it is below ``open_ratio``, and is ``leak`` times it after that. tau is
    positive. Gates in the order i, f, o, g.
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
