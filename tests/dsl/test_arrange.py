"""Indices, broadcasting and arrangement: what they are in NumPy, and the whole text of what is refused."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import lstmc
from lstmc.dsl.operators import IndexRefused, common_shape, indexed, operands_repeated
from lstmc.ops import Split
from lstmc.ops.pointwise import covered_axes
from tests.dsl.conftest import UserFile, lines
from tests.dsl.test_functions import computed


def random_index(draw: random.Random, shape: tuple[int, ...]) -> Any:
    """An index of an array of this shape; one in ten has a part that is out of range, or too much."""

    def part(size: int) -> Any:
        low, high = (None if draw.random() < 0.4 else draw.randint(-size - 1, size + 1) for _ in range(2))
        return draw.choice((slice(low, high, draw.choice((None, 1, 2, 3))), slice(None), draw.randrange(-size, size)))

    parts = [part(size) for size in shape]
    for _ in range(draw.choice((0, 0, 1, 2))):
        parts.insert(draw.randint(0, len(parts)), None)
    if draw.random() < 0.4:
        at = draw.randint(0, len(parts))
        parts[at : at + draw.randint(0, 2)] = [...]
    if draw.random() < 0.1:
        parts.insert(draw.randint(0, len(parts)), draw.choice((9, np.int64(-9), slice(3, 3), 0, ...)))
    return draw.choice(parts) if draw.random() < 0.2 and parts else tuple(parts)


def makes_groups(part: slice, size: int) -> bool:
    """Return whether a slice takes one element of each group of as many as its step, or no more than one at all."""
    start, stop, every = part.indices(size)
    elements = len(range(start, stop, every)) * every
    return elements <= every or any(first + elements <= size for first in range(start, max(start - every, -1), -1))


def test_an_index_takes_what_it_takes_in_numpy() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(1500):
        draw = random.Random(seed)
        shape = tuple(draw.randint(1, 6) for _ in range(draw.randint(0, 3)))
        index, x = random_index(draw, shape), np.arange(float(prod(shape))).reshape(shape)
        try:
            found = x
            for op, piece in indexed(shape, index, int):
                assert not isinstance(op, Split) or len(op.sizes) > 1
                found = op.eval(found)[piece]
            assert_array_equal(found, x[index], f"{shape}, {index}")
            outcomes["right"] += 1
        except IndexRefused as why:
            if "incomplete" in str(why):
                parts = list(index) if isinstance(index, tuple) else [index]
                axes = [part for part in parts if part is not None]
                if ... in axes:
                    axes[axes.index(...) : axes.index(...) + 1] = [0] * (len(shape) - len(axes) + 1)
                sliced = [(part, size) for part, size in zip(axes, shape, strict=False) if isinstance(part, slice)]
                assert not all(makes_groups(part, size) for part, size in sliced), f"{shape}, {index}"
                outcomes["incomplete"] += 1
                continue
            with suppress(IndexError):
                assert x[index].size == 0, f"{shape}, {index}"
            outcomes["refused"] += 1
    assert outcomes["right"] > 800, outcomes
    assert outcomes["incomplete"] > 20, outcomes


@given(st.lists(st.integers(1, 3), max_size=4), st.lists(st.integers(1, 3), max_size=4))
def test_shapes_are_broadcast_as_in_numpy_and_the_op_then_takes_them(a: list[int], b: list[int]) -> None:
    x, y = tuple(a), tuple(b)
    try:
        wanted = np.broadcast_shapes(x, y)
    except ValueError:
        assert common_shape(x, y) is None
        assert operands_repeated(x, y, bool) == ((), ())
        return
    assert common_shape(x, y) == wanted
    arrays = [np.random.default_rng(0).normal(size=shape) for shape in (x, y)]
    made = list(arrays)
    for i, ops in enumerate(operands_repeated(x, y, lambda operand: False)):
        for op in ops:
            (made[i],) = op.eval(made[i])
    assert covered_axes(made[0].shape, made[1].shape) or covered_axes(made[1].shape, made[0].shape)
    assert_array_equal(made[0] + made[1], arrays[0] + arrays[1])


@pytest.mark.parametrize("parameter", [0, 1])
@pytest.mark.parametrize("shapes", [((3, 1), (1, 4)), ((3, 1), (1, 2))])
def test_of_a_value_and_a_parameter_the_value_is_repeated(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], parameter: int
) -> None:
    """A layer has a parameter once, so that trained numbers can be read back."""
    ops = operands_repeated(*shapes, lambda operand: operand == parameter)
    assert [bool(each) for each in ops] == [parameter == 1, parameter == 0]


@pytest.mark.parametrize("shapes", [((2, 3, 1), (4,)), ((2, 3, 1), (2, 1, 4)), ((3, 1), (2, 1, 1)), ((3, 1), (1, 4))])
@pytest.mark.parametrize(
    "function", [lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / y, lambda x, y: y - x]
)
def test_every_operator_broadcasts(function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> None:
    found, (x, y) = computed(function, *shapes)
    np.testing.assert_allclose(found, function(x, y), rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x: x[:, ::2] - x[:, 1::2], lambda x: x[:, ::2] - x[:, 1::2]),
        (lambda x: x[1::2, :2] + x[None, :, 1:4:2], lambda x: x[1::2, :2] + x[None, :, 1:4:2]),
        (lambda x: x[::3, 2::2], lambda x: x[::3, 2::2]),
        (lambda x: lstmc.expand(x[:, :1], 3, 4), lambda x: np.broadcast_to(x[:, :1], (3, 4))),
        (lambda x: lstmc.expand(x, (2, -1, -1)), lambda x: np.broadcast_to(x, (2, 3, 4))),
        (lambda x: lstmc.tile(x, 2), lambda x: np.tile(x, 2)),
        (lambda x: lstmc.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3))),
        (lambda x: lstmc.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
        (lambda x: lstmc.stack(x, x + 1), lambda x: np.stack([x, x + 1])),
        (lambda x: lstmc.stack([x, x + 1], axis=1), lambda x: np.stack([x, x + 1], axis=1)),
        (lambda x: lstmc.stack(x, x + 1, axis=-1), lambda x: np.stack([x, x + 1], axis=-1)),
        (lambda x: lstmc.transpose(x), lambda x: x.T),
        (lambda x: x.T, lambda x: x.T),
        (lambda x: lstmc.transpose(x[None]), lambda x: x.T[None]),
        (lambda x: lstmc.transpose(x[None], 2, 0, 1), lambda x: x[None].transpose(2, 0, 1)),
        (lambda x: x[None].transpose((-1, 1, 0)), lambda x: x[None].transpose(2, 1, 0)),
        (lambda x: lstmc.transpose(x, 1, 0), lambda x: x.T),
        (lambda x: lstmc.transpose(x[None], 0, 1, 2), lambda x: x[None]),
        (lambda x: x * lstmc.full((3, 1), 0.5), lambda x: x * 0.5),
        (lambda x: x + lstmc.full(4, 0.5), lambda x: x + 0.5),
        (lambda x: x + lstmc.full_like(x, 2), lambda x: x + 2),
        (lambda x: x + lstmc.ones_like(x) - lstmc.zeros_like(x), lambda x: x + 1),
    ],
)
def test_functions_of_numpys_names_do_what_they_do(function: Callable[..., Any], wanted: Callable[..., Any]) -> None:
    found, (x,) = computed(function, (3, 4))
    np.testing.assert_allclose(found, wanted(x), rtol=1e-12)


def test_dimensions_stand_in_indices_and_shapes(user: UserFile) -> None:
    graph = user.graph(
        """
    @model
    def net(X=Input(T, N, D), E=Input(H, D)):
        return {"y": X[:, :, :H] + expand(full((N, 1), 1), T, N, H) * X[:, :, D - H :], "e": E}
    """,
        H=2,
    )
    assert [graph.type(output.ref).shape for output in graph.outputs] == [(3, 2, 2), (2, 5)]


ALLOWED = "an index is an integer, a slice, None or ..."
OF_X = "x is X: input [T, N, D], declared at user.py:6"


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        ("z = «X[0, 0, 0, 0]»", "DslError: x[...]: x is f32[3,2,5], with 3 axes, found an index of 4", ()),
        ("z = «X[..., ...]»", "DslError: x[...]: an index has one ... at most", ()),
        ("z = «X[3]»", "DslError: x[...]: axis 0 has 3 elements, found 3: x is f32[3,2,5]", ()),
        ("z = «X[:, -3]»", "DslError: x[...]: axis 1 has 2 elements, found -3: x is f32[3,2,5]", ()),
        ("z = «X[::-1]»", f"DslError: x[...]: a slice goes forwards, found a step of -1: {ALLOWED}", ()),
        (
            "z = «X[::2]»",
            "DslError: x[...]: axis 0 has 3 elements, of which a step of 2 leaves the last group incomplete:"
            " concat zeros to it, and slice the result: x is f32[3,2,5]",
            (),
        ),
        ("z = «X[2:1]»", "DslError: x[...]: axis 0 has 3 elements, and none of them from 2 to 1", ()),
        ("z = «X[[0, 1]]»", f"DslError: x[...]: found list [0, 1]: {ALLOWED}", ()),
        ("z = «X[True]»", f"DslError: x[...]: found bool True: {ALLOWED}", ()),
        ("z = «X[:'a']»", f"DslError: x[...]: found str 'a': {ALLOWED}", ()),
        (
            "z = «X[:, :, :K]»",
            "DimError: dimension K has no size in model 'net', which has T, N, D: give it a size with K=SIZE",
            (),
        ),
        (
            "z = «expand(X, 3, 2, 6)»",
            "ShapeError: expand: x cannot be repeated to [3, 2, 6]: x is f32[3,2,5]; axes are counted from the last,"
            " and those of one element are repeated",
            (OF_X,),
        ),
        (
            "z = «expand(X, 5)»",
            "ShapeError: expand: x cannot be repeated to [5]: x is f32[3,2,5]; axes are counted from the last,"
            " and those of one element are repeated",
            (OF_X,),
        ),
        ("z = tile(X, «0»)", "ShapeError: tile: repeats must be 1 or more for each axis, found int 0", ()),
        ("z = «stack()»", "DslError: stack takes one Value or more, found none", ()),
        ("z = «stack([X, 1])»", "DslError: stack takes Values, found int 1", ()),
        (
            "z = stack(X, X, «axis=4»)",
            "ShapeError: stack: axis must be an integer from -4 to 3, found 4: the first is f32[3,2,5]",
            (),
        ),
        (
            "z = «stack(X[0], X)»",
            "ShapeError: stack: all must have one shape: the first is f32[2,5], number 2 is f32[3,2,5]",
            ("number 2 is X: input [T, N, D], declared at user.py:6",),
        ),
        (
            "z = «transpose(X[0, 0])»",
            "ShapeError: transpose: x must have two axes or more: x is f32[5]",
            ("x is X[0, 0]: f32[5], made at user.py:7",),
        ),
        (
            "z = «transpose(X[0], 0, 1)»",
            "ShapeError: transpose: axes 0, 1 of a matrix are its own order: to turn it write transpose(x)",
            (),
        ),
        *(
            (
                f"z = «{call}»",
                f"ShapeError: transpose: axes must name each of the 3 axes of x once, found {found}: x is f32[3,2,5];"
                " the last two turn by transpose(x)",
                (OF_X,),
            )
            for call, found in (
                ("transpose(X, 1, 2)", "1, 2"),
                ("transpose(X, (0, 2, 2))", "0, 2, 2"),
                ("transpose(X, 0, 1, 3)", "0, 1, 3"),
                ("transpose(X, 0, 1, 'c')", "0, 1, c"),
            )
        ),
        (
            "z = «X.T»",
            "DslError: x.T of three axes or more turns all of them round: write transpose(x), which turns the last two,"
            " or transpose(x, 0, 2, 1)",
            (),
        ),
        (
            "z = full(«(2, 'a')», 1)",
            "ShapeError: full: a shape is made of dimensions and of integers of 1 or more, found tuple (2, 'a')",
            (),
        ),
        ("z = full_like(X, «X»)", "DslError: full_like: value must be a number, found a Value", ()),
    ],
)
def test_what_is_refused_and_where(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    code = f"@model\ndef net(X=Input(T, N, D)):\n    {statement}\n    return {{'z': z}}\n"
    assert user.refused(code) == lines(
        message,
        f"  user.py:7:{start + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )


def test_full_stands_in_a_model(user: UserFile) -> None:
    assert user.refused("full(3, 1)").startswith(
        "DslError: full must be called in a model: expected a function with @model around it\n  user.py:5"
    )
