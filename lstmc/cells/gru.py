"""Gated recurrent units, in both conventions for the reset gate."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def gru(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """The reset gate acts before the recurrent product: n = tanh(W_n x + b_n + U (r h)).

    Cho et al. 2014, arXiv:1406.1078, equations (5) to (8), where z keeps the old state: h' = z h + (1 - z) n.
    Rows of W_x and b in the order z, r, n; of W_h in the order z, r. PyTorch's and Keras's is gru_reset_after.
    """
    x_z, x_r, x_n = split(linear(x, W_x, b), 3)
    h_z, h_r = split(linear(h, W_h), 2)
    z = gate(x_z + h_z)
    r = gate(x_r + h_r)
    n = activation(x_n + linear(r * h, U))
    h = n + z * (h - n)
    return h, {"h": h}


@cell
def gru_reset_after(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(3 * H, D, fill=xavier()),
    b_x: Value = Param(3 * H, fill=constant(0)),
    W_h: Value = Param(3 * H, H, fill=xavier()),
    b_h: Value = Param(3 * H, fill=constant(0)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """The reset gate acts after the recurrent product: n = tanh(W_n x + b_xn + r (U_n h + b_hn)).

    The variant of Cho et al. 2014, arXiv:1406.1078v1, that cuDNN, PyTorch and ONNX (``linear_before_reset = 1``)
    have, with h' = z h + (1 - z) n. Rows in PyTorch's order r, z, n, so that its weights can be used as they are.
    """
    x_r, x_z, x_n = split(linear(x, W_x, b_x), 3)
    h_r, h_z, h_n = split(linear(h, W_h, b_h), 3)
    r = gate(x_r + h_r)
    z = gate(x_z + h_z)
    n = activation(x_n + r * h_n)
    h = n + z * (h - n)
    return h, {"h": h}
