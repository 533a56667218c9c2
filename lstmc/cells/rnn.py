"""The simple recurrent network."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, tanh, xavier

N, D, H = dims("N D H")


@cell
def rnn(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(H, D, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
    W_h: Value = Param(H, H, fill=xavier()),
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = tanh(W_x x + b + W_h h). Elman 1990, "Finding structure in time".

    With ``activation=relu`` it is what Le et al. 2015, arXiv:1504.00941, start from the identity.
    """
    h = activation(linear(x, W_x, b) + linear(h, W_h))
    return h, {"h": h}
