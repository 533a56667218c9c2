"""The post's example: an LSTM of 500 units over 3 steps of 10 feature maps, unrolled with shared weights.

    lstmc compile docs/examples/lstm_demo.py -o out
    lstmc verify  docs/examples/lstm_demo.py
"""

from lstmc import Input, Param, State, cell, constant, dims, linear, model, scan, sigmoid, split, tanh, uniform

N, D, H = dims("N D H")


@cell
def lstm(
    x=Input(N, D),
    h=State(N, H),
    c=State(N, H),
    *,
    W_x=Param(4 * H, D, fill=uniform(-0.05, 0.05)),
    b=Param(4 * H, fill=constant(0), lr_mult=2, decay_mult=0),
    W_h=Param(4 * H, H, fill=uniform(-0.05, 0.05)),
):
    """The cell of arXiv:1511.04119: gates in the order i, f, o, g."""
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@model
def lstm_demo(
    X=Input(3, 10, 128, 10, 10),
    h0=Input(10, 500, fill=constant(0)),
    c0=Input(10, 500, fill=constant(0)),
):
    y, last = scan(lstm(H=500), X, init={"h": h0, "c": c0})
    return {"H": y, "h_T": last["h"], "c_T": last["c"]}
