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


DAMAGED = (
    b"\xff\n", b"{}\n", b"3\n", b"[" * 100_000 + b"\n", b'{"kind": "train", "iteration": "3"}\n',
    b'{"kind": "train", "iteration": 2, "loss": [], "rate": 1, "seconds": 0}\n',
    b'{"kind": "test", "iteration": 2, "scores": {"loss": "low"}, "seconds": 0}\n',
    b'{"kind": "other", "iteration": 2, "seconds": 0}\n',
)  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_left_out_and_those_after_it_are_not(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(tmp_path)
    metrics.train(1, float("nan"), 0.1, 0.0)
    metrics.test(1, {"loss": 1.0}, 0.0)
    metrics.train(2, 1.0, 0.1, 0.0)
    metrics.close()
    whole = read_metrics(path)
    assert [(record["kind"], record["iteration"]) for record in whole] == [("train", 1), ("test", 1), ("train", 2)]
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"".join(rest))
    assert read_metrics(path) == whole
    going_on = Metrics(tmp_path, resume=True)
    going_on.train(3, 1.0, 0.1, 0.0)
    going_on.close()
    assert read_metrics(path)[:-1] == whole


def test_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        Metrics(tmp_path / "file").train(1, 1.0, 0.1, 0.0)
    assert str(caught.value).startswith(f"OutputError: cannot write into {tmp_path}/file: ")
