"""The grid of readers: its nets, what becomes of them, what is kept of that, and the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.readers.known import Program, Reader, load_reader
from tools.readers import __main__ as tool
from tools.readers import found, table
from tools.readers.found import Found, Row, known
from tools.readers.grid import Case, cases, outcomes

GRU, LUONG = Case("gru", False, 2), Case("luong", True, 2)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(found, "FOUND", tmp_path)
    monkeypatch.setattr(table, "PAGE", tmp_path / "table.md")
    return tmp_path


def test_the_grid_has_every_cell_whole_and_by_the_step() -> None:
    found = cases()
    assert len(found) == len(set(found)) == 4 * len({case.cell for case in found})
    assert str(Case("gru", True, 2)) == "gru N=2 --step"


def test_what_becomes_of_nets_in_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.readers.grid.cases", lambda: [GRU, LUONG])
    reader = load_reader("opencv")
    executor = ReaderExecutor(reader)
    right, luong = outcomes(executor, reader, {}, 60)
    assert next(outcomes(executor, reader, {right.net: right}, 60)).net == luong.net  # which was never run
    executor.close()
    assert (right.net, right.outcome, right.said) == ("gru N=2", "right", "")
    assert 0 < right.off < 1e-5
    assert (luong.outcome, luong.said) == ("right", "")
    before = {right.net: replace(right, off=0.0), luong.net: luong}
    assert next(outcomes(executor, reader, before, 60)) == before[right.net]  # its files are the same: not run again
    assert [*outcomes(executor, reader, {}, 0)] == []  # no time
    changed = {right.net: replace(right, files="others"), luong.net: luong}
    older, same = outcomes(executor, reader, changed, 0)  # what was run with other files says so
    assert (older, same) == (replace(changed[right.net], older=True), luong)
    turns = {older.net: replace(older, older=False), luong.net: replace(luong, older=True)}
    assert [row.net for row in outcomes(executor, reader, turns, 0)] == [luong.net, older.net]
    (refused,) = outcomes(executor, replace(reader, target="noslice"), {}, 0)  # which is told without a run
    assert (refused.net, refused.outcome) == ("luong N=2 --step", "not written")
    assert re.fullmatch(
        r"target noslice has no such Concat layer: axis is 0, expected axis 1, which %\w+ needs; axis 0 is TensorRT's"
        " batch: it cannot be joined",
        refused.said,
    )


COUNTED = """
    import os
    def about(args, arrays):
        return {"version": open(os.path.join(os.path.dirname(__file__), "version")).read()}, {}
    def run(args, arrays):
        open(os.path.join(os.path.dirname(__file__), "ran"), "a").write("x")
        raise ValueError("no TanH")
    """


def test_runs_keep_what_is_so_still(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, ran = folder / "program.py", folder / "ran"
    program.write_text("\n".join(line.removeprefix("    ") for line in COUNTED.splitlines()))
    (folder / "version").write_text("1")
    monkeypatch.setattr(tool, "load_reader", lambda name: Reader(name, "Mine", "noslice", (Program(program),)))
    monkeypatch.setattr("tools.readers.grid.cases", lambda: [GRU, LUONG])
    Found("Other", "flat", "2", nets={"gru N=2": Row("gru N=2", "right")}).keep("other")
    tool.run_reader("mine", 60)
    first = known("mine")
    assert first is not None
    assert [(row.net, row.outcome) for row in first.nets.values()] == [
        ("gru N=2", "refused"),
        ("luong N=2 --step", "not written"),
    ]
    assert first.nets["gru N=2"].said == "Mine does not run the net: ValueError: no TanH"
    tool.run_reader("mine", 60)
    assert ran.read_text() == "xx"  # what was refused is tried again
    rows = {
        **first.nets,
        "gru N=2": replace(first.nets["gru N=2"], outcome="right"),
        "gone N=1": Row("gone N=1", "right"),
    }
    replace(first, nets=rows, random={"right": 2}).keep("mine")
    tool.run_reader("mine", 60)
    assert ran.read_text() == "xx"  # what was right is not, with the same files and version
    again = known("mine")
    assert again is not None
    assert list(again.nets) == ["gru N=2", "luong N=2 --step"]
    assert again.nets["gru N=2"].outcome == "right"
    assert again.random == {"right": 2}  # of random models, which another program runs
    (folder / "version").write_text("2")
    tool.run_reader("mine", 60)
    assert ran.read_text() == "xxx"
    tool.run_reader("mine", 60, again=True)
    assert ran.read_text() == "xxxx"
    kept = known("mine")
    program.write_text("raise OSError('no such thing here')")
    tool.run_reader("mine", 60)
    assert known("mine") == kept  # where a reader cannot be run, what it took elsewhere is not lost
    other = known("other")
    assert other is not None
    assert list(other.nets) == ["gru N=2"]


def test_the_page(folder: Path) -> None:
    reason = "it has no %s layer, which %%%s needs: because of %s"
    nets = [
        Row("gru N=1", "right", off=2e-7),
        Row("gru N=2", "wrong", off=0.5),
        Row("lstm N=2", "refused", "no TanH " + 300 * "x"),
        *(
            Row(f"ntm N={n}{s}", "not written", reason % ("Log", f"log_{n}", "this"))
            for n in (1, 2)
            for s in ("", " --step")
        ),
        Row("mlstm N=1", "not written", reason % ("AbsVal", "abs", "this")),
        Row("mlstm N=2", "not written", reason % ("AbsVal", "abs", "this")),
        Row("ntm N=3", "right", off=1.0),
        Row("rnn N=1", "right", off=0.5, older=True),
        Row("rnn N=2", "wrong", off=0.5, older=True),
    ]
    Found("Mine", "flat", "1", nets={row.net: row for row in nets}).keep("mine")
    Found("Other", "flat", missing="no Python 3.8").keep("other")
    table.write_table()
    lines = (folder / "table.md").read_text().splitlines()
    assert "| mine | 1 | `flat` | 9 | 3 | 1 | 2.0e-07 | 1 | 1 | 2, 1 right |" in lines
    assert "| other | not installed | `flat` | | | | | | | |" in lines
    start = lines.index("## mine")
    assert lines[start + 2 : lines.index("## other") - 1] == [
        "- refused by the reader (1): lstm N=2<br>",
        "  no TanH " + 300 * "x",
        "- wrong by 5.0e-01: gru N=2",
        "- not written (4): ntm<br>",
        "  it has no Log layer, which %log_1 needs: because of this (ntm N=1)",
        "- not written (2): mlstm N=1, mlstm N=2<br>",
        "  it has no AbsVal layer, which %abs needs: because of this",
    ]
    assert "- not installed: no Python 3.8" in lines
    assert any(line.startswith("| TensorRT 8 | not run: ") for line in lines)
