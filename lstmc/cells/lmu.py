"""The Legendre memory unit."""

import numpy as np

from lstmc import Input, Param, State, Value, cell, const, constant, dims, linear, tanh, xavier

N, D, M, H = dims("N D M H")


def legendre(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A [M, M] and B [M, 1] of one step of a delay of ``theta`` steps, by zero-order hold: exp of [[A, B], [0, 0]]."""
    i, j = np.mgrid[:order, :order]
    a = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) / theta
    b = (2 * i[:, :1] + 1) * (-1.0) ** i[:, :1] / theta
    held = np.block([[a, b], [np.zeros((1, order + 1))]])
    halvings = max(0, int(np.ceil(np.log2(np.abs(held).sum(1).max()))) + 1)
    term = total = np.eye(order + 1)
    for k in range(1, 20):  # a norm of at most 1/2: the rest is below 1e-20
        term = term @ held / 2**halvings / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total[:order, :order], total[:order, order:]


@cell
def lmu(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    m: Value = State(N, M),
    *,
    e_x: Value = Param(1, D, fill=xavier()),
    e_h: Value = Param(1, H, fill=xavier()),
    e_m: Value = Param(1, M, fill=constant(0)),
    W_x: Value = Param(H, D, fill=xavier()),
    W_h: Value = Param(H, H, fill=xavier()),
    W_m: Value = Param(H, M, fill=xavier()),
    theta: float = 64.0,
) -> tuple[Value, dict[str, Value]]:
    """u = e_x x + e_h h + e_m m;  m' = A m + B u;  h' = tanh(W_x x + W_h h + W_m m').

    Voelker et al. 2019, "Legendre Memory Units: continuous-time representation in recurrent neural networks",
    section 2: m holds the last ``theta`` steps of u as M Legendre polynomials. A and B are fixed: the paper's, over
    one step, u held for it.
    """
    A, B = legendre(m.shape[-1], theta)
    u = linear(x, e_x) + linear(h, e_h) + linear(m, e_m)
    m = linear(m, const(A)) + linear(u, const(B))
    h = tanh(linear(x, W_x) + linear(h, W_h) + linear(m, W_m))
    return h, {"h": h, "m": m}
