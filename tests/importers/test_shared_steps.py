"""The steps that all frontends share, each setting of each of them, against PyTorch's and NumPy's own functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from lstmc.importers.frontends.layers import Layers, einsum_letters
from lstmc.importers.frontends.shape_ops import (
    LARGE,
    MOST_PADDING,
    Operand,
    Windows,
    same_padding,
    window_count,
)
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.values import ShapeProblem, number
from lstmc.importers.refusal import Refused
from lstmc.interp import forward
from lstmc.ops import Array

F: Any = torch.nn.functional
RNG = np.random.default_rng(5)


def drawn(*shape: int) -> Array:
    """Numbers that float32 has, as weights are."""
    return RNG.normal(size=shape).astype(np.float32).astype(np.float64)


X, Y, Z, IMAGE = (drawn(*shape) for shape in ((3, 4, 5), (3, 1, 5), (4, 2), (2, 4, 7, 6)))
INPUTS = {"x": X, "y": Y, "z": Z, "image": IMAGE, "row": drawn(7)}
CHANNELS = [np.abs(drawn(4)) for _ in range(4)]
Made = Callable[..., Any]


BINARY: list[Any] = [np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum]


def steps(shapes: dict[str, tuple[int, ...]]) -> Layers:
    made = Layers(NetBuilder("net", "a test"))
    made.at("step", "a node")
    for name, shape in shapes.items():
        made.builder.input(name, shape)
    return made


def computed(make: Made) -> list[Array]:
    """What the steps give, of one value or of several."""
    made = steps({name: array.shape for name, array in INPUTS.items()})
    values = make(made)
    for i, value in enumerate([values] if isinstance(values, str) else values):
        made.builder.outputs[f"out{i}"] = made.value(value)
    net = made.builder.finish(every_input=True)
    net.graph.check_structure()
    found = forward(net.graph, INPUTS, {name: weight.array() for name, weight in net.params.items()}).outputs
    return [found[name] for name in made.builder.outputs]


def t(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def lse(axes: tuple[int, ...], keep: bool) -> Array:
    return np.asarray(torch.logsumexp(t(X), axes, keep))


def normed(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    return np.asarray((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps))


W1, W2, B, V1, V2 = (drawn(*shape) for shape in ((6, 4, 3), (6, 2, 3, 2), (6,), (4, 3, 3), (4, 3, 3, 2)))
MASK = np.array([0.0, 1, 0, 1, 1])
SCALE, SHIFT = drawn(4, 5), drawn(4, 5)
SUMS = [*product((1, 2), (True, False), (True, False))]


def summed(axis: int, own: bool, back: bool) -> Array:
    x = np.flip(X, axis) if back else X
    found = np.cumsum(x, axis) - (0 if own else x)
    return np.flip(found, axis) if back else found


CASES: dict[str, tuple[Made, Any]] = {
    "cut": (lambda s: s.cut("x", -2, 1, 3), X[:, 1:3]),
    "cut from the first": (lambda s: s.cut("x", 1, 0, 3), X[:, :3]),
    "cut to the last": (lambda s: s.cut("x", 2, 2, 5), X[:, :, 2:]),
    "cut of all": (lambda s: s.cut("x", 2, 0, 5), X),
    "cut of what was joined": (
        lambda s: [s.cut(s.concat(["x", "y"], 1), 1, *at) for at in ((0, 4), (4, 5), (3, 5))],
        [X, Y, np.concatenate([X[:, 3:], Y], 1)],
    ),
    "cut across what was joined": (
        lambda s: s.cut(s.concat(["x", "y"], 1), 2, 1, 5),
        np.concatenate([X, Y], 1)[:, :, 1:5],
    ),
    "select": (
        lambda s: [s.select("x", 1, 0), s.select("x", -1, -2), s.select("x", 0, -3)],
        [X[:, 0], X[:, :, -2], X[-3]],
    ),
    "pick": (
        lambda s: [s.pick("x", 2, places) for places in ([4], [0, 1, 3], [-1, 0, 1], [2, 2, 1])],
        [X[:, :, places] for places in ([4], [0, 1, 3], [-1, 0, 1], [2, 2, 1])],
    ),
    "slices": (
        lambda s: [s.slice("x", 2, part) for part in (slice(1, None), slice(None, None, 2), slice(3, 0, -1))],
        [X[:, :, 1:], X[:, :, ::2], X[:, :, 3:0:-1]],
    ),
    "flip": (
        lambda s: [s.flip("x", 1), s.flip(s.flip("x", -1), 2), s.flip(s.flip("x", 0), 1)],
        [X[:, ::-1], X, X[::-1, ::-1]],
    ),
    "flip of a turned flip": (lambda s: s.flip(s.transpose(s.flip("x", 0), (2, 0, 1)), 1), X.transpose(2, 0, 1)),
    "reversed by lengths": (
        lambda s: s.reversed("x", 1, np.array([3.0, 0, 4]), 0),
        np.stack([np.concatenate([X[i, :n][::-1], X[i, n:]]) for i, n in enumerate((3, 0, 4))]),
    ),
    "reversed by computed lengths": (
        lambda s: s.reversed("x", 1, s.affine(s.reduce("sum", s.affine("x", 0.0, 0.0), [1, 2], False), 1.0, 3.0), 0),
        np.concatenate([X[:, :3][:, ::-1], X[:, 3:]], 1),
    ),
    "reversed twice": (lambda s: s.reversed(s.reversed("x", 1, np.array([3, 2, 4]), 0), 1, np.array([3, 2, 4]), 0), X),
    "reversed by other lengths": (
        lambda s: s.reversed(s.reversed("x", 1, np.array([3, 2, 4]), 0), 1, np.array([2, 2, 4]), 0),
        np.concatenate([X[:1, [1, 2, 0, 3]], X[1:]]),
    ),
    "reversed along another axis": (
        lambda s: s.reversed("x", 2, np.array([2, 1, 1, 5]), 1),
        np.stack([np.concatenate([X[:, i, :n][:, ::-1], X[:, i, n:]], 1) for i, n in enumerate((2, 1, 1, 5))], 1),
    ),
    "stack": (lambda s: [s.stack(["x", "x"], -1), s.stack(["y", "y"], 0)], [np.stack([X, X], -1), np.stack([Y, Y])]),
    "expand": (
        lambda s: [s.expand("y", (3, 4, 5)), s.expand("y", (2, 3, 1, 5))],
        [np.broadcast_to(Y, (3, 4, 5)), np.broadcast_to(Y, (2, 3, 1, 5))],
    ),
    "tile": (
        lambda s: [s.tile("y", r) for r in ((1, 3, 1), (2, 1, 2), (2, 1, 1, 1))],
        [np.tile(Y, r) for r in ((1, 3, 1), (2, 1, 2), (2, 1, 1, 1))],
    ),
    "unsqueeze": (lambda s: [s.unsqueeze("z", [0]), s.unsqueeze("z", [-1, 1])], [Z[None], Z[:, None, :, None]]),
    "squeeze": (lambda s: [s.squeeze("y", None), s.squeeze("y", [-2])], [Y[:, 0], Y[:, 0]]),
    "pad": (
        lambda s: [s.pad("x", 1, 1, 6, 2.5), s.pad("x", 2, 0, 1), s.pad("x", 0, 4, 0, np.inf)],
        [
            np.pad(X, ((0, 0), (1, 6), (0, 0)), constant_values=2.5),
            np.pad(X, ((0, 0), (0, 0), (0, 1))),
            np.pad(X, ((4, 0), (0, 0), (0, 0)), constant_values=LARGE),
        ],
    ),
    "mirror": (
        lambda s: [s.mirror("x", 2, 4, 0), s.mirror("x", 1, 1, 3)],
        [np.pad(X, ((0, 0), (0, 0), (4, 0)), "reflect"), np.pad(X, ((0, 0), (1, 3), (0, 0)), "reflect")],
    ),
    "edges": (
        lambda s: [s.repeat_edges("x", 2, 3, 0), s.repeat_edges("x", 0, 1, 2)],
        [np.pad(X, ((0, 0), (0, 0), (3, 0)), "edge"), np.pad(X, ((1, 2), (0, 0), (0, 0)), "edge")],
    ),
    "padded": (
        lambda s: [
            s.padded("x", {0: (1, 0), -1: (-1, 2)}, "constant", 3.0),
            s.padded("x", {1: (2, -1)}, "edge", 0),
            s.padded("x", {1: (-1, -2)}, "reflect", 0),
            s.padded("x", {1: (0, 2)}, "replicate", 0),
        ],
        [
            np.pad(X[:, :, 1:], ((1, 0), (0, 0), (0, 2)), constant_values=3),
            np.pad(X[:, :3], ((0, 0), (2, 0), (0, 0)), "edge"),
            X[:, 1:2],
            np.pad(X, ((0, 0), (0, 2), (0, 0)), "edge"),
        ],
    ),
    "depth to space": (
        lambda s: [s.depth_to_space("image", 2, first) for first in (True, False)],
        [
            IMAGE.reshape(2, *split, 7, 6).transpose(order).reshape(2, 1, 14, 12)
            for split, order in (((2, 2, 1), (0, 3, 4, 1, 5, 2)), ((1, 2, 2), (0, 1, 4, 2, 5, 3)))
        ],
    ),
    "resized": (lambda s: s.resized("image", {2: 2.0, 3: 3.0}), IMAGE.repeat(2, 2).repeat(3, 3)),
    "dropout": (lambda s: [s.dropout("x", ratio) for ratio in (0.0, 0.5, 1.0)], [X, X, X]),
    "reduce": (
        lambda s: [
            s.reduce("sum", "x", [0, -1], True),
            s.reduce("max", "x", [1], False),
            s.reduce("mean", "x", [2, 1, 2], False),
            s.reduce("min", "x", [], False),
        ],
        [X.sum((0, 2), keepdims=True), X.max(1), X.mean((1, 2)), X],
    ),
    "multiplied": (
        lambda s: [s.multiplied("x", [0, -1], True), s.multiplied("x", [1], False)],
        [X.prod((0, 2), keepdims=True), X.prod(1)],
    ),
    "log sum exp": (
        lambda s: [s.log_sum_exp("x", [1], True), s.log_sum_exp("x", [0, 2], False)],
        [lse((1,), True), lse((0, 2), False)],
    ),
    "norm": (
        lambda s: [s.norm("x", 1, [1], True), s.norm("x", 2, [0, 1], False), s.norm("x", 2, [2], False, root=False)],
        [np.abs(X).sum(1, keepdims=True), np.sqrt((X**2).sum((0, 1))), (X**2).sum(2)],
    ),
    "argmax": (
        lambda s: [
            s.argmax("x", None),
            s.argmax("x", 1, True),
            s.argmax("x", -1, sign=-1.0),
            s.argmax(s.apply("sign", "x"), 1, last=True),
            s.argmax(s.apply("sign", "x"), 2, True, True),
            s.argmax(s.apply("sign", "x"), 1),
        ],
        [
            X.argmax(),
            X.argmax(1)[:, None],
            X.argmin(-1),
            3 - np.sign(X)[:, ::-1].argmax(1),
            (4 - np.sign(X)[:, :, ::-1].argmax(2))[..., None],
            np.sign(X).argmax(1),
        ],
    ),
    "any of": (lambda s: s.any_of(s.apply("relu", "x"), [1], False), (X > 0).any(1)),
    "cast": (
        lambda s: [
            s.cast(s.affine("x", 3.0, 0.0), "int64"),
            s.cast(s.affine("x", 2.0, 0.0), "bool"),
            s.cast(s.affine("x", 1.5, 0.0), "float16"),
            s.cast("x", "int32", "float32"),
            s.cast("x", "bool"),
        ],
        [np.trunc(3 * X), np.ones_like(X), 1.5 * X, np.trunc(X), X],
    ),
    "divided": (
        lambda s: [
            *s.divided(s.affine("x", 9.0, 0.0), "y", "floor"),
            *s.divided(s.affine("x", 9.0, 0.0), "y", "trunc"),
            *s.divided("x", np.array([0.3]), "floor"),
        ],
        [9 * X // Y, 9 * X % Y, np.trunc(9 * X / Y), np.fmod(9 * X, Y), X // 0.3, X % 0.3],
    ),
    "whole numbers divided": (
        lambda s: [
            y
            for kind in ("floor", "trunc")
            for y in s.divided(s.apply("trunc", s.affine("x", 9.0, 0.0)), np.array([-3.0]), kind)
        ],
        [f(np.trunc(9 * X), -3) for f in (np.floor_divide, np.mod, lambda a, b: np.trunc(a / b), np.fmod)],
    ),
    "compare": (
        lambda s: [
            s.compare(kind, s.apply("sign", "x"), s.apply("sign", "y")) for kind in ("gt", "ge", "lt", "le", "eq", "ne")
        ],
        [
            f(np.sign(X), np.sign(Y))
            for f in (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)
        ],
    ),
    "where": (
        lambda s: [s.where(MASK, "x", "y"), s.where(s.apply("step", "x"), "y", np.array([-np.inf]))],
        [np.where(MASK == 1, X, Y), np.where(X > 0, Y, -LARGE)],
    ),
    "prelu": (lambda s: s.prelu("x", np.array(0.25)), np.where(X > 0, X, 0.25 * X)),
    "binary": (
        lambda s: [
            s.binary(kind, *xy)
            for kind, xy in product(
                ("add", "sub", "mul", "div", "max", "min"), (("x", "y"), ("x", np.array([0.5])), (np.array([0.5]), "x"))
            )
        ],
        [f(*xy) for f in BINARY for xy in ((X, Y), (X, 0.5), (0.5, X))],
    ),
    "max with zero": (
        lambda s: [s.binary("max", "x", np.zeros(1)), s.binary("min", "x", np.zeros(1))],
        [np.maximum(X, 0), np.minimum(X, 0)],
    ),
    "clip": (
        lambda s: [
            s.clip("x", low, high)
            for low, high in (
                (np.array(-0.5), np.array(0.5)),
                (np.array(0.5), None),
                (None, np.array(0.5)),
                (np.array(0.5), np.array(-0.5)),
                (np.array(0.5), np.array(0.5)),
                ("y", None),
            )
        ],
        [
            np.clip(X, -0.5, 0.5),
            np.maximum(X, 0.5),
            np.minimum(X, 0.5),
            np.full_like(X, -0.5),
            np.full_like(X, 0.5),
            np.maximum(X, Y),
        ],
    ),
    "matmul": (
        lambda s: [
            s.matmul("x", s.transpose("x", (0, 2, 1))),
            s.matmul("x", np.ones(5)),
            s.matmul("x", number(SCALE.T)),
            s.matmul(number(SCALE.T), "x"),
            s.matmul("row", s.unsqueeze("row", [1])),
            s.matmul("row", "row"),
            s.matmul("z", s.transpose("z", (1, 0))),
            s.matmul("x", s.unsqueeze(s.transpose("x", (0, 2, 1)), [0])),
            s.matmul("x", number(np.arange(5.0))),
        ],
        [
            X @ X.swapaxes(1, 2),
            X.sum(-1),
            X @ SCALE.T,
            SCALE.T @ X,
            (INPUTS["row"] ** 2).sum(keepdims=True),
            (INPUTS["row"] ** 2).sum(),
            Z @ Z.T,
            (X @ X.swapaxes(1, 2))[None],
            X @ np.arange(5.0),
        ],
    ),
    "einsum": (
        lambda s: [
            s.einsum(*case)
            for case in (
                ("abc,abc->ac", ["x", "x"]),
                ("abc,adc->bd", ["x", "x"]),
                ("abc,bd", ["x", "z"]),
                ("abc,bd,bd->ad", ["x", "z", "z"]),
                ("ABC , Bd->", ["x", "z"]),
                ("abc,adc,bz->zd", ["x", "y", "z"]),
                ("ab,cd,ab->cab", ["z", "z", "z"]),
            )
        ],
        [
            np.einsum(*case)
            for case in (
                ("abc,abc->ac", X, X),
                ("abc,adc->bd", X, X),
                ("abc,bd", X, Z),
                ("abc,bd,bd->ad", X, Z, Z),
                ("abc,bd->", X, Z),
                ("abc,adc,bz->zd", X, Y, Z),
                ("ab,cd,ab->cab", Z, Z, Z),
            )
        ],
    ),
    "product of axes of one": (lambda s: s.product("abc", "abc", "ab", "x", "y"), (X * Y).sum(-1)),
    "cumulated": (
        lambda s: [s.cumulated("x", axis, own, back) for axis, own, back in SUMS],
        [summed(axis, own, back) for axis, own, back in SUMS],
    ),
    "softmax": (
        lambda s: [s.softmax("x", 1), s.softmax("x", -1, log=True)],
        [F.softmax(t(X), 1).numpy(), F.log_softmax(t(X), -1).numpy()],
    ),
    "group norm": (
        lambda s: [
            s.group_norm("image", 2, 0.1, *map(number, CHANNELS[:2])),
            s.group_norm("image", 4, 0.1, None, None),
        ],
        [F.group_norm(t(IMAGE), 2, *map(t, CHANNELS[:2]), 0.1).numpy(), F.group_norm(t(IMAGE), 4, eps=0.1).numpy()],
    ),
    "layer norm": (
        lambda s: [
            s.layer_norm("x", 0.1, None, None),
            s.layer_norm("x", 0.1, SCALE, SHIFT, (1, 2)),
            s.layer_norm("x", 0.1, None, SHIFT[:, 0], (-2,)),
        ],
        [normed(X, (2,), 0.1), normed(X, (1, 2), 0.1) * SCALE + SHIFT, normed(X, (1,), 0.1) + SHIFT[:, :1]],
    ),
    "rms norm": (
        lambda s: [s.rms_norm("x", 0.1, SCALE[0]), s.rms_norm("x", 0.1, None, (0, 2))],
        [
            X / np.sqrt((X**2).mean(-1, keepdims=True) + 0.1) * SCALE[0],
            X / np.sqrt((X**2).mean((0, 2), keepdims=True) + 0.1),
        ],
    ),
    "batch norm": (
        lambda s: [
            s.batch_norm("image", [*map(number, CHANNELS)], 0.1),
            s.batch_norm("x", [None, None, *map(number, CHANNELS[2:])], 0.1),
            s.batch_norm("z", [None, *map(number, (np.ones(2), np.ones(2), np.full(2, 3.0)))], 1.0, -1),
        ],
        [
            F.batch_norm(t(IMAGE), *map(t, CHANNELS[2:]), *map(t, CHANNELS[:2]), eps=0.1).numpy(),
            F.batch_norm(t(X), *map(t, CHANNELS[2:]), eps=0.1).numpy(),
            (Z - 1) / 2 + 1,
        ],
    ),
    "convolution of a pixel": (
        lambda s: s.conv(
            s.cut(s.cut("image", 2, 0, 1), 3, 0, 1),
            number(W2[:, :, :1, :1].repeat(2, 1)),
            number(B),
            (1, 1),
            ((0, 0), (0, 0)),
            (1, 1),
            1,
        ),
        F.conv2d(t(IMAGE[:, :, :1, :1]), t(W2[:, :, :1, :1].repeat(2, 1)), t(B)).numpy(),
    ),
    "grouped convolution of a pixel": (
        lambda s: s.conv(
            s.cut(s.cut("image", 2, 0, 1), 3, 0, 1), number(W2[:, :, :1, :1]), None, (1, 1), ((0, 0), (0, 0)), (1, 1), 2
        ),
        F.conv2d(t(IMAGE[:, :, :1, :1]), t(W2[:, :, :1, :1]), groups=2).numpy(),
    ),
    "padded convolution of a pixel": (
        lambda s: s.conv(
            s.cut(s.cut("image", 2, 0, 1), 3, 0, 1),
            number(W2[:, :, :1, :1].repeat(2, 1)),
            None,
            (1, 1),
            ((1, 1), (0, 0)),
            (1, 1),
            1,
        ),
        F.conv2d(t(IMAGE[:, :, :1, :1]), t(W2[:, :, :1, :1].repeat(2, 1)), padding=(1, 0)).numpy(),
    ),
}
for stride, pad, dilation in product((1, 2), (0, 1), (1, 2)):
    CASES[f"convolution {stride} {pad} {dilation}"] = (
        lambda s, a=stride, p=pad, d=dilation: [
            s.conv("x", number(W1), number(B), [a], [(p, p)], [d], 1),
            s.conv("image", number(W2), None, [a, 1], [(p, p + 1), (0, p)], [1, d], 2),
        ],
        [
            F.conv1d(t(X), t(W1), t(B), stride, pad, dilation).numpy(),
            F.conv2d(F.pad(t(IMAGE), (0, pad, pad, pad + 1)), t(W2), None, (stride, 1), 0, (1, dilation), 2).numpy(),
        ],
    )
    CASES[f"transposed convolution {stride} {pad} {dilation}"] = (
        lambda s, a=stride, p=pad, d=dilation: [
            s.conv_transpose("x", number(V1), number(B[:3]), [a], [(p, p)], [d], 1),
            s.conv_transpose("image", number(V2), None, [a, 1], [(p, p), (3, 3)], [1, d], 2),
        ],
        [
            F.conv_transpose1d(t(X), t(V1), t(B[:3]), stride, pad, 0, 1, dilation).numpy(),
            F.conv_transpose2d(t(IMAGE), t(V2), None, (stride, 1), (pad, 3), 0, 2, (1, dilation)).numpy(),
        ],
    )
for size, stride, pad, ceil in product((2, 3), (1, 2, 3), (0, 1), (False, True)):
    CASES[f"pooling {size} {stride} {pad} {ceil}"] = (
        lambda s, k=size, a=stride, p=pad, c=ceil: [
            s.pool("max", "image", (k, 2), (a, 1), ((p, p), (0, 0)), c),
            s.pool("mean", "image", (k, k), (a, 2), ((p, p), (p, p)), c),
            s.pool("mean", "image", (k, 2), (a, 1), ((p, p), (1, 1)), c, counted=False),
            s.pool("max", "x", [k], [a], [(p, p)], c),
        ],
        [
            F.max_pool2d(t(IMAGE), (size, 2), (stride, 1), (pad, 0), 1, ceil).numpy(),
            F.avg_pool2d(t(IMAGE), (size, size), (stride, 2), pad, ceil).numpy(),
            F.avg_pool2d(t(IMAGE), (size, 2), (stride, 1), (pad, 1), ceil, False).numpy(),
            F.max_pool1d(t(X), size, stride, pad, 1, ceil).numpy(),
        ],
    )


@pytest.mark.parametrize("name", CASES)
def test_the_steps_compute_what_the_framework_does(name: str) -> None:
    make, wanted = CASES[name]
    found = computed(make)
    for one, other in zip(found, wanted if isinstance(wanted, list) else [wanted], strict=True):
        assert one.shape == np.shape(other) or np.shape(other) == ()
        np.testing.assert_allclose(one.reshape(np.shape(other)), other, rtol=1e-6, atol=1e-6)


REFUSED: dict[str, tuple[Made, str]] = {
    "nothing is cut": (lambda s: s.cut("x", 1, 2, 2), "the elements from 2 up to 2 of an axis of 4"),
    "a cut in front": (lambda s: s.cut("x", 1, -1, 2), "from -1 up to 2"),
    "a cut behind": (lambda s: s.cut("x", 1, 2, 5), "from 2 up to 5"),
    "nothing is picked": (lambda s: s.pick("x", 1, []), "elements [] of an axis of 4"),
    "picked behind": (lambda s: s.pick("x", 1, [4]), "elements [4] of an axis of 4"),
    "picked in front": (lambda s: s.pick("x", 1, [-5]), "elements [-5] of an axis of 4"),
    "no repeats": (lambda s: s.tile("x", [1, 0, 1]), "repeated [1, 0, 1] times"),
    "too few repeats": (lambda s: s.tile("x", [2, 1]), "repeated [2, 1] times"),
    "expanded": (lambda s: s.expand("x", (3, 1, 5)), "[3, 4, 5] repeated to [3, 1, 5]"),
    "one axis twice": (lambda s: s.unsqueeze("z", [1, 1]), "one occurs twice"),
    "no axis of one": (lambda s: s.squeeze("x", [1]), "are not all of size 1"),
    "a mirror behind": (lambda s: s.mirror("x", 1, 0, 4), "a mirrored padding of 4 on an axis of 4"),
    "a mirror in front": (lambda s: s.mirror("x", 1, 4, 0), "a mirrored padding of 4 on an axis of 4"),
    "much padding": (lambda s: s.pad("x", 1, 0, MOST_PADDING + 1), "10,000 are the most"),
    "many edges": (lambda s: s.repeat_edges("x", 1, MOST_PADDING + 1, 0), "10,000 are the most"),
    "a mode": (lambda s: s.padded("x", {1: (1, 1)}, "wrap", 0.0), "only constants, mirrors and edges"),
    "half a size": (lambda s: s.resized("x", {1: 1.5}), "only integer factors"),
    "smaller": (lambda s: s.resized("x", {1: 0.0}), "only integer factors"),
    "no number": (lambda s: s.binary("add", "x", np.array([np.nan])), "add of a number that is not finite"),
    "infinite factor": (lambda s: s.binary("mul", "x", np.array([np.inf])), "mul of a number that is not finite"),
    "a letter twice": (lambda s: s.product("aab", "ab", "b", "x", "z"), "each letter is one axis"),
    "a letter too few": (lambda s: s.product("ab", "ab", "b", "x", "z"), "each letter is one axis"),
    "a letter of none": (lambda s: s.product("abc", "bd", "ae", "x", "z"), "a product with axes ae"),
    "sizes that differ": (lambda s: s.product("abc", "cd", "ad", "x", "z"), "a product of [3, 4, 5] and [4, 2]"),
    "other statistics": (
        lambda s: s.batch_norm("x", [None, None, *map(number, CHANNELS[:1]), number(B)], 0.1),
        "of 4 channels",
    ),
    "statistics that differ": (
        lambda s: s.batch_norm("x", [number(B), None, *map(number, CHANNELS[:2])], 0.1),
        "of 4 channels",
    ),
    "a large window": (
        lambda s: s.pool("max", "x", [8], [1], [(1, 1)]),
        "a window of 8 is larger than the padded image of 5",
    ),
    "windows of padding alone": (lambda s: s.pool("mean", "x", [2], [1], [(2, 0)], counted=False), "as Caffe has none"),
    "dots": (lambda s: s.einsum("...a,a->...", ["x", "row"]), "all in letters"),
    "one operand": (lambda s: s.einsum("abc->a", ["x"]), "only two operands or more"),
    "an operand too many": (lambda s: s.einsum("abc,bd->ad", ["x", "z", "z"]), "it has 3 operands"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused(name: str) -> None:
    make, text = REFUSED[name]
    with pytest.raises((ShapeProblem, Refused), match=re.escape(text)):
        computed(make)


def test_windows_that_cover_an_image() -> None:
    """As many as TensorFlow has for "same": with one zero fewer one window would be missing."""
    for n, kernel, stride, dilation in product(range(1, 9), range(1, 5), range(1, 4), (1, 2)):
        reach = dilation * (kernel - 1) + 1
        before, after = same_padding(n, kernel, stride, dilation)
        assert 0 <= after - before <= 1
        assert (n + before + after - reach) // stride + 1 == -(-n // stride)
        if stride > 1 and before + after:
            assert (n + before + after - 1 - reach) // stride + 1 < -(-n // stride)


def test_pooling_of_another_framework_by_windows_of_caffe() -> None:
    """Caffe pads both sides and rounds up: of its windows some are skipped, and a mean has another divisor."""
    for n, kernel, stride, before, after, ceil in product(range(2, 8), (2, 3), (1, 2, 3), (0, 1, 2), (0, 1, 2), (0, 1)):
        if n + before + after < kernel:
            continue
        wanted = window_count(n, kernel, stride, (before, after), bool(ceil))
        starts = [i * stride - before for i in range(wanted)]
        for counted in (True, False):
            try:
                found = Windows.of(n, kernel, stride, (before, after), bool(ceil), counted)
            except ShapeProblem:
                continue
            assert found.count == wanted
            for i, (start, scale) in enumerate(zip(starts, found.scales, strict=True)):
                own = (found.skip + i) * stride - found.pad
                assert own == start
                ends = min(start + kernel, n + found.pad), min(start + kernel, n + after if counted else n)
                assert scale == (ends[0] - start) / (ends[1] - (start if counted else max(start, 0)))
    assert Windows.of(7, 3, 2, (0, 1), False, True) == Windows(0, 0, 3, (1.0, 1.0, 1.0))


def test_letters_of_an_equation() -> None:
    assert einsum_letters("bd, Bc -> dB", 2) == (["ab", "cd"], "bc")
    assert einsum_letters("ba,ac", 2) == (["ba", "ac"], "bc")


def test_values_that_are_whole() -> None:
    made = steps({"x": (3, 4), "y": (3, 1)})
    whole = made.apply("trunc", "x")
    moved = made.select(
        made.unsqueeze(made.transpose(made.concat([whole, made.apply("sign", "y")], 1), (1, 0)), [0]), 0, 0
    )
    whole_ones = [
        whole, moved, made.affine(whole, 2.0, -1.0), made.binary("mul", whole, made.compare("gt", "x", "y")),
        made.argmax("x", 1), made.reduce("sum", whole, [0], True), made.expand(made.apply("floor", "y"), (3, 4)),
        made.reduce("max", made.apply("ceil", "x"), [1], True), made.cut(whole, 1, 1, 3),
        made.binary("add", whole, whole),
    ]  # fmt: skip
    others: list[Operand] = [
        "x", np.ones(2), made.apply("tanh", whole), made.affine(whole, 0.5, 0.0), made.affine(whole, 1.0, 0.5),
        made.reduce("mean", whole, [0], True), made.binary("div", whole, made.apply("floor", "y")),
        made.binary("add", whole, "x"), made.concat([whole, "y"], 1), made.binary("sub", "x", whole),
    ]  # fmt: skip
    assert all(made.is_whole(value) for value in whole_ones)
    assert not any(made.is_whole(value) for value in others)
