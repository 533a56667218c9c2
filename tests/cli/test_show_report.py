"""``lstmc report``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

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


def test_the_folder_of_a_run_is_enough(lstmc: LSTMC, model_file: Path) -> None:
    run = Path("run")
    run.mkdir()
    sizes = {"T": 3, "N": 2}
    told = {"command": "lstmc train net.py", "model": "net.py:net", "sizes": sizes, "backend": "caffe: here"}
    (run / "command.json").write_text(json.dumps({**told, "target": "flat", "settings": {"base_lr": 0.5}}))
    line = {"kind": "train", "iteration": 1, "loss": 0.5, "rate": 0.1, "seconds": 0.1}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    rng = np.random.default_rng(0)
    np.savez(run / "weights.npz", **{"step/W": rng.normal(size=(4, 3)), "step/U": rng.normal(size=(4, 4))})
    ended = lstmc("report", "run", "--on", "interpreter")
    assert (ended.code, ended.out, ended.err) == (0, "wrote report.html\n", "")
    page = Path("report.html").read_text()
    assert all(text in page for text in ("net for flat", "lstmc train net.py", "data:image/png;base64,"))
    assert (
        lstmc("report", "run", "--run", "run").err == "DataError: expected the folder of one run, found run and run\n"
    )
