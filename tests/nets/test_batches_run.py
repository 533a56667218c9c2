"""Bulk runs: what comes out is what one pass gives, whatever ended the run between; folders; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lstmc.errors import DataError, SweepError
from lstmc.nets import batches as module
from lstmc.nets.batches import NetUse, run_bulk
from lstmc.process.pool import JobResult, SerialPool
from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=4", "-D", "D=2", "-D", "H=5")
COUNT = 30


def compiled(lstmc: LSTMC, backend: str = "onnx") -> Path:
    assert lstmc("compile", "--cell", "gru", *SIZES, "--backend", backend, "-o", "net").code == 0
    return Path("net") / f"gru.{'onnx' if backend == 'onnx' else 'prototxt'}"


def examples(path: Path, count: int = COUNT, seed: int = 0) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(seed).normal(size=(3, count, 2)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["x"] = x
    return x


def expected(lstmc: LSTMC, net: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What single passes give, four examples at a time."""
    found = []
    for start in range(0, x.shape[1], 4):
        part = x[:, start : start + 4]
        missing = 4 - part.shape[1]
        np.savez("one.npz", x=np.pad(part, ((0, 0), (0, missing), (0, 0)), mode="edge"))
        assert lstmc("run", str(net), "--inputs", "one.npz", "-o", "one_out.npz").code == 0
        found.append(np.load("one_out.npz")["y"][:, : 4 - missing])
    return np.concatenate(found, 1)


def outputs(path: Path | str) -> dict[str, np.ndarray[Any, Any]]:
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]) for name in file}


def test_what_comes_out_is_what_single_passes_give(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = compiled(lstmc), examples(Path("big.h5"))
    monkeypatch.setattr(module, "PART_BYTES", 800)  # two batches
    ended = lstmc("run", str(net), "--inputs", "big.h5", "-o", "out.h5")
    assert (ended.code, ended.err) == (0, "")
    assert "big.h5  out.h5         30" in ended.out
    found = outputs("out.h5")
    assert_array_equal(found["y"], expected(lstmc, net, x))
    assert found["h_T"].shape == (COUNT, 5)
    assert sorted(path.name for path in Path().glob(".*")) == []


@pytest.mark.caffe
def test_real_caffe_is_loaded_once(lstmc: LSTMC, caffe: object, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = compiled(lstmc, "caffe"), examples(Path("big.h5"), 10)
    monkeypatch.setattr(module, "PART_BYTES", 1)
    opened = []
    real = NetUse.open
    monkeypatch.setattr(NetUse, "open", lambda self: opened.append(1) or real(self))
    assert lstmc("run", str(net), "--inputs", "big.h5", "-o", "out.h5").code == 0
    assert len(opened) == 2  # to know its shapes, which starts no Caffe, and for three parts
    assert_array_equal(outputs("out.h5")["y"], expected(lstmc, net, x))


def test_a_run_that_was_ended_goes_on(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = compiled(lstmc), examples(Path("big.h5"))
    monkeypatch.setattr(module, "PART_BYTES", 1)
    use = NetUse(str(net.absolute()), "onnx")
    asked = iter([False, False, False, True])
    assert list(run_bulk(use, Path("big.h5"), Path("out.h5"), stop=lambda: next(asked))) == []
    parts = sorted(Path(".out.h5.parts").glob("*.npz"))
    assert [part.name for part in parts] == [f"{i:09d}.npz" for i in range(3)]
    before = [part.stat().st_mtime_ns for part in parts]
    seen: list[list[int]] = []
    join = module.join

    def joined(parts: list[Path], *rest: Any) -> None:
        seen.append([part.stat().st_mtime_ns for part in parts[:3]])
        join(parts, *rest)

    monkeypatch.setattr(module, "join", joined)
    (finished,) = run_bulk(use, Path("big.h5"), Path("out.h5"))
    assert (finished.examples, seen) == (COUNT, [before])
    assert_array_equal(outputs("out.h5")["y"], expected(lstmc, net, x))


def test_parts_of_other_data_are_not_taken(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = compiled(lstmc), examples(Path("big.h5"))
    monkeypatch.setattr(module, "PART_BYTES", 1)
    use = NetUse(str(net.absolute()), "onnx")
    asked = iter([False, False, True])
    assert list(run_bulk(use, Path("big.h5"), Path("out.h5"), stop=lambda: next(asked))) == []
    x = examples(Path("big.h5"), 12, seed=1)
    assert [each.examples for each in run_bulk(use, Path("big.h5"), Path("out.h5"))] == [12]
    assert_array_equal(outputs("out.h5")["y"], expected(lstmc, net, x))


def test_a_folder_of_files(lstmc: LSTMC) -> None:
    net = compiled(lstmc)
    Path("many").mkdir()
    whole = {name: examples(Path("many") / f"{name}.h5", count, count) for name, count in (("a", 4), ("b", 7))}
    np.savez("many/bad.npz", x=np.zeros((3, 4, 9)))
    np.savez("many/worse.npz", x=np.full((3, 6, 2), np.nan))
    ended = lstmc("run", str(net), "--inputs", "many", "-o", "found")
    assert (ended.code, ended.err) == (1, "")
    assert "many/bad.npz does not fit the net" in ended.out
    assert sorted(path.name for path in Path("found").glob("*.h5")) == ["a.h5", "b.h5"]
    for name, x in whole.items():
        assert_array_equal(outputs(f"found/{name}.h5")["y"], expected(lstmc, net, x))
    before = Path("found/a.h5").stat().st_mtime_ns
    assert lstmc("run", str(net), "--inputs", "many", "-o", "found").code == 1
    assert Path("found/a.h5").stat().st_mtime_ns == before


def test_what_is_refused(lstmc: LSTMC) -> None:
    net, _ = compiled(lstmc), examples(Path("big.h5"))
    Path("empty").mkdir()
    for words, error in (
        (("--inputs", "empty"), "OutputError: the outputs of a folder go into another one: expected -o FOLDER\n"),
        (
            ("--inputs", "empty", "-o", "out"),
            "DataError: empty: expected files that end in .npz, .h5, .hdf5, found none\n",
        ),
        (
            ("--inputs", "big.h5", "-o", "out.npz", "--workers", "2"),
            "OutputError: --scheduler and --workers are for outputs of any size: expected -o FILE.h5, or a folder\n",
        ),
    ):
        ended = lstmc("run", str(net), *words)
        assert (ended.code, ended.err) == (2, error)
    np.savez("nan.npz", x=np.full((3, 6, 2), np.nan))
    with pytest.raises(DataError, match="the inputs do not fit "):
        list(run_bulk(NetUse(str(net.absolute()), "onnx"), Path("nan.npz"), Path("out.h5")))


def test_a_part_whose_worker_ends_is_run_again(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(SerialPool):
        lost = 2

        def ended(self, seconds: float) -> list[JobResult]:
            if self.lost:
                self.lost -= 1
                return [JobResult(self._jobs.pop(0)[0], problem="its worker ended")]
            return super().ended(seconds)

    net, x = compiled(lstmc), examples(Path("big.h5"), 8)
    use = NetUse(str(net.absolute()), "onnx")
    monkeypatch.setattr(module, "SerialPool", Losing)
    assert [each.examples for each in run_bulk(use, Path("big.h5"), Path("out.h5"))] == [8]
    assert_array_equal(outputs("out.h5")["y"], expected(lstmc, net, x))
    monkeypatch.setattr(Losing, "lost", 3)
    with pytest.raises(SweepError, match=r"big\.h5: its worker ended"):
        list(run_bulk(use, Path("big.h5"), Path("out.h5")))
