"""Faults planted in the files of a net in C: verification runs these files, and reports the function that is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, State, cell, dims, model, scan, tanh, uniform
from lstmc.backend import Artifact
from lstmc.errors import BackendError
from lstmc.verification.differential import check_scales as check
from lstmc.verification.report import Report
from lstmc.weights import random_weights
from lstmc_c import CBackend
from lstmc_c.backend import GccExecutor
from lstmc_c.numbers import FLOAT32, Numbers

T, N, D = dims("T N D")


@cell
def three(x=Input(N, D), h=State(N, D), g=State(N, D, fill=np.array([1.0, 2.0, 3.0])), k=State(N, D, fill=0.5)):
    h = tanh(0.5 * h + x * g) + k
    return h, {"h": h, "g": 0.9 * g, "k": 0.1 * h}


@model
def net(X=Input(T, N, D), bias=Input(N, D), *, h_0=Param(D, fill=uniform(-1, 1))):
    y, last = scan(three(), X, init={"h": h_0})
    return {"y": y + bias, "h_T": last["h"]}


def compiled(**options: Any) -> lstmc.Net:
    return lstmc.compile(net, N=1, D=3, **{"backend": "c", **options})


def with_text(artifact: Artifact, old: str, new: str) -> Artifact:
    source = artifact.files["net.c"].decode()
    assert source.count(old) == 1, source
    return replace(artifact, files={**artifact.files, "net.c": source.replace(old, new).encode()})


def checked(old: str, new: str, in_file: bool = False) -> Report:
    made = compiled(backend=CBackend(weights_in_file=in_file))
    weights = random_weights(made.compiled.model)
    artifact = made.backend.emit(made.compiled, weights)
    assert check(made.compiled, artifact, weights, GccExecutor()).passed
    return check(made.compiled, with_text(artifact, old, new), weights, GccExecutor())


def wrong(report: Report) -> set[str]:
    return {f"{d.kind} {d.name}" for d in report.differences if not d.passed}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("state->k[i] = 0.5f", "state->k[i] = 0.501f"),
        ("i < 3; ++i) state->k", "i < 2; ++i) state->k"),
        ("state->g[i] = g_first[i]", "state->g[i] = g_first[0]"),
        ("state->h[i] = h_first[i]", "state->h[i] = 0.0f"),
    ],
)
def test_a_wrong_reset(old: str, new: str) -> None:
    report = checked(old, new)
    assert wrong(report) == {"function net_reset"}
    assert report.place == "c-cpu (net.c, net.h: net_reset, net_step, net_block)"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("i < steps;", "i + 1 < steps;"),
        ("    X += 3;\n", ""),
        ("    y += 3;\n", "    y += 2;\n"),
        ("    X += 3;\n", "    X += 3;\n    bias += i ? 0 : 1;\n"),
        ("    X += 3;\n", "    X += 3;\n    if (i == 1) net_reset(state);\n"),
    ],
)
def test_a_wrong_block(old: str, new: str) -> None:
    assert wrong(checked(old, new)) == {"function net_block"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("== weights->checksum ? weights : 0", "== weights->checksum ? weights : weights"),
        ("(uintptr_t)data % 4 != 0 || ", ""),
        ("weights->layout != ", "weights->layout == 0u * "),
    ],
)
def test_a_wrong_open(old: str, new: str) -> None:
    report = checked(old, new, in_file=True)
    assert wrong(report) == {"function net_open"}
    assert report.place == "c-cpu (net.c, net.h, net.bin: net_open, net_reset, net_step, net_block)"


def test_an_open_that_takes_no_file() -> None:
    with pytest.raises(BackendError, match=r"not the weights of net\.c"):
        checked("== weights->checksum ? weights : 0", "== weights->checksum ? 0 : weights", in_file=True)


@model(states={"h": "h_next"})
def frame(x=Input(2, 3), gain=Input(1), h=Input(2, 3)):
    h_next = tanh(x + h)
    return {"y": h_next * gain, "h_next": h_next}


def test_a_model_of_one_step() -> None:
    made = lstmc.compile(frame, backend="c")
    assert check(made.compiled, made.artifact, {}, GccExecutor()).passed
    source = made.files["frame.c"].decode()
    for name, old, new in (("reset", "= 0.0f;", "= 0.1f;"), ("block", "    gain += 1;\n", "")):
        assert source.count(old) == 1
        content = source.replace(old, new).encode()
        report = check(
            made.compiled, replace(made.artifact, files={**made.files, "frame.c": content}), {}, GccExecutor()
        )
        assert wrong(report) == {f"function frame_{name}"}


def test_a_fault_for_large_operands() -> None:
    fault = checked("const float a = within(x, -", "x = x > 5.0f ? 0.9f : x;\n  const float a = within(x, -")
    found = wrong(fault)
    assert "output y, of inputs x 8" in found
    assert not {name for name in found if "of inputs x 8" not in name}


def test_a_step_that_remembers() -> None:
    """What a step keeps outside of its states shows at another step only."""
    begin = "  (void)work;\n"
    report = checked(begin, f"  static float last;\n{begin}  state->k[0] += last;\n  last = 1.0f;\n")
    assert wrong(report)


@pytest.mark.parametrize("numbers", ["float32", "c-int8-weights", "c-fp16-weights", "c-a16w8", "c-a8w8"])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_right_net_agrees(numbers: str, in_file: bool) -> None:
    exact = compiled()
    rng = np.random.default_rng(0)
    data = {"X": rng.normal(size=(50, 2, 3)), "bias": rng.normal(size=(2, 3))}
    chosen = FLOAT32 if numbers == "float32" else Numbers.of(numbers, exact.ranges(data) if "c-a" in numbers else None)
    made = compiled(backend=CBackend(chosen, in_file), weights=dict(exact.weights))
    verification = made.verify(on=["c-cpu"])
    assert verification, verification
    names = {d.name for d in verification.reports[0].differences if d.kind == "function"}
    conversions = [f"net_quantize_{x}" for x in ("X", "bias")] + [f"net_dequantize_{y}" for y in ("y", "h_T")]
    assert names == {
        *("net_reset", "net_step", "net_block"),
        *(["net_open"] if in_file else []),
        *(conversions if "c-a" in numbers else []),
    }


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("quantize_X", "quantized(numbers[i], ", "quantized(numbers[i], 1.001f * "),
        ("quantize_bias", "32767.0f);\n}\n\nvoid net_dequantize_y", "32766.0f);\n}\n\nvoid net_dequantize_y"),
        ("dequantize_h_T", "numbers[i] = ", "numbers[i] = 1.0001f * "),
    ],
)
def test_a_wrong_conversion_of_integers(function: str, old: str, new: str) -> None:
    exact = compiled()
    data = {"X": np.random.default_rng(0).normal(size=(50, 2, 3)), "bias": np.ones((2, 3))}
    made = compiled(backend=CBackend(Numbers.of("c-a16w8", exact.ranges(data))), weights=dict(exact.weights))
    source = made.files["net.c"].decode()
    at = source.index(f"void net_{function}(") if "quantize_bias" not in function else 0
    changed = source[:at] + source[at:].replace(old, new, 1)
    artifact = replace(made.artifact, files={**made.files, "net.c": changed.encode()})
    assert changed != source
    assert wrong(check(made.compiled, artifact, made.weights, GccExecutor(made.backend.numbers))) == {
        f"function net_{function}"
    }
