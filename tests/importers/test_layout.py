"""Axes put in another order: free where nobody minds, written out where somebody does, always the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmc.importers.canonical import canonicalize
from lstmc.importers.canonical.layout import regrouped
from lstmc.importers.checks import evaluate
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.ops import Normalize, Permute, Reduced, Reduction
from lstmc.importers.ir.values import Size, named, number, resolved
from lstmc.interp import forward
from lstmc.ops import Add, Concat, Linear, Mul, Reshape, Softmax, Tanh
from tests.importers.imported import assert_close, imported

RNG = np.random.default_rng(0)


def built(*shape: int) -> NetBuilder:
    builder = NetBuilder("net", "a test")
    builder.input("X", shape)
    return builder


def test_a_transpose_before_an_op_that_does_not_mind_is_gone() -> None:
    builder = built(2, 3, 4)
    x = builder.one(Permute((1, 0, 2)), "X", hint="x", origin="t")
    x = builder.one(Tanh(), x, hint="y", origin="tanh")
    builder.outputs["Y"] = builder.one(Permute((1, 0, 2)), x, hint="z", origin="u")
    net = canonicalize(builder.finish())
    assert [type(step.op) for step in net.steps] == [Tanh]
    assert net.axes == {}


def test_a_transpose_before_an_op_that_minds_stays() -> None:
    builder = built(2, 3, 4)
    x = builder.one(Permute((0, 2, 1)), "X", hint="x", origin="t")
    w = builder.param(number(RNG.normal(size=(5, 3))), "w")
    builder.outputs["Y"] = builder.one(Linear(2), x, w, hint="y", origin="product")
    net = canonicalize(builder.finish())
    assert [type(step.op) for step in net.steps] == [Permute, Linear]


def check(net: Net) -> None:
    made = imported(net)
    inputs = {name: RNG.normal(size=shape) for name, shape in net.inputs.items()}
    wanted = evaluate(net, inputs)
    assert_close(made.interpreted(inputs), wanted, 1e-9)
    weights = {name: weight.array() for name, weight in net.params.items()}
    assert_close(forward(net.graph, inputs, weights).outputs, wanted, 1e-9)  # the graph as it was read, itself
    for one in (net, made.net):
        one.graph.check_structure()


def test_two_transposes_of_a_value_are_moved_each_from_its_own_order() -> None:
    builder = built(3, 3, 3)
    p, q, r = (builder.one(Permute(axes), "X", hint="x", origin="t") for axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0)))
    builder.outputs |= {name: builder.one(Add(), p, x, hint="y", origin="add") for name, x in (("Y", q), ("Z", r))}
    check(builder.finish())


OPS = ("transpose", "reshape", "linear", "apply", "softmax", "reduce", "add", "concat", "vector", "normalize")


REDUCED: list[Reduced] = ["sum", "mean", "max"]


def grown(layers: Layers, seed: int) -> None:
    """A net of a few steps of all kinds, each on values made before."""
    rng = np.random.default_rng(seed)
    builder = layers.builder

    def n(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    values = [builder.input(name, [n(1, 4) for _ in range(rank)]) for name, rank in (("X", n(2, 5)), ("Z", 3))]
    for count in range(n(2, 8)):
        x, like = values[n(max(0, len(values) - 3), len(values))], rng.permutation(values).tolist()
        layers.at(f"v{count}", f"step {count}")
        shape, rank = tuple(int(size) for size in builder.shapes[x]), layers.rank(x)
        axis, order = n(0, rank), rng.permutation(rank).tolist()
        y = next((value for value in like if layers.rank(value) <= rank and _fit(shape, builder.shapes[value])), x)
        match n(0, 14):
            case 0 | 1 | 2:
                x = layers.transpose(x, order)
            case 3:
                x = layers.reshape(x, resolved([(-1, *shape[1:]), (1, -1), (*shape[:axis], -1)][n(0, 3)], shape))
            case 4:
                w = rng.normal(size=(n(1, 4), shape[-1]))
                x = layers.linear(x, number(w), number(w[:, 0]) if n(0, 2) else None)
            case 5:
                x = layers.binary(["add", "sub", "mul"][n(0, 3)], *((x, y) if n(0, 2) else (y, x)))
            case 6:
                x = layers.binary("add", x, rng.normal(size=[1 if n(0, 2) else size for size in shape[n(0, rank) :]]))
            case 7:
                x = layers.concat([x, layers.apply("tanh", x), x][n(0, 2) :], axis)
            case 8:
                x = layers.reduce(REDUCED[n(0, 3)], x, [axis], bool(n(0, 2)) or rank == 1)
            case 9:
                x = layers.expand(x, [n(2, 4) if size == 1 else size for size in shape])
            case 10 if rank in (3, 4):
                wide = x if rank == 4 else layers.unsqueeze(x, [n(0, 4)])
                w = rng.normal(size=(2, layers.size(wide, 1), n(1, 3), n(1, 3)))
                x = layers.conv(wide, number(w), None, (1, n(1, 3)), ((1, n(0, 2)), (1, 1)), (1, 1), 1)
            case 11:
                letters = "abcd"[:rank]
                x = layers.product(letters, letters, "".join(letters[a] for a in order[: n(1, rank + 1)]), x, x)
            case 12:
                part = layers.slice(x, axis, slice(n(0, shape[axis]), None))
                x = layers.softmax(part, n(0, rank)) if n(0, 2) else layers.layer_norm(part, 0.1, None, None)
            case 13:
                x = layers.where(layers.compare("gt", x, y), x, layers.apply("sigmoid", x))
        values.append(x)
    for place, value in enumerate(dict.fromkeys((*values[-2:], values[n(2, len(values))]))):
        layers.at(f"end{place}", "the end")
        builder.outputs[f"Y_{place}"] = layers.apply("tanh", value)


def _fit(a: Sequence[Size], b: Sequence[Size]) -> bool:
    return all(y in (x, 1) for x, y in zip(a[::-1], b[::-1], strict=False))


@pytest.mark.parametrize("seed", range(100))
def test_the_order_of_axes_changes_no_net(seed: int) -> None:
    builder = NetBuilder("net", "a test")
    grown(Layers(builder), seed)
    net = builder.finish()
    inputs = {name: RNG.normal(size=shape) for name, shape in net.inputs.items()}
    settled, weights = canonicalize(net), {name: weight.array() for name, weight in net.params.items()}
    settled.graph.check_structure()
    fed = {name: np.transpose(a, settled.axes.get(name, range(a.ndim))) for name, a in inputs.items()}
    own = {name: weight.array() for name, weight in settled.params.items()}
    found = forward(settled.graph, fed, own).outputs
    given = {name: np.transpose(a, np.argsort(settled.axes.get(name, range(a.ndim)))) for name, a in found.items()}
    assert_close(given, forward(net.graph, inputs, weights).outputs, 1e-9)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 2**30)), min_size=1, max_size=6), st.integers(0, 2**30))
def test_any_order_of_axes_means_the_same(ops: list[tuple[str, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = built(*(int(n) for n in rng.integers(1, 4, 3)))
    x = "X"
    for op, choice in ops:
        shape, pick = builder.shapes[x], np.random.default_rng(choice)
        axis = int(pick.integers(0, len(shape)))
        if op == "transpose":
            x = builder.one(Permute(tuple(map(int, pick.permutation(len(shape))))), x, hint="t", origin="t")
        elif op == "reshape":
            cut = int(pick.integers(0, len(shape)))
            sizes = [int(s) for s in shape]
            new = [*sizes[:cut], -1] if pick.integers(2) else [1, *sizes[: cut + 1], -1]
            x = builder.one(Reshape(resolved(new, shape)), x, hint="r", origin="r")
        elif op == "linear":
            w = builder.param(number(pick.normal(size=(int(pick.integers(1, 4)), int(shape[-1])))), "w")
            x = builder.one(Linear(len(shape) - 1), x, w, hint="l", origin="l")
        elif op == "apply":
            x = builder.one(Tanh(), x, hint="a", origin="a")
        elif op == "softmax":
            x = builder.one(Softmax(axis), x, hint="s", origin="s")
        elif op == "reduce" and len(shape) > 1:
            x = builder.one(Reduction(axis, "mean"), x, hint="m", origin="m")
        elif op == "add":
            x = builder.one(Add(), x, builder.one(Tanh(), x, hint="b", origin="b"), hint="c", origin="c")
        elif op == "concat":
            x = builder.one(Concat(axis), x, x, hint="j", origin="j")
        elif op == "vector":
            v = builder.param(number(pick.normal(size=(int(shape[-1]),))), "v")
            x = builder.one(Mul(), x, v, hint="v", origin="v")
        elif op == "normalize":
            x = builder.one(Normalize(0.1), x, hint="n", origin="n")
    builder.outputs["Y"] = builder.one(Tanh(), x, hint="end", origin="end")
    check(builder.finish())


def test_two_views_of_a_value_that_are_moved_to_the_same_order() -> None:
    builder = built(3, 3, 3)
    w = builder.param(number(RNG.standard_normal((2, 3))), "W")
    x = builder.one(Tanh(), "X", hint="x", origin="t")
    views = [builder.one(Permute(axes), x, hint="v", origin="v") for axes in ((0, 2, 1), (1, 2, 0))]
    for place, view in enumerate(views):
        builder.outputs[f"Y_{place}"] = builder.one(Linear(2), view, w, hint="y", origin="y")
    net, array = builder.finish(), RNG.standard_normal((3, 3, 3))
    made = imported(net)
    assert_close(made.interpreted({"X": array}), evaluate(net, {"X": array}))


def test_two_values_that_each_are_repeated() -> None:
    builder = built(3, 1, 2)
    builder.input("Z", (1, 4, 2))
    builder.outputs["Y"] = builder.one(Add(), "X", "Z", hint="y", origin="node add")
    made, x, z = imported(builder.finish()), RNG.normal(size=(3, 1, 2)), RNG.normal(size=(1, 4, 2))
    assert_close(made.interpreted({"X": x, "Z": z}), {"Y": x + z}, 1e-12)


@pytest.mark.parametrize(
    ("old", "new", "order", "found"),
    [
        ((2, 3, 4), (6, 4), (2, 0, 1), (1, 0)),  # the joined axes move together
        ((2, 3, 4), (6, 4), (1, 0, 2), None),  # they are in the wrong order
        ((2, 3, 4), (6, 4), (0, 2, 1), None),  # something is between them
        ((2, 1, 4), (2, 4), (2, 1, 0), (1, 0)),  # where an axis of 1 lies does not matter
        (("N", "T", 4), ("N", "T", 2, 2), (1, 0, 2), (1, 0, 2, 3)),
        (("N", 4), (1, "N", 4), (1, 0), (2, 0, 1)),
    ],
)
def test_a_reshape_goes_with_whole_groups_of_axes(old, new, order, found) -> None:  # type: ignore[no-untyped-def]
    assert regrouped(named(old), named(new), order) == found
