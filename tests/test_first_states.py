"""First states that are arrays, learned, or computed of parameters: the same numbers in every backend and program."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, State, cell, dims, linear, model, scan, tanh, uniform
from lstmc.errors import DataError, WeightsError
from lstmc.manifest import read_manifest
from lstmc.ops import Array
from lstmc_c import CBackend
from lstmc_c.numbers import Numbers

T, N, D = dims("T N D")
STEPS = 4


@cell
def two_states(x=Input(N, D), h=State(N, D), g=State(N, D, fill=np.array([1.0, 2.0, 3.0])), k=State(N, D, fill=0.25)):
    h = 0.5 * h + x * g + k
    return h, {"h": h, "g": 0.9 * g, "k": -k}


@model
def learned(X=Input(T, N, D), *, h_0=Param(D, fill=uniform(-1, 1)), W=Param(D, D, fill=uniform(-1, 1))):
    y, _ = scan(two_states(), X, init={"h": tanh(linear(h_0, W))})
    return {"y": y}


def one_step(**options: object) -> lstmc.Net:
    return lstmc.compile(learned, step=True, N=1, D=3, **options)  # type: ignore[arg-type]


def sequence() -> Array:
    return np.random.default_rng(0).normal(size=(STEPS, 1, 3)).astype(np.float32)


def wanted(seed: int = 0) -> Array:
    """What the whole model computes."""
    return lstmc.compile(learned, T=STEPS, N=1, D=3, seed=seed).run(X=sequence(), on="interpreter")["y"]


def streamed(step: lstmc.Stream) -> Array:
    return np.concatenate([step(X=x[None])["y"] for x in sequence()])


@pytest.mark.parametrize(
    ("backend", "on"), [("caffe", "interpreter"), ("onnx", "onnx-cpu"), ("c", "c-cpu"), ("torch", "torch-cpu")]
)
def test_a_stream_begins_there(backend: str, on: str) -> None:
    with one_step(backend=backend).stream(on=on) as step:
        np.testing.assert_allclose(streamed(step), wanted(), atol=1e-5)


def by_c(folder: Path, weights: Path | None = None) -> Array:
    """Reset, then all steps as one block, by the functions of the C file."""
    subprocess.run(["gcc", "-shared", "-fPIC", "learned.c", "-o", "learned.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "learned.so"))
    state, work, x, y = (
        (ctypes.c_float * 64)(),
        (ctypes.c_float * 64)(),
        sequence(),
        np.zeros((STEPS, 1, 3), np.float32),
    )
    opened: list[ctypes.c_void_p] = []
    if weights is not None:
        content = np.frombuffer(weights.read_bytes(), np.uint8).copy()
        library.learned_open.restype = ctypes.c_void_p
        address = library.learned_open(ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(content.size))
        assert address == content.ctypes.data
        opened = [ctypes.c_void_p(address)]
    library.learned_reset(state, *opened)
    arrays = (ctypes.c_void_p(array.ctypes.data) for array in (x, y))
    library.learned_block(state, work, *opened, ctypes.c_size_t(STEPS), *arrays)
    return y


def test_reset_in_c_sets_them(tmp_path: Path) -> None:
    net = one_step(backend="c")
    net.save(tmp_path)
    np.testing.assert_allclose(by_c(tmp_path), wanted(), atol=1e-5)
    assert "All states take their first values." in net.files["learned.h"].decode()


def test_reset_in_c_reads_them_from_the_file_of_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        one_step(backend=CBackend(weights_in_file=True), seed=seed).save(tmp_path / str(seed))
    first = tmp_path / "0"
    zeros = one_step(backend=CBackend(weights_in_file=True), weights={"h_0": np.zeros(3), "W": np.zeros((3, 3))})
    assert zeros.files["learned.h"] == (first / "learned.h").read_text().encode()
    np.testing.assert_allclose(by_c(first, first / "learned.bin"), wanted(), atol=1e-5)
    np.testing.assert_allclose(by_c(first, tmp_path / "1" / "learned.bin"), wanted(1), atol=1e-5)


def test_reset_in_c_sets_them_as_integers() -> None:
    exact = one_step(backend="c")
    numbers = Numbers.of("c-a16w8", exact.ranges({"X": sequence()}))
    net = one_step(backend=CBackend(numbers), weights=dict(exact.weights))
    source, header = net.files["learned.c"].decode(), net.files["learned.h"].decode()
    text = re.findall(r"int16_t g_first\[3\] = \{\s*(.*?),\s*\}", source, re.S)[0]
    scale = float(re.findall(r"STATE_G_SCALE ([0-9.e-]+)", header)[0])
    np.testing.assert_allclose(np.array(text.split(","), float) * scale, [1, 2, 3], atol=scale)


def test_the_manifest_has_their_numbers(tmp_path: Path) -> None:
    net = one_step(backend="onnx", weights={"h_0": np.ones(3), "W": np.diag([1.0, 2.0, 0.5])})
    states = json.loads(net.files["learned.manifest.json"])["states"]
    np.testing.assert_allclose(states["two_states/h"]["initial"], np.tanh([[1, 2, 0.5]]), rtol=1e-6)
    assert states["two_states/g"]["initial"] == [[1.0, 2.0, 3.0]]
    assert states["two_states/k"]["initial"] == 0.25
    assert ["learned" in state for state in states.values()] == [True, False, False]
    net.save(tmp_path)
    path = tmp_path / "learned.manifest.json"
    assert read_manifest(path).text() == path.read_text()
    path.write_text(path.read_text().replace('"initial": 0.25', '"initial": [[0.25, 1.0]]'))
    with pytest.raises(WeightsError, match=r"states.two_states/k.initial: expected an array of shape \[1, 3\], found"):
        read_manifest(path)


def test_those_that_are_learned_belong_to_the_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        one_step(backend=CBackend(weights_in_file=True), seed=seed).save(tmp_path / str(seed))
    other = tmp_path / "1" / "learned.bin"
    with lstmc.load(tmp_path / "0" / "learned.c", weights=other).stream() as step:
        np.testing.assert_allclose(streamed(step), wanted(1), atol=1e-5)
    (tmp_path / "1" / "learned.manifest.json").unlink()
    with lstmc.load(tmp_path / "0" / "learned.c", weights=other).stream() as step, pytest.raises(DataError) as caught:
        step(X=sequence()[:1])
    assert caught.value.notes == (
        f"missing: two_states/h [1, 3]: it starts at learned numbers, which {other.with_name('learned.manifest.json')}"
        " would have",
    )


@pytest.mark.parametrize("target", ["opencv", "mnn"])
def test_programs_in_python_begin_there(target: str, tmp_path: Path) -> None:
    net = one_step(target=target)
    net.save(tmp_path)
    ((name, program),) = net.example("python").items()
    (tmp_path / name).write_bytes(program)
    if target == "opencv":
        lines = "".join(" ".join(map(repr, map(float, x.ravel()))) + "\n" for x in sequence())
        ended = subprocess.run(
            [sys.executable, name], input=lines, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        found = np.array([line.split() for line in ended.stdout.splitlines()], np.float64)
        np.testing.assert_allclose(found, wanted().reshape(STEPS, 3), atol=1e-5)
    else:
        compile(program, name, "exec")
        assert "[[1.0, 2.0, 3.0]]," in program.decode()


def test_programs_in_cpp_begin_there(tmp_path: Path) -> None:
    """The program with a net in the place of OpenCV's, of which each output is the state that was fed."""
    ((_, program),) = one_step(target="opencv").example("cpp").items()
    text = program.decode()
    before, rest = text.split("class Net {", 1)
    own = """class Net {
 public:
  explicit Net(const std::string&) {}
  void feed(const std::string& blob, const std::vector<int>&, const float* values) {
    fed_[blob] = std::vector<float>(values, values + 3);
  }
  void forward() {}
  void read(const std::string&, std::vector<float>& values) {
    const std::vector<float>& found = fed_["two_states/g_in"];
    values.insert(values.end(), found.begin(), found.end());
  }

 private:
  std::map<std::string, std::vector<float>> fed_;
};
"""
    after = rest.split("\n};\n", 1)[1]
    without = "\n".join(line for line in before.splitlines() if "opencv" not in line)
    (tmp_path / "main.cpp").write_text("#include <map>\n" + without + own + after)
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Werror", "main.cpp", "-o", "main"], cwd=tmp_path, check=True)
    ended = subprocess.run(
        [tmp_path / "main"], input="0 0 0\n", cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["1", "2", "3"]


def test_numbers_of_lower_precision_begin_there() -> None:
    net = one_step(target="flat")
    assert net.ranges({"X": sequence()})["two_states/g_in"].greatest == 3.0
    assert net.verify_numbers("fp16", {"X": sequence()}).error < 0.01


def test_a_first_state_of_one_number_is_no_input_of_onnx() -> None:
    @cell
    def from_one(x=Input(N, D), h=State(N, D, fill=1)):
        h = 0.5 * h + x
        return h, {"h": h}

    net = lstmc.compile(from_one, backend="onnx", T=STEPS, N=1, D=3)
    assert list(net.inputs) == ["x"]
    exact = lstmc.compile(from_one, T=STEPS, N=2, D=3).run(x=np.zeros((STEPS, 2, 3)), on="interpreter")["y"]
    np.testing.assert_allclose(net.run(x=np.zeros((STEPS, 2, 3), np.float32))["y"], exact, rtol=1e-6)
    assert exact[0, 0, 0] == 0.5
