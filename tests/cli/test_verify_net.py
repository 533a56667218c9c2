"""``lstmc verify MODEL --net FILE``: the files of a written net against its model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import lstmc as library
from lstmc_caffe.proto.net import RawNet
from tests.cli.conftest import LSTMC

GRU = ("--cell", "gru", "-D", "T=3", "-D", "N=1", "-D", "D=2", "-D", "H=3")


@pytest.mark.parametrize(
    ("given", "written", "net"),
    [
        ((), ("--target", "flat"), "gru.prototxt"),
        ((), ("--backend", "onnx"), "gru.onnx"),
        (("--step",), ("--backend", "c"), "gru.c"),
    ],
)
def test_the_manifest_names_backend_and_target(
    given: tuple[str, ...], written: tuple[str, ...], net: str, lstmc: LSTMC
) -> None:
    assert lstmc("compile", *GRU, *given, *written).code == 0
    found = lstmc("verify", *GRU, *given, "--net", net, "--on", "interpreter")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(f"{net}: all ")
    manifest = Path("gru.manifest.json")
    manifest.write_text(manifest.read_text().replace('"y"', '"z"'))
    found = lstmc("verify", *GRU, *given, "--net", net, "--on", "interpreter", "--json")
    assert found.code == 1
    assert any("manifest outputs y" in remark for remark in json.loads(found.out)["remarks"])


def test_of_long_lines_the_part_that_differs_is_shown(lstmc: LSTMC) -> None:
    written = (*GRU, "--step", "--backend", "c", "-O", "weights=file")
    lstmc("compile", *written)
    source = Path("gru.c")
    source.write_text(source.read_text().replace("% 4 != 0", "% 8 != 0", 1))
    found = lstmc("verify", *written, "--net", "gru.c", "--on", "interpreter")
    assert found.code == 1
    assert "% 4 != 0" in found.out
    assert "% 8 != 0" in found.out


def test_weights_beside_the_model_are_named_and_so_is_a_missing_file(lstmc: LSTMC, model_file: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez("weights.npz", **{"step/W": rng.normal(size=(4, 3)), "step/U": rng.normal(size=(4, 4))})
    sizes = ("-D", "T=3", "-D", "N=2")
    lstmc("compile", "net.py", *sizes, "--weights", "weights.npz")
    found = lstmc("verify", "net.py", *sizes, "--net", "net.prototxt", "--on", "interpreter")
    assert found.code == 1
    assert found.out.endswith("weights.npz is not used. To use it: --weights weights.npz\n")
    given = ("--weights", "weights.npz", "--on", "interpreter")
    assert lstmc("verify", "net.py", *sizes, "--net", "net.prototxt", *given).code == 0
    Path("net.manifest.json").unlink()
    found = lstmc("verify", "net.py", *sizes, "--net", "net.prototxt", *given)
    assert (found.code, "net.manifest.json: no such file beside the net\n" in found.out) == (1, True)
    found = lstmc("verify", "net.py", *sizes, "--net", "none.prototxt", *given)
    assert (found.code, found.err.partition(":")[2].startswith(" none.prototxt: no such file")) == (2, True)


def test_a_damaged_file_of_weights_beside_a_net_is_named(lstmc: LSTMC) -> None:
    lstmc("compile", *GRU)
    Path("gru.caffemodel").write_bytes(b"garbage!!")
    found = lstmc("verify", "gru.prototxt")
    assert (found.code, "gru.caffemodel beside it: expected a caffemodel" in found.err) == (2, True)


def test_weights_of_another_type_differ(lstmc: LSTMC) -> None:
    """Zeros have the same bytes in int32; bfloat16 is no type of NumPy; a parameter of PyTorch needs a gradient."""
    given = (*GRU, "--weights", "zeros.npz")
    net = library.compile("gru", T=3, N=1, D=2, H=3)
    np.savez("zeros.npz", **{name: np.zeros_like(array) for name, array in net.weights.items()})
    for backend in ("onnx", "torch"):
        assert lstmc("compile", *given, "--backend", backend, "-o", ".").code == 0
    model = onnx.load("gru.onnx")
    for tensor in model.graph.initializer:
        tensor.data_type = onnx.TensorProto.INT32 if tensor.data_type == onnx.TensorProto.FLOAT else tensor.data_type
    onnx.save(model, "gru.onnx")
    found = lstmc("verify", *given, "--net", "gru.onnx", "--on", "interpreter")
    assert (found.code, "of float32, found an array" in found.out) == (1, True)
    state = torch.load("gru_torch.pt")
    torch.save({name: torch.nn.Parameter(value) for name, value in state.items()}, "gru_torch.pt")
    checked = ("verify", *given, "--net", "gru_torch.py", "--on", "interpreter")
    assert lstmc(*checked).code == 0
    torch.save({name: value.bfloat16() for name, value in state.items()}, "gru_torch.pt")
    found = lstmc(*checked)
    assert (found.code, "expected torch.float32, found torch.bfloat16" in found.out) == (1, True)


def test_copies_of_a_weight_that_differ_are_a_finding_and_a_warning(lstmc: LSTMC) -> None:
    lstmc("compile", *GRU)
    clean = lstmc("verify", "gru.prototxt")
    assert clean.code == 0
    assert "weights were not compared: `lstmc verify MODEL --net gru.prototxt`" in clean.out
    assert lstmc("run", "gru.prototxt", "--save-weights", "w.npz").err == ""
    stored = RawNet.FromString(Path("gru.caffemodel").read_bytes())
    (copy,) = (layer for layer in stored.layer if layer.name == "gru/t002/linear_U")
    copy.blobs[0].data = np.float32(0.5).tobytes() + copy.blobs[0].data[4:]
    Path("gru.caffemodel").write_bytes(stored.SerializeToString())
    found = lstmc("verify", "gru.prototxt")
    assert found.code == 1
    text = "gru/t002/linear_U (InnerProduct): found other numbers of gru/U; expected those of layer gru/t001/linear_U"
    assert text in found.out
    with pytest.warns(UserWarning, match="gru/U is read from layer gru/t001/linear_U; layer gru/t002/"):
        lstmc("run", "gru.prototxt", "--save-weights", "w.npz")


def test_a_damaged_initializer_is_named(lstmc: LSTMC) -> None:
    given = (*GRU, "--backend", "onnx")
    assert lstmc("compile", *given).code == 0
    model = onnx.load("gru.onnx")
    model.graph.initializer[0].raw_data = b""
    onnx.save(model, "gru.onnx")
    found = lstmc("verify", *given, "--net", "gru.onnx", "--on", "interpreter")
    damaged = "gru.onnx: tensor gru/W of shape [1, 9, 2] is damaged: cannot reshape array of size 0 into shape (1,9,2)"
    assert (found.code, found.out.splitlines()[-1]) == (1, damaged)
