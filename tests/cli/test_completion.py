"""What a shell is offered, and that bash takes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC

OFFERED = {
    "compile --cell gru": ["gru", "gru_reset_after", "gru_d"],
    "cells show pha": ["phased_lstm"],
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
