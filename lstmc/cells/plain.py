"""The plain recurrent networks: one state, no gates or a highway of them."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, relu, sigmoid, split, tanh, uniform, xavier

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

    With ``activation=relu``, and W_h started at the identity, it is the network of Le et al. 2015, arXiv:1504.00941.
    """
    h = activation(linear(x, W_x, b) + linear(h, W_h))
    return h, {"h": h}


# The independently recurrent network
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


# The antisymmetric recurrent network
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


# The recurrent highway network: several layers of a step, one after another
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
    """s = t tanh(h) + (1 - t) s, ``depth`` times a step, each time with other weights; only the first layer reads x.

    Zilly et al. 2016, arXiv:1607.03474, section 4, with the carry gate coupled, c = 1 - t. Rows in the order h, t.
    R and b belong to the first layer; layer k, from 2 on, has ``layer_k/R`` and ``layer_k/b``.
    """
    h, t = split(linear(x, W) + linear(s, R, b), 2)
    t = gate(t)
    s = t * activation(h) + (1 - t) * s
    for k in range(2, depth + 1):
        s, _ = highway(H=H, name=f"layer_{k}", gate=gate, activation=activation)(s)
    return s, {"s": s}
