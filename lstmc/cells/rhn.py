"""The recurrent highway network: several layers of a step, one after another."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def highway(
    s: Value = State(N, H),
    *,
    R: Value = Param(2 * H, H, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A further layer of a step: it sees the layer before it alone. Rows in the order h, t."""
    h, t = split(linear(s, R, b), 2)
    t = gate(t)
    s = t * activation(h) + (1 - t) * s
    return s, {"s": s}


@cell
def rhn(
    x: Value = Input(N, D),
    s: Value = State(N, H),
    *,
    W: Value = Param(2 * H, D, fill=xavier()),
    R: Value = Param(2 * H, H, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
    depth: int = 3,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """s = t tanh(h) + (1 - t) s, ``depth`` times a step, each time with weights of its own; x is seen by the first.

    Zilly et al. 2016, arXiv:1607.03474, section 4, with the carry gate coupled, c = 1 - t. Rows in the order h, t.
    R and b are the first layer's; those of layer k, from 2 on, are called ``layer_k/R`` and ``layer_k/b``.
    """
    h, t = split(linear(x, W) + linear(s, R, b), 2)
    t = gate(t)
    s = t * activation(h) + (1 - t) * s
    for k in range(2, depth + 1):
        s, _ = highway(H=H, name=f"layer_{k}", gate=gate, activation=activation)(s)
    return s, {"s": s}
