"""Random models in OpenCV, real Caffe and ONNX Runtime: outcomes are counted, failures saved and made smaller."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc_caffe.readers.executor import ReaderError, ReaderExecutor
from lstmc_caffe.readers.known import load_reader
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz.readers import FAILED, OUTCOMES, Journal, Runtime, hunt, run, runtime, save_failure, try_net
from tests.on_demand.fuzz.smaller import smaller
from tests.random_models.models import RandomModel, seeded_model
from tools.readers import found, table

SEEDS = range(4)


@pytest.fixture
def opencv() -> Iterator[Runtime]:
    made = runtime("opencv")
    yield made
    made.executor.close()


class Broken(ReaderExecutor):
    """OpenCV with outputs that are a little too large, or that refuses every net."""

    refuses = False

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        if self.refuses:
            raise ReaderError("OpenCV 4 DNN does not run the net: no")
        run = super().run(compiled, artifact, arrays)
        return replace(run, values={name: np.asarray(value) * 1.01 + 0.01 for name, value in run.values.items()})


@pytest.mark.slow
def test_opencv_is_right_on_random_models(opencv: Runtime, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "opencv.jsonl")
    hunt(opencv, SEEDS, journal, time.monotonic() + 600)
    assert len(journal) == 2 * len(SEEDS)
    assert journal.counts()["right"] >= len(SEEDS)
    assert not any(journal.counts()[outcome] for outcome in FAILED)
    assert [path.name for path in tmp_path.iterdir()] == ["opencv.jsonl"]


@pytest.mark.parametrize("outcome", FAILED)
def test_what_a_reader_gets_wrong_or_refuses_is_saved_and_tried_again(
    opencv: Runtime, tmp_path: Path, outcome: str
) -> None:
    broken = Broken(load_reader("opencv"))
    broken.refuses = outcome == "refused"
    journal = Journal(tmp_path / "opencv.jsonl")
    hunt(replace(opencv, executor=broken), [0], journal, time.monotonic() + 600)
    broken.close()
    failed = journal.counts()[outcome]
    assert failed > 0
    assert journal.counts()["right"] == 0
    saved = [path for path in tmp_path.iterdir() if path.suffix == ".py"]
    assert len(saved) == failed
    text = (tmp_path / "opencv_0.py").read_text()
    model = seeded_model(0, wide=True)
    assert f"# OpenCV 4 DNN: {outcome}. To see it:\n#   lstmc verify {tmp_path}/opencv_0.py -D T=" in text
    assert f"--seed {model.seed} --fillers --target opencv --on opencv\n#   " in text
    assert len(text.partition("\n\n")[2]) < len(model.source)
    again = Journal(journal.path)
    assert again == journal
    hunt(opencv, [0], again, time.monotonic() + 600)
    assert not any(again.counts()[each] for each in FAILED)


OF_TWO_OUTPUTS = """\
from lstmc import *
from lstmc.cells import rnn

T, N = dims("T N")

@model
def net(X=Input(T, N, 2)):
    y, _ = scan(rnn(H=2, name="a"), X)
    z, _ = scan(rnn(H=2, name="b"), X, reverse=True)
    return {"y": y, "z": z}
"""


def test_the_command_of_a_saved_step_keeps_the_outputs_that_have_one(
    opencv: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.on_demand.fuzz.readers.smaller", lambda model, fails: model)
    model, broken = RandomModel(OF_TWO_OUTPUTS, 2, 1, 0), Broken(load_reader("opencv"))
    trial = try_net(model, True, replace(opencv, executor=broken))
    assert trial.outcome == "wrong"
    path = save_failure(model, True, replace(opencv, executor=broken), trial, tmp_path / "opencv_0.py")
    broken.close()
    command = path.read_text(encoding="utf-8").splitlines()[1].removeprefix("#   lstmc ").split()
    done = subprocess.run([sys.executable, "-m", "lstmc", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, "opencv (" in done.stdout) == (0, True), done.stdout + done.stderr


def test_nets_that_were_right_run_again_only_where_they_are_other_files(opencv: Runtime, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "opencv.jsonl")
    hunt(opencv, [0], journal, time.monotonic() + 600)
    before = dict(journal)
    assert before[0, False].outcome == "right"
    broken = Broken(load_reader("opencv"))
    hunt(replace(opencv, executor=broken), [0], journal, time.monotonic() + 600, again=True)
    assert journal == before
    changed = replace(opencv, executor=broken, programs=(*opencv.programs, Path(__file__)))
    hunt(changed, [0], journal, time.monotonic() + 600, again=True)
    assert journal[0, False].outcome == "wrong"
    broken.close()


def test_a_model_is_made_smaller_as_long_as_it_fails() -> None:
    model = next(m for m in map(seeded_model, range(100)) if "softmax" in m.source and m.T > 2)

    def fails(candidate: RandomModel) -> bool:
        return "softmax" in candidate.source and candidate.T > 1

    small = smaller(model, fails)
    assert fails(small)
    assert (small.T, small.N) == (2, 1)
    assert small.source.count("\n") < model.source.count("\n") - 3
    small.graph()


@pytest.mark.parametrize("target", ["flat", "onnx"])
def test_real_caffe_and_onnx_runtime(target: str, opencv: Runtime, caffe: Runner, tmp_path: Path) -> None:
    program = (
        runtime("onnx") if target == "onnx" else replace(opencv, target="flat", executor=CaffeExecutor(caffe, "cpu"))
    )
    journal = Journal(tmp_path / "journal.jsonl")
    hunt(program, range(2), journal, time.monotonic() + 600)
    assert journal.counts()["right"] > 0
    assert not any(journal.counts()[outcome] for outcome in FAILED)


def test_the_counts_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "FOUND", tmp_path)
    monkeypatch.setattr(table, "PAGE", tmp_path / "table.md")
    assert run("opencv", range(2), tmp_path, minutes=10, again=False)
    kept = found.known("opencv")
    assert kept is not None
    assert list(kept.random) == list(OUTCOMES)
    assert sum(kept.random.values()) == 4
    right, not_written = kept.random["right"], kept.random["not written"]
    assert f"\n| opencv | 4 | {not_written} | {right} | 0 | 0 | 0 | 0 |\n" in (tmp_path / "table.md").read_text()
