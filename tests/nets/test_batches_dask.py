"""A bulk run in real Caffe by two workers of a real Dask scheduler, one of which is killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from lstmc.nets import batches as module
from lstmc.nets.batches import NetUse, run_bulk
from tests.cli.conftest import LSTMC
from tests.dask_cluster import Cluster, cluster
from tests.nets.test_batches_run import compiled, examples, outputs

COUNT = 400


def kill_one(there: Cluster, killed: list[int]) -> None:
    """Kills the first worker that has a Caffe."""
    while not (busy := there.busy()):
        time.sleep(0.01)
    busy[0].kill()
    killed.append(busy[0].pid)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.caffe
def test_workers_of_a_scheduler_give_what_one_process_gives_though_one_is_killed(
    lstmc: LSTMC, tmp_path: Path, caffe: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = compiled(lstmc, "caffe")
    examples(Path("big.h5"), COUNT)
    monkeypatch.setattr(module, "PART_BYTES", 1)  # a batch
    use = NetUse(str(net.absolute()), "caffe")
    killed: list[int] = []
    with cluster(tmp_path, workers=2) as there:
        killing = threading.Thread(target=kill_one, args=(there, killed))
        killing.start()
        (finished,) = run_bulk(use, Path("big.h5"), Path("by_workers.h5"), scheduler=there.address)
        killing.join()
    assert (finished.examples, len(killed)) == (COUNT, 1)
    assert [each.examples for each in run_bulk(use, Path("big.h5"), Path("here.h5"))] == [COUNT]
    found, expected = outputs("by_workers.h5"), outputs("here.h5")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
