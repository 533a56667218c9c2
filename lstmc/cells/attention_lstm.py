"""Long short-term memory that looks at one place of its input after another."""

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
    linear,
    sigmoid,
    softmax,
    split,
    tanh,
    xavier,
)

N, S, D, H = dims("N S D H")


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
