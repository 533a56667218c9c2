"""A decoder that looks at all states of an encoder, after each step of its own, and is fed what it made of them."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    constant,
    dims,
    linear,
    sigmoid,
    softmax,
    split,
    sum,
    tanh,
    xavier,
)

N, D, S, E, H = dims("N D S E H")


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
    feeding (section 3.3). ``memory`` is static: what an encoder's scan returned, S steps of E elements. Gates in
    the order i, f, o, g.
    """
    i, f, o, g = split(linear(concat(x, fed), W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    scores = sum(linear(memory, W_a) * h, axis=-1, keepdims=True)
    context = sum(softmax(scores, axis=0) * memory, axis=0)
    fed = tanh(linear(concat(context, h), W_c))
    return fed, {"fed": fed, "h": h, "c": c}
