"""Models for the portable targets: masks, indicators, carried states, stacks, both directions, two scans in turn."""

from __future__ import annotations

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    clip,
    concat,
    constant,
    dims,
    floor,
    gelu,
    hard_sigmoid,
    hard_tanh,
    leaky_relu,
    linear,
    log_sigmoid,
    maximum,
    minimum,
    model,
    power,
    relu,
    scan,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    square,
    step,
    tanh,
    uniform,
    where,
)
from lstmc.backend import load_cell
from lstmc.cells import gru, lstm
from lstmc.dsl import CellModel
from lstmc.ir import Graph

TARGETS = ("caffe", "flat", "noslice")
PORTABLE = ("flat", "noslice")
CELLS = ("rnn", "lstm", "lstm_peephole", "gru", "gru_reset_after", "slstm", "delta_net")
T, N, D, H = dims("T N D H")


@cell
def gated(x=Input(N, D), m=Input(N, 1), h=State(N, H), *, W=Param(H, D), U=Param(H, H), p=Param(H)):
    """A mask that is broadcast, constants, and a parameter read as a value."""
    n = relu(1 - sigmoid(linear(x, W) + linear(h, U)) * p - p)
    h = h + m * (n - h)
    return h * h * h + p, {"h": h}


@model
def masked(X=Input(T, N, 5), M=Input(T, N, 1), h0=Input(N, 4, fill=constant(0.5))):
    y, last = scan(gated(H=4), (X, M), init={"h": h0})
    return {"y": y, "h": last["h"]}


@model
def stacked(X=Input(T, N, 3, 2, 2), noise=Input(N, 4, fill=uniform(-1, 1)), W=Param(6, 4), b=Param(6)):
    y, last = scan(lstm(H=4), X, init={"c": noise})
    y, _ = scan(gru(H=4), tanh(y) * 0.5)
    return {"classes": softmax(linear(y, W, b)), "c": last["c"]}


@model
def bidirectional(X=Input(T, N, 5)):
    left, _ = scan(gru(H=3, name="left"), X)
    right, _ = scan(gru(H=3, name="right"), X, reverse=True)
    return {"y": concat(left, right)}


@model
def encoder_decoder(X=Input(T, N, 5), Z=Input(T, N, 2)):
    _, last = scan(lstm(H=4), X)
    y, _ = scan(lstm(H=4), Z, init=last)
    return {"y": y}


@cell
def activated(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H), p=Param(H)):
    """What is made of ReLU, of Eltwise MAX and of products."""
    z = linear(x, W) + linear(h, U) + 0.2
    kinked = maximum(leaky_relu(z, 0.1), h) + hard_sigmoid(z) * minimum(z, 0.1) - maximum(z, p)
    h = hard_tanh(where(clip(4 * z, 0, 1), silu(z), gelu(kinked)))
    return softsign(kinked) + square(h), {"h": h}


@model
def activations(X=Input(T, N, 5), h0=Input(N, 4, fill=constant(0.5))):
    y, last = scan(activated(H=4), X, init={"h": h0})
    positive = 0.5 + sigmoid(y)
    return {"y": y, "h": last["h"], "z": 2 * square(y) + 1, "p": 3 * power(positive, 1.5) - 1, "i": 1 - 2 / positive}


@cell
def counting(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H)):
    """What is whole, and a parameter that is transposed too."""
    z = 3 * (linear(x, W) + linear(h, U)) + 0.2
    h = z % 1.7 - floor(z) / 4 + round(z / 2) + step(z) * linear(tanh(z), U.T)
    return h, {"h": h / 8}


@model
def whole_numbers(X=Input(T, N, 5), h0=Input(N, 4, fill=constant(0.5))):
    y, _ = scan(counting(H=4), X, init={"h": h0})
    return {"y": y}


@model
def softened(X=Input(T, N, 5), W=Param(4, 5)):
    """By Log, which MNN's converter drops."""
    z = linear(X, W)
    return {"y": softplus(z) - log_sigmoid(3 * X[:, :, :1] - z)}


WHOLE = (masked, stacked, bidirectional, encoder_decoder, activations, whole_numbers)


def graph_of(name: str, steps: int, size: int) -> Graph:
    """A library cell's model, or one of those above."""
    if name in CELLS:
        made, sizes = CellModel(load_cell(name)), {"D": 3, "H": 4, "K": 2}
        return made.graph(T=steps, N=size, **{dim: n for dim, n in sizes.items() if dim in made.cell.dims})
    return next(m for m in (*WHOLE, softened) if m.name == name).graph(T=steps, N=size)


@model
def with_cont(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X, cont=C)
    return {"y": y, "c_T": last["c"]}


@model
def carried(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(load_cell("gru")(H=H), X, cont=C, carry=True)
    return {"y": y}


@model
def with_lengths(X: Value = Input(T, N, 3), L: Value = Input(N)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X, lengths=L)
    return {"y": y, "h_T": last["h"]}
