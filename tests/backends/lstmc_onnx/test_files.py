"""ONNX files: written, checked, run, streamed, and read back, from the command line and from Python."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstmc as library
from lstmc.errors import BackendError, WeightsError
from lstmc_onnx import OnnxBackend, artifact
from lstmc_onnx.runtime import read_weights
from tests.cli.conftest import LSTMC, lstmc

__all__ = ["lstmc"]
SIZES = ("-D", "T=3", "-D", "N=2", "-D", "D=4", "-D", "H=5")
X = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)


def gru(**more: Any) -> library.Net:
    return library.compile("gru", **{"backend": "onnx", "T": 3, "N": 2, "D": 4, "H": 5, **more})


def interpreted(net: library.Net) -> dict[str, Any]:
    return net.run(x=X, on="interpreter")


def test_a_net_is_written_checked_run_and_read_back(lstmc: LSTMC) -> None:
    ended = lstmc("compile", "--cell", "gru", *SIZES, "--backend", "onnx", "-o", "net")
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in Path("net").iterdir()) == ["gru.manifest.json", "gru.onnx"]
    net = gru()
    np.savez("x.npz", x=X)
    ended = lstmc("run", "net/gru.onnx", "--inputs", "x.npz", "-o", "y.npz")
    assert ended.code == 0, ended.err
    with np.load("y.npz") as found:
        for name, array in interpreted(net).items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
    ended = lstmc("run", "net/gru.onnx", "--save-weights", "w.npz")
    assert ended.code == 0, ended.err
    with np.load("w.npz") as weights:
        assert set(weights) == set(net.weights)
        for name, array in net.weights.items():
            np.testing.assert_array_equal(weights[name], array)
    ended = lstmc("verify", "net/gru.onnx")
    assert ended.code == 0
    assert ended.out.startswith(
        f"gru.onnx: {net.artifact.layers} layers, target onnx: clean\nchecked against the target"
    )
    ended = lstmc("verify", "--cell", "gru", *SIZES, "--backend", "onnx")
    assert ended.code == 0
    assert "onnx-cpu (" in ended.out
    assert "5 gradients (an ONNX net has no backward pass)" in ended.out


def test_what_is_fed_and_read_is_told_with_its_shape(lstmc: LSTMC) -> None:
    ended = lstmc("compile", "--cell", "gru", *SIZES, "--backend", "onnx", "--step", "--json")
    told = json.loads(ended.out)
    assert told["feed"] == [
        {"name": "x", "blob": "x", "shape": "1 x 2 x 4"},
        {"name": "gru/h_in", "blob": "gru/h_in", "shape": "2 x 5"},
    ]
    assert [row["shape"] for row in told["read"]] == ["1 x 2 x 5", "2 x 5", "2 x 5"]


def test_a_step_is_run_again_and_again_with_its_states_as_inputs_and_outputs() -> None:
    whole, step = gru(), gru(step=True)
    wanted = whole.run(x=X, on="interpreter")["y"]
    model = onnx.load_model_from_string(step.files["gru.onnx"])
    assert [put.name for put in model.graph.input] == ["x", "gru/h_in"]
    assert [put.name for put in model.graph.output] == ["y", "h_T", "gru/h_out"]
    defaults = {tensor.name for tensor in model.graph.initializer}  # readers would take such an input for a constant
    assert defaults.isdisjoint(put.name for put in model.graph.input)
    with step.stream() as stream:
        for t in range(3):
            np.testing.assert_allclose(stream(x=X[t : t + 1])["y"][0], wanted[t], rtol=1e-5, atol=1e-6)


def test_names_are_the_model_s_and_the_same_input_gives_the_same_bytes() -> None:
    model = onnx.load_model_from_string(gru(form="unrolled").files["gru.onnx"])
    assert [put.name for put in model.graph.output] == ["y", "h_T"]
    assert "gru/t001/z" in {name for node in model.graph.node for name in node.output}
    assert gru().files == gru().files
    layer = onnx.load_model_from_string(gru().files["gru.onnx"])
    assert [(node.op_type, node.name) for node in layer.graph.node] == [
        *(("GRU", "gru"), ("Squeeze", "y"), ("Squeeze", "h_T"))
    ]
    loop = onnx.load_model_from_string(gru(form="scan").files["gru.onnx"])
    assert "gru" in {node.name for node in loop.graph.node if node.op_type == "Scan"}


def test_weights_of_another_file_take_the_place_of_the_net_s_own(tmp_path: Path) -> None:
    net, other = gru(), gru(seed=1)
    net.save(tmp_path)
    (tmp_path / "other.onnx").write_bytes(other.files["gru.onnx"])
    saved = library.load(tmp_path / "gru.onnx", weights=tmp_path / "other.onnx")
    np.testing.assert_allclose(saved.run(x=X)["y"], interpreted(other)["y"], rtol=1e-5, atol=1e-6)


def test_many_weights_lie_beside_the_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "MOST_BYTES", 100)
    net = gru()
    assert sorted(net.files) == ["gru.manifest.json", "gru.onnx", "gru.onnx.data"]
    assert len(net.files["gru.onnx.data"]) > 4 * 150
    net.save(tmp_path)
    saved = library.load(tmp_path / "gru.onnx")
    assert saved.lint()[1].violations == ()
    np.testing.assert_allclose(saved.run(x=X)["y"], interpreted(net)["y"], rtol=1e-5, atol=1e-6)
    found, absent = read_weights(tmp_path / "gru.onnx", tmp_path / "gru.manifest.json")
    assert (set(found), absent) == (set(net.weights), [])
    assert net.verify(on=["onnx-cpu"])


def test_operators_are_layers_in_memory_and_from_a_file(tmp_path: Path) -> None:
    net = gru(form="unrolled")
    net.save(tmp_path)
    saved = library.load(tmp_path / "gru.onnx")
    assert saved.layers == net.layers
    layers = {layer.name: layer for layer in gru(backend=OnnxBackend(open=())).layers}
    assert (layers["gru"].type, layers["gru"].tops) == ("GRU", ("gru/Y", "gru/Y_h"))
    assert layers["y"].shapes == ((3, 2, 5),)
    assert str(saved) == f"{tmp_path / 'gru.onnx'}: {net.artifact.layers} layers"
    assert "Squeeze" in gru()._repr_html_()
    (tmp_path / "gru.onnx").write_bytes(b"no net")
    with pytest.raises(BackendError) as caught:
        saved.layers  # noqa: B018
    assert caught.value.message.startswith(f"{tmp_path / 'gru.onnx'}: expected an ONNX model, found something else: ")


def test_a_file_that_is_no_net_or_another_one_is_said(tmp_path: Path, lstmc: LSTMC) -> None:
    gru().save(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no net")
    ended = lstmc("verify", str(tmp_path / "broken.onnx"), "--backend", "onnx")
    assert ended.code == 2
    assert "broken.onnx: expected an ONNX model, found something else: " in ended.err
    library.compile("rnn", backend="onnx", T=3, N=2, D=4, H=5).save(tmp_path)
    with pytest.raises(WeightsError) as caught:
        read_weights(tmp_path / "rnn.onnx", tmp_path / "gru.manifest.json")
    assert caught.value.message == f"{tmp_path / 'rnn.onnx'} is not this net"
    assert caught.value.notes[0] == "missing: initializer gru/W"


def test_the_linter_says_what_the_checker_and_onnx_runtime_say(tmp_path: Path) -> None:
    net = gru()
    model = onnx.load_model_from_string(net.files["gru.onnx"])
    model.graph.node[0].op_type = "Gate"
    onnx.save(model, tmp_path / "gate.onnx")
    (violation,) = library.load(tmp_path / "gate.onnx", backend="onnx").lint()[1].violations
    assert violation.reason == "onnx.checker refuses it"
    assert "Gate" in violation.found
    model.graph.node[0].domain = "elsewhere"
    model.opset_import.add(domain="elsewhere", version=1)
    onnx.save(model, tmp_path / "gate.onnx")
    (violation,) = library.load(tmp_path / "gate.onnx", backend="onnx").lint()[1].violations
    assert violation.reason == "ONNX Runtime on the CPU lacks it"
    assert "Gate" in violation.found


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package one that is not installed."""

    def hide(name: str) -> None:
        real = importlib.import_module

        def imported(module: str, package: str | None = None) -> Any:
            if module == name:
                raise ModuleNotFoundError(f"No module named '{name}'")
            return real(module, package)

        monkeypatch.setattr(importlib, "import_module", imported)

    return hide


def test_a_missing_extra_is_said_with_the_command_that_brings_it(without: Callable[[str], None], lstmc: LSTMC) -> None:
    whole = gru()
    without("onnxruntime")
    verified = whole.verify()
    assert verified.passed
    assert verified.not_run == {
        "onnx-cpu": "ONNX Runtime is needed for this and cannot be imported (No module named 'onnxruntime'):"
        " python -m pip install 'lstmc[onnx]'"
    }
    without("onnx")
    with pytest.raises(BackendError) as caught:
        gru()
    assert caught.value.message == (
        "The onnx package is needed for this and cannot be imported (No module named 'onnx'):"
        " python -m pip install 'lstmc[onnx]'"
    )
    found = {finding.subject: finding for finding in OnnxBackend().doctor()}
    assert not any(finding.found or finding.fix for finding in found.values())  # an extra: nothing is broken
    assert found["onnx"].detail == caught.value.message


def test_the_doctor_tells_of_both_packages(lstmc: LSTMC) -> None:
    found = {finding.subject: finding for finding in OnnxBackend().doctor()}
    assert all(finding.found for finding in found.values())
    assert found["onnx"].detail == f"{onnx.__version__}, opsets up to {onnx.defs.onnx_opset_version()}"


def test_losses_are_refused_with_the_reason(tmp_path: Path, lstmc: LSTMC) -> None:
    Path("m.py").write_text(
        "from lstmc import *\n\n@model\ndef net(X=Input(3, 4), label=Input(3), W=Param(5, 4)):\n"
        "    scores = linear(X, W)\n    return {'p': softmax(scores), 'loss': softmax_loss(scores, label)}\n"
    )
    assert lstmc("compile", "m.py", "--backend", "onnx").code == 0  # as it is deployed
    with pytest.raises(BackendError) as caught:
        library.compile(_model(), backend="onnx", phase="all")
    assert caught.value.message == (
        "softmax_loss is for training, and ONNX nets are not trained: expected the model as it is deployed, without"
        " losses and scores"
    )


def _model() -> Any:
    words: dict[str, Any] = {}
    exec(compile(Path("m.py").read_text(), "m.py", "exec"), words)
    return words["net"]
