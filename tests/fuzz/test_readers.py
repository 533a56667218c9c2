"""Random models in OpenCV: what is right, wrong and refused is counted as that, and what is saved shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.testing.random_models import seeded_model
from lstmc_caffe.readers.executor import ReaderError, ReaderExecutor
from lstmc_caffe.readers.known import load_reader
from tests.fuzz.readers import FAILED, OUTCOMES, hunt, run_reader
from tools.readers import found, table

OPENCV = load_reader("opencv")
SEEDS = range(8)


@pytest.fixture
def executor() -> Iterator[ReaderExecutor]:
    made = ReaderExecutor(OPENCV)
    yield made
    made.close()


class Broken(ReaderExecutor):
    """OpenCV with outputs that are a little too large, or that refuses every net."""

    refuses = False

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        if self.refuses:
            raise ReaderError("OpenCV 4 DNN does not run the net: no")
        run = super().run(compiled, artifact, arrays)
        return replace(run, values={name: np.asarray(value) * 1.01 + 0.01 for name, value in run.values.items()})


@pytest.mark.slow
def test_opencv_is_right_on_random_models(executor: ReaderExecutor, tmp_path: Path) -> None:
    counts = hunt(OPENCV, executor, SEEDS, tmp_path, time.monotonic() + 600)
    assert counts.total() == 2 * len(SEEDS)
    assert counts["right"] >= len(SEEDS)
    assert not any(counts[outcome] for outcome in FAILED)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("outcome", FAILED)
def test_what_a_reader_gets_wrong_or_refuses_is_saved(tmp_path: Path, outcome: str) -> None:
    broken = Broken(OPENCV)
    broken.refuses = outcome == "refused"
    counts = hunt(OPENCV, broken, range(2), tmp_path, time.monotonic() + 600)
    broken.close()
    assert counts[outcome] > 0
    assert counts["right"] == 0
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == counts[outcome]
    model = seeded_model(0, wide=True)
    text = (tmp_path / "opencv_0.py").read_text()
    sizes = f"-D T={model.T} -D N={model.N} --seed {model.seed} --fillers"
    assert text.startswith(
        f"# OpenCV 4 DNN: {outcome}. To see it:\n#   lstmc verify {tmp_path}/opencv_0.py {sizes} --on opencv\n#   "
    )
    assert text.endswith(model.source)


def test_the_counts_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "FOUND", tmp_path)
    monkeypatch.setattr(table, "PAGE", tmp_path / "table.md")
    assert run_reader("opencv", range(2), tmp_path, minutes=10)
    kept = found.known("opencv")
    assert kept is not None
    assert list(kept.random) == list(OUTCOMES)
    assert sum(kept.random.values()) == 4
    right, not_written = kept.random["right"], kept.random["not written"]
    assert f"\n| opencv | 4 | {not_written} | {right} | 0 | 0 | 0 | 0 |\n" in (tmp_path / "table.md").read_text()
