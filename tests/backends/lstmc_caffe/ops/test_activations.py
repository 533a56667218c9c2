"""The installer compiles Sigmoid, TanH and LSTMUnit in single precision: they still mean what they mean."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc_caffe.install.recipe import (
    ADDED,
    COUNTERS,
    CPU,
    LSTM_UNIT,
    LSTM_UNIT_FLAGS,
    VECTOR_FLAGS,
    processor_flags,
)
from lstmc_caffe.runtime.runner import Runner

NET = """
name: "activation"
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: {size} }} }} }}
layer {{ name: "y" type: "{kind}" bottom: "x" top: "y" }}
"""
MEANING = {"Sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x), "TanH": np.tanh}


def run(caffe: Runner, kind: str, x: np.ndarray) -> np.ndarray:
    with caffe.load(NET.format(size=x.size, kind=kind)) as net:
        return net.run({"x": x}).blobs["y"]


@pytest.mark.caffe
@pytest.mark.parametrize("kind", MEANING)
def test_every_size_of_number_is_right_to_the_last_bits(caffe: Runner, kind: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 4001), np.logspace(-30, 2, 500), -np.logspace(-30, 2, 500)])
    x = x.astype(np.float32)
    assert_allclose(run(caffe, kind, x), MEANING[kind](x.astype(np.float64)), rtol=4e-7, atol=1e-7)


@pytest.mark.caffe
@pytest.mark.parametrize("kind", MEANING)
def test_nan_and_infinity_keep_their_meaning(caffe: Runner, kind: str) -> None:
    # 19 elements: whole vectors and a rest, special values in both
    x = np.resize(np.array([np.nan, np.inf, -np.inf, 0.0, 1e38, -1e38], np.float32), 19)
    low = 0.0 if kind == "Sigmoid" else -1.0
    middle = 0.5 if kind == "Sigmoid" else 0.0
    assert_allclose(run(caffe, kind, x), np.resize([np.nan, 1.0, low, middle, 1.0, low], 19), rtol=1e-7, atol=1e-30)


UNIT = """
name: "unit"
layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 1 dim: 1 dim: 9 } } }
layer { name: "z" type: "Input" top: "z" input_param { shape { dim: 1 dim: 1 dim: 36 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 1 dim: 1 } } }
layer { name: "unit" type: "LSTMUnit" bottom: "c" bottom: "z" bottom: "cont" top: "c_new" top: "h" }
"""


@pytest.mark.caffe
def test_lstm_units_too_keep_nan_and_infinity(caffe: Runner) -> None:
    i, f, o, g = (np.zeros(9, np.float32) for _ in range(4))
    i[0], f[1], o[2], g[3] = np.nan, np.nan, np.nan, np.nan
    i[4], f[5], o[6], g[7] = np.inf, -np.inf, -np.inf, -np.inf
    c = np.ones((1, 1, 9), np.float32)
    gates = np.concatenate([i, f, o, g]).reshape(1, 1, 36)
    with caffe.load(UNIT) as net:
        found = net.run({"c": c, "z": gates, "cont": np.ones((1, 1))}, want=["c_new", "h"]).blobs
    sigmoid = MEANING["Sigmoid"]
    new = sigmoid(f) + sigmoid(i) * np.tanh(g)
    assert_allclose(found["c_new"].ravel(), new, rtol=1e-6)
    assert_allclose(found["h"].ravel(), sigmoid(o) * np.tanh(new), rtol=1e-6, atol=1e-30)
    assert np.isnan(found["c_new"].ravel()[[0, 1, 3]]).all()


LARGE_UNIT = """
name: "unit"
layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 1 dim: 3 dim: 19 } } }
layer { name: "z" type: "Input" top: "z" input_param { shape { dim: 1 dim: 3 dim: 76 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "unit" type: "LSTMUnit" bottom: "c" bottom: "z" bottom: "cont" top: "c_new" top: "h" }
"""


@pytest.mark.caffe
def test_lstm_units_are_right_forward_and_backward(caffe: Runner) -> None:
    # 19 elements: whole vectors and a rest; the middle sequence starts anew
    rng = np.random.default_rng(0)
    c, gates, d_new, d_h = (rng.normal(size=(1, 3, n)).astype(np.float32) for n in (19, 76, 19, 19))
    gates *= np.float32(4)
    cont = np.array([[1, 0, 1]], np.float32)
    with caffe.load(LARGE_UNIT, gradients=["c", "z"], probes=["c_new", "h"]) as net:
        inputs, gradients = {"c": c, "z": gates, "cont": cont}, {"c_new": d_new, "h": d_h}
        found = net.run(inputs, backward=gradients, want_diffs=["c", "z"])
    c64, z64, dc, dh = (x.astype(np.float64) for x in (c, gates, d_new, d_h))
    i, f, o = (MEANING["Sigmoid"](z) for z in np.split(z64, 4, axis=2)[:3])
    g, f = np.tanh(z64[..., 57:]), f * cont[..., None]
    new = f * c64 + i * g
    assert_allclose(found.blobs["c_new"], new, rtol=2e-6, atol=1e-6)
    assert_allclose(found.blobs["h"], o * np.tanh(new), rtol=2e-6, atol=1e-6)
    d = dc + dh * o * (1 - np.tanh(new) ** 2)
    d_gates = [d * g * i * (1 - i), d * c64 * f * (1 - f), dh * np.tanh(new) * o * (1 - o), d * i * (1 - g**2)]
    assert_allclose(found.diffs["c"], d * f, rtol=2e-5, atol=2e-6)
    assert_allclose(found.diffs["z"], np.concatenate(d_gates, axis=2), rtol=2e-5, atol=2e-6)


# The shape of LSTMUnit's loop, with what lstmc's header reads before it.
LOOP = """
template <typename Dtype>
void unit(const Dtype* x, const Dtype* cont, Dtype* c, Dtype* h, int hidden_dim_) {
  for (int d = 0; d < hidden_dim_; ++d) {
    const Dtype f = (*cont == 0) ? 0 : (*cont * x[1 * hidden_dim_ + d]);
    c[d] = f * x[d] + x[2 * hidden_dim_ + d] * x[3 * hidden_dim_ + d];
    h[d] = x[4 * hidden_dim_ + d] * c[d];
  }
}
template void unit<float>(const float*, const float*, float*, float*, int);
"""


@pytest.mark.parametrize(("own", "vectors"), [((), False), (LSTM_UNIT_FLAGS, True)])
def test_the_loop_of_lstm_units_becomes_one_of_vectors(tmp_path: Path, own: tuple[str, ...], vectors: bool) -> None:
    header = tmp_path / ADDED / COUNTERS
    for path in (tmp_path / "caffe/layer.hpp", tmp_path / "caffe/layers/lstm_layer.hpp", header):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    header.write_bytes(CPU.added_content[COUNTERS])
    (tmp_path / "unit.cpp").write_text(LOOP)
    flags = CPU.flags_for(LSTM_UNIT)
    wide = tuple(flag for flag in flags if flag.startswith("-march"))
    command = ["g++", "-O2", "-I.", "-fopt-info-vec-optimized", *VECTOR_FLAGS, *wide, *own, "-c", "unit.cpp"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ("unit.cpp:4" in ended.stderr) == (vectors and bool(wide))
    assert flags[-len(LSTM_UNIT_FLAGS) :] == LSTM_UNIT_FLAGS


def test_no_flag_promises_that_there_are_no_special_values() -> None:
    assert not {"-ffast-math", "-ffinite-math-only", "-Ofast"} & set(VECTOR_FLAGS)


def test_the_processor_is_asked_before_wide_instructions_are_used() -> None:
    wide = "flags\t\t: fpu sse2 avx2 bmi1 bmi2 f16c fma movbe\n"
    assert processor_flags("processor : 0\n" + wide) == ("-march=x86-64-v3",)
    assert processor_flags(wide.replace(" fma", "")) == ()
    assert processor_flags("") == ()
