"""``lstmc report``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import LSTMC


def test_a_page_is_written_with_what_verify_found(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("report", str(model_file), "-D", "T=3", "-D", "N=2", "--on", "interpreter", "-o", "net.html")
    assert (ended.code, ended.out, ended.err) == (0, "wrote net.html\n", "")
    assert "<li>interpreter: all " in Path("net.html").read_text()


def test_a_folder_that_is_no_run_is_said(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("report", str(model_file), "-D", "T=3", "-D", "N=2", "--run", "no")
    assert (ended.code, ended.err) == (
        2,
        "DataError: expected the folder of a run, with command.json in it, found no\n",
    )
