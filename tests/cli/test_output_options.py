"""``--json``, ``--quiet`` and ``-v``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=2")


def found(lstmc: LSTMC, *command: str, code: int = 0) -> dict[str, list[dict[str, object]]]:
    ended = lstmc(*command, "--json")
    assert (ended.code, ended.err) == (code, "")
    whole = json.loads(ended.out)
    assert isinstance(whole, dict)
    return whole


def test_compile_tells_files_passes_feeds_and_reads(lstmc: LSTMC, model_file: Path) -> None:
    told = found(lstmc, "compile", str(model_file), *SIZES, "-o", "out")
    assert list(told) == ["passes", "files", "feed", "read", "layers", "parameters", "weights", "notes"]
    assert told["files"][0] == {"file": "out/net.prototxt", "bytes": Path("out/net.prototxt").stat().st_size}
    assert [row["name"] for row in told["read"]] == ["Y", "h_T"]
    assert (told["passes"][0]["pass"], told["passes"][-1]["pass"]) == ("roll_up", "constants")
    assert told["parameters"] == 2


def test_verify_tells_every_difference(lstmc: LSTMC, model_file: Path) -> None:
    told = found(lstmc, "verify", str(model_file), *SIZES, "--on", "interpreter")
    row = told["interpreter"][0]
    assert list(row) == ["what", "name", "blobs", "largest_absolute", "relative", "allowed", "state"]
    assert (row["what"], row["name"], row["allowed"], row["state"]) == ("output", "Y", 1e-6, "ok")
    assert told["not_run"] == {}


@pytest.mark.slow
def test_other_commands_tell_their_tables(lstmc: LSTMC, model_file: Path) -> None:
    assert {"backend": "caffe", "target": "caffe"}.items() <= found(lstmc, "targets")["targets"][0].items()
    gru = next(row for row in found(lstmc, "cells")["cells"] if row["name"] == "gru")
    assert gru["parameters"] == 3 * (32 + 64 + 1) * 64
    assert gru["not_for"] == ["caffe-native"]
    doctor = lstmc("doctor", "--json")
    assert {"state": "ok", "component": "lstmc"}.items() <= json.loads(doctor.out)["findings"][0].items()
    assert lstmc("compile", str(model_file), *SIZES).code == 0
    told = found(lstmc, "verify", "net.prototxt", "--target", "noslice", code=1)
    assert told["target"] == "noslice"
    assert told["findings"][0].keys() == {"layer", "type", "found", "expected", "reason", "source", "limit"}
    extracted = found(lstmc, "run", "net.prototxt", "--save-weights", "w.npz")
    assert [row["parameter"] for row in extracted["parameters"]] == np.load("w.npz").files


def test_an_error_is_no_json(lstmc: LSTMC) -> None:
    ended = lstmc("compile", "nothing.py", "--json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("ModelFileError: ")
    assert lstmc("targets").out.startswith("backend  target")  # and the next command says what it says


@pytest.mark.parametrize(
    "command", [("compile", *SIZES), ("verify", *SIZES, "--on", "interpreter"), ("show", *SIZES, "-o", "net.svg")]
)
def test_quiet_prints_nothing(lstmc: LSTMC, model_file: Path, command: tuple[str, ...]) -> None:
    ended = lstmc(command[0], str(model_file), *command[1:], "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_verbose_compile_has_passes_with_nodes_and_times(lstmc: LSTMC, model_file: Path) -> None:
    assert "expand" not in lstmc("compile", str(model_file), *SIZES).out
    lines = [line.split() for line in lstmc("compile", str(model_file), *SIZES, "-v").out.splitlines()]
    assert ["pass", "nodes", "ms", "rules", "used"] in lines
    expand = next(line for line in lines if line[:1] == ["expand"])
    assert int(expand[1]) > 10
    assert float(expand[2]) > 0
