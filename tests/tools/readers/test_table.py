"""The grid of readers: its nets, what becomes of them, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.readers.known import load_reader
from tools.readers import table
from tools.readers.grid import Case, cases, outcomes


def test_the_grid_has_every_cell_whole_and_by_the_step() -> None:
    found = cases()
    assert len(found) == len(set(found)) == 4 * len({case.cell for case in found})
    assert str(Case("gru", True, 2)) == "gru N=2 --step"


def test_what_becomes_of_nets_in_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [Case("gru", False, 2), Case("conv_gru", False, 1), Case("ntm", True, 2)]
    monkeypatch.setattr("tools.readers.grid.cases", lambda: nets)
    executor = ReaderExecutor(load_reader("opencv"))
    (right, refused, random) = outcomes(executor, "opencv", 60)
    executor.close()
    assert right[:3] == (nets[0], "right", "")
    assert 0 < right[3] < 1e-5
    assert refused[:2] == (nets[1], "not written")
    assert refused[2].startswith("target opencv has no Convolution layer, which %conv")
    assert random[:2] == (nets[2], "not judged")  # the places that it looks at are no numbers below zero
    assert random[2].startswith("the model itself is not finite with these inputs and parameters: ")


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [
        {"net": "gru N=1", "outcome": "right", "said": "", "off": 2e-7},
        {"net": "gru N=2", "outcome": "wrong", "said": "", "off": 0.5},
        {"net": "lstm N=2", "outcome": "refused", "said": "no | TanH", "off": 0.0},
        {"net": "ntm N=2", "outcome": "not written", "said": "no Log", "off": 0.0},
        {"net": "ntm N=1", "outcome": "not judged", "said": "not finite", "off": 0.0},
    ]
    mine = {"title": "Mine", "target": "flat", "version": "1", "nets": nets}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    (tmp_path / "other.json").write_text(json.dumps({"title": "Other", "target": "flat", "missing": "no Python 3.8"}))
    monkeypatch.setattr(table, "FOUND", tmp_path)
    monkeypatch.setattr(table, "PAGE", tmp_path / "table.md")
    table.write_table()
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| mine | 1 | `flat` | 5 | 4 | 1 | 2.0e-07 | 1 | 1 |" in lines
    assert "| other | not installed: no Python 3.8 | `flat` | | | | | | |" in lines
    assert "- refused by the reader, 1: no   TanH: lstm N=2" in lines
    assert "- wrong by 5.0e-01: gru N=2" in lines
    assert "- not written, 1: no Log: ntm N=2" in lines
    assert "- not judged, 1: not finite: ntm N=1" in lines
    assert any(line.startswith("| TensorRT 8 | not run: ") for line in lines)
