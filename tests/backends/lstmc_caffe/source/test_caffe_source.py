"""Nets with Caffe's own LSTM and RNN layers: only these are replaced, and the whole net means what it meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import lstmc
from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc_caffe.proto.net import NetOfBytes, RawLayer, RawNet, net_from_text
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.source.source import CaffeHostNet
from tests.backends.lstmc_caffe.source.old_nets import AROUND, EVERY_BOTTOM, VIDEO

TRAIN = Path(__file__).with_name("train_in_caffe.py")
SHAPES = {
    VIDEO: {"data": (6, 1, 8, 8), "cont": (3, 2)},
    AROUND: {"data": (6, 4, 9, 7), "cont": (3, 2), "word": (3, 2)},
    EVERY_BOTTOM: {
        "x": (4, 2, 3),
        "cont": (4, 2),
        "s": (2, 2, 2),
        "h0": (1, 2, 5),
        "c0": (1, 2, 5),
        "r0": (1, 2, 4),
    },
}

WHOLE = {"cont": 2, "word": 5}  # inputs of integers, up to these


def inputs_of(text: str, seed: int = 0) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    found = {name: draw.normal(size=shape) for name, shape in SHAPES[text].items()}
    found |= {name: draw.integers(0, high, SHAPES[text][name]) for name, high in WHOLE.items() if name in found}
    return {name: array.astype(np.float32) for name, array in found.items()}


def trained(caffe: Runner, folder: Path, text: str, blob: str, shape: tuple[int, ...]) -> Path:
    """The net's prototxt in a folder, with the caffemodel that Caffe trained beside it."""
    (folder / "old.prototxt").write_text(text)
    whole = "\n".join(line for line in text.splitlines() if "phase: TRAIN" not in line)
    args = {"text": whole, "blob": blob, "shape": shape, "steps": 5, "save": str(folder / "old.caffemodel")}
    caffe.call(TRAIN, "train", args, inputs_of(text))
    return folder / "old.prototxt"


def run(caffe: Runner, net: Path, text: str, wanted: list[str]) -> dict[str, Array]:
    with caffe.load(net, weights=net.with_suffix(".caffemodel")) as loaded:
        return {name: np.array(a) for name, a in loaded.run(inputs_of(text, 1), want=wanted).blobs.items()}


@pytest.mark.caffe
def test_an_lstm_layer_behind_images_becomes_layers_that_opencv_reads(caffe: Runner, tmp_path: Path) -> None:
    old = trained(caffe, tmp_path, VIDEO, "scores", (3, 2, 3))
    runtimes = ["caffe-cpu", "opencv"]
    done = lstmc.convert(old, tmp_path / "out", target="flat", weights=old.with_suffix(".caffemodel"), on=runtimes)
    assert done.passed
    assert done.source is not None
    assert [d.name for d in done.source.differences] == ["lstm1"]
    whole = {check.runtime: [d.name for d in check.differences] for check in done.whole}
    assert whole == {name: ["scores"] for name in runtimes}
    new = tmp_path / "out" / "old.flat.prototxt"
    wanted = run(caffe, old, VIDEO, ["lstm1", "scores"])
    found = run(caffe, new, VIDEO, ["lstm1", "scores"])
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
    net = cv2.dnn.readNetFromCaffe(str(new), str(new.with_suffix(".caffemodel")))
    for name, array in inputs_of(VIDEO, 1).items():
        net.setInput(array, name)
    np.testing.assert_allclose(net.forward("scores"), wanted["scores"], atol=1e-5)
    assert done.remarks == (
        "Copied unchanged, and not on the list of layers that target flat supports: relu1 (ReLU), frames (Reshape),"
        " scores (InnerProduct). Test them in your runtime, or convert the whole net.",
    )


@pytest.mark.caffe
def test_all_that_is_not_recurrent_stays_byte_for_byte(caffe: Runner, tmp_path: Path) -> None:
    old = trained(caffe, tmp_path, VIDEO, "scores", (3, 2, 3))
    weights = old.with_suffix(".caffemodel")
    lstmc.convert(old, tmp_path / "out", target="flat", weights=weights, on=["interpreter"])
    text = (tmp_path / "out" / "old.flat.prototxt").read_text()
    before, after = VIDEO.split('layer {\n  name: "lstm1"')[0], VIDEO[VIDEO.index('layer { name: "scores"') :]
    assert text.startswith(before)
    assert text.endswith(after)
    assert not {"LSTM", "RNN"} & {layer.type for layer in net_from_text(text).layer}
    net, new = (
        NetOfBytes.FromString(path.read_bytes()) for path in (weights, tmp_path / "out" / "old.flat.caffemodel")
    )
    kept = [layer for layer in net.layer if RawLayer.FromString(layer).type != "LSTM"]
    own = {layer.name for layer in net_from_text(text).layer if layer.name.startswith("lstm1/")}
    assert [layer for layer in new.layer if RawLayer.FromString(layer).name not in own] == kept
    assert len(kept) == len(net.layer) - 1
    names = [RawNet.FromString(one.SerializeToString()).name for one in (net, new)]
    assert names == [names[0]] * 2
    assert names[0]


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_static_inputs_exposed_states_and_layers_on_one_another(caffe: Runner, tmp_path: Path, target: str) -> None:
    old = trained(caffe, tmp_path, EVERY_BOTTOM, "all", (4, 2, 9))
    done = lstmc.convert(old, tmp_path / "out", target=target, weights=old.with_suffix(".caffemodel"))
    assert done.passed
    assert done.source is not None
    assert [d.name for d in done.source.differences] == ["y1", "h1", "c1", "y2", "r1"]
    tops = ["all", "y2", "h1", "c1", "r1"]
    wanted = run(caffe, old, EVERY_BOTTOM, tops)
    found = run(caffe, tmp_path / "out" / f"old.{target}.prototxt", EVERY_BOTTOM, tops)
    for name in tops:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)


@pytest.mark.caffe
def test_the_whole_net_is_run_where_the_parts_are(
    caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recurrent layer's replacement may be right by itself, and wrong among the other layers."""
    old = trained(caffe, tmp_path, EVERY_BOTTOM, "all", (4, 2, 9))
    weights = old.with_suffix(".caffemodel")

    def convert(change: Callable[[bytes], bytes]) -> lstmc.Conversion:
        files = CaffeHostNet.files
        with monkeypatch.context() as patched:
            patched.setattr(
                CaffeHostNet, "files", lambda *args: {name: change(data) for name, data in files(*args).items()}
            )
            return lstmc.convert(old, tmp_path / "out", target="caffe", weights=weights, on="caffe-cpu")

    wrong = convert(lambda content: content.replace(b"scale: 0.5", b"scale: 0.4"))
    assert wrong.verification.passed
    assert not wrong.passed
    assert {d.name: d.passed for d in wrong.whole[0].differences} == {"h1": True, "c1": True, "r1": False, "all": False}
    with pytest.raises(BackendError) as caught:
        convert(lambda content: content.replace(b'top: "all"', b'top: "all" include { phase: TRAIN }'))
    assert "no blob is called all" in caught.value.message
    assert caught.value.notes[-1].endswith("import.json, old.caffe.prototxt, old.caffe.caffemodel")


@pytest.mark.caffe
def test_a_net_that_caffe_cannot_run_by_itself_is_not_compared(caffe: Runner, tmp_path: Path) -> None:
    old = trained(caffe, tmp_path, VIDEO, "scores", (3, 2, 3))
    label = 'layer { name: "label" type: "HDF5Data" top: "label" hdf5_data_param { source: "none" batch_size: 1 } }'
    old.write_text(f"{VIDEO}{label}\n")
    done = lstmc.convert(old, tmp_path / "out", weights=old.with_suffix(".caffemodel"), target="flat", on="caffe-cpu")
    assert [check.not_run for check in done.whole] == [
        "old.prototxt: layer label (HDF5Data) reads or writes files: only a net whose inputs are arrays is run"
    ]
    assert done.passed
