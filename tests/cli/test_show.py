"""``lstmc show``, ``cells``, ``backends`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.backend import find_cells, load_backend
from lstmc.ir import Stage, parse_graph, verify
from lstmc.pipeline import all_passes
from lstmc_caffe.ops import CAFFE_OPS
from lstmc_caffe.run.runner import Runner
from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=2")


@pytest.mark.parametrize(
    ("wanted", "stage"),
    [
        ((), Stage.MODEL),
        (("--after", "simplify"), Stage.MODEL),
        (("--after", "4"), Stage.MODEL),
        (("--after", "legalize"), Stage.LEGAL),
        (("--stage", "legal"), Stage.LEGAL),
        (("--stage", "expanded"), Stage.EXPANDED),
    ],
)
def test_show_prints_a_graph_that_parses_and_is_legal(
    lstmc: LSTMC, model_file: Path, wanted: tuple[str, ...], stage: Stage
) -> None:
    ended = lstmc("show", str(model_file), *SIZES, *wanted)
    assert (ended.code, ended.err) == (0, "")
    graph = parse_graph(ended.out, CAFFE_OPS)
    verify(graph, stage, None if stage is Stage.MODEL else CAFFE_OPS)


def test_show_of_a_pass_that_does_not_exist(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("show", str(model_file), *SIZES, "--after", "hoover")
    assert ended.code == 2
    names = ["model", *(step.name for step in all_passes(load_backend("caffe")))]
    passes = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    assert ended.err == f"PassError: nothing is --after hoover: expected one of {passes}\n"


def test_cells_lists_every_library_cell_with_its_shapes(lstmc: LSTMC) -> None:
    ended = lstmc("cells")
    assert (ended.code, ended.err) == (0, "")
    names = [line.split()[0] for line in ended.out.splitlines() if line.strip()]
    assert set(find_cells()) <= set(names)
    assert "W_x [4*H, D]" in ended.out


def test_backends_lists_the_targets(lstmc: LSTMC) -> None:
    ended = lstmc("backends")
    assert (ended.code, ended.err) == (0, "")
    assert ["caffe", "caffe", "training"] in [line.split()[:3] for line in ended.out.splitlines()]


@pytest.mark.caffe
def test_doctor_finds_caffe(lstmc: LSTMC, caffe: Runner) -> None:
    ended = lstmc("doctor")
    assert (ended.code, ended.err) == (0, "")
    assert "Caffe in use" in ended.out
    assert "GPU" in ended.out


def test_doctor_names_what_is_missing_and_exits_with_1(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMC_CAFFE_PYTHON", "/no/such/python")
    ended = lstmc("doctor")
    assert ended.code == 1
    assert "missing" in ended.out
    assert "python -m lstmc_caffe.install" in ended.out
