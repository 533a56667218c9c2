"""The solver's file: what is in it, and that the ``caffe`` program takes it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from lstmc_caffe import Solver
from lstmc_caffe.proto.net import SolverParameter
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.train.solver import FILLED_IN, POLICIES, SETTINGS, TYPES, solver_text
from tests.backends.lstmc_caffe.train.training_nets import NEEDED, line, train

# Draws its own data, so that it needs no file.
NET = """
name: "drawn"
layer {
  name: "data" type: "DummyData" top: "x" top: "t"
  dummy_data_param {
    shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { type: "gaussian" }
  }
}
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


@pytest.mark.caffe
class TestCaffeProgram:
    def run(self, caffe: Runner, folder: Path, text: str, *options: str) -> str:
        """What ``caffe train`` says on a solver's file in ``folder``."""
        binary = caffe.location.caffe_binary
        assert binary is not None
        (folder / "net.solver.prototxt").write_text(text)
        ended = subprocess.run(
            [binary, "train", "--solver=net.solver.prototxt", *options],
            cwd=folder,
            env=caffe.location.environment() | {"GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        return ended.stderr

    @pytest.mark.parametrize(("kind", "policy"), [*zip(TYPES, POLICIES[1:], strict=True), ("SGD", "fixed")])
    def test_it_takes_every_type_and_policy(self, caffe: Runner, tmp_path: Path, kind: str, policy: str) -> None:
        (tmp_path / "net.prototxt").write_text(NET)
        solver = Solver(type=kind, lr_policy=policy, max_iter=6, snapshot=3, clip_gradients=5, **NEEDED[policy])
        log = self.run(caffe, tmp_path, solver_text(solver, "net.prototxt", "made", "cpu", test_batches=2))
        assert "Optimization Done." in log
        assert log.count("Test net output #0: loss") == 1
        for iteration in (3, 6):
            assert (tmp_path / f"made_iter_{iteration}.caffemodel").stat().st_size > 0

    def test_it_goes_on_from_a_snapshot_of_lstmc(self, caffe: Runner, tmp_path: Path) -> None:
        net, solver = line(), Solver(type="Adam", max_iter=5)
        ended = train(caffe, net, solver, tmp_path / "run")
        (tmp_path / "net.prototxt").write_text(net.prototxt)
        text = solver_text(replace(solver, max_iter=7), "net.prototxt", "made", "cpu")
        log = self.run(caffe, tmp_path, text, f"--snapshot={ended.snapshot}/solver.solverstate")
        assert "Optimization Done." in log
        assert (tmp_path / "made_iter_7.caffemodel").is_file()


def test_the_file_has_every_setting_that_is_used() -> None:
    solver = Solver(type="RMSProp", lr_policy="multistep", gamma=0.5, stepvalue=(1, 2), test_iter=3, test_interval=4)
    message = text_format.Parse(solver_text(solver, "n.prototxt", "s/n", "gpu"), SolverParameter())
    assert (message.net, message.snapshot_prefix, message.solver_mode) == ("n.prototxt", "s/n", 1)
    assert (list(message.test_iter), message.test_interval, list(message.stepvalue)) == ([3], 4, [1, 2])
    for name in SETTINGS:
        value = getattr(solver, name)
        assert message.HasField(name) == (value is not None) if name not in ("stepvalue", "test_iter") else True, name
        if isinstance(value, float):
            assert getattr(message, name) == pytest.approx(value)
    assert "test_" not in solver_text(Solver(), "n.prototxt", "s/n", "cpu")


@pytest.mark.caffe
def test_what_is_filled_in_is_caffes_and_no_setting(caffe: Runner) -> None:
    file = FileDescriptorProto.FromString(caffe.schema())
    (message,) = (message for message in file.message_type if message.name == "SolverParameter")
    assert set(FILLED_IN) | set(SETTINGS) <= {field.name for field in message.field}
    assert set(FILLED_IN).isdisjoint(SETTINGS)
