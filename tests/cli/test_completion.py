"""What a shell is offered, and that bash takes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC

OFFERED = {
    "compile --cell gru": ["gru", "gru_reset_after", "gru_blocks", "gru_d"],
    "cells pha": ["phased_lstm"],
    "verify --backend o": ["onnx"],
    "compile --target f": ["flat"],
    "compile --backend onnx --target ": ["onnx"],
    "compile --target caffe --form packed-": ["packed-in-loop"],
    "show --target flat --after fuse_": ["fuse_linears", "fuse_horizontal"],
    "verify --on inter": ["interpreter"],
    "verify --backend onnx --on o": ["onnx-cpu"],
    "compile --backend nowhere --target ": [],
    "compile --target nowhere --form ": [],
    "rep": ["report"],
}


@pytest.mark.parametrize("typed", OFFERED)
def test_names_are_offered(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    words = ["lstmc", *typed.split(" ")]
    monkeypatch.setenv("_LSTMC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    ended = lstmc()
    assert (ended.out.split(), ended.err) == (OFFERED[typed], "")


@pytest.mark.slow
def test_bash_takes_them() -> None:
    program = Path(sys.executable).with_name("lstmc")
    source = f'eval "$(_LSTMC_COMPLETE=source_bash {program})"'
    call = "COMP_WORDS=(lstmc compile --cell phased) COMP_CWORD=3; _lstmc_completion " + str(program)
    done = subprocess.run(
        ["bash", "-c", f'{source}; {call}; echo "${{COMPREPLY[@]}}"'],
        capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("phased_lstm\n", "")


@pytest.mark.parametrize("width", ["40", "80"])
@pytest.mark.parametrize("typed", ["compile --target ", "compile --", "train --"])
def test_fish_gets_a_line_for_each_name(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch, typed: str, width: str) -> None:
    """fish reads each line as a name, a tab and a description."""
    monkeypatch.setenv("_LSTMC_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"lstmc {typed}")
    monkeypatch.setenv("COLUMNS", width)
    lines = lstmc().out.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if line.count("\t") != 1] == []
