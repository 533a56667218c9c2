"""A real notebook, run by a real kernel: what its cells show is what a person sees."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SETUP = """\
import numpy as np
import lstmc

N = lstmc.dims("N")


@lstmc.model
def fits(X=lstmc.Input(N, 3), y=lstmc.Input(N, 1), W=lstmc.Param(1, 3)):
    found = lstmc.linear(X, W)
    return {"found": found, "loss": lstmc.euclidean_loss(found, y)}
"""
TRAIN = """\
X = np.random.default_rng(0).normal(size=(40, 3))
data = {"X": X, "y": X @ [[1], [2], [3]]}
run = lstmc.train(fits, data, N=10, out="run", solver={"base_lr": 0.1, "max_iter": 50})
run
"""
REFUSED = "try:\n    lstmc.compile(fits)\nexcept lstmc.errors.DimError as error:\n    print(error)\n"


def shown(*cells: str, folder: Path) -> list[list[Any]]:
    """The outputs of each cell of a notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [cell.outputs for cell in notebook.cells]


def html(outputs: list[Any]) -> str:
    (output,) = outputs
    return str(output["data"]["text/html"])


def test_a_net_and_a_verification_are_tables(tmp_path: Path) -> None:
    _, net, verified, refused = shown(
        SETUP, 'lstmc.compile("lstm", T=2, N=1, D=3, H=4)', 'lstmc.compile(fits, N=2).verify(on=["interpreter"])',
        REFUSED, folder=tmp_path,
    )  # fmt: skip
    assert "<b>lstm for caffe: " in html(net)
    assert "<th>layer</th><th>type</th><th>bottoms</th><th>tops</th><th>shapes</th>" in html(net)
    assert "<tr><td>x</td><td>Input</td><td></td><td>x</td><td>2 x 1 x 3</td></tr>" in html(net)
    assert html(net).count("<tr>") == html(net).count("</tr>") > 8
    assert "<b>interpreter: all " in html(verified)
    assert "<td>output</td><td>found</td>" in html(verified)
    (said,) = refused
    assert said["text"].startswith("DimError: dimension N of input X [N, 3] is not bound: give it a size with N=SIZE\n")
    assert "    def fits(X=lstmc.Input(N, 3)" in said["text"]  # the line of the notebook's own cell


@pytest.mark.caffe
def test_a_run_is_its_loss_curve(caffe: object, tmp_path: Path) -> None:
    _, trained, again = shown(SETUP, TRAIN, 'lstmc.load("run/fits.prototxt")', folder=tmp_path)
    text = html(trained)
    assert "<b>fits in run: finished after 50 iterations</b>" in text
    picture = text.partition("data:image/png;base64,")[2].partition('"')[0]
    assert b64decode(picture) == (tmp_path / "run" / "loss.png").read_bytes()
    assert b64decode(picture).startswith(b"\x89PNG")
    assert "<td>InnerProduct</td>" in html(again)
