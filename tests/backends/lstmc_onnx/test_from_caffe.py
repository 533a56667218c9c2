"""Nets with Caffe's own recurrent layers, trained by Caffe: as ONNX they give what Caffe gives, all layers of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import lstmc as library
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.source.old_nets import AROUND, EVERY_BOTTOM, VIDEO
from tests.backends.lstmc_caffe.source.test_caffe_source import inputs_of, run, trained
from tests.cli.conftest import LSTMC, lstmc
from tests.closeness import assert_values_agree

__all__ = ["lstmc"]


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("text", "blob", "shape", "read"),
    [
        (VIDEO, "scores", (3, 2, 3), ["scores"]),
        (EVERY_BOTTOM, "all", (4, 2, 9), ["h1", "c1", "r1", "all"]),
        (AROUND, "scores", (3, 2, 3), ["mean", "sig", "tanh", "prob"]),
    ],
    ids=["video", "every bottom", "every layer"],
)
def test_a_net_that_caffe_trained_gives_as_onnx_what_caffe_gives(
    caffe: Runner, tmp_path: Path, text: str, blob: str, shape: tuple[int, ...], read: list[str]
) -> None:
    old = trained(caffe, tmp_path, text, blob, shape)
    made = library.convert(old, tmp_path / "onnx", backend="onnx", weights=old.with_suffix(".caffemodel"))
    assert made.passed
    assert made.source is not None
    assert [difference.name for difference in made.source.differences] == read
    (net,) = (tmp_path / "onnx").glob("*.onnx")
    onnx.checker.check_model(str(net), full_check=True)
    found = library.load(net).run(inputs_of(text, 1))
    assert_values_agree(found, run(caffe, old, text, read))


@pytest.mark.caffe
def test_sequences_that_go_from_start_to_end_are_onnx_s_lstm(caffe: Runner, tmp_path: Path) -> None:
    old = trained(caffe, tmp_path, VIDEO, "scores", (3, 2, 3))
    ones = np.ones((3, 2), np.float32)
    made = library.convert(
        old, tmp_path / "onnx", backend="onnx", weights=old.with_suffix(".caffemodel"), values={"cont": np.array(1)}
    )
    assert made.passed
    assert made.source is not None
    assert made.source.not_run is None
    assert made.net.artifact.notes == ("lstm1: LSTM",)
    data = inputs_of(VIDEO, 1)["data"]
    with caffe.load(old, weights=old.with_suffix(".caffemodel")) as loaded:
        wanted = loaded.run({"data": data, "cont": ones}, want=["scores"]).blobs
    assert_values_agree(made.net.run(data=data), wanted)
    done = library.convert(
        old, tmp_path / "flat", target="flat", weights=old.with_suffix(".caffemodel"), values={"cont": ones}
    )
    assert done.passed
    with caffe.load(
        tmp_path / "flat" / "old.flat.prototxt", weights=tmp_path / "flat" / "old.flat.caffemodel"
    ) as loaded:
        assert_values_agree(loaded.run({"data": data, "cont": ones}, want=["scores"]).blobs, wanted)


@pytest.mark.caffe
def test_it_is_one_command(caffe: Runner, tmp_path: Path, lstmc: LSTMC) -> None:
    old = trained(caffe, tmp_path, VIDEO, "scores", (3, 2, 3))
    ended = lstmc(
        "convert", str(old), "--weights", str(old.with_suffix(".caffemodel")), "--backend", "onnx", "-o", "out"
    )
    assert ended.code == 0, ended.err
    told = [line for line in ended.out.splitlines() if " agree" in line]
    assert [line.partition(":")[0] for line in told] == [
        *("model.py by NumPy", "model.py by Caffe's own layers", "interpreter", "onnx-cpu (net.onnx)")
    ]
    np.savez("x.npz", **inputs_of(VIDEO, 1))
    ended = lstmc("run", "out/net.onnx", "--inputs", "x.npz", "-o", "y.npz")
    assert ended.code == 0, ended.err
    with np.load("y.npz") as found:
        assert_values_agree(dict(found), run(caffe, old, VIDEO, ["scores"]))
