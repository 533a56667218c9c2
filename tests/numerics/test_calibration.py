"""Calibration data: true states, in the order and the form of each quantiser. ONNX Runtime's own is run in
``test_effects.py``."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc.api.low_precision import StreamedModel
from lstmc.errors import BackendError
from lstmc.numerics.calibration import CALIBRATIONS, calibration_for

T, N, D, H = 9, 3, 2, 4


def files(quantiser: str, count: int) -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """The files of a quantiser, the data, and the true states [T, N, H] before each step."""
    chosen = calibration_for(quantiser)
    net = lstmc.compile("gru", T=T, N=N, D=D, H=H, target=chosen.target, form=chosen.form, step=bool(chosen.form))
    x = np.random.default_rng(0).standard_normal((T, N, D)).astype(np.float32)
    streamed = StreamedModel.from_data(
        net.source, net.backend, replace(net.options, target=net.target), net.weights, {"x": x}
    )
    whole = lstmc.compile("gru", T=T, N=N, D=D, H=H, weights=net.weights)
    y = whole.run(x=x, on="interpreter")["y"]
    return streamed.calibration(chosen, count), x, np.concatenate([np.zeros((1, N, H)), y[:-1]])


@pytest.mark.parametrize("quantiser", sorted(set(CALIBRATIONS) - {"ncnn"}))  # which needs ranges alone
def test_every_step_has_its_true_state(quantiser: str) -> None:
    given, x, before = files(quantiser, T * N)
    if quantiser == "rknn":
        lines = given["dataset.txt"].decode().split("\n")[:-1]
        rows = [[np.load(io.BytesIO(given[name])) for name in line.split()] for line in lines]
        states, inputs = ([row[slot] for row in rows] for slot in (0, 1))
        assert "INPUTS = ['gru/h_in', 'x/rows']" in given["quantize.py"].decode()
    elif quantiser == "tpu-mlir":
        steps = [dict(np.load(io.BytesIO(given[f"steps/{t:04d}.npz"]))) for t in range(T * N)]
        states, inputs = ([step[name] for step in steps] for name in ("gru/h_in", "x/rows"))
    else:
        arrays = dict(np.load(io.BytesIO(given["calibration.npz"])))
        states, inputs = list(arrays["gru/h_in"]), list(arrays["x/rows" if quantiser == "mnn" else "x"])
    assert len(states) == T * N
    places = [(t, n) for n in range(N) for t in range(T)]
    for (t, n), state, fed in zip(places, states, inputs, strict=True):
        assert np.abs(state.reshape(-1) - before[t, n]).max() < 1e-6
        assert (fed.reshape(-1) == x[t, n]).all()


def test_fewer_steps_are_spread_over_the_data() -> None:
    given, x, _ = files("onnxruntime", 5)
    found = dict(np.load(io.BytesIO(given["calibration.npz"])))["x"].reshape(-1, D)
    rows = np.swapaxes(x, 0, 1).reshape(-1, D)
    assert [int(np.abs(rows - row).sum(axis=1).argmin()) for row in found] == [0, 6, 13, 19, 26]


def test_the_table_of_tpu_mlir_has_the_range_of_every_blob() -> None:
    given, x, before = files("tpu-mlir", 3)
    lines = [line.split() for line in given["calibration_table.txt"].decode().splitlines() if line[0] != "#"]
    table = {name: tuple(map(float, numbers)) for name, *numbers in lines}
    assert table["x/rows"] == pytest.approx((np.abs(x).max(), x.min(), x.max()), rel=1e-5)
    assert table["gru/h_in"] == pytest.approx((np.abs(before).max(), before.min(), before.max()), rel=1e-4)
    net = given["gru.prototxt"].decode()
    tops = {line.split('"')[1] for line in net.splitlines() if line.strip().startswith("top:")}
    assert tops <= set(table)


def test_the_table_of_tpu_mlir_keeps_signs_and_no_range_is_zero() -> None:
    net = lstmc.compile("lmu", T=1, N=1, D=2, H=3, M=4, target="tpu-mlir", step=True)
    streamed = StreamedModel.from_data(
        net.source, net.backend, net.options, net.weights, {"x": np.zeros((3, 1, 2), np.float32)}
    )
    lines = streamed.calibration(calibration_for("tpu-mlir"), 2)["calibration_table.txt"].decode().splitlines()[1:]
    assert {line.split()[1] for line in lines} == {"0.00001"}  # its reader knows no exponents


def test_ncnn_has_the_range_of_what_each_product_reads() -> None:
    given, x, before = files("ncnn", 3)
    (line,) = (line for line in given["quantize.py"].decode().splitlines() if line.startswith("RANGES = "))
    ranges = ast.literal_eval(line.partition("= ")[2].partition("#")[0])
    assert ranges["gru/linear_W_x"] == pytest.approx(np.abs(x).max())
    assert ranges["gru/t000/linear_W_h"] == pytest.approx(np.abs(before).max(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_ncnn_runs_the_files_in_8_bits(cell: str) -> None:
    x = np.random.default_rng(0).standard_normal((30, 1, D))
    net = lstmc.compile(cell, T=1, N=1, D=D, H=H, target="ncnn")
    try:
        report = net.verify_numbers("int8", {"x": x}, reader="ncnn")
    except BackendError as error:
        if "not installed" in error.message or "caffe2ncnn" in error.message:
            pytest.skip(f"NOT CHECKED: ncnn in 8 bits: {error.message}")
        raise
    for each in report.reader:
        assert each.error.mean > 0
        assert each.ratio == pytest.approx(1.0, abs=0.02)


def test_a_blob_of_mnn_may_be_called_nan() -> None:
    tree = ast.parse(files("mnn", 1)[0]["quantize.py"])
    tree.body = [each for each in tree.body if getattr(each, "name", "") == "parsed"]
    words: dict[str, Any] = {"json": json, "re": re}
    exec(compile(tree, "quantize.py", "exec"), words)
    found = words["parsed"]('{"tensorName": ["x/inf", "nan", "a \\"inf"], "scale": [nan, -inf, -1.5e-3]}')
    assert found == {"tensorName": ["x/inf", "nan", 'a "inf'], "scale": [0.0, 0.0, -0.0015]}


@pytest.mark.slow
def test_mnn_runs_its_quantised_net_with_scales_of_the_extremes() -> None:
    @lstmc.model
    def front(x=lstmc.Input(*lstmc.dims("T N"), D), *, W=lstmc.Param(H, D, fill=lstmc.xavier())):  # type: ignore[no-untyped-def]
        fed = lstmc.relu(lstmc.linear(x, W))
        return {"y": lstmc.scan(lstmc.cells.lstm(H=H), lstmc.abs(fed - 0.3) + lstmc.softmax(fed))[0]}

    x = 3 * np.random.default_rng(0).standard_normal((30, 1, D))  # MNN takes the memory of x for values of less range
    report = lstmc.compile(front, T=1, N=1, target="mnn").verify_numbers("int8", {"x": x}, reader="mnn")
    assert all(each.error.mean > 0 and 1 / 1.2 < each.ratio < 1.2 for each in report.reader)


@pytest.mark.slow
def test_a_norm_of_small_numbers_has_the_other_sign_in_mnn() -> None:
    """Their mean square is rounded to 0: 1 / sqrt(0 + 1e-38) is beyond 32 bits, and MNN makes it the least integer."""
    n, size = lstmc.dims("N"), 6

    @lstmc.cell
    def squashed(x=lstmc.Input(n, size), h=lstmc.State(n, size)):  # type: ignore[no-untyped-def]
        return lstmc.rms_norm(x), {"h": lstmc.tanh(x + h)}

    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 1, size)) * np.exp(rng.uniform(-4, 1, (60, 1, 1)))
    report = lstmc.compile(squashed, T=2, N=1, target="mnn").verify_numbers("int8", {"x": x}, reader="mnn")
    assert 1 / 1.05 < report.reader[0].ratio < 1.05


@pytest.mark.slow
def test_mnn_rounds_an_exp_a_leaky_relu_and_the_sum_in_a_power() -> None:
    t, n = lstmc.dims("T N")

    @lstmc.model
    def functions(x=lstmc.Input(t, n, H), *, W=lstmc.Param(H, H, fill=lstmc.gaussian(0, 0.5))):  # type: ignore[no-untyped-def]
        y, _ = lstmc.scan(lstmc.cells.gru(H=H), x)
        outputs = lstmc.exp(-lstmc.abs(y)), lstmc.leaky_relu(lstmc.linear(y, W), 0.1), lstmc.log(1.5 + lstmc.abs(y))
        return dict(zip(("exp", "leaky", "log"), outputs, strict=True))

    x = np.random.default_rng(0).standard_normal((60, 1, H))
    report = lstmc.compile(functions, T=1, N=1, target="mnn").verify_numbers("int8", {"x": x}, reader="mnn")
    ratios = {each.error.name: each.ratio for each in report.reader}
    assert ratios == pytest.approx(dict.fromkeys(("exp", "leaky", "log"), 1.0), abs=0.02)


def test_streams_that_lack_a_blob_are_named(tmp_path: Path) -> None:
    for name, content in files("onnxruntime", 3)[0].items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "x.npz", X=np.ones((1, 4, 1, D)))
    command = [sys.executable, "quantize.py", "--stream", "x.npz", "--streamed", "y.npz"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "expected an array for each of the net's blobs x, gru/h_in: inputs [sequences, steps, ...]" in ended.stderr
    assert ended.stderr.endswith("found X\n")


def test_an_unknown_quantiser() -> None:
    with pytest.raises(BackendError, match="unknown quantiser: did you mean rknn"):
        calibration_for("rkn")


def test_the_command(lstmc: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((6, 2, 3)))
    command = "numbers calibrate --cell gru -D H=4 --data x.npz --quantiser rknn --steps 4 -o cal"
    ended = lstmc(*command.split())
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in (tmp_path / "cal" / "steps").iterdir())[:2] == ["0000-0.npy", "0000-1.npy"]
    other = lstmc("numbers", "calibrate", "--cell", "gru", "-D", "H=4", "--data", "x.npz", "--quantiser", "rkn")
    assert (other.code, other.err) == (2, "BackendError: --quantiser rkn: unknown quantiser: did you mean rknn?\n")
