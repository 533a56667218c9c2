"""Long short-term memory."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, clip, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


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
