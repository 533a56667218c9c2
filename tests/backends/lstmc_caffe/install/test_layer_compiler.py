"""Compiling generated layers: what is remembered, what the functions are worth, and what is said where it cannot be."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from lstmc.errors import BackendError
from lstmc.loops import native
from lstmc.loops.code import Source, source
from lstmc.loops.memory import CPU, functions
from lstmc.loops.native import FLAGS
from lstmc_caffe.install.layer_compiler import INCLUDE, CaffeBuild, library
from lstmc_caffe.processes.process import CaffeLocation
from lstmc_caffe.runtime.runner import Runner

UNKNOWN = CaffeLocation(Path("/opt/python"), None, None, "found")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    return tmp_path / "cache"


def test_without_a_compiler(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    with pytest.raises(BackendError) as caught:
        library(Source("", None), UNKNOWN)
    assert caught.value.message == "generated layers are compiled, and g++ was not found"
    assert caught.value.notes == ("install it: apt-get install g++", "target caffe needs none")


@pytest.mark.caffe
def test_without_caffe_s_headers(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(INCLUDE, raising=False)
    with pytest.raises(BackendError) as caught:
        library(source("net", []), UNKNOWN)
    assert caught.value.message == (
        "generated layers are compiled with Caffe's headers, and those of /opt/python are not known"
    )
    assert caught.value.notes[0] == f"set {INCLUDE} to the folders that hold caffe/layer.hpp and caffe/proto/caffe.pb.h"
    monkeypatch.setenv(INCLUDE, str(tmp_path))
    for header in ("caffe/layer.hpp", "caffe/proto/caffe.pb.h"):
        with pytest.raises(BackendError) as caught:
            library(source("net", []), UNKNOWN)
        assert caught.value.message == f"{INCLUDE}: expected a folder that holds {header}, found none in {tmp_path}"
        (tmp_path / header).parent.mkdir(exist_ok=True)
        (tmp_path / header).touch()
    with pytest.raises(BackendError) as caught:
        library(source("net", []), UNKNOWN)
    assert caught.value.message == (
        "generated layers are compiled for one Caffe, and that of /opt/python: cannot be started: No such file or"
        " directory"
    )


@pytest.mark.caffe
def test_the_build_of_another_pycaffe_is_asked_of_its_python(caffe: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    own = CaffeBuild.of(caffe.location)
    monkeypatch.setenv(INCLUDE, str(own.includes[0]))
    assert CaffeBuild.of(replace(caffe.location, origin="setting")) == own


@pytest.mark.caffe
def test_a_library_is_compiled_once_for_a_caffe(caffe: Runner, own_cache: Path) -> None:
    made = library(source("net", []), caffe.location)
    before = made.stat().st_ino
    assert library(source("net", []), caffe.location) == made
    assert made.stat().st_ino == before
    assert library(source("other", []), caffe.location) != made
    assert not list((own_cache / "layers").glob(".work-*"))


@pytest.mark.caffe
def test_what_was_damaged_in_the_cache_is_compiled_again(caffe: Runner, own_cache: Path) -> None:
    made = library(source("net", []), caffe.location)
    whole = made.read_bytes()
    kept = list((own_cache / "layers").iterdir())
    assert {path.suffix for path in kept} == {".so", ".o"}
    for path in kept:
        path.write_bytes(path.read_bytes()[:1000])
    assert library(source("net", []), caffe.location).read_bytes() == whole


@pytest.mark.caffe
def test_where_the_cache_cannot_be_written(caffe: Runner, own_cache: Path) -> None:
    own_cache.write_text("a file")
    with pytest.raises(BackendError) as caught:
        library(source("net", []), caffe.location)
    assert caught.value.message == f"generated layers cannot be compiled in {own_cache / 'layers'}: Not a directory"
    assert caught.value.notes == ("set XDG_CACHE_HOME to a folder that can be written",)


@pytest.mark.caffe
def test_what_the_compiler_says_is_told(caffe: Runner, own_cache: Path) -> None:
    with pytest.raises(BackendError) as caught:
        library(Source("not C++", None), caffe.location)
    assert caught.value.message.startswith("compiling generated layers failed (")
    assert "error" in " ".join(caught.value.notes)


PROBE = """
#include <cmath>
#include <cstring>
#include <utility>
{functions}
#define EACH(name, f) \\
  extern "C" void name(const float* x, float* y, int n) {{ for (int i = 0; i < n; ++i) y[i] = f(x[i]); }}
EACH(exp_of, exp_) EACH(tanh_of, tanh_) EACH(sigmoid_of, sigmoid) EACH(softplus_of, softplus)
"""
FUNCTIONS = {
    "exp_of": np.exp,
    "tanh_of": np.tanh,
    "sigmoid_of": lambda x: 1 / (1 + np.exp(-x)),
    "softplus_of": lambda x: np.logaddexp(x, 0),
}


@pytest.mark.caffe
def test_the_functions_are_right_to_a_few_units_in_the_last_place_and_vector_code(tmp_path: Path) -> None:
    text = PROBE.format(functions=functions(CPU))
    (tmp_path / "probe.cpp").write_text(text)
    command = ["g++", *FLAGS, "-fopt-info-vec-optimized", "-shared", "probe.cpp", "-lopenblas", "-o", "probe.so"]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stderr
    assert said.count("loop vectorized") >= 3, said  # all but softplus, which calls log1p
    loaded = ctypes.CDLL(str(tmp_path / "probe.so"))
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-100, 100, 20000), rng.uniform(-1, 1, 20000), [0.0, -0.0, 88.7, 88.73, -103.0]])
    x = np.concatenate([x, rng.uniform(-10, 10, 200_000), [np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e30, -1e30]])
    x = np.concatenate([x, [-np.nan, 8.10797787, 3e-39, -0.0, 1e38, -1e38]]).astype(np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    with np.errstate(all="ignore"):
        for name, meaning in FUNCTIONS.items():
            found = np.empty_like(x)
            getattr(loaded, name)(x.ctypes.data_as(pointer), found.ctypes.data_as(pointer), len(x))
            wanted = meaning(x.astype(np.float64)).astype(np.float32)
            np.testing.assert_allclose(found, wanted, rtol=5e-7, atol=1e-37, err_msg=name)
            if name == "tanh_of":
                assert np.nanmax(np.abs(found)) == 1  # so that 1 - tanh^2 is no negative number
                assert (np.signbit(found) == np.signbit(x))[x == x].all()
