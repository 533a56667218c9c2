"""The gated recurrent unit, in both conventions for its reset gate, and the units like it."""

from collections.abc import Callable

from lstmc import (
    Input,
    Param,
    State,
    Value,
    block_linear,
    cell,
    constant,
    dims,
    linear,
    sigmoid,
    split,
    tanh,
    uniform,
    xavier,
)

N, D, H, G, V = dims("N D H G V")


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
    Rows of W_x and b in the order z, r, n; of W_h in the order z, r. The GRU of PyTorch and Keras is gru_reset_after.
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
    have, with h' = z h + (1 - z) n. Rows are in PyTorch's order r, z, n, so that PyTorch's weights fit without a
    change.
    """
    x_r, x_z, x_n = split(linear(x, W_x, b_x), 3)
    h_r, h_z, h_n = split(linear(h, W_h, b_h), 3)
    r = gate(x_r + h_r)
    z = gate(x_z + h_z)
    n = activation(x_n + r * h_n)
    h = n + z * (h - n)
    return h, {"h": h}


# A GRU with heads: its recurrent matrices are block-diagonal
@cell
def gru_blocks(
    x: Value = Input(N, D),
    h: Value = State(N, G * V),
    *,
    W: Value = Param(3 * G * V, D, fill=xavier()),
    b: Value = Param(3 * G * V, fill=constant(0)),
    R_r: Value = Param(G, V, V, fill=xavier()),
    R_z: Value = Param(G, V, V, fill=xavier()),
    R_n: Value = Param(G, V, V, fill=xavier()),
    b_n: Value = Param(G * V, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """h' = z h + (1 - z) n, n = tanh(x_n + r (R_n h + b_n)): a GRU of G heads, each with V units.

    Poeppel et al. 2024, arXiv:2412.07752 (FlashRNN), section 3.1: each head reads only its own h, by one block of R.
    Rows of W and b in the order r, z, n.
    """
    x_r, x_z, x_n = split(linear(x, W, b), 3)
    r = sigmoid(x_r + block_linear(h, R_r))
    z = sigmoid(x_z + block_linear(h, R_z))
    n = tanh(x_n + r * block_linear(h, R_n, b_n))
    h = z * h + (1 - z) * n
    return h, {"h": h}


# The minimal gated unit
@cell
def mgu(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_f: Value = Param(H, D, fill=xavier()),
    U_f: Value = Param(H, H, fill=xavier()),
    b_f: Value = Param(H, fill=constant(1)),
    W_h: Value = Param(H, D, fill=xavier()),
    U_h: Value = Param(H, H, fill=xavier()),
    b_h: Value = Param(H, fill=constant(0)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A GRU with one gate for both: h' = (1 - f) h + f tanh(W_h x + U_h (f h)).

    Zhou et al. 2016, arXiv:1603.09420, equations (5) to (7).
    """
    f = gate(linear(x, W_f, b_f) + linear(h, U_f))
    n = activation(linear(x, W_h, b_h) + linear(f * h, U_h))
    h = (1 - f) * h + f * n
    return h, {"h": h}


# The update gate recurrent network
@cell
def ugrnn(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(2 * H, D, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = g h + (1 - g) tanh(c): an Elman network with one gate that keeps the old state.

    Collins et al. 2016, arXiv:1611.09913, section 2 (UGRNN). Rows in the order g, c.
    """
    g, c = split(linear(x, W_x, b) + linear(h, W_h), 2)
    g = gate(g)
    h = g * h + (1 - g) * activation(c)
    return h, {"h": h}


# Just another network: an LSTM with a forget gate alone
@cell
def janet(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_x: Value = Param(2 * H, D, fill=xavier()),
    b: Value = Param(2 * H, fill=constant(0)),
    W_h: Value = Param(2 * H, H, fill=xavier()),
    beta: float = 1.0,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = sigmoid(s) h + (1 - sigmoid(s - beta)) tanh(c).

    Van der Westhuizen and Lasenby 2018, arXiv:1804.04849, equations (4) to (7). Rows in the order s, c.
    """
    s, c = split(linear(x, W_x, b) + linear(h, W_h), 2)
    h = gate(s) * h + (1 - gate(s - beta)) * activation(c)
    return h, {"h": h}


# ParaGRU: a GRU whose recurrent matrices are diagonal, so that Newton's method solves all steps at once
@cell
def para_gru(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    B: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    a_z: Value = Param(H, fill=uniform(-1, 1)),
    a_r: Value = Param(H, fill=uniform(-1, 1)),
    a_h: Value = Param(H, fill=uniform(-1, 1)),
) -> tuple[Value, dict[str, Value]]:
    """h' = (1 - z) h + z c, where z = sigmoid(a_z h + x_z), r = sigmoid(a_r h + x_r), c = tanh(a_h (r h) + x_c).

    Danieli et al. 2025, arXiv:2510.21450, section 3, the ParaGRU of ParaRNN: a GRU with diagonal matrices A. (x_z, x_r,
    x_c) = B x + b, and rows of B and b are in the order z, r, c.
    """
    x_z, x_r, x_c = split(linear(x, B, b), 3)
    z = sigmoid(a_z * h + x_z)
    r = sigmoid(a_r * h + x_r)
    c = tanh(a_h * (r * h) + x_c)
    h = (1 - z) * h + z * c
    return h, {"h": h}
