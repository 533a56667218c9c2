"""Shapes, sizes and weights of nets that come in."""

from __future__ import annotations

import pickle
from itertools import permutations

import numpy as np
import pytest

from lstmc.importers.ir import values
from lstmc.importers.ir.values import (
    MOST_FOLDED,
    MOST_PIECES,
    Folding,
    NamedSize,
    OpenSize,
    ShapeProblem,
    Weight,
    axis_in,
    bounded,
    broadcast,
    fixed,
    in_pieces,
    joined,
    named,
    number,
    open_sizes,
    plain,
    resolved,
)

W = Weight((6, 2, 3), ("a.w",), "a.w", lambda: np.arange(36.0).reshape(6, 2, 3))
ARRAY = W.array()


def test_a_weight_is_what_its_parts_and_orders_are() -> None:
    for axes in permutations(range(3)):
        np.testing.assert_array_equal(W.transposed(*axes).array(), ARRAY.transpose(axes))
    np.testing.assert_array_equal(W.transposed().array(), ARRAY.T)
    for weight, array in (
        (W.rows(3, (2, 0), "ca"), np.concatenate([ARRAY[4:], ARRAY[:2]])),
        (W.rows(2, (1, 1, 0), "bba"), np.concatenate([ARRAY[3:], ARRAY[3:], ARRAY[:3]])),
        (W.plus(W), 2 * ARRAY),
        (W.at(-1), ARRAY[-1]),
        (W.cut(1, 4), ARRAY[1:4]),
        (W.cut(0, 1, 1), ARRAY[:, :1]),
        (W.cut(1, 3, 2), ARRAY[..., 1:3]),
        (W.reshaped(4, 9), ARRAY.reshape(4, 9)),
        (joined([W, W.cut(1, 2)]), np.concatenate([ARRAY, ARRAY[1:2]])),
    ):
        np.testing.assert_array_equal(weight.array(), array)
        assert weight.sources[0] == "a.w"
    assert W.rows(3, range(3), "abc") is W.cut(0, 6) is W.cut(0, 2, 1) is W.reshaped(6, 2, 3) is W.transposed(0, 1, 2)
    assert joined([W]) is W
    assert W.transposed(1, 0, 2).recipe == "a.w transposed by [1, 0, 2]"
    assert W.at(0).transposed().recipe == "a.w[0] transposed"
    assert W.reshaped(1, 36).transposed(1, 0).recipe == W.reshaped(2, 18).reshaped(36, 1).recipe == "a.w as [36, 1]"
    assert W.cut(1, 3, 2).recipe == "a.w[:, :, 1:3]"


def test_shapes_that_fit_and_those_that_do_not() -> None:
    t = OpenSize("T")
    assert broadcast((3, 1, t), (4, 1)) == (3, 4, t)
    assert broadcast((1, 1), (2, 1, t)) == (2, 1, t)
    assert resolved((-1, 2), (3, 4)) == (6, 2)
    assert resolved((3, -1, 4), (12,)) == (3, 1, 4)
    assert resolved((6, -1), (2, 3, t)) == (6, t)
    assert resolved((-1, 1), (t,)) == (t, 1)
    assert resolved((-1,), (), False) == (1,)
    assert int(resolved((-1, 3), (t, 2, 3), products=True)[0]) == 2 * int(t)
    assert [axis_in(axis, 3) for axis in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    assert open_sizes(named((2, "T", 3))) == [t]
    assert fixed(3, "a size") == 3
    for call in (
        lambda: broadcast((3, 2), (4, 1)), lambda: broadcast((t,), (2,)), lambda: resolved((-1, -1), (4,)),
        lambda: resolved((5, -1), (4,)), lambda: resolved((2, 3), (5,)), lambda: resolved((0, -1), (4,)),
        lambda: resolved((-1,), (t, 2)), lambda: axis_in(3, 3), lambda: axis_in(-4, 3), lambda: fixed(t, "a size"),
        lambda: W.reshaped(5), lambda: W.plus(W.cut(0, 3)), lambda: number(np.array([t, 2], object)),
    ):  # fmt: skip
        with pytest.raises(ShapeProblem):
            call()


def test_limits_hold_at_their_number_and_not_above() -> None:
    assert in_pieces(MOST_PIECES) == MOST_PIECES
    bounded((MOST_FOLDED, 1))
    bounded((5, 2), 10)
    folding = Folding(2)
    folding.take(MOST_FOLDED)
    folding.take(32)
    for call in (
        lambda: in_pieces(MOST_PIECES + 1), lambda: bounded((MOST_FOLDED + 1,)), lambda: bounded((11, 1), 10),
        lambda: bounded((np.nan,)), lambda: folding.take(1), lambda: Folding().take(np.nan),
    ):  # fmt: skip
        with pytest.raises(ShapeProblem):
            call()


def test_a_named_size_is_a_number_that_prints_as_a_name() -> None:
    size = NamedSize("H", 8)
    again = pickle.loads(pickle.dumps(size))
    assert (again, repr(again), f"{again}", again + 1) == (8, "H", "H", 9)
    assert type(plain(size)) is int
    assert plain(size) == 8
    assert plain(OpenSize("T")) == OpenSize("T")
    assert values.listed((size, 2)) == "[H, 2]"
