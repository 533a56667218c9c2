"""The antisymmetric recurrent network."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, tanh, xavier

N, D, H = dims("N D H")


@cell
def antisymmetric(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, H, fill=xavier()),
    V: Value = Param(H, D, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
    V_z: Value = Param(H, D, fill=xavier()),
    b_z: Value = Param(H, fill=constant(0)),
    epsilon: float = 0.1,
    gamma: float = 0.01,
    gated: bool = True,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = h + epsilon z tanh(A h + V x + b), with z = sigmoid(A h + V_z x + b_z) and A = W - W^T - gamma I.

    Chang et al. 2019, arXiv:1902.09689, section 3: a step of Euler's method of an equation whose states neither grow
    nor vanish; gamma is a diffusion. Unless it is ``gated``, z is 1, and there are no V_z and b_z.
    """
    Ah = linear(h, W) - linear(h, W.T) - gamma * h
    change = activation(Ah + linear(x, V, b))
    if gated:
        change = gate(Ah + linear(x, V_z, b_z)) * change
    h = h + epsilon * change
    return h, {"h": h}
