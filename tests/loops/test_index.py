"""Indices of loops: of any chain of ops that move elements, as an expression and in nested loops, against NumPy."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lstmc.loops.index import Index, counter, covering, moved, nest_of, piece
from lstmc.loops.large_states import _cut, _Whole
from lstmc.ops import Op, Reshape, Split, Tile, Transpose
from lstmc.ops.pointwise import covered_axes

sizes = st.integers(1, 4)
shapes = st.lists(sizes, min_size=1, max_size=4).map(tuple)


@st.composite
def moves(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Op, int]:
    """An op that moves elements of a value of this shape, and which of its results."""
    axis = draw(st.integers(0, len(shape) - 1))
    kinds = ["reshape", "tile", "split"] + (["transpose"] if axis + 1 < len(shape) else [])
    match draw(st.sampled_from(kinds)):
        case "reshape":
            size, parts = prod(shape), []
            while size > 1:
                parts.append(draw(st.sampled_from([n for n in range(2, size + 1) if size % n == 0])))
                size //= parts[-1]
            return Reshape(tuple(parts) or (1,)), 0
        case "tile":
            return Tile(axis, draw(st.integers(1, 3))), 0
        case "split":
            cuts = sorted(draw(st.sets(st.integers(1, max(1, shape[axis] - 1)), max_size=2)) - {shape[axis]})
            pieces = tuple(b - a for a, b in zip([0, *cuts], [*cuts, shape[axis]], strict=True))
            return Split(axis, pieces), draw(st.integers(0, len(pieces) - 1))
        case _:
            return Transpose(axis), 0


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Index, int, np.ndarray]:
    """The index of each element of a value [shape] that was moved, their number, and what NumPy says."""
    value = np.arange(prod(shape)).reshape(shape)
    chain: list[tuple[Op, int, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(1, 4))):
        op, out = draw(moves(value.shape))
        chain.append((op, out, value.shape))
        value = op.eval(value)[out]
    index = counter(value.size)
    for op, out, before in reversed(chain):
        index = moved(op, out, before, index)
    return index, value.size, value


def number(index: Index, j: int) -> int:
    parts = (d.stride * ((j if d.of is None else number(d.of, j)) // d.divisor % d.size) for d in index.digits)
    return index.offset + sum(parts)


def assert_reads(index: Index, count: int, expected: np.ndarray) -> None:
    """The index of each j of a loop is what NumPy says: by its digits, by its text, and in nested loops."""
    assert [number(index, j) for j in range(count)] == expected.ravel().tolist()
    text = index.text("j", count).replace("/", "//")
    assert [eval(text, {"j": j}) for j in range(count)] == expected.ravel().tolist()
    axes = nest_of(count, [index])
    if not axes:
        assert count == 1 or any(digit.of for digit in index.digits) or len(index.digits) > 1
        return
    assert prod(axis.size for axis in axes) == count
    nested = index.in_nest(axes)
    steps = product(*(range(axis.size) for axis in axes))
    found = [eval(nested, {axis.counter: i for axis, i in zip(axes, step, strict=True)}) for step in steps]
    assert found == expected.ravel().tolist()


@given(st.data(), shapes)
def test_what_moves_elements_is_one_index(data: st.DataObject, shape: tuple[int, ...]) -> None:
    assert_reads(*data.draw(indices(shape)))


@given(st.data(), shapes, st.integers(1, 4))
def test_a_part_of_a_loop_has_an_index_of_its_own(data: st.DataObject, shape: tuple[int, ...], parts: int) -> None:
    index, count, _ = data.draw(indices(shape))
    with suppress(_Whole):
        inside, begins = _cut(index, count, parts)
        unit = -(-count // parts)  # of what is not cut whole only a number has parts
        assert [number(inside, j % unit) + number(begins, j // unit) for j in range(count)] == [
            number(index, j) for j in range(count)
        ]


@given(st.data(), shapes)
def test_a_broadcast_operand_and_a_piece_of_a_concat(data: st.DataObject, large: tuple[int, ...]) -> None:
    start = data.draw(st.integers(0, len(large)))
    stop = data.draw(st.integers(start, len(large)))
    small = (*[1] * start, *large[start:stop], *[1] * (len(large) - stop))
    axes = covered_axes(small, large)
    assert axes is not None
    flat = np.arange(prod(small)).reshape(small)
    assert_reads(covering(small, large, axes), prod(large), np.broadcast_to(flat, large))
    axis = data.draw(st.integers(0, len(large) - 1))
    first = data.draw(st.integers(0, large[axis] - 1))
    size = data.draw(st.integers(1, large[axis] - first))
    whole = np.arange(prod(large)).reshape(large)
    part = whole.take(range(first, first + size), axis)
    assert_reads(piece(large, axis, first, size), part.size, part)


def test_neighbouring_digits_are_one() -> None:
    index = moved(Transpose(0), 0, (4, 3), moved(Transpose(0), 0, (3, 4), counter(12)))
    assert index == counter(12)
    before, within = (counter(24) + 5).divided(6)
    assert [number(before, j) * 6 + number(within, j) for j in range(24)] == list(range(5, 29))
    assert (before.largest, within.largest) == (4, 5)


def test_quotients_and_remainders_of_a_counter_behind_an_offset() -> None:
    """Where digits of a counter do not divide: by the expression of all of it. A quotient needs no remainder."""
    for size, by, offset in product(range(2, 8), range(2, 8), range(8)):
        quotient, remainder = (counter(size) + offset).divided(by)
        counted = np.arange(size) + offset
        for index, wanted in ((quotient, counted // by), (remainder, counted % by)):
            text = index.text("j", size).replace("/", "//")
            assert [eval(text, {"j": j}) for j in range(size)] == wanted.tolist()
        assert "%" not in quotient.text("j", size)
