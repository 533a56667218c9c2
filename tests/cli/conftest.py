"""The command line in this process: what it printed and how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lstmc.cli import commands, main

LSTMC = Callable[..., "Ended"]


@dataclass(frozen=True)
class Ended:
    """One run of the command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def lstmc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[LSTMC]:
    """Runs ``lstmc ARGS...`` in an empty folder, and puts back what loading a model file changes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "LOG_SECONDS", 3600)  # on a busy machine too
    modules, path = set(sys.modules), list(sys.path)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["lstmc", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    yield run
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("model_file_"):
            del sys.modules[name]


MODEL = """\
from lstmc import Input, Param, State, cell, dims, linear, model, scan, tanh

T, N, D, H = dims("T N D H")


@cell
def step(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H)):
    h = tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}


@model
def net(X=Input(T, N, 3)):
    y, last = scan(step(H=4), X)
    return {"Y": y, "h_T": last["h"]}
"""


@pytest.fixture
def model_file(lstmc: LSTMC) -> Path:
    """``net.py`` in the current folder: a small recurrent model with dimensions T and N."""
    path = Path("net.py")
    path.write_text(MODEL)
    return path
