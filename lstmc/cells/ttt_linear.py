"""Test-time training: the state is a linear model, of which each step is a step of gradient descent."""

from lstmc import Input, Param, State, Value, cell, dims, einsum, linear, outer, sigmoid, xavier

N, D, K = dims("N D K")


@cell
def ttt_linear(
    x: Value = Input(N, D),
    W: Value = State(N, K, K),
    *,
    theta_K: Value = Param(K, D, fill=xavier()),
    theta_V: Value = Param(K, D, fill=xavier()),
    theta_Q: Value = Param(K, D, fill=xavier()),
    theta_lr: Value = Param(1, D, fill=xavier()),
    eta_base: float = 1,
) -> tuple[Value, dict[str, Value]]:
    """W' = W - eta grad |f(k; W) - v|^2;  y = f(q; W'), where f(z; W) = z + W z, and k, v, q are views of x.

    Sun et al. 2024, arXiv:2407.04620, equations (4) and (5), with one head and a gradient at every step. eta is
    eta_base sigmoid(theta_lr x), as in section 2.7. The paper's f has a layer norm of W z too, left out here: while W
    is near zero its gradient is as large as 1 / sqrt(eps), and so is a rounding error.
    """
    k, v, q = linear(x, theta_K), linear(x, theta_V), linear(x, theta_Q)
    eta = eta_base * sigmoid(linear(x, theta_lr))
    error = k + einsum("nij,nj->ni", W, k) - v
    W = W - outer(2 * eta * error, k)
    return q + einsum("nij,nj->ni", W, q), {"W": W}
