"""How near two arrays must be: the rule of ``lstmc.differential``, for tests that compare two nets directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lstmc.differential import GRADIENT_TOLERANCE, SCALE_FLOOR, VALUE_TOLERANCE


def relative_gap(found: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest magnitude in ``wanted``."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, f"shape {found.shape}, expected {wanted.shape}"
    gap = np.max(np.abs(found - wanted), initial=0.0)
    return float(gap / max(np.max(np.abs(wanted), initial=0.0), SCALE_FLOOR))


def assert_values_agree(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    _assert_agree(found, wanted, VALUE_TOLERANCE)


def assert_gradients_agree(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    _assert_agree(found, wanted, GRADIENT_TOLERANCE)


def _assert_agree(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    gaps = {name: relative_gap(found[name], array) for name, array in wanted.items()}
    assert all(gap <= tolerance for gap in gaps.values()), f"past {tolerance:g}: {gaps}"  # NaN is past everything
