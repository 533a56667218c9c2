"""``lstmc.testing``: what is right passes, and each kind of mistake of an author fails with a message that names it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from lstmc import Input, dims, model, relu, scan, tanh
from lstmc.cells import gru, lstm, rnn
from lstmc.ir import Graph
from lstmc.ops import Along, Array, Op, Pointwise, Relu, Sample, Softplus, Tanh, sample_type
from lstmc.passes import Cse, Dead, Hoist, Pass, PassResult, Refs, Simplify, rewrite
from lstmc.testing import check_cell, check_op, check_pass
from lstmc.types import TensorType
from tests.cells.references import REFERENCES

N, D, H, T = dims("N D H T")


@dataclass(frozen=True)
class Mish(Pointwise):
    """x tanh(softplus(x)). Misra 2019, arXiv:1908.08681."""

    name = "testing_example.mish"
    slope: float = 1.0

    def f(self, x: Array) -> Array:
        y: Array = x * np.tanh(np.logaddexp(x.dtype.type(0), x * x.dtype.type(self.slope)))
        return y

    def df(self, y: Array, x: Array) -> Array:
        s = x.dtype.type(self.slope)
        t = np.tanh(np.logaddexp(x.dtype.type(0), s * x))
        d: Array = t + x * (1 - t * t) * s / (1 + np.exp(-s * x))
        return d


def variant(**members: Any) -> type[Op]:
    """The class with other members, which is an op of its own."""
    return dataclass(frozen=True)(type("Mish", (Mish,), {"__doc__": "Mish.", **members}))


COUNTED = iter(range(10**6))
WRONG_OPS: dict[str, tuple[dict[str, Any], str]] = {
    "gradient": ({"df": lambda self, y, x: np.ones_like(x)}, "vjp (actual) and finite differences (desired)"),
    "types": ({"infer": lambda self, x: (TensorType((*x.shape, 1)),)}, "infer gives"),
    "precision": ({"f": lambda self, x: x.astype(np.float64) * 2}, "operands are float32, eval gives float64"),
    "precision of the gradient": (
        {"df": lambda self, y, x: Mish.df(self, y, x).astype(np.float64)},
        "operand 0 is float32, found float64",
    ),
    "randomness": ({"f": lambda self, x: Mish.f(self, x) + x.dtype.type(next(COUNTED))}, "give the same again"),
    "change of an operand": ({"f": lambda self, x: np.tanh(x, out=x)}, "change no operand"),
    "number of cotangents": ({"vjp": lambda self, cts, outs, x: ()}, "vjp gives 0 cotangents of 1 operands"),
    "docstring": ({"__doc__": None}, "needs a docstring"),
    "domains": ({"domains": lambda self, x: ()}, "domains gives 0 for 1 operands"),
    "axes": (
        {"along": lambda self, slot, axis, x: Along(replace(self, slope=self.slope + 1), (axis,), (axis,))},
        "axis 0 of operand 0: Along(",
    ),
    "stopped gradient": (
        {"stops_gradient": True, "vjp": lambda self, cts, outs, x: cts},
        "gives None for each operand: vjp gives a cotangent of [0]",
    ),
    "error of a method": ({"f": lambda self, x: x.missing}, "Mish raises AttributeError: "),
    "no sample": (
        {"sample": classmethod(lambda cls, draw: None)},
        "Mish.sample: expected a lstmc.ops.Sample, found None",
    ),
    "error of sample": ({"sample": classmethod(lambda cls, draw: cls(draw.what))}, "Mish raises AttributeError: "),
    "sample": ({"sample": classmethod(lambda cls, draw: Sample(Tanh(), (sample_type(draw),)))}, "sample gives a Tanh"),
}


def test_a_right_op_keeps_the_contract() -> None:
    check_op(variant())
    check_op(Softplus, samples=3, seed=100)


@pytest.mark.parametrize("mistake", WRONG_OPS)
def test_a_mistake_in_an_op_is_named_with_the_sample_that_shows_it(mistake: str) -> None:
    members, said = WRONG_OPS[mistake]
    with pytest.raises(AssertionError) as failed:
        check_op(variant(**members))
    assert said in str(failed.value)
    if mistake != "docstring":
        assert "again: check_op(Mish, samples=1, seed=" in failed.value.__notes__[0]


def test_a_field_that_can_be_set_is_named() -> None:
    thawed = variant()
    thawed.__setattr__ = object.__setattr__  # type: ignore[assignment]
    with pytest.raises(AssertionError, match=r"slope can be set: write @dataclass\(frozen=True\) above class Mish"):
        check_op(thawed)


def test_a_class_that_is_no_op_is_named_before_any_sample() -> None:
    class Plain(Mish):
        """Mish."""

    with pytest.raises(
        AssertionError, match=r"^Plain: expected @dataclass\(frozen=True\) above class Plain, found none"
    ):
        check_op(Plain)
    with pytest.raises(AssertionError, match=r"^Mish: expected that Mish defines sample, found none of that name"):
        check_op(variant(sample=Op.__dict__["sample"]))
    for name in ("scaled_tanh", "tanh", ".tanh", "example.", "example.my tanh", 3):
        said = f'Mish.name: expected DIALECT.NAME, as in name = "example.cube", found {name!r}'
        with pytest.raises(AssertionError, match=f"^{re.escape(said)}$"):
            check_op(variant(name=name))


class OfRelu(Pass):
    """Base of passes that replace relu."""

    name: ClassVar[str] = "of_relu"
    becomes: ClassVar[Callable[[Any, Any, Refs], Refs]]

    def run(self, graph: Graph) -> PassResult:
        changed: list[str] = []

        def visit(b: Any, node: Any, args: Refs) -> Refs | None:
            if type(node.op) is not Relu:
                return None
            changed.append(node.name)
            return type(self).becomes(b, node, args)

        after = rewrite(graph, visit)
        return PassResult(after if changed else graph, bool(changed))


class Drop(OfRelu):
    """1. relu(x) => x: wrong."""

    becomes = staticmethod(lambda b, node, args: args)


class Again(OfRelu):
    """1. relu(x) => relu(x): the same graph, and it says that it is another."""

    becomes = staticmethod(lambda b, node, args: b.copy(node, args))


class Twice(OfRelu):
    """1. relu(x) => relu(relu(x)): without end."""

    becomes = staticmethod(lambda b, node, args: b.add(Relu(), *b.copy(node, args)))


@model
def net(X=Input(T, N, D)):
    y, _ = scan(rnn(H=3), X)
    return {"y": relu(y) - 1}


@pytest.mark.parametrize("step", [Simplify(), Cse(), Dead(), Hoist()], ids=lambda step: step.name)
def test_passes_of_the_core_are_right(step: Pass) -> None:
    assert check_pass(step, models=8, seed=1000) > 0


@pytest.mark.parametrize(
    ("step", "said"),
    [(Drop(), "output y"), (Again(), "modified is True"), (Twice(), "a second run says that it changed something")],
    ids=["meaning", "modified", "idempotence"],
)
def test_a_mistake_in_a_pass_is_named_with_the_graph_that_shows_it(step: Pass, said: str) -> None:
    with pytest.raises(AssertionError) as failed:
        check_pass(step, [net.graph(T=2, N=2, D=3)], models=0)
    assert said in str(failed.value)
    assert failed.value.__notes__[-1] == "pass of_relu on graphs[0]"


def test_a_pass_that_changes_nothing_is_not_shown_to_be_right() -> None:
    @model
    def without(X=Input(T, N, D)):
        return tanh(X)

    with pytest.raises(
        AssertionError, match="changed none of 1 graphs: give graphs= with nodes that it rewrites, or count"
    ):
        check_pass(Drop(), [without.graph(T=2, N=2, D=3)], models=0)
    with pytest.raises(TypeError, match=r"graphs\[0\] is a model: write without.graph\(T=3, N=2\)"):
        check_pass(Drop(), [without])  # type: ignore[list-item]


def test_a_cell_is_its_equations_and_its_nets_are_the_cell() -> None:
    def step(x: Array, h: Array, W_x: Array, b: Array, W_h: Array, U: Array) -> tuple[Array, dict[str, Array]]:
        p = type("p", (), {"W_x": W_x, "b": b, "W_h": W_h, "U": U})
        return REFERENCES["gru"](p, type("x", (), {"x": x}), type("s", (), {"h": h}))  # type: ignore[arg-type]

    assert check_cell(gru, step, targets=["flat", "onnx"]) == {"flat": "agrees", "onnx": "agrees"}


@pytest.mark.slow
def test_each_target_takes_a_cell_or_says_why_not() -> None:
    found = check_cell(lstm)
    assert found["caffe"] == found["opencv"] == "agrees"
    found = check_cell(gru)
    assert "neither Caffe's LSTM layer nor its RNN layer" in found["caffe-native"]


def test_a_mistake_in_a_cell_or_its_reference_is_named() -> None:
    def doubled(x: Array, h: Array, W_x: Array, W_h: Array, b: Array) -> tuple[Array, dict[str, Array]]:
        h = np.tanh(x @ W_x.T + h @ W_h.T + b)
        return 2 * h, {"h": h}

    with pytest.raises(AssertionError, match=r"y: the cell \(actual\) and the reference \(desired\)"):
        check_cell(rnn, doubled)

    def of_bias(x: Array, h: Array, W_x: Array, W_h: Array, b: Array) -> tuple[Array, dict[str, Array]]:
        h = np.tanh(x @ W_x.T + h @ W_h.T + 7 * b)  # the cell adds b, which its filler makes 0
        return h, {"h": h}

    with pytest.raises(AssertionError, match=r"y: the cell \(actual\) and the reference \(desired\)"):
        check_cell(rnn, of_bias)
    with pytest.raises(AssertionError, match="target caffe-native does not take gru: "):
        check_cell(gru, targets=["caffe-native"])
    with pytest.raises(AssertionError, match="no installed backend has target flatt"):
        check_cell(rnn, targets=["flatt", "flat"])


def test_it_needs_nothing_of_our_tests() -> None:
    statement = "import sys, lstmc.testing; print(*({'hypothesis', 'pytest', 'scipy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True).stdout == "\n"
    assert inspect.getdoc(check_op)
