"""Long short-term memory with exponential gates and a normaliser."""

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
    log_sigmoid,
    maximum,
    sigmoid,
    split,
    tanh,
    xavier,
)

N, D, H = dims("N D H")


@cell
def slstm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    n: Value = State(N, H),
    m: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    sigmoid_forget: bool = False,
) -> tuple[Value, dict[str, Value]]:
    """c' = f c + i tanh(z), n' = f n + i, h' = sigmoid(o) c' / n', i and f exponentials.

    Beck et al. 2024, arXiv:2405.04517, section 2.2, with one head. m' = max(ln f + m, ln i) stabilises: both gates are
    over exp(m'), which c' / n' does not see. With ``sigmoid_forget`` f is a sigmoid. Gates in the order i, f, o, z.
    """
    i, f, o, z = split(linear(x, W_x, b) + linear(h, W_h), 4)
    f = (log_sigmoid(f) if sigmoid_forget else f) + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    c, n = f * c + i * tanh(z), f * n + i
    h = sigmoid(o) * c / n
    return h, {"h": h, "c": c, "n": n, "m": m}
