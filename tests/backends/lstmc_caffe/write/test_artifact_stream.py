"""The programs that ``compile --step --example`` writes: compiled and run in the programs that they are for."""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import Input, State, cell, concat, dims, model, reshape, scan, split
from lstmc.cells import gru, lstm
from lstmc.errors import BackendError
from lstmc.manifest import read_manifest
from lstmc.ops import Array
from lstmc_caffe.readers.executor import interpreter
from lstmc_caffe.readers.known import load_reader
from lstmc_caffe.runtime.runner import Runner

T, N = dims("T N")
STEPS = 5
DEBIAN_OPENCV = Path("/usr/include/opencv4/opencv2/dnn.hpp")


@model
def tagger(X=Input(T, N, 3), h_0=Input(N, 4)):
    """Two scans; one begins where the caller says."""
    low, _ = scan(lstm(H=2, name="low"), X)
    high, last = scan(gru(H=4, name="high"), low, init={"h": h_0})
    return {"low": low, "high": high, "last": last["h"]}


def one_step(target: str, batch: int = 2) -> lstmc.Net:
    return lstmc.compile(tagger, N=batch, step=True, target=target, seed=3)


def streamed_and_wanted(command: list[object], folder: Path, batch: int = 2, **environment: str) -> tuple[Array, Array]:
    """What a program gave in all steps, and what the model on the whole sequence does."""
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(STEPS, batch, 3)).astype(np.float32), rng.normal(size=(batch, 4)).astype(np.float32)
    lines = [" ".join(map(repr, map(float, array.ravel()))) for array in (h, *x)]
    ended = subprocess.run(
        [str(word) for word in command], input="\n".join(lines) + "\n", cwd=folder, check=False,
        capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = np.array(
        [line.split() for line in ended.stdout.splitlines() if line and line[0] in "-0123456789"], np.float64
    )
    whole = lstmc.compile(tagger, T=STEPS, N=batch, seed=3).run(X=x, h_0=h, on="interpreter")
    steps = [np.concatenate([whole["low"][t].ravel(), whole["high"][t].ravel()]) for t in range(STEPS)]
    return found, np.stack(
        [np.concatenate([step, step[2 * batch :]]) for step in steps]
    )  # the last state is each step's


def saved(net: lstmc.Net, language: str, folder: Path) -> Path:
    """The net and its program in a folder; returns the program."""
    net.save(folder)
    ((name, content),) = net.example(language).items()
    for file, built in net.built().items():
        (folder / file).write_bytes(built)
    (folder / name).write_bytes(content)
    return folder / name


def told(program: Path, start: str) -> str:
    """The command that begins so, of those that a program's first lines say."""
    lines = [line.lstrip("#/").strip() for line in program.read_text().splitlines()]
    return next(line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.startswith(start))


def compiled(command: str, folder: Path) -> None:
    ended = subprocess.run(shlex.split(command), cwd=folder, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def python_of(name: str) -> Path:
    """The interpreter of a reader's environment; without one the test is skipped, and says so."""
    reader = load_reader(name)
    found = [interpreter(environment) for environment in reader.environments]
    python = next((path for path in found if path is not None), None)
    if python is None:
        pytest.skip(f"NOT CHECKED: Python for {name}: {reader.install_command}")
    return python


@pytest.mark.parametrize("target", ["opencv", "noslice"])
def test_python_in_opencv(target: str, tmp_path: Path) -> None:
    program = saved(one_step(target), "python", tmp_path)
    np.testing.assert_allclose(*streamed_and_wanted([sys.executable, program], tmp_path), atol=1e-5)


def test_python_in_mnn(tmp_path: Path) -> None:
    program = saved(one_step("mnn"), "python", tmp_path)
    compiled(told(program, "python -c").replace("python", sys.executable, 1), tmp_path)
    np.testing.assert_allclose(*streamed_and_wanted([sys.executable, program], tmp_path), atol=1e-5)


@pytest.mark.slow
def test_python_in_ncnn(tmp_path: Path) -> None:
    python = python_of("ncnn")
    if shutil.which("caffe2ncnn") is None:
        pytest.skip("NOT CHECKED: Python for ncnn, as there is no caffe2ncnn on the path: docs/readers/index.md")
    program = saved(one_step("ncnn", 1), "python", tmp_path)
    compiled(told(program, "caffe2ncnn"), tmp_path)
    np.testing.assert_allclose(*streamed_and_wanted([python, program], tmp_path, 1), atol=1e-5)


@pytest.mark.slow
def test_python_in_rknn(tmp_path: Path) -> None:
    python = python_of("rknn")
    program = saved(one_step("rknn", 1), "python", tmp_path)
    found, wanted = streamed_and_wanted([python, program], tmp_path, 1)
    np.testing.assert_allclose(found, wanted, atol=1e-2)  # in float16
    assert (tmp_path / "tagger.rknn").is_file()


@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("ncnn", ['net.load_param(base + ".param")', "extractor.input(blob,", "extractor.extract(blob)"]),
        ("rknn", ["RKNNLite()", 'net.export_rknn(base + ".rknn")', "net.inference(inputs=", 'data_format=["nchw"]']),
    ],
)
def test_programs_for_devices_are_python_with_the_tables_of_the_net(target: str, calls: list[str]) -> None:
    net = one_step(target, 1)
    ((name, content),) = net.example("python").items()
    text = content.decode()
    compile(text, name, "exec")
    assert [call for call in calls if call not in text] == []
    assert '"low/c": (' in text


@pytest.mark.caffe
def test_python_in_caffe(caffe: Runner, tmp_path: Path) -> None:
    program = saved(one_step("caffe"), "python", tmp_path)
    command = [caffe.location.python, program]
    found, wanted = streamed_and_wanted(command, tmp_path, **caffe.location.environment())
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.caffe
@pytest.mark.slow
def test_python_and_cpp_in_caffe_with_generated_layers(caffe: Runner, tmp_path: Path) -> None:
    net = one_step("caffe-fused")
    command = [caffe.location.python, saved(net, "python", tmp_path)]
    found, wanted = streamed_and_wanted(command, tmp_path, **caffe.location.environment())
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    program = saved(net, "cpp", tmp_path)
    assert caffe.location.pythonpath is not None
    build = Path(caffe.location.pythonpath).parent
    compiled(told(program, "g++").replace("$CAFFE", str(build)).replace("-O2", "-O0"), tmp_path)
    np.testing.assert_allclose(*streamed_and_wanted(["./tagger_stream", "."], tmp_path), atol=1e-5)


@pytest.mark.slow
def test_cpp_in_opencv(tmp_path: Path) -> None:
    if shutil.which("g++") is None or not DEBIAN_OPENCV.is_file():
        pytest.skip("NOT CHECKED: C++ for OpenCV, whose headers are not there: apt-get install libopencv-dnn-dev")
    program = saved(one_step("opencv"), "cpp", tmp_path)
    flags = f"-I{DEBIAN_OPENCV.parents[1]} -lopencv_dnn -lopencv_core"  # as pkg-config says of all of OpenCV
    compiled(
        told(program, "g++").replace("$(pkg-config --cflags --libs opencv4)", flags).replace("-O2", "-O0"), tmp_path
    )
    np.testing.assert_allclose(*streamed_and_wanted(["./tagger_stream"], tmp_path), atol=1e-5)


# outputs that come some steps late ------------------------------------------------------------------------------------


@cell
def differences(x=Input(N, 3), past=State(N, 2, 3)):
    """The difference of the frames around the one before, and that of the frame to the one before it."""
    before, last = split(past, 2, axis=1)
    rows = concat(last, reshape(x, (N, 1, 3)), axis=1)
    return (x - reshape(before, (N, 3)), x - reshape(last, (N, 3))), {"past": rows}


@model(delays={"around": 1})
def looking_ahead(X=Input(T, N, 3)):
    (around, back), _ = scan(differences(), X)
    return {"around": around, "back": back}


def streamed_late(command: list[object], folder: Path, **environment: str) -> tuple[Array, Array]:
    """What a program writes, and the outputs of each step, in one line as the inputs are."""
    x = np.random.default_rng(0).normal(size=(STEPS, 3)).astype(np.float32)
    ended = subprocess.run(
        [str(word) for word in command], input="".join(" ".join(map(repr, map(float, row))) + "\n" for row in x),
        cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    frames = np.concatenate([np.zeros((1, 3)), x])
    wanted = [np.concatenate([frames[t + 2] - frames[t], frames[t + 1] - frames[t]]) for t in range(STEPS - 1)]
    return np.array([line.split() for line in ended.stdout.splitlines()], np.float64), np.stack(wanted)


def test_late_outputs_are_written_with_the_others_of_their_step(tmp_path: Path) -> None:
    net = lstmc.compile(looking_ahead, N=1, step=True, target="opencv")
    program = saved(net, "python", tmp_path)
    np.testing.assert_allclose(*streamed_late([sys.executable, program], tmp_path), atol=1e-6)
    assert runpy.run_path(str(program))["DELAYS"] == {"around": 1}
    assert "#   around [1, 1, 3], 1 step late\n#   back [1, 1, 3]\n" in program.read_text()
    text = (tmp_path / "looking_ahead.prototxt").read_text()
    assert "# read around [1, 1, 3], blob around [1, 3], 1 step late\n" in text
    outputs = read_manifest(tmp_path / "looking_ahead.manifest.json").outputs
    delays = {name: place.delay for name, place in outputs.items()}
    assert delays == {"around": 1, "back": 0, "differences/past_out": 0}
    with net.stream(on="interpreter") as step:
        assert step.delays == {"around": 1}
    assert net.verify(on="interpreter").remarks == (
        "output around comes 1 step late: at step t it belongs to the inputs of step t - 1",
    )


@pytest.mark.caffe
@pytest.mark.slow
def test_late_outputs_in_cpp(caffe: Runner, tmp_path: Path) -> None:
    net = lstmc.compile(looking_ahead, N=1, step=True, target="caffe")
    program = saved(net, "cpp", tmp_path)
    assert caffe.location.pythonpath is not None
    build = Path(caffe.location.pythonpath).parent
    compiled(told(program, "g++").replace("$CAFFE", str(build)).replace("-O2", "-O0"), tmp_path)
    np.testing.assert_allclose(*streamed_late(["./looking_ahead_stream", "."], tmp_path), atol=1e-6)


# what there is no program for ----------------------------------------------------------------------------------------


def refused(net: lstmc.Net, language: str) -> str:
    with pytest.raises(BackendError) as caught:
        net.example(language)
    return str(caught.value)


def test_a_language_that_there_is_none_in_is_refused() -> None:
    net = one_step("opencv")
    assert refused(net, "rust") == "BackendError: language=rust: expected cpp or python"
    assert refused(net, "c") == (
        "BackendError: language=c: expected cpp or python\n"
        "  OpenCV 4's DNN module, Caffe and MNN have interfaces for C++ and Python, and none for C"
    )


@pytest.mark.parametrize(("target", "title"), [("mnn", "MNN"), ("ncnn", "ncnn"), ("rknn", "RKNN")])
def test_some_have_python_alone(target: str, title: str) -> None:
    assert refused(one_step(target, 1), "cpp") == f"BackendError: language=cpp: for {title} there is python alone"


def test_a_target_without_a_program_is_refused() -> None:
    assert refused(one_step("openvino"), "python") == (
        "BackendError: language=python: target openvino has no example program: expected one of caffe, flat, noslice,"
        " caffe-fused, mnn, ncnn, opencv, rknn"
    )


def test_a_net_of_all_steps_is_refused() -> None:
    net = lstmc.compile("rnn", T=2, N=1, D=2, H=2, target="opencv")
    assert refused(net, "python") == (
        "BackendError: language=python: expected a net of one step, found one of all steps\n"
        "  compile the model as a net of one step"
    )


def test_a_line_with_other_numbers_is_refused_by_what_was_expected(tmp_path: Path) -> None:
    program = saved(lstmc.compile("rnn", T=1, N=1, D=2, H=2, step=True, target="opencv"), "python", tmp_path)
    ended = subprocess.run([sys.executable, program], input="1 2 3\n", capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "expected 2 numbers in a line, found 3: '1 2 3\\n'\n")
