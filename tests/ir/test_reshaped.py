"""A value in another shape, by at most one reshape."""

from __future__ import annotations

from lstmc.ir import Builder, reshape_source, reshaped
from lstmc.ops import Input, Reshape
from lstmc_caffe.ops import View


def test_by_at_most_one_reshape() -> None:
    b = Builder("g")
    (x,) = b.add(Input((2, 6)), names=("x",))
    flat = reshaped(b, x, Reshape((12,)), ("flat",))
    assert (b.node(flat.node).op, b.args(flat.node)) == (Reshape((12,)), (x,))
    pairs = reshaped(b, flat, Reshape((6, 2)), ("pairs",))
    assert b.args(pairs.node) == (x,)
    assert (reshape_source(b, pairs), reshape_source(b, x)) == (x, x)


def test_none_for_a_shape_that_is_there() -> None:
    b = Builder("g")
    (x,) = b.add(Input((2, 6)), names=("x",))
    flat = reshaped(b, x, Reshape((12,)))
    assert reshaped(b, x, Reshape((2, 6))) == reshaped(b, flat, Reshape((2, 6))) == x
    assert reshaped(b, flat, Reshape((12,))) == flat


def test_reshapes_of_another_kind_stay() -> None:
    b = Builder("g")
    (x,) = b.add(Input((2, 6)), names=("x",))
    flat = reshaped(b, x, Reshape((12,)))
    view = reshaped(b, flat, View((4, 3)))
    assert b.args(view.node) == (flat,)
    assert reshape_source(b, view, View) == flat
    assert reshape_source(b, view) == x
