"""Which of many like cases `make quick` runs: some of them; the others are marked as slow, and run in `make test`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(count: int, values: Iterable[Any]) -> list[Any]:
    """The values of one parameter, all but the first of every ``count`` of them slow."""
    return [
        pytest.param(value, marks=() if number % count == 0 else pytest.mark.slow)
        for number, value in enumerate(values)
    ]
