"""Fillers draw what Caffe's ``filler.hpp`` describes."""

from __future__ import annotations

from math import inf, nan, sqrt

import numpy as np
import pytest
from scipy import stats

from lstmc.errors import DslError
from lstmc.ops import FILLERS, Constant, Filler, Gaussian, Msra, Uniform, Values, Xavier

SHAPE = (50, 40, 10)
FAN_IN, FAN_OUT = 400, 500
DISTRIBUTIONS = [
    (Uniform(-0.25, 0.5), stats.uniform(-0.25, 0.75)),
    (Gaussian(1.0, 0.5), stats.norm(1.0, 0.5)),
    (Xavier(), stats.uniform(-sqrt(3 / FAN_IN), 2 * sqrt(3 / FAN_IN))),
    (Xavier("fan_out"), stats.uniform(-sqrt(3 / FAN_OUT), 2 * sqrt(3 / FAN_OUT))),
    (Xavier("average"), stats.uniform(-sqrt(3 / 450), 2 * sqrt(3 / 450))),
    (Msra(), stats.norm(0, sqrt(2 / FAN_IN))),
    (Msra("fan_out"), stats.norm(0, sqrt(2 / FAN_OUT))),
    (Msra("average"), stats.norm(0, sqrt(2 / 450))),
]


@pytest.mark.parametrize(("filler", "distribution"), DISTRIBUTIONS, ids=lambda value: repr(value)[:20])
def test_elements_have_the_declared_distribution(filler: Filler, distribution: stats.rv_continuous) -> None:
    drawn = filler.draw(np.random.default_rng(0), SHAPE)
    assert drawn.shape == SHAPE
    assert drawn.dtype == np.float64
    # 20 000 elements: a distance of 0.02 would be a p-value of 1e-7
    assert stats.kstest(drawn.ravel(), distribution.cdf).statistic < 0.02
    assert abs(np.corrcoef(drawn.reshape(-1, 2).T)[0, 1]) < 0.05


def test_constant_is_its_value_everywhere() -> None:
    np.testing.assert_array_equal(Constant(-2).draw(np.random.default_rng(0), (2, 3)), np.full((2, 3), -2.0))


def test_a_vector_has_its_size_as_fan_out_and_one_as_fan_in() -> None:
    # LegacyShape gives 1 for an axis that a blob does not have
    assert Xavier().fan((12,)) == 1
    assert Xavier("fan_out").fan((12,)) == 12
    assert Xavier("average").fan((12,)) == 6.5


@pytest.mark.parametrize("kind", [kind for kind in FILLERS if kind is not Values])
def test_the_same_generator_draws_the_same_array(kind: type[Filler]) -> None:
    drawn = [kind().draw(np.random.default_rng(7), (3, 4)) for _ in range(2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("filler", "text"),
    [
        (Constant(0), "constant(0)"),
        (Uniform(-0.05, 0.05), "uniform(-0.05, 0.05)"),
        (Gaussian(0.0, 1e-3), "gaussian(0.0, 0.001)"),
        (Xavier(), "xavier('fan_in')"),
        (Msra("average"), "msra('average')"),
        (Uniform(-1 / np.sqrt(4), np.float64(0.5)), "uniform(-0.5, 0.5)"),
    ],
)
def test_a_filler_prints_as_the_call_that_makes_it(filler: Filler, text: str) -> None:
    assert repr(filler) == text


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        (Constant, (nan,), "constant: value must be a finite number, found nan"),
        (Constant, (True,), "constant: value must be a finite number, found True"),
        (Uniform, (0, inf), "uniform: max must be a finite number, found inf"),
        (Uniform, (None, 1), "uniform: min must be a finite number, found None"),
        (Uniform, (1, 0), "uniform: expected min <= max, found min 1 and max 0"),
        (Gaussian, (0, -1), "gaussian: expected std >= 0, found -1"),
        (Gaussian, ("0", 1), "gaussian: mean must be a finite number, found '0'"),
        (Xavier, ("fan",), "xavier: variance_norm must be one of fan_in, fan_out, average, found 'fan'"),
        (Msra, (2,), "msra: variance_norm must be one of fan_in, fan_out, average, found 2"),
    ],
)
def test_a_filler_without_sense_is_refused(kind: type[Filler], arguments: tuple[object, ...], text: str) -> None:
    with pytest.raises(DslError) as caught:
        kind(*arguments)
    assert caught.value.message == text
