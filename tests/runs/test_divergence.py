"""When a loss runs away, to the number."""

from __future__ import annotations

import math

import pytest

from lstmc.runs.metrics import LossWatch


def test_the_first_loss_may_be_anything_finite() -> None:
    assert LossWatch([]).problem(1e30) is None
    assert LossWatch([]).problem(math.nan) == "is nan"
    assert LossWatch([]).problem(-math.inf) == "is -inf"


@pytest.mark.parametrize(
    ("first", "limit"), [([0.001, 0.002], 1000.0), ([2.0, 4.0], 3000.0), ([-4.0], 4000.0), ([6.0] * 9 + [16.0], 7000.0)]
)
def test_later_ones_are_measured_by_the_first(first: list[float], limit: float) -> None:
    assert LossWatch(list(first)).problem(limit) is None
    assert LossWatch(list(first)).problem(-limit) is None
    mean = sum(abs(loss) for loss in first) / len(first)
    above = limit * (1 + 1e-6)
    told = f"is {above:g}: it diverges: the mean of the first {len(first)} is {mean:g}"
    assert LossWatch(list(first)).problem(above) == told


def test_ten_are_kept() -> None:
    watch = LossWatch([])
    for loss in range(1, 13):
        assert watch.problem(loss) is None
    assert watch.first == list(range(1, 11))
