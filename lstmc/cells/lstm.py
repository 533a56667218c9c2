"""Long short-term memory."""

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

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
) -> tuple[Value, dict[str, Value]]:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c').

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; equations as in arXiv:1511.04119,
    section 2. Gates and parameters in the order i, f, o, g of Caffe's own LSTM layer (``lstm_layer.cpp``).
    """
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}
