"""Generated layers in programs of one's own: pycaffe, the program ``caffe``, and C++ that links Caffe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc.loops.code import source
from lstmc_caffe.install import layer_compiler
from lstmc_caffe.install.layer_compiler import CaffeBuild
from lstmc_caffe.processes.process import CaffeRequestError
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.worker import layer_library

pytestmark = pytest.mark.caffe

EXAMPLE = Path(__file__).parents[4] / "docs/examples/run_layers.cpp"
SIZES = {"T": 3, "N": 2, "D": 4, "H": 5}
IN_PYCAFFE = """
import sys
import caffe
from layer_library import load_layers
load_layers("gru.layers.so")
net = caffe.Net("gru.prototxt", caffe.TEST, weights="gru.caffemodel")
net.blobs["x"].data[...] = 1
net.forward()
print(*["%.9g" % number for number in net.blobs["y"].data.ravel()])
"""


@pytest.fixture(scope="module")
def net() -> lstmc.Net:
    return lstmc.compile("gru", target="caffe-fused", **SIZES)


@pytest.fixture
def saved(net: lstmc.Net, tmp_path: Path) -> Path:
    net.save(tmp_path)
    for name, content in net.built().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def caffe_folder(caffe: Runner) -> Path:
    """The installer's build, which has a library, a program and headers."""
    assert caffe.location.origin == "installed"
    assert caffe.location.pythonpath is not None
    return Path(caffe.location.pythonpath).parent


def wanted(net: lstmc.Net) -> np.ndarray:
    return net.run(x=np.ones((3, 2, 4)), on="interpreter")["y"].ravel()


def ran(command: list[object], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env={**os.environ, **environment}, check=False,
        capture_output=True, text=True, timeout=120,  # a damaged heap may end in a deadlock
    )  # fmt: skip


def test_in_one_s_own_pycaffe(net: lstmc.Net, saved: Path, caffe: Runner) -> None:
    shutil.copy(layer_library.__file__, saved)  # alone: that Python has no lstmc
    location = caffe.location
    ended = ran([location.python, "-c", IN_PYCAFFE], saved, **location.environment())
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_allclose([float(word) for word in ended.stdout.split()], wanted(net), rtol=1e-4, atol=1e-6)


def test_in_the_program_caffe(saved: Path, caffe_folder: Path) -> None:
    """Under the checks of glibc's memory: nothing is written behind a buffer. It needs no fillers.

    A bottom of another shape is refused.
    """
    command = [caffe_folder / "bin/caffe", "time", "-model", "gru.prototxt", "-iterations", "1"]
    preload = {"LD_PRELOAD": f"libc_malloc_debug.so.0:{saved / 'gru.layers.so'}"}
    ended = ran(command, saved, **preload, GLIBC_TUNABLES="glibc.malloc.check=3")
    assert ended.returncode == 0, ended.stderr
    assert "Average Forward-Backward" in ended.stderr
    without = ran(command, saved)
    assert without.returncode != 0
    assert "Unknown layer type: Fused_gru_" in without.stderr

    def change(old: str, new: str) -> None:
        text, changed = re.subn(old, new, (saved / "gru.prototxt").read_text(encoding="utf-8"))
        assert changed
        (saved / "gru.prototxt").write_text(text, encoding="utf-8")

    change(r"data_filler \{[^}]*\}", "")
    assert ran(command, saved, **preload).returncode == 0
    change(r"(dim: 3\s+dim: 2\s+dim: )4", r"\g<1>6")
    refused = ran(command, saved, **preload)
    assert refused.returncode != 0
    assert "bottom 0 must be [3, 2, 4], found [3, 2, 6]" in refused.stderr


@pytest.mark.slow
def test_in_cpp_that_links_caffe(net: lstmc.Net, saved: Path, caffe_folder: Path) -> None:
    library = caffe_folder / "lib"
    flags = ["-std=c++17", "-DCPU_ONLY", f"-I{caffe_folder / 'include'}", f"-L{library}", f"-Wl,-rpath,{library}"]
    linked = ["-lcaffe", "-lglog", "-lprotobuf", "-lboost_thread", "-ldl"]
    made = ran(["g++", *flags, EXAMPLE, "-o", "run_layers", *linked], saved)
    assert made.returncode == 0, made.stderr
    ended = ran([saved / "run_layers", "gru.prototxt", "gru.caffemodel", "./gru.layers.so"], saved)
    assert ended.returncode == 0, ended.stderr
    found = {line.split()[0]: line.split()[1:] for line in ended.stdout.splitlines()}
    assert sorted(found) == ["h_T", "y"]
    np.testing.assert_allclose([float(word) for word in found["y"]], wanted(net), rtol=1e-4, atol=1e-6)


def test_a_library_made_for_another_caffe_is_refused(
    saved: Path, caffe: Runner, caffe_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = CaffeBuild.of(caffe.location)
    monkeypatch.setattr(CaffeBuild, "of", lambda _: CaffeBuild("0123abcd", own.includes))
    other = layer_compiler.library(source("none", []), caffe.location)
    with pytest.raises(CaffeRequestError) as caught:
        caffe._ask(None, "open generated layers", {"request": "open", "library": str(other)}, {}, None)
    assert (
        f"{other}: made for the Caffe of build 0123abcd, found {caffe_folder / 'lib/libcaffe.so'} of build"
        f" {own.identity}: make it for this one, by python -m lstmc_caffe.layers"
    ) in str(caught.value)
    # nor by a program that opens it without asking
    command = [caffe_folder / "bin/caffe", "time", "-model", "gru.prototxt", "-iterations", "1"]
    ended = ran(command, saved, LD_PRELOAD=str(other))
    assert (
        "generated layers are refused: they were made for the Caffe of build 0123abcd, found build"
        f" {own.identity}: make them for this one, by python -m lstmc_caffe.layers\n"
    ) in ended.stderr
    assert "Unknown layer type: Fused_gru_" in ended.stderr
    (tmp_path / "no.layers.so").write_text("no library")
    with pytest.raises(CaffeRequestError, match="expected a library of generated layers, as lstmc writes NAME"):
        caffe._ask(None, "open generated layers", {"request": "open", "library": f"{tmp_path}/no.layers.so"}, {}, None)
