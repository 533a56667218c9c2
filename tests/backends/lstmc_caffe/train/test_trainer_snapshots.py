"""Snapshots: whole or not there, whatever moment the process ends at; damage is seen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.errors import OutputError, TrainingError
from lstmc.runs import folder as snapshots
from lstmc.runs.folder import RunIdentity
from lstmc_caffe.proto.net import RawNet, RawState
from lstmc_caffe.train.trainer import FILES, About, TrainingState, last_state, read_state, save_state

RUN = RunIdentity.from_net(b"net", "data", {"base_lr": 0.1})


def state(iteration: int, value: float = 1.0) -> TrainingState:
    solver = RawState(iter=iteration, learned_net=b"elsewhere", current_step=2)
    solver.history.add(data=np.array([0.5, value], "<f4").tobytes()).shape.dim.append(2)
    return TrainingState(
        iteration=iteration,
        blobs={"W": np.full((2, 3), value, np.float32), "b": np.arange(2, dtype=np.float32)},
        carried={"h/0": np.full((1, 2), -value, np.float32)},
        solver=solver.SerializeToString(),
        layers=(("first", "InnerProduct", ("W", "b")), ("second", "Scale", ("b",))),
        first_losses=(0.1, 1 / 3),
        run=RUN,
    )


def last_whole(folder: Path) -> Path | None:
    found = last_state(folder)
    return found and found[0]


def assert_same(found: TrainingState, expected: TrainingState) -> None:
    for part in ("iteration", "layers", "first_losses", "run"):
        assert getattr(found, part) == getattr(expected, part)
    for part in ("blobs", "carried"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = RawState.FromString(found.solver), RawState.FromString(expected.solver)
    assert (ours.iter, ours.current_step, ours.history) == (theirs.iter, theirs.current_step, theirs.history)
    assert not ours.HasField("learned_net")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save_state(tmp_path / "s", state(12))
    assert path == tmp_path / "s" / "000012"
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    assert_same(read_state(path), state(12))
    assert_same(read_state(path.rename(tmp_path / "moved")), state(12))


def test_the_files_are_caffes(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(12))
    net = RawNet.FromString((path / "weights.caffemodel").read_bytes())
    assert [(layer.name, len(layer.blobs)) for layer in net.layer] == [("first", 2), ("second", 1)]
    assert RawState.FromString((path / "solver.solverstate").read_bytes()).learned_net == os.fsencode(
        tmp_path / "000012" / "weights.caffemodel"
    )


def test_the_last_three_are_kept(tmp_path: Path) -> None:
    for iteration in (2, 999_999, 1_000_000, 1_000_001):
        save_state(tmp_path, state(iteration))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1000000", "1000001", "999999"]
    assert last_whole(tmp_path) == tmp_path / "1000001"


def damaged(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_damaged_ones_are_not_counted_among_those_kept(tmp_path: Path) -> None:
    for iteration in (90, 91, 92):
        damaged(tmp_path / f"{iteration:06d}")
    for iteration in (2, 4, 6, 8):
        assert last_whole(tmp_path / f"{iteration:06d}") is None
        assert save_state(tmp_path, state(iteration)).is_dir()
    names = ["000004", "000006", "000008", "000090", "000091", "000092"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert last_whole(tmp_path) == tmp_path / "000008"


def test_a_run_that_went_back_to_an_older_one_loses_none_that_it_writes(tmp_path: Path) -> None:
    for iteration in (2, 4, 6, 8):
        save_state(tmp_path, state(iteration))
    for name in ("000006", "000008"):
        truncate(tmp_path / name / "weights.caffemodel")
    assert last_whole(tmp_path) == tmp_path / "000004"
    for iteration in (5, 6, 7, 8):
        save_state(tmp_path, state(iteration, 7.0))
        assert last_whole(tmp_path) == tmp_path / f"{iteration:06d}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000006", "000007", "000008"]


def test_damaged_ones_before_it_go_first(tmp_path: Path) -> None:
    for iteration in (1, 2, 3, 4):
        save_state(tmp_path, state(iteration))
        if iteration == 3:
            truncate(tmp_path / "000003" / "carried.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002", "000004"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert last_whole(tmp_path / "absent") is None
    (tmp_path / "000003").mkdir()
    (tmp_path / "notes").mkdir()
    assert last_whole(tmp_path) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["truncated", "flipped", "removed"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    older, newer = save_state(tmp_path, state(1)), save_state(tmp_path, state(2))
    damage(newer / name)
    assert last_whole(tmp_path) == older
    with pytest.raises(TrainingError) as caught:
        read_state(newer)
    assert str(caught.value) == f"TrainingError: {newer} is no whole snapshot"
    assert_same(read_state(save_state(tmp_path, state(2, 7.0))), state(2, 7.0))  # it takes its place


@pytest.mark.parametrize(
    "change",
    [
        lambda about: "",
        lambda about: "[]",
        lambda about: "{}",
        lambda about: "[" * 100_000,
        lambda about: about.replace('"layers"', '"layerz"'),
        lambda about: about.replace('"first_losses"', '"first"'),
        lambda about: about.replace("0.1", "[0.1]"),
        lambda about: about.replace('"InnerProduct",', ""),
        lambda about: about.replace('"size"', '"length"'),
    ],
)
def test_a_description_that_is_damaged_is_passed_over(tmp_path: Path, change: Callable[[str], str]) -> None:
    older, newer = save_state(tmp_path, state(1)), save_state(tmp_path, state(2))
    about = (newer / "snapshot.json").read_text()
    assert change(about) != about
    (newer / "snapshot.json").write_text(change(about))
    assert last_whole(tmp_path) == older


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 3},
        {"layers": [["first", "InnerProduct"]]},
        {"layers": [["first", "InnerProduct", ["W"]], ["second", "Scale", ["b"]]]},
        {"layers": [["first", "InnerProduct", ["W", "b"]]]},
        {"first_losses": [[0.1]]},
        {"first_losses": None},
        {"run": {}},
    ],
)
def test_one_that_is_whole_and_says_something_else_is_passed_over_too(tmp_path: Path, change: dict[str, Any]) -> None:
    older, newer = save_state(tmp_path, state(1)), save_state(tmp_path, state(2))
    files = {name: (newer / name).read_bytes() for name in FILES if name != "snapshot.json"}
    about = asdict(About(state(2).layers, state(2).first_losses, RUN)) | change
    path = snapshots.write_snapshot(tmp_path, 3, files, about, lambda staged: None)
    shutil.rmtree(newer)
    snapshots.read_about(path, snapshots.Description)  # its files are intact
    assert last_whole(tmp_path) == older


CHANGES = ((os, "replace"), (os, "fsync"), (Path, "mkdir"), (Path, "open"), (shutil, "rmtree"))


class Killed(BaseException):
    """In place of SIGKILL: nothing catches it to clean up."""


def killed_at(monkeypatch: pytest.MonkeyPatch, count: int, work: Callable[[], object]) -> bool:
    """Runs ``work`` until its ``count``-th call that changes the disk, which is not made. False where it has fewer."""
    left = [count]

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return original(*args, **options)

        return call

    with monkeypatch.context() as patched:
        for owner, name in (
            (os, "replace"),
            (os, "fsync"),
            (Path, "mkdir"),
            (Path, "open"),
            (snapshots.shutil, "rmtree"),
        ):
            patched.setattr(owner, name, dying(getattr(owner, name)))
        try:
            work()
        except Killed:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.faults
def test_a_kill_at_any_moment_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacing: bool
) -> None:
    monkeypatch.setattr(snapshots, "KEPT", 2)
    for moment in range(100):
        folder = tmp_path / str(moment)
        save_state(folder, state(3))
        if replacing:
            truncate(save_state(folder, state(4)) / "weights.caffemodel")
        died = killed_at(monkeypatch, moment, lambda folder=folder: save_state(folder, state(4, 9.0)))  # type: ignore[misc]
        last = last_whole(folder)
        assert last in (folder / "000003", folder / "000004")
        found = read_state(last)
        assert_same(found, state(3) if found.iteration == 3 else state(4, 9.0))
        assert_same(read_state(save_state(folder, state(5))), state(5))
        assert len(list(folder.iterdir())) == 2
        if not died:
            break
    assert not died
    assert moment > 10


def test_one_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    (tmp_path / ".000002.part").write_text("a file where the folder should be")
    with pytest.raises(OutputError) as caught:
        save_state(tmp_path, state(2))
    assert str(caught.value) == f"OutputError: cannot write snapshot {tmp_path}/000002: File exists"
    assert last_whole(tmp_path) == tmp_path / "000001"


def test_a_disk_that_gives_back_something_else_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = snapshots._write_flushed
    monkeypatch.setattr(snapshots, "_write_flushed", lambda path, content: real(path, content[:-1]))
    with pytest.raises(OutputError) as caught:
        save_state(tmp_path, state(2))
    assert str(caught.value) == (
        f"OutputError: cannot write snapshot {tmp_path}/000002: {tmp_path}/.000002.part is no whole snapshot"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_named() -> None:
    good = state(1)
    assert good.not_finite() is None
    assert state(1, np.nan).not_finite() == "W"
    assert replace(good, carried={"h/0": np.array([np.inf])}).not_finite() == "h/0"
    assert replace(good, solver=state(1, -np.inf).solver).not_finite() == "the solver's history"


def test_the_description_says_what_there_is(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(1))
    about = json.loads((path / "snapshot.json").read_text())
    assert about["iteration"] == 1
    assert {name: facts["size"] for name, facts in about["files"].items()} == {
        name: (path / name).stat().st_size for name in FILES if name != "snapshot.json"
    }
