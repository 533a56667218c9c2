"""The linear recurrent unit: a diagonal of complex numbers, in real arithmetic."""

from lstmc import Input, Param, State, Value, cell, cos, dims, exp, gaussian, linear, sin, split, uniform, xavier

N, D, H, P = dims("N D H P")


@cell
def lru(
    x: Value = Input(N, D),
    re: Value = State(N, H),
    im: Value = State(N, H),
    *,
    nu_log: Value = Param(H, fill=uniform(-4.6, -0.7)),
    theta_log: Value = Param(H, fill=uniform(-3, 1.8)),
    gamma_log: Value = Param(H, fill=uniform(-2, -0.2)),
    B: Value = Param(2 * H, D, fill=xavier()),
    C_re: Value = Param(P, H, fill=xavier()),
    C_im: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """s' = lambda s + exp(gamma_log) B x;  y = Re(C s') + W x, with lambda = exp(-exp(nu_log) + i exp(theta_log)).

    Orvieto et al. 2023, arXiv:2303.06349, section 3 and appendix A: complex lambda, B, C and s. ``re`` and ``im`` are
    the parts of s; rows of B in the order real, imaginary; y has P elements. The paper starts gamma_log at the
    logarithm of sqrt(1 - |lambda|^2), of the lambda drawn; the fill here draws it in that range.
    """
    size, theta = exp(-exp(nu_log)), exp(theta_log)
    a, b, gamma = size * cos(theta), size * sin(theta), exp(gamma_log)
    x_re, x_im = split(linear(x, B), 2)
    re, im = a * re - b * im + gamma * x_re, b * re + a * im + gamma * x_im
    y = linear(re, C_re) - linear(im, C_im) + linear(x, W)
    return y, {"re": re, "im": im}
