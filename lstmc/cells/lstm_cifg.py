"""Long short-term memory with coupled input and forget gates."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def lstm_cifg(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    W_h: Value = Param(3 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """What is forgotten makes room for what comes in: c' = f c + (1 - f) tanh(g).

    Greff et al. 2015, arXiv:1503.04069, section 4, variant CIFG (here without peepholes). Rows in the order f, o, g.
    """
    f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 3)
    f = gate(f)
    c = f * c + (1 - f) * activation(g)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}
