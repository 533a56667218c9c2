"""Long short-term memory and its variants."""

from collections.abc import Callable

from lstmc import (
    Input,
    Param,
    State,
    Value,
    block_linear,
    cell,
    clip,
    constant,
    dims,
    layer_norm,
    linear,
    sigmoid,
    split,
    tanh,
    uniform,
    xavier,
)

N, D, H, P, G, V = dims("N D H P G V")


@cell
def lstm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
    forget_bias: float = 0.0,
    bias: bool = True,
    cell_clip: float | None = None,
) -> tuple[Value, dict[str, Value]]:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c').

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; equations as in arXiv:1511.04119,
    section 2. Gates and parameters in the order i, f, o, g of Caffe's own LSTM layer (``lstm_layer.cpp``).
    ``forget_bias`` is added to f at every step: 1 lets a new cell remember (Jozefowicz et al. 2015). Without ``bias``
    there is no b. ``cell_clip`` keeps c' between -cell_clip and cell_clip, before h' is made of it, as TensorFlow's
    LSTMCell does.
    """
    i, f, o, g = split(linear(x, W_x, b if bias else None) + linear(h, W_h), 4)
    if forget_bias:
        f = f + forget_bias
    c = gate(f) * c + gate(i) * activation(g)
    if cell_clip is not None:
        c = clip(c, -cell_clip, cell_clip)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}


# Long short-term memory whose gates see the cell state
@cell
def lstm_peephole(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    p_i: Value = Param(H, fill=uniform(-0.1, 0.1)),
    p_f: Value = Param(H, fill=uniform(-0.1, 0.1)),
    p_o: Value = Param(H, fill=uniform(-0.1, 0.1)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """Input and forget gate see c, the output gate sees c', each through a diagonal matrix.

    Gers, Schraudolph and Schmidhuber 2002, "Learning precise timing with LSTM recurrent networks"; equations (7)
    to (11) of Graves, arXiv:1308.0850. Gates in the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    new_c = gate(f + c * p_f) * c + gate(i + c * p_i) * activation(g)
    h = gate(o + new_c * p_o) * activation(new_c)
    return h, {"h": h, "c": new_c}


# Long short-term memory whose output is projected to fewer units
@cell
def lstm_projected(
    x: Value = Input(N, D),
    h: Value = State(N, P),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, P, fill=xavier()),
    W_p: Value = Param(P, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = W_p (sigmoid(o) tanh(c')), of P units where c has H: the recurrent product is P / H as large.

    Sak et al. 2014, arXiv:1402.1128, equations (1) to (6), without peepholes, as PyTorch's ``proj_size``. Gates in
    the order i, f, o, g.
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = linear(gate(o) * activation(c), W_p)
    return h, {"h": h, "c": c}


# Long short-term memory with coupled input and forget gates
@cell
def lstm_cifg(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    W_h: Value = Param(3 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """LSTM with coupled input and forget gates: c' = f c + (1 - f) tanh(g).

    Greff et al. 2015, arXiv:1503.04069, section 4, variant CIFG (here without peepholes). Rows in the order f, o, g.
    """
    f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 3)
    f = gate(f)
    c = f * c + (1 - f) * activation(g)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}


# Long short-term memory with layer normalization
@cell
def lstm_layernorm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    gain_x: Value = Param(4 * H, fill=constant(1)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    gain_h: Value = Param(4 * H, fill=constant(1)),
    b: Value = Param(4 * H, fill=constant(0)),
    gain_c: Value = Param(H, fill=constant(1)),
    b_c: Value = Param(H, fill=constant(0)),
    eps: float = 1e-5,
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """Gates are LN(W_x x) + LN(W_h h) + b, all four normalized as one;  h' = sigmoid(o) tanh(LN(c')).

    Ba et al. 2016, arXiv:1607.06450, the LSTM of its supplementary material. The biases of the first two
    normalizations and b, which are three in the paper, are only ever seen as their sum, here b. Gates in the order
    i, f, o, g.
    """
    gates = layer_norm(linear(x, W_x), gain_x, eps=eps) + layer_norm(linear(h, W_h), gain_h, eps=eps)
    i, f, o, g = split(gates + b, 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = gate(o) * activation(layer_norm(c, gain_c, b_c, eps=eps))
    return h, {"h": h, "c": c}


# Long short-term memory with a transition of its own for each input
@cell
def lstm_multiplicative(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_mx: Value = Param(H, D, fill=xavier()),
    W_mh: Value = Param(H, H, fill=xavier()),
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_m: Value = Param(4 * H, H, fill=xavier()),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """The gates see m = (W_mx x) (W_mh h), element by element, in place of h.

    Krause et al. 2016, arXiv:1609.07959, equations (16) to (21). Gates in the order i, f, o, g.
    """
    m = linear(x, W_mx) * linear(h, W_mh)
    i, f, o, g = split(linear(x, W_x, b) + linear(m, W_m), 4)
    c = gate(f) * c + gate(i) * activation(g)
    h = gate(o) * activation(c)
    return h, {"h": h, "c": c}


# An LSTM with heads: its recurrent matrices are block-diagonal
@cell
def lstm_blocks(
    x: Value = Input(N, D),
    h: Value = State(N, G * V),
    c: Value = State(N, G * V),
    *,
    W: Value = Param(4 * G * V, D, fill=xavier()),
    b: Value = Param(4 * G * V, fill=constant(0)),
    R_i: Value = Param(G, V, V, fill=xavier()),
    R_f: Value = Param(G, V, V, fill=xavier()),
    R_z: Value = Param(G, V, V, fill=xavier()),
    R_o: Value = Param(G, V, V, fill=xavier()),
) -> tuple[Value, dict[str, Value]]:
    """c' = sigmoid(f) c + sigmoid(i) tanh(z), h' = sigmoid(o) tanh(c'): an LSTM of G heads, each with V units.

    Poeppel et al. 2024, arXiv:2412.07752 (FlashRNN), section 3.1: each head sees its own h alone, by a block of the
    matrices R. Rows of W and b in the order i, f, z, o.
    """
    x_i, x_f, x_z, x_o = split(linear(x, W, b), 4)
    i = sigmoid(x_i + block_linear(h, R_i))
    f = sigmoid(x_f + block_linear(h, R_f))
    z = tanh(x_z + block_linear(h, R_z))
    o = sigmoid(x_o + block_linear(h, R_o))
    c = f * c + i * z
    h = o * tanh(c)
    return h, {"h": h, "c": c}
