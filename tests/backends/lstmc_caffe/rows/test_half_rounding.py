"""Rounding, sin and cos for readers that compute in float16: each layer rounded to it, and in RKNN's simulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import lstmc
from lstmc import Input, State, cell, cos, floor, model, scan, sin, tanh
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Graph, Node
from lstmc.ops import Array, Arrays
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc_caffe.ops import HostInput, RoundingPower
from lstmc_caffe.readers.executor import ReaderExecutor
from tests.backends.lstmc_caffe.nets import compiled, emitted

COUNT = 96


class Float16:
    """Every operand and result in float16; what rounds by a shift is the sum that a reader computes."""

    def operands(self, graph: Graph, node: Node, args: Sequence[Array]) -> Sequence[Array]:
        return [half(array) for array in args]

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays) -> Arrays:
        if isinstance(node.op, RoundingPower):
            results = (half(args[0]) + np.float32(node.op.shift),)
        return tuple(half(array) for array in results)


def half(array: Array) -> Array:
    return np.asarray(array, np.float32).astype(np.float16).astype(np.float32)


@model
def rounding(X=Input(2, 3, COUNT // 6)):
    return {"y": round(X), "f": floor(X), "s": sin(X), "c": cos(X)}


@cell
def turning(x=Input(2, 3), h=State(2, 3)):
    a = sin(3 * h) + round(2 * h)
    h = 0.5 * h + tanh(cos(a) + x)
    return a + h, {"h": h}


@model
def loop(X=Input(4, 2, 3)):
    return {"y": scan(turning(), X)[0]}


def in_float16(x: Array) -> dict[str, Array]:
    graph = compiled(rounding, "rknn").expanded
    (name,) = [node.name for node in graph if isinstance(node.op, HostInput)]
    fed = {name: x.reshape(2, 3, -1)}
    run = forward(graph, fed, dtype=np.float32, rounding=Float16())
    return {key: np.ravel(value) for key, value in run.outputs.items()}


def test_the_shift_rounds_every_float16_up_to_512_and_not_all_beyond() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    shift = np.float16(RoundingPower.HALF)
    for most, exact in ((512, True), (513, False)):
        h = every[np.abs(every) <= most]
        assert bool(np.all((h + shift) - shift == np.rint(h))) is exact


@pytest.mark.parametrize("far", [0.75, 4.0, 100.0, 511.0])
def test_rounding_is_exact_up_to_512(far: float) -> None:
    x = half(np.append(np.linspace(-far, far, COUNT - 4), [0.5, -0.5, 1.5, 2.5]))
    found = in_float16(x)
    assert_array_equal(found["y"], np.rint(x))
    assert_array_equal(found["f"], np.floor(x))


@pytest.mark.slow
def test_rknns_simulator_rounds_and_agrees(rknn: ReaderExecutor) -> None:
    """Without the ReLU it adds both shifts first, and rounds nothing."""
    for made in (rounding, loop):
        net = compiled(made, "rknn")
        assert check(net, *emitted(net), rknn).passed


def test_in_a_loop_the_shift_is_taken_off_again() -> None:
    net = compiled(loop, "rknn")
    assert check(net, *emitted(net), InterpreterExecutor()).passed


def test_a_value_that_depends_on_no_input_is_not_rounded_there() -> None:
    """The number of a step is computed while the net is built, in float32, where the smaller shift rounds nothing."""
    with pytest.raises(BackendError, match="rknn cannot round a value that depends on no input"):
        lstmc.compile("clockwork", target="rknn", T=3, N=1, D=4, H=4)


@pytest.mark.parametrize(("far", "error"), [(1.5, 3e-3), (6.0, 6e-3), (100.0, 0.05)])
def test_sin_and_cos_are_off_by_what_float16_leaves_of_x(far: float, error: float) -> None:
    x = half(np.linspace(-far, far, COUNT))
    found = in_float16(x)
    assert_allclose(found["s"], np.sin(x.astype(float)), rtol=0, atol=error)
    assert_allclose(found["c"], np.cos(x.astype(float)), rtol=0, atol=error)
