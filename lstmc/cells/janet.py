"""Just another network: an LSTM with a forget gate alone."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def janet(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(2 * H, D, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    beta: float = 1.0,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = sigmoid(s) h + (1 - sigmoid(s - beta)) tanh(c).

    Van der Westhuizen and Lasenby 2018, arXiv:1804.04849, equations (4) to (7). Rows in the order s, c.
    """
    s, c = split(linear(x, W_x, b) + linear(h, W_h), 2)
    h = gate(s) * h + (1 - gate(s - beta)) * activation(c)
    return h, {"h": h}
