"""What a run measures, a line each; a run that goes on measures nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmc.errors import OutputError
from lstmc.runs.metrics import Metrics, Smoothed, read_metrics


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0, 100))
def test_a_smoothed_number_is_a_mean(numbers: list[float], window: float) -> None:
    mean = Smoothed(window)
    for count, number in enumerate(numbers, 1):
        found = mean.add(number)
        assert min(numbers[:count]) - 1e-9 <= found <= max(numbers[:count]) + 1e-9
        if window <= 1 or count == 1:
            assert found == number


@given(st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_a_run_that_goes_on_measures_each_update_once(tmp_path: Path, reached: int, snapshot: int, torn: bool) -> None:
    snapshot = min(snapshot, reached)
    (tmp_path / "metrics.jsonl").unlink(missing_ok=True)

    def measure(metrics: Metrics, first: int, last: int) -> None:
        for iteration in range(first, last + 1):
            metrics.train(iteration, 1.0, 0.1, 0.0)
            if iteration % 3 == 0:
                metrics.test(iteration, {"loss": 1.0}, 0.0)
        metrics.close()

    measure(Metrics(tmp_path), 1, reached)
    if torn:
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "tra')
    measure(Metrics(tmp_path, resume=True), snapshot + 1, 13)
    found = [(record["kind"], record["iteration"]) for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert found == [(kind, i) for i in range(1, 14) for kind in (("train", "test") if i % 3 == 0 else ("train",))]


def test_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        Metrics(tmp_path / "file").train(1, 1.0, 0.1, 0.0)
    assert str(caught.value).startswith(f"OutputError: cannot write into {tmp_path}/file: ")
