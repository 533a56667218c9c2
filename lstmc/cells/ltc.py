"""The liquid time-constant network."""

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, tanh, uniform, xavier

N, D, H = dims("N D H")


@cell
def ltc(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
    A: Value = Param(H, fill=uniform(-1, 1)),
    tau: Value = Param(H, fill=constant(1)),
    dt: float = 1.0,
    unfolds: int = 6,
) -> tuple[Value, dict[str, Value]]:
    """The state follows dh/dt = -(1 / tau + f) h + f A, f = tanh(W x + U h + b), over a time ``dt``.

    Hasani et al. 2021, arXiv:2006.04439, equations (1) to (3): ``unfolds`` steps of the fused solver,
    h = (h + d f A) / (1 + d (1 / tau + f)), where d is dt / unfolds, both of its sides times tau.
    """
    d, drive = dt / unfolds, linear(x, W, b)
    for _ in range(unfolds):
        f = tanh(drive + linear(h, U))
        h = tau * (h + d * f * A) / (tau * (1 + d * f) + d)
    return h, {"h": h}
