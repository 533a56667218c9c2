"""Random models by the workers of a real Dask scheduler: the same come out as here."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lstmc_caffe.runtime.runner import Runner
from tests.dask_cluster import cluster
from tests.on_demand.fuzz import scheduled
from tests.on_demand.fuzz.hunt import Tally, hunt


@pytest.mark.slow
@pytest.mark.caffe
def test_workers_try_the_models_of_the_seeds(tmp_path: Path, caffe: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduled, "PER_JOB", 2)
    with cluster(tmp_path, workers=4) as there:
        given = argparse.Namespace(scheduler=there.address, seed=7, target=["caffe"], out=tmp_path / "out")
        found = Tally()
        for tally in scheduled.by_scheduler(given, until=0):
            found.add(tally)
    expected = Tally()
    for tally in hunt(range(7 * 10**9, 7 * 10**9 + found.tried), caffe, tmp_path / "here", ("caffe",)):
        expected.add(tally)
    assert found.tried == 2
    assert str(found) == str(expected)
