"""Nets with Caffe's own recurrent layers, trained by Caffe: their layers in ONNX Runtime give what Caffe gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import lstmc
from lstmc.ops import Array
from lstmc_caffe.run.runner import Runner
from tests.backends.lstmc_caffe.source.old_nets import EVERY_BOTTOM, VIDEO
from tests.backends.lstmc_caffe.source.test_caffe_source import inputs_of, run, trained
from tests.closeness import assert_values_agree


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("text", "blob", "shape", "read"),
    [
        (VIDEO, "scores", (3, 2, 3), ["lstm1"]),
        (EVERY_BOTTOM, "all", (4, 2, 9), ["y2", "h1", "c1", "r1"]),  # y1 is overwritten in place
    ],
    ids=["video", "every"],
)
def test_caffe_s_own_layers_become_onnx_and_give_what_caffe_gives(
    caffe: Runner, tmp_path: Path, text: str, blob: str, shape: tuple[int, ...], read: list[str]
) -> None:
    old = trained(caffe, tmp_path, text, blob, shape)
    made = lstmc.convert(old, tmp_path / "onnx", backend="onnx", weights=old.with_suffix(".caffemodel"))
    assert made.remarks == ("the recurrent layers alone: those around them are the backend caffe's",)
    assert made.verification.passed
    (net,) = (tmp_path / "onnx").glob("*.onnx")
    onnx.checker.check_model(str(net), full_check=True)
    saved = lstmc.load(net)
    blobs = run(caffe, old, text, [*made.net.inputs, *read])
    given: dict[str, Array] = {**blobs, **inputs_of(text, 1)}
    fed = {name: np.reshape(given[name], size) for name, size in made.net.inputs.items()}
    found = {name: array for name, array in saved.run(fed).items() if name in read}
    assert_values_agree(found, {name: np.reshape(blobs[name], found[name].shape) for name in read})
