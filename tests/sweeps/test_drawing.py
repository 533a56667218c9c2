"""The picture of a sweep: where values stand on their axis."""

from __future__ import annotations

import pytest

from lstmc.sweeps.drawing import scores_figure
from lstmc.sweeps.results import Goal, Row


@pytest.mark.parametrize(
    ("values", "ticks", "scale"),
    [
        (("0", "1"), [0, 1], "linear"),
        (("1e-3", "1"), None, "log"),
        (("gru", "lstm", "gru"), [0, 1], "linear"),
    ],
)
def test_ticks(values: tuple[str, ...], ticks: list[float] | None, scale: str) -> None:
    rows = [Row(f"{i}", {"v": value}, "finished", 1, {"loss": 1.0 + i}) for i, value in enumerate(values)]
    axes = scores_figure(rows, Goal()).axes[0]
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    if ticks is not None:
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == ticks
