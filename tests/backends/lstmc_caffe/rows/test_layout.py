"""Values as matrices, by at most one view."""

from __future__ import annotations

import pytest

from lstmc.ir import Builder, Ref
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.layout import as_matrix, last_axis, matrix_at, unviewed, viewed


@pytest.mark.parametrize(
    ("shape", "axis", "matrix"),
    [((2, 3, 4), 0, (1, 24)), ((2, 3, 4), 1, (2, 12)), ((2, 3, 4), 3, (24, 1)), ((5,), 0, (1, 5)), ((), 0, (1, 1))],
)
def test_columns_begin_at_an_axis(shape: tuple[int, ...], axis: int, matrix: tuple[int, int]) -> None:
    assert matrix_at(shape, axis) == matrix


def test_the_last_axis_is_the_columns() -> None:
    assert [last_axis(shape) for shape in ((2, 3, 4), (5,), ())] == [(6, 4), (1, 5), (1, 1)]


def test_there_is_at_most_one_view_of_a_value() -> None:
    b = Builder("g")
    (x,) = b.add(caffe.HostInput((2, 6)), names=("x",))
    cube = viewed(b, x, (2, 2, 3))
    assert (viewed(b, cube, (2, 2, 3)), unviewed(b, cube), unviewed(b, x)) == (cube, x, x)
    assert viewed(b, cube, (2, 6)) == x
    assert b.args(viewed(b, cube, (4, 3)).node) == (x,)
    assert as_matrix(b, cube) == x  # the matrix that it is a view of
    (y,) = b.add(caffe.HostInput((2, 2, 3)), names=("y",))
    assert as_matrix(b, y) == Ref("y/rows")
    assert b.type(Ref("y/rows")).shape == (4, 3)
