"""worker/training.py: what Caffe's solver is made of and gives back, and that nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.runs.solver import Solver
from lstmc_caffe.processes.process import CaffeRequestError
from lstmc_caffe.proto.net import RawState
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import solver_text
from lstmc_caffe.worker import TRAINING
from tests.backends.lstmc_caffe.train.training_nets import Array, Drawn, carrying, dropping, line, same, train

pytestmark = pytest.mark.caffe

# Two carried states that change places, and a loss that is a sum of weighted tops, one of several elements.
SWAPPING = """
name: "swapping"
layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 2 } } }
layer { name: "w" type: "Parameter" top: "w" param { name: "w" } parameter_param { shape { dim: 2 } } }
layer { name: "p" type: "Power" bottom: "a" top: "p" power_param { shift: 1 } loss_weight: 2 }
layer { name: "q" type: "Reduction" bottom: "w" top: "q" loss_weight: -3 }
layer { name: "none" type: "Silence" bottom: "b" }
"""


def start(runner: Runner, prototxt: str, arrays: dict[str, Array], **changes: Any) -> Any:
    args = {
        "solver": solver_text(Solver(snapshot=1, test_iter=5), "absent.prototxt", "absent/net", "cpu"),
        "net": prototxt,
        "mode": "cpu",
        "test": False,
        "carried": (),
        "scores": (),
        "restored": False,
        "ranks": None,
    }
    return runner.call(
        TRAINING, "start", args | changes, {f"param:{name}": array for name, array in arrays.items()}
    ).value


def test_layers_that_own_a_parameter_are_listed(caffe: Runner) -> None:
    net = dropping()
    reply = start(caffe, net.prototxt, dict(net.blobs))
    assert reply["layers"] == [
        ["in/a", "InnerProduct", ["W", "b"]],
        ["mid/b", "InnerProduct", ["U"]],
    ]
    assert reply["params"] == {"W": [5, 3], "b": [5], "U": [5, 5]}
    assert reply["iteration"] == 0


def test_parameters_without_a_name_are_called_by_layer_and_index(caffe: Runner) -> None:
    text = line().prototxt.replace('param { name: "W" }', "").replace('name: "b" lr_mult: 2', "lr_mult: 2")
    assert start(caffe, text, {})["params"] == {"y/0": [2, 3], "y/1": [2]}


def test_the_loss_is_the_weighted_sum_of_tops_and_pairs_are_carried_at_once(caffe: Runner) -> None:
    start(caffe, SWAPPING, {"w": np.array([1, 2], "f4")}, carried=[["a", "b"], ["b", "a"]])
    batch = {"a": np.array([[3, 4]], "f4"), "b": np.array([5, 6], "f4")}
    frozen = caffe.call(TRAINING, "step", {"seed": None}, batch).value
    assert frozen == {"iteration": 1, "loss": pytest.approx(2 * (4 + 5) - 3 * (1 + 2)), "not_finite": None}
    carried = caffe.call(TRAINING, "snapshot").arrays
    assert carried["carried:a"].tolist() == [[5, 6]]
    assert carried["carried:b"].tolist() == [3, 4]


def test_a_snapshot_has_caffes_own_state_and_leaves_nothing(
    caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of a worker of its own: others write beside ours all the time
    with Runner(caffe.location) as own:
        net = carrying()
        start(own, net.prototxt, dict(net.blobs), carried=net.carried)
        batch = Drawn(net).batch(0)
        for _ in range(3):
            own.call(TRAINING, "step", {"seed": None}, batch)
        taken = own.call(TRAINING, "snapshot")
        state = RawState.FromString(taken.arrays["state"].tobytes())
        assert taken.value == {"iteration": 3}
        assert (state.iter, len(state.history)) == (3, 2)
        assert [len(blob.data) // 4 for blob in state.history] == [15, 25]
        assert set(taken.arrays) == {"param:W", "param:U", "carried:h_0", "state"}
        assert same(own.call(TRAINING, "blobs").arrays, {f"param:{n}": taken.arrays[f"param:{n}"] for n in "WU"})
        assert os.listdir(tmp_path) == []
        assert not os.path.exists("lstmc_iter_3.caffemodel")


def test_a_python_without_files_in_memory_does_the_same(caffe: Runner, tmp_path: Path) -> None:
    forget = tmp_path / "forget.py"
    forget.write_text("import os\ndef forget(args, arrays):\n    del os.memfd_create\n    return None, {}\n")
    solver = Solver(type="AdaDelta", max_iter=6, snapshot=3)
    whole = train(caffe, dropping(), solver, tmp_path / "a")
    with Runner(caffe.location) as old:
        old.call(forget, "forget")
        train(old, dropping(), Solver(type="AdaDelta", max_iter=3), tmp_path / "b")
        assert same(train(old, dropping(), solver, tmp_path / "b", resume=True).blobs, whole.blobs)


def test_a_net_is_gone_after_the_end(caffe: Runner) -> None:
    start(caffe, line().prototxt, dict(line().blobs))
    caffe.call(TRAINING, "end")
    with pytest.raises(CaffeRequestError, match="KeyError"):
        caffe.call(TRAINING, "step", {"seed": None}, Drawn(line()).batch(0))
