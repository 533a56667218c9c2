"""How near two arrays must be: the rule of ``lstmc.verification.differential``, for tests that compare two nets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmc.verification.conditioning import relative_gap
from lstmc.verification.report import GRADIENT_TOLERANCE, VALUE_TOLERANCE


def assert_values_agree(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    _assert_agree(found, wanted, VALUE_TOLERANCE)


def assert_gradients_agree(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    _assert_agree(found, wanted, GRADIENT_TOLERANCE)


def _assert_agree(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    assert {name: np.shape(found[name]) for name in wanted} == {name: np.shape(wanted[name]) for name in wanted}
    gaps = {name: relative_gap(found[name], array) for name, array in wanted.items()}
    assert all(gap <= tolerance for gap in gaps.values()), f"past {tolerance:g}: {gaps}"  # NaN is past everything
