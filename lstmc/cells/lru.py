"""The linear recurrent unit: a diagonal of complex numbers, in real arithmetic."""

from lstmc import Input, Param, State, Value, cell, dims, gaussian, linear, sigmoid, split, uniform, xavier, zeros_like

N, D, H, P = dims("N D H P")


@cell
def lru(
    x: Value = Input(N, D),
    re: Value = State(N, H),
    im: Value = State(N, H),
    *,
    nu: Value = Param(H, fill=uniform(0.5, 5)),
    p: Value = Param(H, fill=uniform(0.5, 1)),
    q: Value = Param(H, fill=uniform(-0.5, 0.5)),
    B: Value = Param(2 * H, D, fill=xavier()),
    C_re: Value = Param(P, H, fill=xavier()),
    C_im: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """s' = lambda s + gamma B x;  y = Re(C s') + W x, with complex lambda, B, C and s; gamma = sqrt(1 - |lambda|^2).

    Orvieto et al. 2023, arXiv:2303.06349, section 3, with other parameters: here |lambda| is sigmoid(nu), there
    exp(-exp(nu)); here the phase is (p + i q) / |p + i q|, there exp(i theta), which needs sine and cosine. p and q may
    not both be 0. ``re`` and ``im`` are the parts of s; rows of B in the order real, imaginary; y has P elements.
    """
    nu, p, q = nu + zeros_like(re), p + zeros_like(re), q + zeros_like(re)  # for readers that repeat nothing else
    size = sigmoid(nu)
    turn = size * (p * p + q * q) ** -0.5
    a, b, gamma = turn * p, turn * q, (1 - size * size) ** 0.5
    x_re, x_im = split(linear(x, B), 2)
    new_re = a * re - b * im + gamma * x_re
    new_im = b * re + a * im + gamma * x_im
    y = linear(new_re, C_re) - linear(new_im, C_im) + linear(x, W)
    return y, {"re": new_re, "im": new_im}
