"""Real notebooks, run by a real kernel: what their cells show is what a person sees. Those of the documentation too."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.walk

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"
SETUP = """\
import numpy as np
import lstmc

N = lstmc.dims("N")


@lstmc.model
def fits(X=lstmc.Input(N, 3), y=lstmc.Input(N, 1), W=lstmc.Param(1, 3)):
    found = lstmc.linear(X, W)
    return {"found": found, "loss": lstmc.euclidean_loss(found, y)}
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


@pytest.mark.slow
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


def executed(name: str, folder: Path) -> Any:
    """A notebook of the documentation, run in a folder; it raises where a cell does, and they assert what they say."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_the_notebook_of_a_first_net_shows_two_pictures(tmp_path: Path) -> None:
    _, rolled, unrolled, *_ = executed("first-net", tmp_path)
    assert all("image/svg+xml" in outputs[0]["data"] for outputs in (rolled, unrolled))


@pytest.mark.slow
def test_the_notebook_from_pytorch_to_opencv_runs(tmp_path: Path) -> None:
    assert "def gru_cell(" in executed("from-pytorch", tmp_path)[1][0]["text"]


@pytest.mark.caffe
def test_the_notebook_that_trains_shows_the_run_as_its_loss_curve(caffe: object, tmp_path: Path) -> None:
    *_, trained, right, again = executed("train", tmp_path)
    text = html(trained)
    assert "<b>first in run: finished after 200 iterations" in text
    picture = text.partition("data:image/png;base64,")[2].partition('"')[0]
    assert b64decode(picture) == (tmp_path / "run" / "loss.png").read_bytes()
    assert b64decode(picture).startswith(b"\x89PNG")
    assert right[0]["data"]["text/plain"].endswith(" of 50 are right'")
    assert "<td>InnerProduct</td>" in html(again)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_what_its_cells_show(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert "/tmp/" not in path.read_text(encoding="utf-8")
