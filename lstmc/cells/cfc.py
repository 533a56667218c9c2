"""The closed-form continuous-time network."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, concat, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H, B = dims("N D H B")


@cell
def cfc(
    x: Value = Input(N, D),
    dt: Value = Input(N, 1),
    h: Value = State(N, H),
    *,
    W: Value = Param(B, D + H, fill=xavier()),
    b: Value = Param(B, fill=constant(0)),
    V: Value = Param(4 * H, B, fill=xavier()),
    v: Value = Param(4 * H, fill=constant(0)),
    backbone: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = (1 - s) g + s k, with s = sigmoid(a dt + t): steps may be any time ``dt`` apart.

    Hasani et al. 2022, arXiv:2106.13898, equation (10) with a backbone of B units, as in the authors' own program,
    whose backbone's activation is 1.7159 tanh(2/3 x) by default. Rows of V and v in the order g, k, a, t.
    """
    z = backbone(linear(concat(x, h), W, b))
    g, k, a, t = split(linear(z, V, v), 4)
    s = sigmoid(a * dt + t)
    h = (1 - s) * tanh(g) + s * tanh(k)
    return h, {"h": h}
