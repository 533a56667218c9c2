"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lstmc.errors import TrainingError
from lstmc.runs.events import EventFiles, Scored, Updated


def written(run: Path, first: int, last: int, loss: float) -> None:
    files = EventFiles(run)
    for iteration in range(first, last + 1):
        files(Updated(iteration, loss, 0.1, 0.01))
    files(Scored(last, {"accuracy": 0.25}))
    files.close()


def test_losses_rates_and_scores_are_read_back_and_a_resumed_run_writes_on(tmp_path: Path) -> None:
    written(tmp_path, 1, 6, 2.0)
    written(tmp_path, 4, 8, 1.0)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert sorted(read.Tags()["scalars"]) == ["accuracy/test", "loss/train", "rate"]
    assert [(e.step, e.value) for e in read.Scalars("loss/train")] == [(i, 2.0 if i < 4 else 1.0) for i in range(1, 9)]
    assert [(e.step, e.value) for e in read.Scalars("accuracy/test")] == [(8, 0.25)]


def test_without_the_package_the_error_says_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(TrainingError) as caught:
        EventFiles(tmp_path)
    assert str(caught.value) == (
        "TrainingError: tensorboardX is needed for this and cannot be imported (import of tensorboardX halted; None in"
        " sys.modules): python -m pip install 'lstmc[tensorboard]'"
    )
