"""Trained nets that packages ship, on real input: in real Caffe, against the program that they were made for.

The thresholds were fixed before the first of these nets was read. Run by ``make real-nets``: it fetches 40 MB, once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import cv2
import keras
import numpy as np
import onnxruntime
import pytest
import torch
from scipy import signal

import lstmc
from lstmc.importers import ImportedModel, import_file
from lstmc.importers.zoo import recipes
from lstmc.ops import Array
from tests.on_demand.real_nets.downloads import CHARS2VEC, DGAINTEL, SILERO, SPEECH

TOLERANCE = 1e-5  # of the largest magnitude of an output
pytestmark = [pytest.mark.network, pytest.mark.caffe, pytest.mark.filterwarnings("ignore")]
DOMAINS = ("wikipedia.org", "debian.org", "python.org", "kq3v9zjt1xwq7r.biz", "xjpakmdcfuqe.com", "ocukyrdmvm.info")
OPENCV = str(Path(__file__).parents[3] / "docs" / "examples" / "opencv-images.toml")
WORDS = ("Natural", "Language", "Understanding", "Naturael", "Longuage", "Updderctundjing", "Motural")


def speech() -> Array:
    """The recording that webrtcvad tests itself with, 0.9 s at 8 kHz, at 16 kHz and between -1 and 1."""
    samples = np.frombuffer(SPEECH.file("test-audio.raw").read_bytes(), "<i2") / 32768
    found: Array = signal.resample_poly(samples, 2, 1).astype(np.float32)
    return found


def spectrum(bands: int) -> Array:
    """The speech's power in so many bands, in steps of 10 ms: [T, bands]."""
    _, _, power = signal.spectrogram(speech(), 16000, nperseg=640, noverlap=480)

    rows = np.add.reduceat(power, np.linspace(0, len(power) - 1, bands).astype(int), axis=0)

    found: Array = rows.T.astype(np.float32)
    return found


def in_caffe(
    model: ImportedModel, folder: Path, inputs: Mapping[str, Array], sizes: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """The outputs of the converted net in real Caffe, axes as in the source; every check of ``convert`` has passed."""
    done = lstmc.convert(model, folder, sizes=sizes, on=["caffe-cpu"])
    assert done.passed
    assert done.source is not None
    assert done.source.not_run is None
    axes = model.net.axes
    fed = {name: np.transpose(array, axes.get(name, range(array.ndim))) for name, array in inputs.items()}
    return {
        name: np.transpose(array, np.argsort(axes.get(name, range(array.ndim))))
        for name, array in done.net.run(fed).items()
    }


def assert_close(found: Array, wanted: Any) -> None:
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.max(np.abs(found - wanted)) <= TOLERANCE * np.max(np.abs(wanted))


def onnx_runtime(path: Path, inputs: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    found: list[Array] = onnxruntime.InferenceSession(str(path), options).run(None, dict(inputs))
    return found


def test_captchas(tmp_path: Path) -> None:
    """A residual net and two LSTMs that the exporter had unrolled over 20 steps."""
    path = recipes()["captcha-crnn"].path()
    image = np.full((60, 160, 3), 255, np.uint8)
    cv2.putText(image, "7KX4", (15, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (60, 20, 20), 3)
    x = image.transpose(2, 0, 1)[None].astype(np.float32)
    (wanted,) = onnx_runtime(path, {"image": x})
    found = in_caffe(import_file(path), tmp_path, {"image": x}, {"batch": 1})["logits"]
    assert_close(found, wanted)
    assert np.array_equal(found.argmax(-1), wanted.argmax(-1))


def test_captchas_in_opencv(tmp_path: Path) -> None:
    path = recipes()["captcha-crnn"].path()
    image = np.full((60, 160, 3), 255, np.uint8)
    cv2.putText(image, "7KX4", (15, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (60, 20, 20), 3)
    x = image.transpose(2, 0, 1)[None].astype(np.float32)
    (wanted,) = onnx_runtime(path, {"image": x})
    done = lstmc.convert(path, tmp_path, sizes={"batch": 1}, target=OPENCV, on=["interpreter"])
    assert done.passed
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    net.setInput(x, "image")
    scores = net.forward("logits")  # one image: a step's scores are a row
    assert_close(scores, wanted[:, 0])
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
    best = scores[:, 1:].argmax(-1) + 1
    read = [letters[k] for t, k in enumerate(best) if t == 0 or k != best[t - 1]]
    assert "".join(read).replace("_", "") == "7KX4"


def test_voice_activity_in_opencv(tmp_path: Path) -> None:
    """Piece by piece, its states fed back; each probability as ONNX Runtime has it."""
    path = SILERO.file("faster_whisper/assets/silero_vad_v6.onnx")
    lstmc.convert(path, tmp_path, shapes={"input": (1, 576)}, target=OPENCV, on=["interpreter"])
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    h = c = by_h = by_c = np.zeros((1, 1, 128), np.float32)
    before = np.zeros(64, np.float32)
    found, wanted = [], []
    for piece in speech()[: 512 * 20].reshape(-1, 512):
        x = np.concatenate([before, piece])[None]
        for name, array in (("input_2", x), ("h", h), ("c", c)):
            net.setInput(array, name)
        found.append(float(net.forward("speech_probs").squeeze()))
        h, c, before = net.forward("hn").copy(), net.forward("cn").copy(), piece[-64:]
        told, by_h, by_c = onnx_runtime(path, {"input": x, "h": by_h, "c": by_c})
        wanted.append(float(told[0]))
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
    assert max(found) > 0.5


def test_voice_activity(tmp_path: Path) -> None:
    """Mirrored padding and convolutions before an LSTM; all pieces of 32 ms at once, and their states."""
    path = SILERO.file("faster_whisper/assets/silero_vad_v6.onnx")
    pieces = speech()[: 512 * (len(speech()) // 512)].reshape(-1, 512)
    before = np.roll(pieces[:, -64:], 1, axis=0)
    before[0] = 0
    state = np.zeros((1, 1, 128), np.float32)
    inputs = {"input": np.concatenate([before, pieces], 1), "h": state, "c": state}
    wanted = onnx_runtime(path, inputs)
    model = import_file(path, shapes={"input": inputs["input"].shape})
    called = {told: name for name, told in model.net.called.items()}
    found = in_caffe(model, tmp_path, {called[name]: array for name, array in inputs.items()})
    assert wanted[0].max() > 0.5  # it hears somebody
    for name, array in zip(("speech_probs", "hn", "cn"), wanted, strict=True):
        assert_close(found[name], array)


class VoiceEncoder(torch.nn.Module):
    """What Resemblyzer's weights are of: three LSTMs, a product and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        raw = torch.relu(self.linear(self.lstm(mels)[1][0][-1]))
        found: torch.Tensor = raw / torch.norm(raw, dim=1, keepdim=True)
        return found


def test_voices(tmp_path: Path) -> None:
    path = recipes()["resemblyzer"].path()
    module = VoiceEncoder().eval()
    module.load_state_dict(torch.load(path, "cpu", weights_only=True)["model_state"], strict=False)
    mels = spectrum(40)[None, :80]
    with torch.no_grad():
        wanted = module(torch.from_numpy(mels)).numpy()
    model = lstmc.from_torch(module, torch.from_numpy(mels), name="Resemblyzer")
    (name,) = model.net.inputs
    assert_close(in_caffe(model, tmp_path / "module", {name: mels})["Y"], wanted)
    # the file alone has the same LSTMs, and says so without PyTorch
    from_file = import_file(path, recurrent_only=True)
    x = mels.transpose(1, 0, 2)
    with torch.no_grad():
        y = module.lstm(torch.from_numpy(mels))[0].numpy().transpose(1, 0, 2)
    found = in_caffe(from_file, tmp_path / "file", {"X": x}, {"T": len(x), "N": 1})
    assert_close(found["Y"], y)
    assert "linear.weight" in " ".join(from_file.net.ignored)


def test_beats(tmp_path: Path) -> None:
    path = recipes()["beatnet"].path()
    weights = torch.load(path, "cpu", weights_only=True)
    layer = torch.nn.LSTM(150, 150, 2)
    layer.load_state_dict({name.removeprefix("lstm."): w for name, w in weights.items() if name.startswith("lstm.")})
    x = spectrum(150)[:40, None] * 100
    with torch.no_grad():
        wanted = layer(torch.from_numpy(x))[0].numpy()
    found = in_caffe(import_file(path, recurrent_only=True), tmp_path, {"X": x}, {"T": 40, "N": 1})
    assert_close(found["Y"], wanted)


def test_domains(tmp_path: Path) -> None:
    """Keras 2, HDF5: an embedding, a convolution, pooling with padding on one side, an LSTM."""
    letters = "-.0123456789_abcdefghijklmnopqrstuvwxyz"
    x = np.zeros((len(DOMAINS), 82), np.float32)
    for row, domain in zip(x, DOMAINS, strict=True):
        row[: len(domain)] = [letters.index(letter) for letter in domain]
    model = import_file(DGAINTEL.file("dgaintel/domain_classifier_model.h5"))
    (name,) = model.net.inputs
    assert model.runtime is not None
    wanted = model.runtime.run({name: x})["Y"]  # Keras
    found = in_caffe(model, tmp_path, {name: x}, {"N": len(DOMAINS)})["Y"]
    assert_close(found, wanted)
    assert (found[:, 0] > 0.5).tolist() == [False, False, False, True, True, True]


def test_words(tmp_path: Path) -> None:
    """Keras 2, weights without a configuration, which the package makes in its code."""
    letters = "!\"#$%&'()*+,-./0123456789:;<=>?@_abcdefghijklmnopqrstuvwxyz"
    path = CHARS2VEC.file("chars2vec/trained_models/eng_50/weights.h5")
    text = keras.Input((None, len(letters)))
    y = keras.layers.LSTM(50, return_sequences=True, name="lstm_1")(text)
    y = keras.layers.LSTM(50, name="lstm_2")(y)
    config = tmp_path / "config.json"
    config.write_text(keras.Model(text, y).to_json())
    x = np.zeros((len(WORDS), 15, len(letters)), np.float32)
    for row, word in zip(x, WORDS, strict=True):
        for step, letter in enumerate(word.lower(), 15 - len(word)):  # Keras pads before
            row[step, letters.index(letter)] = 1
    model = import_file(path, config=config)
    (name,) = model.net.inputs
    assert model.runtime is not None
    wanted = model.runtime.run({name: x})["Y"]
    assert_close(in_caffe(model, tmp_path / "net", {name: x}, {"T": 15, "N": len(WORDS)})["Y"], wanted)
