"""A short run of trainings that are killed and damaged; and that weights which differ would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz import kills

pytestmark = [pytest.mark.caffe, pytest.mark.faults]


def test_a_training_that_is_killed_and_damaged_ends_with_the_same_weights(caffe: Runner, tmp_path: Path) -> None:
    done = kills.killed_and_damaged(tmp_path, 4, 3, caffe)
    assert done["weights equal"] == 1
    assert done["killed"] + done["worker killed"] > 0  # which of the two, and how many were done by then, is chance


def test_other_weights_are_seen(caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "train", lambda runner, net, solver, folder: Other())
    assert kills.killed_and_damaged(tmp_path, 1, 3, caffe)["weights equal"] == 0


class Other:
    """What a training of another net ends with."""

    def __init__(self) -> None:
        self.blobs: dict[str, object] = {}
