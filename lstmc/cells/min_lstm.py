"""The minimal LSTM, which can be trained as a parallel scan."""

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, xavier

N, D, H = dims("N D H")


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
