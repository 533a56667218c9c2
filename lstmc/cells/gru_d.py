"""The gated recurrent unit for series with missing values."""

from collections.abc import Callable

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    constant,
    dims,
    exp,
    linear,
    relu,
    sigmoid,
    split,
    tanh,
    xavier,
)

N, D, H = dims("N D H")


@cell
def gru_d(
    x: Value = Input(N, D),
    mask: Value = Input(N, D),
    delta: Value = Input(N, D),
    h: Value = State(N, H),
    seen: Value = State(N, D),
    *,
    mean: Value = Param(D, fill=constant(0)),
    w: Value = Param(D, fill=constant(0)),
    b_x: Value = Param(D, fill=constant(0)),
    W_d: Value = Param(H, D, fill=xavier()),
    b_d: Value = Param(H, fill=constant(0)),
    W_x: Value = Param(3 * H, 2 * D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A missing value decays from the last one that was seen to the mean, and the state to zero, with the time since.

    Che et al. 2016, arXiv:1606.01865, equations (10) to (16). ``mask`` is 1 where x is there, ``delta`` the time since
    each variable was seen; ``seen`` is the last value of each. Rows of W_x and b in the order z, r, n, its columns x
    then mask; rows of W_h in the order z, r.
    """
    near = exp(-relu(w * delta + b_x))
    h = exp(-relu(linear(delta, W_d, b_d))) * h
    known = mask * x + (1 - mask) * (near * seen + (1 - near) * mean)
    x_z, x_r, x_n = split(linear(concat(known, mask), W_x, b), 3)
    h_z, h_r = split(linear(h, W_h), 2)
    z, r = gate(x_z + h_z), gate(x_r + h_r)
    h = (1 - z) * h + z * activation(x_n + linear(r * h, U))
    return h, {"h": h, "seen": mask * x + (1 - mask) * seen}
