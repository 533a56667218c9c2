"""``lstmc compile``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from lstmc.loops import native
from lstmc_caffe.proto.net import NetParameter
from lstmc_caffe.runtime.runner import Runner
from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=2")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_target_chooses_its_backend(lstmc: LSTMC, model_file: Path) -> None:
    assert lstmc("compile", str(model_file), *SIZES, "--target", "onnx", "-o", "made").code == 0
    assert set(contents(Path("made"))) == {"net.onnx", "net.manifest.json"}
    ended = lstmc("compile", str(model_file), *SIZES, "--backend", "caffe", "--target", "onnx")
    assert (ended.code, ended.err) == (
        2,
        "PluginError: --backend caffe: target onnx is one of backend onnx: give --backend onnx, or the target alone\n",
    )


def test_compile_writes_net_weights_and_manifest_and_says_so(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("compile", str(model_file), *SIZES, "-o", "made")
    assert (ended.code, ended.err) == (0, "")
    files = contents(Path("made"))
    assert list(files) == ["net.caffemodel", "net.manifest.json", "net.prototxt"]
    for name, content in files.items():
        assert f"made/{name}" in ended.out
        assert f"{len(content):,}" in ended.out
    layers = len(text_format.Parse(files["net.prototxt"].decode(), NetParameter()).layer)
    assert f"{layers} layers, 2 parameters, 28 weights" in ended.out
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["X", "X", "3", "x", "2", "x", "3"] in rows
    assert ["Y", "Y", "3", "x", "2", "x", "4"] in rows
    assert ["h_T", "step/t002/h", "2", "x", "4"] in rows


def test_same_input_gives_the_same_bytes(lstmc: LSTMC, model_file: Path) -> None:
    for folder in ("one", "two"):
        assert lstmc("compile", str(model_file), *SIZES, "--seed", "7", "-o", folder).code == 0
    assert contents(Path("one")) == contents(Path("two"))


def test_the_seed_changes_the_weights_alone(lstmc: LSTMC) -> None:
    sizes = ("-D", "T=2", "-D", "N=1", "-D", "D=3", "-D", "H=4")
    for seed in ("0", "1"):
        assert lstmc("compile", "--cell", "gru", *sizes, "--seed", seed, "-o", seed).code == 0
    changed = [name for name, content in contents(Path("0")).items() if content != Path("1", name).read_bytes()]
    assert changed == ["gru.caffemodel"]


def test_given_weights_are_in_the_caffemodel(lstmc: LSTMC, model_file: Path) -> None:
    given = {
        "step/W": np.arange(12, dtype=np.float32).reshape(4, 3),
        "step/U": -np.arange(16, dtype=np.float32).reshape(4, 4),
    }
    np.savez("w.npz", **given)
    assert lstmc("compile", str(model_file), *SIZES, "--weights", "w.npz").code == 0
    model = NetParameter.FromString(Path("net.caffemodel").read_bytes())
    manifest = json.loads(Path("net.manifest.json").read_text())
    layers = {layer.name: layer for layer in model.layer}
    for name, array in given.items():
        where = manifest["blobs"][name]
        blob = layers[where["layer"]].blobs[where["index"]]
        assert list(blob.shape.dim) == list(array.shape)
        assert np.array_equal(np.array(blob.data, np.float32).reshape(array.shape), array)


def test_a_cell_of_a_file_compiles_without_a_model(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("compile", f"{model_file}:step", *SIZES, "-D", "D=5", "-D", "H=2")
    assert ended.code == 0
    assert sorted(path.name for path in Path().glob("step.*")) == [
        "step.caffemodel",
        "step.manifest.json",
        "step.prototxt",
    ]


def test_dump_dir_gets_the_graph_after_every_pass(lstmc: LSTMC, model_file: Path) -> None:
    assert lstmc("compile", str(model_file), *SIZES, "--dump-dir", "dump").code == 0
    names = sorted(path.name for path in Path("dump").iterdir())
    assert names[:3] == ["00-model.lir", "01-roll_up.lir", "02-simplify.lir"]
    assert [name for name in names if "expand" in name]
    assert Path("dump", names[0]).read_text().startswith("# model: the model as it was written\n")


def test_a_part_of_the_api_is_found_before_all_of_it_is_imported() -> None:
    program = (
        "import lstmc.api; print(lstmc.api.installed.__name__, 'lstmc.api.compiling' in __import__('sys').modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("lstmc.api.installed False\n", "")


@pytest.mark.slow
def test_the_module_is_the_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "lstmc", "--help"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    for command in ("compile", "verify", "show", "cells", "targets", "doctor"):
        assert command in ended.stdout


def test_read_keeps_only_the_outputs_it_names(lstmc: LSTMC, model_file: Path) -> None:
    assert lstmc("compile", str(model_file), *SIZES, "--keep", "h_T").code == 0
    assert list(json.loads(Path("net.manifest.json").read_text())["outputs"]) == ["h_T"]
    refused = lstmc("compile", str(model_file), *SIZES, "--keep", "z")
    assert (refused.code, refused.err) == (
        2,
        "ModelFileError: --keep z: net has no such output: found Y, h_T\n",
    )


@pytest.mark.caffe
def test_tune_says_what_it_measured_and_remembers_it(
    lstmc: LSTMC, model_file: Path, caffe: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = caffe.location
    monkeypatch.setenv("LSTMC_CAFFE_PYTHON", str(installed.python))
    monkeypatch.setenv("LSTMC_CAFFE_PYTHONPATH", str(installed.pythonpath))
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").resolve()))
    first = lstmc("compile", str(model_file), *SIZES, "--tune")
    again = lstmc("compile", str(model_file), *SIZES, "--tune")
    assert (first.code, again.code) == (0, 0)
    assert first.out.startswith("forms, measured now\n")
    assert again.out.startswith("forms, as measured before\n")
    for form in ("rule", "unit", "packed", "separate-in-loop"):
        assert f"\n{form} " in first.out


@pytest.mark.caffe
def test_of_generated_layers_source_and_library_are_written(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("compile", "--cell", "gru", *SIZES, "-D", "D=4", "-D", "H=5", "--target", "caffe-fused")
    ended = lstmc(*asked, "-o", "made")
    assert (ended.code, ended.err) == (0, "")
    names = ["gru.caffemodel", "gru.layers.cpp", "gru.layers.cu", "gru.layers.so"]
    names += ["gru.manifest.json", "gru.prototxt"]
    assert list(contents(Path("made"))) == names
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    ended = lstmc(*asked, "-o", "without")
    assert (ended.code, ended.err) == (0, "")
    assert (
        "not built: generated layers are compiled, and g++ was not found\ninstall it: apt-get install g++\n"
        "target caffe needs none\n"
    ) in ended.out
    names.remove("gru.layers.so")
    assert list(contents(Path("without"))) == names


def test_an_example_is_written_beside_the_net_of_one_step(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("compile", str(model_file), *SIZES, "--step", "--target", "opencv", "--example", "cpp", "-o", "made")
    assert (ended.code, ended.err) == (0, "")
    assert "made/net_stream.cpp" in ended.out
    assert list(contents(Path("made"))) == ["net.caffemodel", "net.manifest.json", "net.prototxt", "net_stream.cpp"]


def test_two_examples_are_both_written(lstmc: LSTMC, model_file: Path) -> None:
    asked = ("--step", "--target", "opencv", "--example", "cpp", "--example", "python", "-o", "made")
    assert lstmc("compile", str(model_file), *SIZES, *asked).code == 0
    assert {"net_stream.cpp", "net_stream.py"} <= {*contents(Path("made"))}


def test_an_example_of_a_net_of_all_steps_is_refused_before_anything_is_written(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("compile", str(model_file), *SIZES, "--target", "opencv", "--example", "python", "-o", "made")
    assert (ended.code, ended.err, Path("made").exists()) == (
        2,
        "BackendError: --example python: expected a net of one step, found one of all steps\n"
        "  compile it with --step\n",
        False,
    )


def test_steps_that_were_written_out_are_a_scan(lstmc: LSTMC, tmp_path: Path) -> None:
    (tmp_path / "hand.py").write_text(
        "from lstmc import Input, Param, full, linear, model, tanh\n\n"
        "@model\n"
        "def hand(X=Input(4, 2, 3), *, W=Param(5, 3), U=Param(5, 5)):\n"
        "    h = full((2, 5), 0.0)\n"
        "    for t in range(4):\n"
        "        h = tanh(linear(X[t], W) + linear(h, U))\n"
        '    return {"h": h}\n'
    )
    said = lstmc("compile", str(tmp_path / "hand.py"), "-o", str(tmp_path)).out
    assert "4 steps that were written out became scan rolled; to see it as Python: lstmc show --after roll_up" in said
    shown = lstmc("show", str(tmp_path / "hand.py"), "--after", "roll_up", "--python").out
    assert 'scan(rolled_cell(name="rolled"), X_rows' in shown
