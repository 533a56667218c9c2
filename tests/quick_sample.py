"""Samples of many like cases: of slow ones `make quick` has a sample, of exhaustive ones `make test` has one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(count: int, values: Iterable[Any], others: pytest.MarkDecorator = pytest.mark.slow) -> list[Any]:
    """The values of one parameter, all but the first of every ``count`` of them marked."""
    return [pytest.param(value, marks=() if number % count == 0 else others) for number, value in enumerate(values)]
