"""The package of plugin_example, really built and installed: its op, layer, cell and backend are used as ours are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lstmc.ir import Stage, parse_graph, verify
from lstmc.runs.metrics import read_metrics

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "plugin_example"
SIZES = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
MODEL = """\
from lstmc import Input, dims, linear, model, euclidean_loss, scan, Param, xavier
from lstmc_plugin_example.cells import minimal_gated

T, N = dims("T N")


@model
def net(X=Input(T, N, 3), target=Input(N, 1), *, V=Param(1, 4, fill=xavier())):
    _, last = scan(minimal_gated(H=4), X)
    y = linear(last["h"], V)
    return {"y": y, "loss": euclidean_loss(y, target)}
"""
Run = Callable[..., str]

pytestmark = [pytest.mark.slow, pytest.mark.walk]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example is installed, built without a download: setuptools is a test dependency."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")  # setuptools writes beside what it builds
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--target", str(folder / "site"), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / "site"


@pytest.fixture
def python(site: Path, tmp_path: Path) -> Run:
    """Runs ``python ARGS...`` where the example is installed beside lstmc."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments: str, folder: Path = tmp_path, code: int = 0) -> str:
        command = [sys.executable, *arguments]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "PYTHONPATH": path}
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    return run


def test_its_cell_is_listed_and_verified(python: Run) -> None:
    assert "minimal_gated" in python("-m", "lstmc", "cells")
    verified = python("-m", "lstmc", "verify", "--cell", "minimal_gated", *SIZES, "--on", "interpreter")
    assert "interpreter: all " in verified


@pytest.mark.caffe
def test_its_op_runs_in_real_caffe_as_its_layer(python: Run, caffe: object, tmp_path: Path) -> None:
    verified = python("-m", "lstmc", "verify", "--cell", "minimal_gated", *SIZES, "--on", "caffe-cpu")
    assert "caffe-cpu (" in verified
    python("-m", "lstmc", "compile", "--cell", "minimal_gated", *SIZES, "-o", str(tmp_path))
    text = (tmp_path / "minimal_gated.prototxt").read_text()
    assert text.count('type: "Exp"') == text.count("exp_param {") == text.count("base: 2\n") == 3


@pytest.mark.caffe
def test_its_op_is_trained_in_real_caffe(python: Run, caffe: object, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 8, 3))
    np.savez(tmp_path / "data.npz", X=X, target=X.sum(axis=(0, 2))[:, None])
    settings = ("--solver", "max_iter=30", "--solver", "base_lr=0.05", "--solver", "type=Adam", "-o", "run")
    python("-m", "lstmc", "train", "net.py", "--data", "data.npz", "-D", "T=3", "-D", "N=8", *settings)
    losses = [record["loss"] for record in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in record]
    assert losses[-1] < 0.5 * losses[0]


def test_its_backend_writes_a_text_that_is_read_again(python: Run, tmp_path: Path) -> None:
    assert "text" in python("-m", "lstmc", "targets")
    for cell in ("gru", "minimal_gated"):
        python("-m", "lstmc", "compile", "--cell", cell, *SIZES, "--backend", "text", "-o", str(tmp_path))
    verify(parse_graph((tmp_path / "gru.lir").read_text()), Stage.EXPANDED)
    text = (tmp_path / "minimal_gated.lir").read_text()
    assert "example.exponential(" in text
    script = "from lstmc.ir import *; t = open('minimal_gated.lir').read(); assert print_graph(parse_graph(t)) == t"
    python("-c", script)


def test_its_target_is_compiled_for_and_its_rules_are_held(python: Run, tmp_path: Path) -> None:
    assert "example" in python("-m", "lstmc", "targets")
    python("-m", "lstmc", "compile", "--cell", "minimal_gated", *SIZES, "--target", "example", "-o", str(tmp_path))
    text = (tmp_path / "minimal_gated.prototxt").read_text()
    assert text.count("base: 2\n") == 3
    python("-m", "lstmc", "verify", "minimal_gated.prototxt", "--target", "example")
    (tmp_path / "other.prototxt").write_text(text.replace("base: 2\n", "base: 3\n", 1))
    said = python("-m", "lstmc", "verify", "other.prototxt", "--target", "example", code=1)
    assert "the reader takes powers of 2 only" in " ".join(said.split())


def test_its_pass_runs_where_it_says_and_brings_its_op_to_onnx(python: Run) -> None:
    (row,) = json.loads(python("-m", "lstmc", "targets", "--json"))["passes"]
    assert row == {
        "pass": "exponential_as_exp",
        "where": "before simplify:1, backend onnx",
        "what_it_does": "A power with a variable exponent is an exponential.",
    }
    listed = python("-m", "lstmc", "show", "--passes", "--backend", "onnx").split()
    assert listed[:6] == ["1", "roll_up", "2", "exponential_as_exp", "3", "simplify:1"]
    assert "exponential_as_exp" not in python("-m", "lstmc", "show", "--passes")
    verified = python("-m", "lstmc", "verify", "--cell", "minimal_gated", *SIZES, "--backend", "onnx")
    assert "onnx-cpu (" in verified


def test_its_format_is_imported(python: Run, tmp_path: Path) -> None:
    rnn = {"kind": "rnn", "W": [[0.1, 0.2, -0.3], [0.3, 0.1, 0.2]], "R": [[0.1, -0.2], [0.2, 0.5]], "b": [0.1, 0.2]}
    dense = {"kind": "dense", "W": [[1.0, -1.0]], "b": [0.5]}
    (tmp_path / "net.json").write_text(json.dumps({"example layers": [rnn, dense]}))
    sizes = ("-D", "T=3", "-D", "N=2", "--on", "interpreter")
    converted = python("-m", "lstmc", "convert", "net.json", "-o", "out", *sizes)
    assert "net.json (the example's layers)" in " ".join(converted.split())
    assert 'scan(rnn_cell(H=2, name="rnn_0"), X)' in (tmp_path / "out" / "model.py").read_text()
    (tmp_path / "net.json").write_text(json.dumps({"example layers": [rnn, {"kind": "lstm"}]}))
    script = "from lstmc.importers import *\ntry: import_file('net.json')\nexcept RefusedError as e: print(*e.refusals)"
    assert python("-c", script) == "layer 1: kind = lstm: there are dense and rnn; use one of them\n"


def test_its_ops_keep_the_contract(python: Run) -> None:
    contract = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/test_contract.py", "-k", "example")
    ended = python(*contract, folder=ROOT)
    assert "failed" not in ended
    assert int(ended.split(" passed")[0].split()[-1]) >= 20  # two ops


def test_a_doctor_finds_nothing_wrong_with_it(python: Run) -> None:
    script = "from lstmc.backend import plugin_faults; from lstmc_caffe.legalize.rules import rules; "
    assert python("-c", script + "print(list(plugin_faults()), dict(rules().faults))") == "[] {}\n"
