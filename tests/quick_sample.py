"""Samples of many like cases: of slow ones `make quick` has a sample, of exhaustive ones `make test` has one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def seeds(quick: int, tested: int) -> pytest.MarkDecorator:
    """The parameter ``seeds``: the first ones are in ``make quick``, the others up to ``tested`` in ``make test``."""
    others = pytest.param(range(quick, tested), marks=pytest.mark.slow)
    return pytest.mark.parametrize("seeds", [range(quick), others], ids=["first", "others"])


def one_in(count: int, values: Iterable[Any], tested: int = 1) -> list[Any]:
    """The values of one parameter: the first of every ``count`` are in ``make quick``, of every ``tested`` in ``make
    test``, and the others in ``make exhaustive``."""
    return [
        pytest.param(
            value,
            marks=() if number % count == 0 else pytest.mark.exhaustive if number % tested else pytest.mark.slow,
        )
        for number, value in enumerate(values)
    ]
