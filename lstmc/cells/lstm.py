"""Long short-term memory and its variants, to the xLSTM of 2024: exponential gates, a matrix as the state, heads."""

from collections.abc import Callable

from lstmc import (
    Input,
    Param,
    State,
    Value,
    abs,
    block_linear,
    cell,
    clip,
    constant,
    dims,
    einsum,
    exp,
    group_norm,
    layer_norm,
    linear,
    log_sigmoid,
    maximum,
    merge_heads,
    outer,
    sigmoid,
    split,
    split_heads,
    sum,
    tanh,
    uniform,
    xavier,
)

N, D, H, P, K, G, V = dims("N D H P K G V")


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
    there is no b. ``cell_clip`` clips c' to [-cell_clip, cell_clip] before h' is computed, as TensorFlow's LSTMCell
    does.
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

    Ba et al. 2016, arXiv:1607.06450, the LSTM of its supplementary material. The paper has three biases, of the first
    two normalizations and b; only their sum matters, so b stands for all three. Gates in the order i, f, o, g.
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

    Poeppel et al. 2024, arXiv:2412.07752 (FlashRNN), section 3.1: each head reads only its own h, by one block of R.
    Rows of W and b in the order i, f, z, o.
    """
    x_i, x_f, x_z, x_o = split(linear(x, W, b), 4)
    i = sigmoid(x_i + block_linear(h, R_i))
    f = sigmoid(x_f + block_linear(h, R_f))
    z = tanh(x_z + block_linear(h, R_z))
    o = sigmoid(x_o + block_linear(h, R_o))
    c = f * c + i * z
    h = o * tanh(c)
    return h, {"h": h, "c": c}


# Long short-term memory with exponential gates and a normaliser
@cell
def slstm(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    n: Value = State(N, H),
    m: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=xavier()),
    b: Value = Param(4 * H, fill=constant(0)),
    W_h: Value = Param(4 * H, H, fill=xavier()),
    sigmoid_forget: bool = False,
) -> tuple[Value, dict[str, Value]]:
    """c' = f c + i tanh(z), n' = f n + i, h' = sigmoid(o) c' / n', i and f exponentials.

    Beck et al. 2024, arXiv:2405.04517, section 2.2, with one head. m' = max(ln f + m, ln i) stabilises: both gates are
    divided by exp(m'), which cancels in c' / n'. With ``sigmoid_forget`` f is a sigmoid. Gates in the order i, f, o, z.
    """
    i, f, o, z = split(linear(x, W_x, b) + linear(h, W_h), 4)
    f = (log_sigmoid(f) if sigmoid_forget else f) + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    c, n = f * c + i * tanh(z), f * n + i
    h = sigmoid(o) * c / n
    return h, {"h": h, "c": c, "n": n, "m": m}


# Long short-term memory whose cell state is a matrix, with exponential gates
@cell
def mlstm(
    x: Value = Input(N, D),
    C: Value = State(N, H, K),
    n: Value = State(N, K),
    m: Value = State(N, 1),
    *,
    W_q: Value = Param(K, D, fill=xavier()),
    b_q: Value = Param(K, fill=constant(0)),
    W_k: Value = Param(K, D, fill=xavier()),
    b_k: Value = Param(K, fill=constant(0)),
    W_v: Value = Param(H, D, fill=xavier()),
    b_v: Value = Param(H, fill=constant(0)),
    W_o: Value = Param(H, D, fill=xavier()),
    b_o: Value = Param(H, fill=constant(0)),
    W_if: Value = Param(2, D, fill=xavier()),
    b_if: Value = Param(2, fill=constant(0)),
    sigmoid_forget: bool = False,
) -> tuple[Value, dict[str, Value]]:
    """C' = f C + i v k^T, n' = f n + i k, h = sigmoid(o) C' q / max(|n' q|, 1): a memory of values v by keys k.

    Beck et al. 2024, arXiv:2405.04517, section 2.3, equations (19) to (27), with one head. i and f are single numbers,
    exponentials; with ``sigmoid_forget`` f is a sigmoid. m' = max(ln f + m, ln i) stabilises: C', n' and the 1 in the
    maximum are divided by exp(m'). Rows of W_if in the order i, f.
    """
    q, v = linear(x, W_q, b_q), linear(x, W_v, b_v)
    k = linear(x, W_k) * W_k.shape[0] ** -0.5 + b_k
    i, f = split(linear(x, W_if, b_if), 2)
    f = (log_sigmoid(f) if sigmoid_forget else f) + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    C, n = f[..., None] * C + outer(i * v, k), f * n + i * k
    size = maximum(abs(sum(n * q, axis=-1, keepdims=True)), exp(-m))
    h = sigmoid(linear(x, W_o, b_o)) * einsum("nhk,nk->nh", C, q) / size
    return h, {"C": C, "n": n, "m": m}


# xLSTM's sLSTM with heads: exponential gates, block-diagonal recurrent matrices, a norm of each head
@cell
def slstm_heads(
    x: Value = Input(N, D),
    h: Value = State(N, G * V),
    c: Value = State(N, G * V),
    n: Value = State(N, G * V),
    m: Value = State(N, G * V),
    *,
    W: Value = Param(4 * G * V, D, fill=xavier()),
    b: Value = Param(4 * G * V, fill=constant(0)),
    R_i: Value = Param(G, V, V, fill=xavier()),
    R_f: Value = Param(G, V, V, fill=xavier()),
    R_z: Value = Param(G, V, V, fill=xavier()),
    R_o: Value = Param(G, V, V, fill=xavier()),
    gain: Value = Param(G * V, fill=constant(1)),
) -> tuple[Value, dict[str, Value]]:
    """c' = f c + i tanh(z), n' = f n + i, h' = sigmoid(o) c' / n': an sLSTM of G heads, each with V units.

    Beck et al. 2024, arXiv:2405.04517, section 2.2, equations (8) to (18), and appendix A.1 for the heads. i is an
    exponential and f a sigmoid; m' = max(ln f + m, ln i) stabilises: c' and n' are divided by exp(m'). y is h' with a
    group norm over heads. Rows of W and b in the order i, f, z, o.
    """
    x_i, x_f, x_z, x_o = split(linear(x, W, b), 4)
    i = x_i + block_linear(h, R_i)
    f = log_sigmoid(x_f + block_linear(h, R_f)) + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    c, n = f * c + i * tanh(x_z + block_linear(h, R_z)), f * n + i
    h = sigmoid(x_o + block_linear(h, R_o)) * (c / n)
    return group_norm(h, G, gain), {"h": h, "c": c, "n": n, "m": m}


# xLSTM's mLSTM with heads: a matrix memory for each head, with gates of its own
@cell
def mlstm_heads(
    x: Value = Input(N, D),
    C: Value = State(N, G, V, K),
    n: Value = State(N, G, K),
    m: Value = State(N, G),
    *,
    W_q: Value = Param(G * K, D, fill=xavier()),
    W_k: Value = Param(G * K, D, fill=xavier()),
    W_v: Value = Param(G * V, D, fill=xavier()),
    W_if: Value = Param(2 * G, D, fill=xavier()),
    b_if: Value = Param(2 * G, fill=constant(0)),
    W_o: Value = Param(G * V, D, fill=xavier()),
    gain: Value = Param(G * V, fill=constant(1)),
) -> tuple[Value, dict[str, Value]]:
    """C' = f C + i v k^T, n' = f n + i k, h = C' q / max(|n' q|, 1), for G heads;  y = sigmoid(W_o x) norm(h).

    Beck et al. 2024, arXiv:2405.04517, section 2.3, equations (19) to (27), with heads as in section 2.4: i is an
    exponential and f a sigmoid, one number for each head. m' = max(ln f + m, ln i) stabilises: C', n' and the 1 in the
    maximum are divided by exp(m'). norm is a group norm of each head, with ``gain``. Rows of W_if in the order i, f.
    """
    q, k, v = (split_heads(linear(x, W), G) for W in (W_q, W_k, W_v))
    k = k * k.shape[-1] ** -0.5
    i, f = split(linear(x, W_if, b_if), 2)
    f = log_sigmoid(f) + m
    m = maximum(f, i)
    i, f = exp(i - m)[..., None], exp(f - m)[..., None]
    C, n = f[..., None] * C + outer(i * v, k), f * n + i * k
    size = maximum(abs(einsum("ngk,ngk->ng", n, q)), exp(-m))
    h = einsum("ngvk,ngk->ngv", C, q) / size[..., None]
    return sigmoid(linear(x, W_o)) * group_norm(merge_heads(h), G, gain), {"C": C, "n": n, "m": m}
