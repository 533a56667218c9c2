"""What run a folder has: said by its own file, and where that is lost or damaged by its snapshots."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lstmc.errors import Mend, TrainingError
from lstmc.runs.folder import RUN, Description, RunIdentity, read_about, run_folder, write_snapshot

OURS = RunIdentity.from_net(b"net", "data", {"base_lr": 0.1, "stepvalue": (2, 3)})


def resume(folder: Path, identity: RunIdentity = OURS) -> None:
    with run_folder(folder, identity, resume=True):
        pass


def refusal(folder: Path, identity: RunIdentity = OURS) -> str:
    with pytest.raises(TrainingError) as caught:
        resume(folder, identity)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with two snapshots."""
    with run_folder(tmp_path, OURS, resume=False) as snapshots:
        for iteration in (2, 4):
            write_snapshot(
                snapshots, iteration, {"w": b"1"}, {"run": asdict(OURS)}, lambda path: read_about(path, Description)
            )
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"{}", b'{"net": "", "data": "", "settings": {}}', b"\xff", None])
def test_a_damaged_or_lost_file_is_written_anew(folder: Path, content: bytes | None) -> None:
    before = (folder / RUN).read_bytes()
    if content is None:
        (folder / RUN).unlink()
    else:
        (folder / RUN).write_bytes(content)
    (folder / "snapshots/000004/w").write_bytes(b"2")  # the newest is no whole one
    resume(folder)
    assert (folder / RUN).read_bytes() == before


def test_a_snapshot_of_another_run_is_no_permission(folder: Path) -> None:
    (folder / RUN).unlink()
    said = refusal(folder, replace(OURS, settings=OURS.settings | {"base_lr": 0.2}))
    assert "setting base_lr: started with 0.1, now 0.2" in said
    resume(folder)


def test_a_run_that_lost_its_file_is_not_written_over(folder: Path) -> None:
    (folder / RUN).unlink()
    with (
        pytest.raises(TrainingError, match="has a run already"),
        run_folder(folder, replace(OURS, data="other"), resume=False),
    ):
        raise AssertionError("entered")


def test_without_whole_snapshots_it_is_refused(folder: Path) -> None:
    for name in ("000002", "000004"):
        os.truncate(folder / "snapshots" / name / "w", 0)
    (folder / RUN).write_bytes(b'{"net": 3}')
    said = refusal(folder)
    assert said.startswith(f"TrainingError: {folder}/run.json does not say what run it is: ")
    assert "net: expected a valid string, found 3" in said
    (folder / RUN).unlink()
    assert refusal(folder).startswith(f"TrainingError: {folder} has no run to resume")


def test_a_run_is_moved_aside_before_another_begins_in_its_folder(folder: Path) -> None:
    other = replace(OURS, net="other")
    left = {
        "metrics.jsonl": b"m",
        "command.json": b'{"files": ["net.prototxt", "../x", "..", "", ".", "previous"]}',
        "net.prototxt": b"n",
        "my.py": b"",
    }
    for name, content in left.items():
        (folder / name).write_bytes(content)
    before = {path.relative_to(folder): path.read_bytes() for path in folder.glob("[!.]*/*/*")}
    with run_folder(folder, other, resume=False, overwrite=True) as snapshots:
        assert not snapshots.exists()
        assert {path.name for path in folder.iterdir()} == {".lock", "run.json", "my.py", "previous"}
    kept = folder / "previous/1"
    assert {path.relative_to(kept): path.read_bytes() for path in kept.glob("*/*/*")} == before
    assert {path.name for path in kept.iterdir()} == {"run.json", "snapshots", *left} - {"my.py"}
    with (
        pytest.raises(TrainingError, match="has a run that ended before its first snapshot") as caught,
        run_folder(folder, other, resume=False),
    ):
        pass
    assert caught.value.mends == (Mend.OVERWRITE, Mend.OTHER_FOLDER)
    with run_folder(folder, OURS, resume=False, overwrite=True):
        assert [path.name for path in (folder / "previous/2").iterdir()] == ["run.json"]
