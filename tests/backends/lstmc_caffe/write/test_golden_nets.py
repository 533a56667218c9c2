"""The nets of the portable targets, word for word: ``make golden`` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.backend import load_backend
from lstmc.pipeline import compile_graph
from lstmc.weights import check_weights
from tests.backends.lstmc_caffe.nets import emitted
from tests.backends.lstmc_caffe.rows.models import CELLS, PORTABLE, graph_of
from tests.goldens.update import CELL_TARGETS, cells_path, golden_cells, golden_nets


@pytest.mark.parametrize(("path", "text"), [pytest.param(*found, id=found[0].name) for found in golden_nets()])
def test_a_golden_net(path: Path, text: str) -> None:
    assert path.read_text() == text


EACH = 4


@pytest.mark.parametrize(
    "target", [CELL_TARGETS[0], *(pytest.param(target, marks=pytest.mark.slow) for target in CELL_TARGETS[1:])]
)
def test_a_few_cells_are_no_larger_than_before(target: str) -> None:
    """Each cell on one of the targets; all of each are below, and tests/test_written.py has a few in each form."""
    found = [*golden_cells(target, CELL_TARGETS.index(target), EACH)]
    assert len(found) >= len(CELLS) // EACH
    expected = cells_path(target).read_text(encoding="utf-8").splitlines()
    assert [line for line in found if line not in expected] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("target", CELL_TARGETS)
def test_cells_are_no_larger_than_before(target: str) -> None:
    assert list(golden_cells(target)) == cells_path(target).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("target", PORTABLE)
@pytest.mark.parametrize("name", CELLS)
def test_weights_come_back_exactly(name: str, target: str, tmp_path: Path) -> None:
    compiled = compile_graph(graph_of(name, 3, 2), load_backend("caffe"), target)
    artifact, weights = emitted(compiled)
    for file, content in artifact.files.items():
        (tmp_path / file).write_bytes(content)
    base = tmp_path / compiled.name
    found, missing = load_backend("caffe").read_weights(Path(f"{base}.caffemodel"), Path(f"{base}.manifest.json"))
    assert missing == []
    for parameter, array in check_weights(found, compiled.model, "found").items():
        assert (array == weights[parameter]).all(), parameter
