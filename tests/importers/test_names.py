"""Names that are no names in Python or C, from the file to numbers: digits, keywords, slashes, quotes, spaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import LSTMC, lstmc  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch, about its weights
T, D, H = 5, 3, 4


def graph(x: str, h: str, y: str, last: str, w: str) -> onnx.ModelProto:
    """A GRU with a first state, each of its values by a name of its own."""
    draw = np.random.default_rng(0)
    shapes = {w: (1, 3 * H, D), f"{w}/R": (1, 3 * H, H)}
    held = [numpy_helper.from_array(draw.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("GRU", [x, *shapes, "", "", h], [f"{y}4", last], name=y, hidden_size=H),
        helper.make_node("Squeeze", [f"{y}4", "axis"], [y]),
    ]
    held.append(numpy_helper.from_array(np.array([1]), "axis"))
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
        for values in ({x: [T, 1, D], h: [1, 1, H]}, {y: [T, 1, H], last: [1, 1, H]})
    )
    model = helper.make_graph(nodes, "1/g x", inputs, outputs, held)
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Named(torch.nn.Module):  # type: ignore[misc]
    """A GRU whose inputs and outputs have such names."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(D, H)

    def forward(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        y, last = self.gru(given["class"])
        return {"0": y + given["1 in"], "return": last, "a/b.c d": 2 * y}


FILES = {
    "digits and keywords": ("0", "class", "1", "return", "def"),
    "of Python's and C's own": ("self", "double", "torch", "main", "np"),
    "marks": ("a/b.c d", "a/b.c-d", "out/0:0", "é\"'\n", "w\\n"),
}


MIXED = ("0", "double", "a/b.c d", "é\"'\n", "def")


def on_targets() -> Iterator[Any]:
    """All files on all targets; what is built with PyTorch's headers, for seconds, is of one file in ``make test``."""
    for case, names in FILES.items():
        for target in ("flat", "c", "onnx"):
            yield pytest.param(names, ("--target", target), id=f"{case}-{target}")
        yield pytest.param(names, ("--target", "torch", "--on", "torch-steps"), id=f"{case}-torch-steps")
        yield pytest.param(names, ("--target", "torch"), id=f"{case}-torch", marks=pytest.mark.exhaustive)
    yield pytest.param(MIXED, ("--target", "torch"), id="mixed-torch", marks=pytest.mark.slow)


@pytest.mark.parametrize(("names", "options"), [*on_targets()])
def test_onnx(names: tuple[str, ...], options: tuple[str, ...], lstmc: LSTMC, tmp_path: Path) -> None:  # noqa: F811
    onnx.save(graph(*names), tmp_path / "m.onnx")
    ended = lstmc("convert", "m.onnx", "-o", "net", *options)
    assert ended.code == 0, ended.err
    assert "model.py by ONNX Runtime: all 2 agree" in ended.out


def test_a_program_and_its_stream(lstmc: LSTMC, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("cv2")
    given = {"class": torch.randn(T, 1, D), "1 in": torch.randn(1, 1, H)}
    model = Named().eval()
    torch.export.save(torch.export.export(model, (given,)), tmp_path / "m.pt2")
    ended = lstmc("convert", "m.pt2", "-o", "net", "--step", "--target", "opencv", "--example", "python")
    assert ended.code == 0, ended.err
    program = (tmp_path / "net" / "net_stream.py").read_text()
    order = program[program.index("INPUTS = {") : program.index("OUTPUTS")]
    whole = [given["class"].numpy().reshape(T, D), np.tile(given["1 in"].numpy().reshape(1, H), (T, 1))]
    rows = np.concatenate(whole if order.index("class") < order.index("in") else whole[::-1], 1)
    lines = "\n".join(" ".join(map(str, row)) for row in rows)
    ran = subprocess.run(
        [sys.executable, "net/net_stream.py"], input=lines, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    found = np.array([line.split() for line in ran.stdout.splitlines()], np.float32)
    wanted = [value.detach().numpy().reshape(-1, H) for value in model(given).values()]
    assert found.shape == (T, 3 * H)
    np.testing.assert_allclose(found[:, :H], wanted[0], atol=1e-5)
    np.testing.assert_allclose(found[-1, H : 2 * H], wanted[1][0], atol=1e-5)
    np.testing.assert_allclose(found[:, 2 * H :], wanted[2], atol=1e-5)
