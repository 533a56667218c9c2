"""The installer compiles Sigmoid, TanH and LSTMUnit in single precision: they still mean what they mean."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc_caffe.install.recipe import VECTOR_FLAGS, processor_flags
from lstmc_caffe.runner import Runner

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


def test_no_flag_promises_that_there_are_no_special_values() -> None:
    assert not {"-ffast-math", "-ffinite-math-only", "-Ofast"} & set(VECTOR_FLAGS)


def test_the_processor_is_asked_before_wide_instructions_are_used() -> None:
    wide = "flags\t\t: fpu sse2 avx2 bmi1 bmi2 f16c fma movbe\n"
    assert processor_flags("processor : 0\n" + wide) == ("-march=x86-64-v3",)
    assert processor_flags(wide.replace(" fma", "")) == ()
    assert processor_flags("") == ()
