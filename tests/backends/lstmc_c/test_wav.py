"""The program that streams a WAV file through a net in C, beside NumPy's Fourier transform, sample by sample."""

from __future__ import annotations

import struct
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import lstmc
from lstmc import Input, Net, State, cell, concat, dims, model, scan, sigmoid
from lstmc.errors import BackendError
from lstmc.ops import Array
from tests.on_demand.fuzz.c_models import SANITIZERS, WARNINGS

RATE = 8000
T, N, B, P = dims("T N B P")
Spectra = Callable[[Array], Array]  # of bins [frames, B], complex


@cell
def smoothed(x=Input(N, B, P), h=State(N, B, P)):
    h = 0.75 * h + 0.25 * x
    return h, {"h": h}


@model
def parts(X=Input(T, 1, B, 2)):
    return {"Y": scan(smoothed(), X)[0]}


@model
def gains(X=Input(T, 1, B, 1)):
    y = scan(smoothed(), X)[0]
    return {"also": concat(y, y, axis=3), "Y": sigmoid(y)}


def smooth(values: Array) -> Array:
    kept, result = np.zeros_like(values[0]), np.zeros_like(values)
    for number, value in enumerate(values):
        result[number] = kept = 0.75 * kept + 0.25 * value
    return result


def gained(features: Spectra) -> Spectra:
    return lambda bins: bins / (1 + np.exp(-smooth(features(bins))))


def chain(sound: Array, frame: int, hop: int, window: Array, spectra: Spectra) -> Array:
    """The program in NumPy, in float64; every output sample belongs to the input sample of its place."""
    early = frame - hop
    padded = np.concatenate([np.zeros(early), sound / 32768, np.zeros(2 * frame)])
    starts = range(0, early + len(sound), hop)
    bins = spectra(np.fft.rfft([window * padded[start : start + frame] for start in starts]))
    total, squares = np.zeros(len(padded)), np.zeros(len(padded))
    for start, part in zip(starts, np.fft.irfft(bins, frame), strict=True):
        total[start : start + frame] += window * part
    for start in range(-frame // hop * hop, len(padded), hop):
        inside = slice(max(start, 0), max(start + frame, 0))
        squares[inside] += (window**2)[max(-start, 0) :][: len(squares[inside])]
    exact = 32768 * (total / squares)[early : early + len(sound)]
    return np.rint(exact.clip(-32768, 32767))


def hann(frame: int) -> Array:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)


def noisy(count: int) -> Array:
    noise = np.random.default_rng(0).normal(0, 5000, count)
    return np.rint((9000 * np.sin(np.arange(count) / 7) + noise).clip(-32768, 32767)).astype("<i2")


def wav(samples: Array, rate: int = RATE, channels: int = 1, bits: int = 16, kind: int = 1) -> bytes:
    content = samples.tobytes()
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    form += struct.pack("<HHIH14x", 22, bits, 4, 1) if kind == 0xFFFE else b""  # the kind inside is 1
    head = (
        b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"LIST\x03\0\0\0abc\0data" + struct.pack("<I", len(content))
    )
    return b"RIFF" + struct.pack("<I", len(head) + len(content)) + head + content


def built(net: Net, settings: str, folder: Path) -> Path:
    files = {**net.files, **net.example(f"wav:rate={RATE},{settings}")}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sources = [name for name in files if name.endswith(".c")]
    flags = [*WARNINGS, *SANITIZERS, "-O1"]
    subprocess.run(["gcc", *flags, *sources, "-lm", "-o", "program"], cwd=folder, check=True)
    return folder / "program"


def streamed(program: Path, content: bytes) -> subprocess.CompletedProcess[str]:
    (program.parent / "in.wav").write_bytes(content)
    command = ["./program", "in.wav", "out.wav"]
    return subprocess.run(command, cwd=program.parent, capture_output=True, text=True, check=False)


def heard(program: Path, content: bytes, rate: int = RATE) -> Array:
    ended = streamed(program, content)
    assert (ended.returncode, ended.stderr) == (0, "")
    with wave.open(str(program.parent / "out.wav")) as file:
        assert file.getparams()[:4] == (1, 2, rate, file.getnframes())
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


MAGNITUDES = gained(np.abs)
POWERS = gained(lambda bins: np.log10(np.maximum(np.abs(bins) ** 2, 1e-12)))


@pytest.mark.parametrize(
    ("settings", "window", "spectra"),
    [
        ("frame=64,hop=32", hann(64) ** 0.5, smooth),
        ("frame=60,hop=20,window=hann,input=log10-power,output=gain", hann(60), POWERS),
        ("frame=14,hop=5,window=rectangle,input=magnitude,output=gain", np.ones(14), MAGNITUDES),
    ],
)
def test_a_file_goes_through_the_net(settings: str, window: Array, spectra: Spectra, tmp_path: Path) -> None:
    frame, hop = (int(text.partition("=")[2]) for text in settings.split(",")[:2])
    net = lstmc.compile(gains if "gain" in settings else parts, T=1, B=frame // 2 + 1, backend="c")
    program = built(net, settings, tmp_path)
    for count in (1, 1000):
        sound, kinds = noisy(count), (1, 0xFFFE)
        wanted = chain(sound, frame, hop, window, spectra)
        for kind in kinds:
            found = heard(program, wav(sound, kind=kind))
            assert found.shape == sound.shape
            assert np.abs(found - wanted).max() <= 1
            assert (found == wanted).mean() > 0.99
    assert np.abs(wanted).max() > 3000


def test_a_net_that_comes_late_is_put_in_time(tmp_path: Path) -> None:
    """A convolution over a frame before, this one and the next, and a recurrent layer."""
    frame, hop, rng = 16, 8, np.random.default_rng(2)
    shapes = {"kernel": (9, 9, 3), "W": (1, 9, 9), "R": (1, 9, 9)}
    weights = [numpy_helper.from_array(rng.normal(0, 0.3, shape).astype("f"), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[2, 0, 1]),
        helper.make_node("RNN", ["t", "W", "R"], ["r"], hidden_size=9),
        helper.make_node("Sigmoid", ["r"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, 1, [1, 9, "T"] if name == "x" else None) for name in "xy"]
    graph = helper.make_graph(nodes, "late", values[:1], values[1:], weights)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    (tmp_path / "late.onnx").write_bytes(content)
    session = onnxruntime.InferenceSession(content)
    net = lstmc.convert(tmp_path / "late.onnx", tmp_path / "net", backend="c", step=True, on=["interpreter"]).net
    assert list(net.compiled.delays.values()) == [1]

    def spectra(bins: Array) -> Array:
        magnitudes = np.abs(bins).astype("f").T[None]
        return bins * session.run(None, {"x": magnitudes})[0].reshape(bins.shape)

    sound = noisy(160)
    program = built(net, f"frame={frame},hop={hop},input=magnitude,output=gain", tmp_path)
    wanted = chain(sound, frame, hop, hann(frame) ** 0.5, spectra)
    assert np.abs(heard(program, wav(sound)) - wanted).max() <= 1


EXPECTED = "in.wav: expected a WAV file of 8000 Hz, 1 channel, 16 bits (encoding 1); found "
SOUND = noisy(100)
LENGTH = struct.pack("<I", 200)


def test_other_files_end_in_an_error(tmp_path: Path) -> None:
    program = built(lstmc.compile(parts, T=1, B=9, backend="c"), "frame=16,hop=8", tmp_path)
    whole = wav(SOUND)
    for content, found in {
        wav(SOUND, rate=44100): "encoding 1, 1 channel(s), 44100 Hz, 16 bits",
        wav(SOUND, channels=2): "encoding 1, 2 channel(s), 8000 Hz, 16 bits",
        wav(SOUND, bits=24): "encoding 1, 1 channel(s), 8000 Hz, 24 bits",
        wav(SOUND, bits=32, kind=3): "encoding 3, 1 channel(s), 8000 Hz, 32 bits",
        wav(SOUND[:0]): "no samples",
        b"": "something else",
        b"OggS" + whole[4:]: "something else",
        whole[:36]: "no samples",
        whole.replace(b"fmt ", b"fmt_"): "encoding 0, 0 channel(s), 0 Hz, 0 bits",
        whole.replace(b"LIST\x03\0\0\0abc\0", b"LIST\xff\xff\xff\xff"): "no samples",
        b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0data\x02\0\0\0ab": "encoding 1, 0 channel(s), 0 Hz, 0 bits",
        **dict.fromkeys((whole[:-1], whole[:-200], whole.replace(LENGTH, b"\xff" * 4)), "one that is cut off"),
    }.items():
        (tmp_path / "out.wav").unlink(missing_ok=True)
        ended = streamed(program, content)
        assert (ended.returncode, ended.stderr) == (1, f"{EXPECTED}{found}\n")
        assert not (tmp_path / "out.wav").exists()


def test_damaged_files_end_in_an_error_or_a_sound(tmp_path: Path) -> None:
    program = built(lstmc.compile(parts, T=1, B=9, backend="c"), "frame=16,hop=8", tmp_path)
    rng = np.random.default_rng(1)
    codes = set()
    for _ in range(60):
        content = bytearray(wav(SOUND))
        for place in rng.integers(0, 64, 2):
            content[place] = rng.integers(256)
        ended = streamed(program, bytes(content))
        codes.add(ended.returncode)
        assert "runtime error" not in ended.stderr
        assert "Sanitizer" not in ended.stderr
    assert codes == {0, 1}


def test_arguments_and_files_of_the_program(tmp_path: Path) -> None:
    program = built(lstmc.compile(parts, T=1, B=9, backend="c"), "frame=16,hop=8", tmp_path)
    (tmp_path / "in.wav").write_bytes(wav(SOUND))
    (tmp_path / "link.wav").symlink_to("in.wav")
    (tmp_path / "hard.wav").hardlink_to(tmp_path / "in.wav")
    (tmp_path / "pipe.wav").symlink_to("/dev/stdin")
    for arguments, told, code in (
        (["in.wav"], "expected two files", 2),
        (["in.wav", "in.wav"], "expected two files", 2),
        (["in.wav", "./in.wav"], "expected two files", 2),
        (["in.wav", "link.wav"], "expected two files", 2),
        (["in.wav", "hard.wav"], "expected two files", 2),
        (["pipe.wav", "out.wav"], "(encoding 1); found a pipe", 1),
        (["no.wav", "out.wav"], "no.wav: No such file", 1),
        (["in.wav", "no/out.wav"], "no/out.wav: No such file", 1),
        (["in.wav", "/dev/full"], "/dev/full: could not be written to its end", 1),
    ):
        ended = subprocess.run([program, *arguments], cwd=tmp_path, input=wav(SOUND), capture_output=True, check=False)
        assert (ended.returncode, told in ended.stderr.decode()) == (code, True), ended.stderr
        assert (tmp_path / "in.wav").read_bytes() == wav(SOUND)


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("cpp", "language=cpp: a net in C is a function; for sound there is wav"),
        ("wav", "language=wav: the net does not say how it is fed by sound: expected its frames, as in"),
        ("wav:rate=8000,frame=16", "language=wav: expected an object with a value for hop"),
        ("wav:rate=x,frame=16,hop=8", "language=wav: rate: expected a valid integer"),
        (
            "wav:rate=8000,frame=16,hop=9",
            "language=wav: expected a frame of an even number of samples, and a hop of 1 to",
        ),
        (
            "wav:rate=8000,frame=16,hop=8,window=kaiser",
            "language=wav: window: expected 'rectangle', 'hann' or 'sqrt-hann'",
        ),
        ("wav:rate=8000,frame=16,hop=8,hop=4", "language=wav: expected each setting once, found rate=8000,frame=16"),
        ("wav:rate=8000,frame=16,hop=8,step=2", "language=wav: step: expected no such key"),
        (
            "wav:rate=8000,frame=16,hop=8,input=magnitude",
            "a program for sound: expected one input with 9 bins of 1 (input=magnitude), found X [1, 1, 9, 2]",
        ),
        (
            "wav:rate=8000,frame=16,hop=8,output=gain",
            "a program for sound: expected one output with 9 bins of 1 (output=gain), found Y [1, 1, 9, 2]",
        ),
    ],
)
def test_what_is_no_program_is_refused(language: str, told: str) -> None:
    net = lstmc.compile(parts, T=1, B=9, backend="c")
    with pytest.raises(BackendError) as refused:
        net.example(language)
    assert refused.value.message.startswith(told)
