"""Broadcasting is NumPy's, where one Caffe layer can do it, and nothing else."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmc.ops.layers import flatten_axis
from lstmc.ops.pointwise import covered_axes, sum_to
from lstmc.types import TensorType

SHAPES = st.lists(st.integers(1, 3), max_size=4).map(tuple)


def by_trying(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Whether the small array, seen as some run of the large one's axes, spreads over it as NumPy would."""
    values = np.arange(prod(small)).reshape(small)
    try:
        expected = np.broadcast_to(values, large)
    except ValueError:
        return False
    runs = [(a, b) for b in range(len(large) + 1) for a in range(b + 1) if prod(large[a:b]) == prod(small)]
    return any(
        np.array_equal(np.broadcast_to(values.reshape(large[a:b] + (1,) * (len(large) - b)), large), expected)
        for a, b in runs
    )


@settings(deadline=None)
@given(SHAPES, SHAPES)
def test_a_run_of_axes_is_found_wherever_there_is_one(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    found = covered_axes(small, large)
    assert (found is not None) == by_trying(small, large)
    if found is not None:
        start, stop = found
        values = np.arange(prod(small)).reshape(small)
        spread = values.reshape(large[start:stop] + (1,) * (len(large) - stop))
        np.testing.assert_array_equal(np.broadcast_to(spread, large), np.broadcast_to(values, large))


@settings(deadline=None)
@given(st.data(), SHAPES)
def test_sum_to_undoes_broadcasting(data: st.DataObject, large: tuple[int, ...]) -> None:
    kept = data.draw(st.integers(0, len(large)))
    small = tuple(data.draw(st.sampled_from((1, size))) for size in large[len(large) - kept :])
    ct = np.random.default_rng(0).normal(size=large)
    found = sum_to(ct, small)
    assert found.shape == small
    probe = np.random.default_rng(1).normal(size=small)  # <ct, spread(probe)> = <sum_to(ct), probe>
    assert np.vdot(found, probe) == pytest.approx(np.vdot(ct, np.broadcast_to(probe, large)), abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "width", "axis"),
    [
        ((3, 4, 5), 5, 2),
        ((3, 4, 5), 20, 1),
        ((3, 4, 5), 60, 0),
        ((3, 4, 5), 4, None),
        ((3, 5, 1), 5, 1),
        ((3, 1, 5), 5, 2),
        ((4, 1, 1), 1, 2),
        ((), 1, None),
    ],
)
def test_a_linear_flattens_from_the_last_axis_that_gives_its_width(
    shape: tuple[int, ...], width: int, axis: int | None
) -> None:
    assert flatten_axis(TensorType(shape), width) == axis
