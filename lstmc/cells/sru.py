"""The simple recurrent unit."""

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, uniform, xavier

N, H = dims("N H")


@cell
def sru(
    x: Value = Input(N, H),
    c: Value = State(N, H),
    *,
    W: Value = Param(3 * H, H, fill=xavier()),
    b_f: Value = Param(H, fill=constant(0)),
    b_r: Value = Param(H, fill=constant(0)),
    v_f: Value = Param(H, fill=uniform(-0.1, 0.1)),
    v_r: Value = Param(H, fill=uniform(-0.1, 0.1)),
    scale: float = 1.0,
) -> tuple[Value, dict[str, Value]]:
    """All products are with x, so that they are one product for the whole sequence; the state goes element by element.

    Lei et al. 2018, arXiv:1709.02755, equations (1) to (4): f and r see the old c through diagonals v, and the
    output has x itself as a highway, times ``scale`` (alpha of section 3.2). Inputs have H elements. Rows of W in the
    order value, f, r.
    """
    value, f, r = split(linear(x, W), 3)
    f = sigmoid(f + v_f * c + b_f)
    r = sigmoid(r + v_r * c + b_r)
    c = f * c + (1 - f) * value
    h = r * c + (1 - r) * (x * scale)
    return h, {"c": c}
