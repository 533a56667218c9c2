"""A disk that is full stops a run; the last snapshot stays, and the run goes on when there is space."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lstmc.errors import OutputError
from lstmc.runs.folder import SNAPSHOTS
from lstmc.runs.solver import Solver
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import last_state
from tests.backends.lstmc_caffe.train.training_nets import Told, carrying, same, train

pytestmark = [pytest.mark.caffe, pytest.mark.faults]
SOLVER = Solver(type="Adam", max_iter=12, snapshot=4)


class SmallDisk:
    """A folder on a file system of its own, which can be filled; where none can be mounted, a limit on file sizes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.filler = folder, folder / "filler"
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.reason = "No space left on device" if self.mounted else "File too large"

    def fill(self) -> None:
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, self.limits[1]))
            return
        size = os.statvfs(self.folder)
        self.filler.write_bytes(bytes(size.f_bavail * size.f_frsize))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        self.filler.unlink(missing_ok=True)

    def close(self) -> None:
        self.free()
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.close()


class Filling(Told):
    """Fills the disk after the snapshot of one iteration; 0: before any."""

    def __init__(self, disk: SmallDisk, iteration: int) -> None:
        super().__init__()
        self.disk, self.iteration = disk, iteration

    def stepped(self, iteration: int, loss: float, rate: float) -> None:
        super().stepped(iteration, loss, rate)
        if self.iteration == 0 and iteration == 1:
            self.disk.fill()

    def saved(self, iteration: int, snapshot: Path) -> None:
        super().saved(iteration, snapshot)
        if iteration == self.iteration:
            self.disk.fill()


def test_the_last_snapshot_stays_and_the_run_goes_on_when_there_is_space(
    caffe: Runner, tmp_path: Path, disk: SmallDisk
) -> None:
    net, folder = carrying(), disk.folder / "run"
    whole = train(caffe, net, SOLVER, tmp_path / "whole")
    with pytest.raises(OutputError) as caught:
        train(caffe, net, SOLVER, folder, callbacks=Filling(disk, 8))
    snapshots = folder / SNAPSHOTS
    assert str(caught.value) == (
        f"OutputError: cannot write snapshot {snapshots}/000012: {disk.reason}\n"
        f"  the last good snapshot is of iteration 8: {snapshots}/000008\n"
        "  resume the run"
    )
    assert sorted(path.name for path in snapshots.iterdir()) == ["000004", "000008"]
    last = last_state(snapshots)
    assert last is not None
    assert (last[0], last[1].iteration) == (snapshots / "000008", 8)
    disk.free()
    told = Told()
    rest = train(caffe, net, SOLVER, folder, resume=True, callbacks=told)
    assert [step[0] for step in told.steps] == [9, 10, 11, 12]
    assert same(rest.blobs, whole.blobs)


def test_a_disk_that_is_full_before_the_first_snapshot(caffe: Runner, disk: SmallDisk) -> None:
    folder = disk.folder / "run"
    with pytest.raises(OutputError) as caught:
        train(caffe, carrying(), SOLVER, folder, callbacks=Filling(disk, 0))
    assert str(caught.value) == (
        f"OutputError: cannot write snapshot {folder}/snapshots/000004: {disk.reason}\n"
        "  there is no snapshot yet\n"
        "  resume the run"
    )
    disk.free()
    assert train(caffe, carrying(), SOLVER, folder, resume=True).iteration == 12


def test_a_disk_that_is_full_from_the_start(caffe: Runner, disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(OutputError, match=f"cannot write into {disk.folder}.*: {disk.reason}"):
        train(caffe, carrying(), SOLVER, disk.folder)
