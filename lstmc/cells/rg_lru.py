"""The real-gated linear recurrent unit: a diagonal recurrence whose decay is gated by the input."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    exp,
    linear,
    sigmoid,
    softplus,
    sqrt,
    tanh,
    uniform,
    xavier,
)

N, D = dims("N D")


@cell
def rg_lru(
    x: Value = Input(N, D),
    h: Value = State(N, D),
    *,
    W_a: Value = Param(D, D, fill=xavier()),
    b_a: Value = Param(D, fill=constant(0)),
    W_x: Value = Param(D, D, fill=xavier()),
    b_x: Value = Param(D, fill=constant(0)),
    Lambda: Value = Param(D, fill=uniform(-9, -4.3)),
    c: float = 8,
) -> tuple[Value, dict[str, Value]]:
    """h' = a h + sqrt(1 - a^2) (i x), where a = exp(-c softplus(Lambda) r) and r, i are gates of x.

    De et al. 2024, arXiv:2402.19427, equations (1) to (4), the layer RG-LRU of Griffin and Hawk. The fill of Lambda
    makes a from 0.9 to 0.999 where r is 1. There 1 - a^2 loses digits; it is tanh(-ln a) (1 + a^2).
    """
    r = sigmoid(linear(x, W_a, b_a))
    i = sigmoid(linear(x, W_x, b_x))
    log_a = -c * softplus(Lambda) * r
    a = exp(log_a)
    h = a * h + sqrt(tanh(-log_a) * (1 + a * a)) * (i * x)
    return h, {"h": h}
