"""What a type checker accepts, with the types that it infers."""

from collections.abc import Callable
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import lstmc
from lstmc import (
    BoundCell,
    Cell,
    Dim,
    Input,
    Net,
    Param,
    Solver,
    State,
    Value,
    cell,
    dims,
    model,
    relu,
    scan,
    silu,
    softmax_loss,
)
from lstmc.cells import gru, lstm

T, N, D, H = dims("T N D H")
K = dims("K")
assert_type(T, Dim)


@cell
def residual(x=Input(N, D), h=State(N, D), *, W=Param(D, D), slope=0.1):
    """An argument needs no annotation."""
    assert_type(x, Value)
    assert_type(x.relu().mean(axis=-1, keepdims=True), Value)
    assert_type(x[..., None] @ W.T + 1 % x // 2, Value)
    h = relu(x @ W + h.reshape(N, D).clip(-1, 1)) * slope
    return h + silu(x), {"h": h}


@cell
def two(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D),
    activation: Callable[[Value], Value] = relu,
) -> tuple[tuple[Value, Value], dict[str, Value]]:
    h = activation(x @ W.T + h)
    return (h, h.sum(-1)), {"h": h}


assert_type(residual, Cell[Value])
assert_type(residual(D=K), BoundCell[Value])


@model(solver=Solver())
def net(X=Input(T, N, D), label=Input(N)):
    y, last = scan(residual(), X, reverse=True)
    assert_type(y, Value)
    assert_type(last, dict[str, Value])
    (high, low), _ = scan(two(H=4, activation=silu), y)
    assert_type(high, Value)
    z, _ = scan(gru(H=4), high)
    z, _ = scan(lstm(H=4, name="top"), z)
    return {"loss": softmax_loss(z[-1], label), "low": low}


compiled = lstmc.compile(net, T=3, N=np.int64(2), D=4, target="flat")
assert_type(compiled, Net)
assert_type(compiled.run(X=np.zeros((3, 2, 4)))["low"], NDArray[np.floating[Any]])
