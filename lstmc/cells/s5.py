"""S5: a diagonal state space of many inputs and outputs, discretised by holding the input."""

from lstmc import Input, Param, State, Value, cell, cos, dims, exp, gaussian, linear, sin, split, uniform, xavier

N, D, H, P = dims("N D H P")


@cell
def s5(
    x: Value = Input(N, D),
    re: Value = State(N, H),
    im: Value = State(N, H),
    *,
    Lambda_log: Value = Param(H, fill=uniform(-1, 0)),
    Lambda_im: Value = Param(H, fill=uniform(0.5, 3.1)),
    Delta_log: Value = Param(H, fill=uniform(-6.9, -2.3)),
    B: Value = Param(2 * H, D, fill=xavier()),
    C_re: Value = Param(P, H, fill=xavier()),
    C_im: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """s' = exp(Lambda Delta) s + (exp(Lambda Delta) - 1) / Lambda B x;  y = 2 Re(C s') + W x, in complex numbers.

    Smith et al. 2022, arXiv:2208.04933, section 3 and equations (5) and (6): of each pair of conjugate states one.
    Lambda = -exp(Lambda_log) + i Lambda_im, and the step is exp(Delta_log). ``re`` and ``im`` are the parts of s; rows
    of B in the order real, imaginary; y has P elements.
    """
    l_re, delta = -exp(Lambda_log), exp(Delta_log)
    size, turn = exp(l_re * delta), Lambda_im * delta
    a, b = size * cos(turn), size * sin(turn)
    square = l_re * l_re + Lambda_im * Lambda_im
    f, g = ((a - 1) * l_re + b * Lambda_im) / square, (b * l_re - (a - 1) * Lambda_im) / square
    x_re, x_im = split(linear(x, B), 2)
    re, im = a * re - b * im + f * x_re - g * x_im, b * re + a * im + g * x_re + f * x_im
    y = 2 * (linear(re, C_re) - linear(im, C_im)) + linear(x, W)
    return y, {"re": re, "im": im}
