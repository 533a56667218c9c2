"""Recurrences whose gates see the input alone, so that all steps can be computed at once."""

from collections.abc import Callable

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    einsum,
    exp,
    linear,
    merge_heads,
    outer,
    sigmoid,
    softplus,
    split,
    split_heads,
    sqrt,
    tanh,
    uniform,
    xavier,
)

N, H, D, G, K, V = dims("N H D G K V")


# The simple recurrent unit
@cell
def sru(
    x: Value = Input(N, H),
    c: Value = State(N, H),
    *,
    W: Value = Param(3 * H, H, fill=xavier()),
    b_f: Value = Param(H, fill=constant(0)),
    b_r: Value = Param(H, fill=constant(0)),
    v_f: Value = Param(H, fill=uniform(-0.1, 0.1)),
    v_r: Value = Param(H, fill=uniform(-0.1, 0.1)),
    scale: float = 1.0,
) -> tuple[Value, dict[str, Value]]:
    """All products are with x, so that they are one product for the whole sequence; the state goes element by element.

    Lei et al. 2018, arXiv:1709.02755, equations (1) to (4): f and r see the old c through diagonals v, and the output
    has a highway from x, times ``scale`` (alpha of section 3.2). Inputs have H elements. Rows of W in the order value,
    f, r.
    """
    value, f, r = split(linear(x, W), 3)
    f = sigmoid(f + v_f * c + b_f)
    r = sigmoid(r + v_r * c + b_r)
    c = f * c + (1 - f) * value
    h = r * c + (1 - r) * (x * scale)
    return h, {"c": c}


# The quasi-recurrent network, with a window of two steps
@cell
def qrnn(
    x: Value = Input(N, D),
    before: Value = State(N, D),
    c: Value = State(N, H),
    *,
    W: Value = Param(3 * H, D, fill=xavier()),
    V: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A convolution over two steps makes value and gates, and the state is pooled: c' = f c + (1 - f) z; h = o c'.

    Bradbury et al. 2016, arXiv:1611.01576, equations (1), (2) and (4), fo-pooling. The state ``before`` is the last
    step's x. Rows in the order z, f, o; W is for this step, V for the previous step.
    """
    z, f, o = split(linear(x, W, b) + linear(before, V), 3)
    f = gate(f)
    c = f * c + (1 - f) * activation(z)
    return gate(o) * c, {"before": x, "c": c}


# The minimal GRU, which can be trained as a parallel scan
@cell
def min_gru(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(2 * H, D, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """h' = (1 - z) h + z n, where gate and value see x alone: one product for the whole sequence.

    Feng et al. 2024, arXiv:2410.01201, section 3.1. Rows in the order z, n.
    """
    z, n = split(linear(x, W, b), 2)
    z = sigmoid(z)
    h = (1 - z) * h + z * n
    return h, {"h": h}


# The minimal LSTM, which can be trained as a parallel scan
@cell
def min_lstm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """h' = (f h + i n) / (f + i): the two gates are made to add up to 1, and see x alone.

    Feng et al. 2024, arXiv:2410.01201, section 3.2. Rows in the order f, i, n.
    """
    f, i, n = split(linear(x, W, b), 3)
    f, i = sigmoid(f), sigmoid(i)
    h = (f * h + i * n) / (f + i)
    return h, {"h": h}


# The real-gated linear recurrent unit: a diagonal recurrence whose decay is gated by the input
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
    makes a from 0.9 to 0.999 where r is 1. Near 1 the difference 1 - a^2 loses digits, so it is computed as tanh(-ln a)
    (1 + a^2).
    """
    r = sigmoid(linear(x, W_a, b_a))
    i = sigmoid(linear(x, W_x, b_x))
    log_a = -c * softplus(Lambda) * r
    a = exp(log_a)
    h = a * h + sqrt(tanh(-log_a) * (1 + a * a)) * (i * x)
    return h, {"h": h}


# A gated linear recurrence whose state an outer product widens: what a key forgets is what it takes in
@cell
def hgrn2(
    x: Value = Input(N, D),
    h: Value = State(N, G, V, K),
    *,
    W_g: Value = Param(G * K, D, fill=xavier()),
    b_g: Value = Param(G * K, fill=constant(0)),
    W_i: Value = Param(G * V, D, fill=xavier()),
    b_i: Value = Param(G * V, fill=constant(0)),
    W_o: Value = Param(G * K, D, fill=xavier()),
    b_o: Value = Param(G * K, fill=constant(0)),
    lower: float = 0,
) -> tuple[Value, dict[str, Value]]:
    """h' = h diag(f) + i (1 - f)^T;  y = h' o, with the forget gate f = lower + (1 - lower) sigmoid(W_g x + b_g).

    Qin et al. 2024, arXiv:2404.07904, section 3.2, equation (3): G heads of K gates and V values each. ``lower`` is the
    lower bound of f, which grows from layer to layer. i is W_i x + b_i, and o = sigmoid(W_o x + b_o).
    """
    f = lower + (1 - lower) * sigmoid(linear(x, W_g, b_g))
    i, o = split_heads(linear(x, W_i, b_i), G), split_heads(sigmoid(linear(x, W_o, b_o)), G)
    h = h * split_heads(f, G)[..., None, :] + outer(i, split_heads(1 - f, G))
    return merge_heads(einsum("ngvk,ngk->ngv", h, o)), {"h": h}
