"""A linear oscillatory state space: a forced harmonic oscillator for each unit, discretised implicitly."""

from lstmc import Input, Param, State, Value, cell, dims, gaussian, linear, relu, sigmoid, uniform, xavier

N, D, H, P = dims("N D H P")


@cell
def linoss(
    x: Value = Input(N, D),
    z: Value = State(N, H),
    y: Value = State(N, H),
    *,
    A: Value = Param(H, fill=uniform(0, 1)),
    dt: Value = Param(H, fill=uniform(-2, 2)),
    B: Value = Param(H, D, fill=xavier()),
    C: Value = Param(P, H, fill=xavier()),
    W: Value = Param(P, D, fill=gaussian(0, 1)),
) -> tuple[Value, dict[str, Value]]:
    """z' = S (z - dt A y + dt B x), y' = y + dt z', with S = 1 / (1 + dt^2 A): the oscillators y'' = -A y + B x.

    Rusch and Rus 2024, arXiv:2410.03943, section 2, the implicit scheme LinOSS-IM. A is relu(A), so that the model is
    stable, and the time step sigmoid(dt). The output is C y' + W x, of P elements.
    """
    A, dt = relu(A), sigmoid(dt)
    S = 1 / (1 + dt * dt * A)
    z = S * (z - dt * A * y + dt * linear(x, B))
    y = y + dt * z
    return linear(y, C) + linear(x, W), {"z": z, "y": y}
