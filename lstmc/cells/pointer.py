"""The pointer network: a decoder whose answers are places of its input."""

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
    sigmoid,
    softmax,
    split,
    tanh,
    xavier,
)

N, D, S, E, A, H = dims("N D S E A H")


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

    Vinyals et al. 2015, arXiv:1506.03134, equation (3). ``memory`` is static: what an encoder's scan returned, S steps
    of E elements; x is what the last answer points at. Gates in the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    keys = linear(memory, W_1)
    u = linear(tanh(keys + expand(linear(h, W_2), keys.shape)), v)
    return softmax(u[..., 0].T), {"h": h, "c": c}
