"""LSTMs and RNNs in many ways of writing, and models that scan them: with indicators, masks, carried states."""

from __future__ import annotations

from lstmc import (
    Cell,
    Input,
    Param,
    State,
    Value,
    cell,
    clip,
    concat,
    constant,
    dims,
    gaussian,
    linear,
    model,
    scan,
    sigmoid,
    split,
    tanh,
    uniform,
)
from lstmc.backend import load_cell
from lstmc.dsl import Model

T, N, D, H = dims("T N D H")
FILL = uniform(-0.5, 0.5)
Step = tuple[Value, dict[str, Value]]
SIZES = {
    "usual": {"T": 4, "N": 2, "H": 3},
    "one step": {"T": 1, "N": 2, "H": 3},
    "one sequence": {"T": 4, "N": 1, "H": 3},
    "one unit": {"T": 3, "N": 2, "H": 1},
    "all": {"T": 1, "N": 1, "H": 1},
}


@cell
def written_otherwise(
    x: Value = Input(N, D),
    memory: Value = State(N, H),
    out: Value = State(N, H),
    *,
    W: Value = Param(4 * H, D, fill=FILL),
    bias: Value = Param(4 * H, fill=constant(0.1), lr_mult=2),
    U: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """An LSTM under other names, gates in PyTorch's order, the bias at the recurrent product."""
    a, b, c, d = split(linear(out, U, bias) + linear(x, W), 4)
    memory = tanh(c) * sigmoid(a) + memory * sigmoid(b)
    out = tanh(memory) * sigmoid(d)
    return out, {"out": out, "memory": memory}


@cell
def elman(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_xh: Value = Param(H, D, fill=FILL),
    b_h: Value = Param(H, fill=FILL),
    W_hh: Value = Param(H, H, fill=FILL),
    W_ho: Value = Param(H, H, fill=FILL),
    b_o: Value = Param(H, fill=FILL, lr_mult=2),
) -> Step:
    """Caffe's RNN: the output is a readout of h."""
    h = tanh(linear(h, W_hh) + linear(x, W_xh, b_h))
    return tanh(linear(h, W_ho, b_o)), {"h": h}


@cell
def caffe_order(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    b: Value = Param(4 * H, fill=FILL),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """Gates in the order i, f, o, g."""
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@cell
def clipped_gates(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """Gates that are no sigmoids: hard_sigmoid of Keras 2."""
    i, f, g, o = split(linear(h, W_h) + linear(x, W_x), 4)
    i, f, o = (clip(0.2 * gate + 0.5, 0, 1) for gate in (i, f, o))
    c = tanh(g) * i + c * f
    h = tanh(c) * o
    return h, {"h": h, "c": c}


@cell
def torch_order(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    b: Value = Param(4 * H, fill=gaussian(0.1, 0.5)),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """Gates in PyTorch's order i, f, g, o; operands the other way round."""
    i, f, g, o = split(linear(h, W_h) + linear(x, W_x, b), 4)
    c = tanh(g) * sigmoid(i) + c * sigmoid(f)
    h = tanh(c) * sigmoid(o)
    return h, {"c": c, "h": h}


@cell
def gate_by_gate(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_g: Value = Param(H, D, fill=FILL),
    W_f: Value = Param(H, D, fill=FILL),
    W_i: Value = Param(H, D, fill=FILL),
    W_o: Value = Param(H, D, fill=FILL),
    U_g: Value = Param(H, H, fill=FILL),
    U_f: Value = Param(H, H, fill=FILL),
    U_i: Value = Param(H, H, fill=FILL),
    U_o: Value = Param(H, H, fill=FILL),
    b_g: Value = Param(H, fill=FILL),
    b_f: Value = Param(H, fill=FILL),
    b_i: Value = Param(H, fill=FILL),
    b_o: Value = Param(H, fill=FILL),
) -> Step:
    """A product for each gate, in the order g, f, i, o."""
    g = tanh(linear(x, W_g, b_g) + linear(h, U_g))
    f = sigmoid(linear(x, W_f, b_f) + linear(h, U_f))
    i = sigmoid(linear(x, W_i, b_i) + linear(h, U_i))
    o = sigmoid(linear(x, W_o, b_o) + linear(h, U_o))
    c = f * c + i * g
    h = o * tanh(c)
    return h, {"h": h, "c": c}


@cell
def one_sigmoid(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W: Value = Param(4 * H, D + H, fill=FILL),
    b: Value = Param(4 * H, fill=FILL),
) -> Step:
    """One product of x and h together, one sigmoid over three gates, in the order f, o, i, g."""
    foi, g = split(linear(concat(x, h), W, b), (3 * h.shape[1], h.shape[1]))
    f, o, i = split(sigmoid(foi), 3)
    c = f * c + i * tanh(g)
    h = o * tanh(c)
    return h, {"h": h, "c": c}


def stacked_cell(lower: Cell, upper: Cell) -> Cell:
    @cell
    def stacked(
        x: Value = Input(N, D),
        h1: Value = State(N, H),
        c1: Value = State(N, H),
        h2: Value = State(N, H),
        c2: Value = State(N, H),
    ) -> Step:
        """Two layers in one step."""
        y, one = lower(x, h=h1, c=c1)
        y, two = upper(y, h=h2, c=c2)
        return y, {"h1": one["h"], "c1": one["c"], "h2": two["h"], "c2": two["c"]}

    return stacked


stacked = stacked_cell(caffe_order(H=4), caffe_order(H=4))
stacked_torch_order = stacked_cell(torch_order(H=4), torch_order(H=4))
stacked_orders = stacked_cell(caffe_order(H=4), torch_order(H=4))


@cell
def gates_read_again(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """PyTorch's order, and the cell returns its forget gate: its rows cannot be re-ordered."""
    i, f, g, o = split(linear(h, W_h) + linear(x, W_x), 4)
    f = sigmoid(f)
    c = f * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return f, {"h": h, "c": c}


@cell
def coupled(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(3 * H, D, fill=FILL),
    W_h: Value = Param(3 * H, H, fill=FILL),
) -> Step:
    """Input and forget gate coupled, c = f c + (1 - f) g: no LSTMUnit computes that."""
    f, o, g = split(linear(h, W_h) + linear(x, W_x), 3)
    f = sigmoid(f)
    c = f * c + (1 - f) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@model
def both_ways(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    """One bound cell scanned twice, in PyTorch's order: both scans share the re-ordered rows."""
    shared = torch_order(H=4)
    ahead, last = scan(shared, X)
    back, first = scan(shared, X, reverse=True)
    return {"ahead": ahead, "back": back, "c": last["c"], "c_back": first["c"]}


@model
def given_states(X: Value = Input(T, N, 3), h0: Value = Input(N, 4), c0: Value = Input(N, 4)) -> dict[str, Value]:
    y, last = scan(torch_order(H=4), X, init={"h": h0, "c": c0})
    return {"y": y, **last}


@model
def clipped(X: Value = Input(T, N, 3), h0: Value = Input(N, 4), c0: Value = Input(N, 4)) -> Value:
    return scan(clipped_gates(H=4), X, init={"h": h0, "c": c0})[0]


shared = torch_order(H=3)


@cell
def shared_twice(
    x: Value = Input(N, 3),
    h1: Value = State(N, 3),
    c1: Value = State(N, 3),
    h2: Value = State(N, 3),
    c2: Value = State(N, 3),
) -> Step:
    """The same weights in two layers: which of their rows are where would have to be the same for both."""
    y, one = shared(x, h=h1, c=c1)
    y, two = shared(y, h=h2, c=c2)
    return y, {"h1": one["h"], "c1": one["c"], "h2": two["h"], "c2": two["c"]}


@model
def in_one_order_only(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    """A scan that could re-order its rows, and one of the same weights that cannot."""
    y, _ = scan(shared, X)
    z, _ = scan(shared_twice(), X)
    return {"y": y, "z": z}


@cell
def of_three(
    x: Value = Input(1, N, 3),
    h: Value = State(1, N, 4),
    c: Value = State(1, N, 4),
    *,
    W_x: Value = Param(16, 3, fill=FILL),
    W_h: Value = Param(16, 4, fill=FILL),
) -> Step:
    """An LSTM in Caffe's order whose steps have an axis more than LSTMUnit takes."""
    i, f, o, g = split(linear(x, W_x, axis=-1) + linear(h, W_h, axis=-1), 4, axis=2)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@model
def of_three_axes(X: Value = Input(T, 1, N, 3)) -> dict[str, Value]:
    y, _ = scan(of_three(), X)
    return {"y": y}


@model
def plain_lstm(X: Value = Input(T, N, 3, 2)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X)
    return {"y": y, "h_T": last["h"]}


@model
def otherwise(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, _ = scan(written_otherwise(H=H), X)
    return {"y": y}


@model
def layers_of_two_cells(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), tanh(X))
    z, _ = scan(written_otherwise(H=3), y)
    return {"z": z, "h": last["h"]}


@model
def plain_rnn(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, _ = scan(elman(H=H), X)
    return {"y": y}


@model
def lstm_cont(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X, cont=C)
    return {"y": y, "h_T": last["h"]}


@model
def rnn_cont(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(elman(H=H), X, cont=C)
    return {"y": y}


@model
def two_layers_cont(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(load_cell("lstm")(H=H, name="one"), X, cont=C)
    z, _ = scan(load_cell("lstm")(H=2, name="two"), y, cont=C)
    return {"z": z}


@model
def lstm_carried(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(load_cell("lstm")(H=H), X, cont=C, carry=True)
    return {"y": y}


@model
def last_h_too(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X, cont=C, carry=True)
    return {"y": y, "h": last["h"]}


@model
def rnn_carried(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(elman(H=H), X, cont=C, carry=True)
    return {"y": y}


@model
def without_cont(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, _ = scan(load_cell("lstm")(H=H), X, carry=True)
    return {"y": y}


@model
def one_of_two(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    """The first layer is carried, the second starts anew."""
    y, _ = scan(load_cell("lstm")(H=H, name="one"), X, cont=C, carry=True)
    z, _ = scan(load_cell("lstm")(H=2, name="two"), y, cont=C)
    return {"z": z}


def of_cell(cell: str, *masks: str, **options: bool) -> Model:
    """A model that scans a library cell with these masks."""

    def run(X: Value = Input(T, N, 3), C: Value = Input(T, N), L: Value = Input(N)) -> dict[str, Value]:
        given = {name: {"cont": C, "lengths": L}[name] for name in masks}
        y, last = scan(load_cell(cell)(H=H), X, **given, **options)  # type: ignore[arg-type]
        return {"y": y} | {f"{name}_T": value for name, value in last.items()}

    run.__name__ = "_".join((cell, *masks, *options))
    return model(run)
