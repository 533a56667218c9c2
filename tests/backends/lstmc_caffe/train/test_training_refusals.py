"""What the trainer refuses before, or as soon as, it would go wrong: by the exact text."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from pathlib import Path

import pytest

from lstmc.errors import TrainingError
from lstmc.runs.solver import Solver
from lstmc_caffe.processes.process import CaffeRequestError
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.train.training_nets import Drawn, drawn, line, refused, train

pytestmark = pytest.mark.caffe

SHORT = Solver(max_iter=6, snapshot=2)


class TestFolder:
    def test_a_folder_that_has_a_run(self, caffe: Runner, tmp_path: Path) -> None:
        train(caffe, line(), SHORT, tmp_path)
        assert refused(caffe, line(), SHORT, tmp_path) == (
            f"TrainingError: {tmp_path} has a run already\n  resume the run\n"
            "  begin again in this folder, which keeps its earlier files\n"
            "  give another folder"
        )

    def test_a_folder_that_has_none(self, caffe: Runner, tmp_path: Path) -> None:
        assert refused(caffe, line(), SHORT, tmp_path / "run", resume=True) == (
            f"TrainingError: {tmp_path}/run has no run to resume\n  start a run instead of resuming one"
        )
        assert list(tmp_path.iterdir()) == []

    def test_another_process_in_it(self, caffe: Runner, tmp_path: Path) -> None:
        train(caffe, line(), SHORT, tmp_path)
        with (tmp_path / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert refused(caffe, line(), SHORT, tmp_path, resume=True) == (
                f"TrainingError: another process trains in {tmp_path}: wait for it\n  give another folder"
            )

    def test_other_settings_another_net_and_other_data(self, caffe: Runner, tmp_path: Path) -> None:
        train(caffe, line(), SHORT, tmp_path)
        net = replace(line(), prototxt=line().prototxt.replace("lr_mult: 2", "lr_mult: 1"))
        other = Solver(max_iter=7, base_lr=0.1, clip_gradients=5)
        with pytest.raises(TrainingError) as caught:
            train(caffe, net, other, tmp_path, resume=True, batches=Drawn(net, fingerprint="other data"))
        assert str(caught.value) == (
            f"TrainingError: cannot resume the run in {tmp_path}: it was started with different settings\n"
            "  setting base_lr: started with 0.01, now 0.1\n"
            "  setting clip_gradients: started with None, now 5.0\n"
            "  the net is another one\n"
            "  the data is other data, or comes in another order\n"
            "  use the settings and data that it was started with, or start a new run\n"
            "  begin again in this folder, which keeps its earlier files\n"
            "  give another folder"
        )

    def test_a_net_by_another_name_is_the_same_run(self, caffe: Runner, tmp_path: Path) -> None:
        train(caffe, line(), replace(SHORT, max_iter=2), tmp_path)
        text = line().prototxt.replace('name: "line"', '# made by lstmc 9.9 from elsewhere/b.py:line\nname: "other"', 1)
        assert train(caffe, replace(line(), prototxt=text), SHORT, tmp_path, resume=True).iteration == 6

    @pytest.mark.parametrize(
        ("content", "wrong"),
        [
            ("[" * 100_000, "expected JSON, found something else: recursion limit exceeded at line 1 column 202"),
            ("{}", "expected an object with a value for net, found {}"),
            ('{"settings": {}, "net": 3}', "net: expected a valid string, found 3"),
        ],
    )
    def test_a_description_that_is_none(self, caffe: Runner, tmp_path: Path, content: str, wrong: str) -> None:
        (tmp_path / "run.json").write_text(content)
        assert refused(caffe, line(), SHORT, tmp_path, resume=True) == (
            f"TrainingError: {tmp_path}/run.json does not say what run it is: {wrong}\n  give another folder"
        )

    def test_another_end_where_the_rate_depends_on_it(self, caffe: Runner, tmp_path: Path) -> None:
        train(caffe, line(), Solver(max_iter=2, lr_policy="poly", power=1), tmp_path)
        longer = Solver(max_iter=3, lr_policy="poly", power=1)
        assert "setting max_iter: started with 2, now 3" in refused(caffe, line(), longer, tmp_path, resume=True)


class TestRequest:
    def test_several_batches_an_update(self, caffe: Runner, tmp_path: Path) -> None:
        assert refused(caffe, line(), Solver(iter_size=2), tmp_path) == (
            "TrainingError: cannot train line with iter_size 2: lstmc gives Caffe one batch an update\n"
            "  make the batch larger in the model, or run `caffe train` on the files of `lstmc compile`"
        )

    def test_a_gpu_that_cannot_be_used(self, caffe: Runner, tmp_path: Path) -> None:
        if caffe.gpu.usable:
            assert train(caffe, line(), SHORT, tmp_path, gpu=True).ended == "finished"
            return
        assert refused(caffe, line(), SHORT, tmp_path, gpu=True) == (
            f"TrainingError: cannot train line on a GPU: {caffe.gpu.reason}"
        )

    def test_batches_that_do_not_fit(self, caffe: Runner, tmp_path: Path) -> None:
        missing = Drawn(line(), change=lambda i, batch: batch.pop("t") if i == 1 else None)  # type: ignore[arg-type]
        assert refused(caffe, line(), SHORT, tmp_path / "a", batches=missing) == (
            "TrainingError: batch 1: expected t, x, found x"
        )
        wide = Drawn(line(), change=lambda i, batch: batch.update(x=drawn(0, 4, 4)))
        assert refused(caffe, line(), SHORT, tmp_path / "b", batches=wide) == (
            "TrainingError: batch 0: expected x of shape [4, 3], found [4, 4]"
        )

    def test_test_batches_that_do_not_fit(self, caffe: Runner, tmp_path: Path) -> None:
        wide = Drawn(line(), change=lambda i, batch: batch.update(x=drawn(0, 4, 4)) if i == 2 else None)
        assert refused(caffe, line(), SHORT, tmp_path, test_batches=wide) == (
            "TrainingError: test batch 2: expected x of shape [4, 3], found [4, 4]"
        )

    def test_first_values_that_do_not_fit(self, caffe: Runner, tmp_path: Path) -> None:
        lacking = replace(line(), blobs={"W": drawn(0, 2, 3)})
        assert refused(caffe, lacking, SHORT, tmp_path / "a") == (
            "TrainingError: cannot train line: no values were given for b"
        )
        for name, message in (("b", r"b: expected shape \[2\], found \[3\]"), ("c", "the net has no c")):
            with pytest.raises(CaffeRequestError, match=message):
                train(caffe, replace(line(), blobs={"W": drawn(0, 2, 3), name: drawn(0, 3)}), SHORT, tmp_path / name)
