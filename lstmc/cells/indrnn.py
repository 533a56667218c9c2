"""The independently recurrent network."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, relu, uniform, xavier

N, D, H = dims("N D H")


@cell
def indrnn(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D, fill=xavier()),
    u: Value = Param(H, fill=uniform(0, 1)),
    b: Value = Param(H, fill=constant(0)),
    activation: Callable[[Value], Value] = relu,
) -> tuple[Value, dict[str, Value]]:
    """h' = relu(W x + u h + b): each unit sees its own past alone.

    Li et al. 2018, arXiv:1803.04831, equation (2).
    """
    h = activation(linear(x, W, b) + u * h)
    return h, {"h": h}
