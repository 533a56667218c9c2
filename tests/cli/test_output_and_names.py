"""Output that nobody takes, names that are no text, and what foreign files would have the program do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstmc.cli.console import _StandardOutput
from tests.cli.conftest import LSTMC
from tests.quick_sample import one_in

PLAIN = "from lstmc import *\n@model\ndef net(X=Input(3, 4)):\n    return tanh(X)\n"
FULL = "OutputError: cannot write to standard output: No space left on device\n"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "net.py").write_text(PLAIN)
    command = command.replace("lstmc", f"{sys.executable} -m lstmc", 1)
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_is_closed(tmp_path: Path, closed: str) -> None:
    ended = shell(f"lstmc compile net.py -o out {closed}", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "net.caffemodel",
        "net.manifest.json",
        "net.prototxt",
    ]


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("command", one_in(4, ["--version", "compile net.py -o out", "show net.py", "cells"]))
def test_output_that_is_full(tmp_path: Path, command: str) -> None:
    ended = shell(f"lstmc {command} >/dev/full", tmp_path)
    assert (ended.returncode, ended.stderr) == (2, FULL)
    assert (tmp_path / "out" / "net.caffemodel").exists() == command.startswith("compile")


@pytest.mark.slow
def test_a_model_file_in_a_folder_that_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"b\xff")
    folder.mkdir()
    ended = shell("lstmc compile net.py -o out", folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    (folder / "net.py").rename(folder / os.fsdecode(b"\xfe.py"))
    ended = shell("lstmc compile $'\\xfe.py' -o out", folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "from ?udcfe.py:net, for" in (folder / "out" / "net.prototxt").read_text()
    ended = shell("lstmc compile $'\\xfe.py:other'", folder)
    assert ended.stderr == "ModelFileError: \\udcfe.py has no model other: found net\n"


@pytest.mark.slow
def test_what_is_written_of_a_model_in_a_folder_that_is_no_text_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"b\xff\nname: 3")
    folder.mkdir()
    (folder / "net.py").write_text(PLAIN.replace("X=Input(3, 4)", "X=Input(3, 4), W=Param(2, 4)"))
    made = f"{sys.executable} -m lstmc"
    ended = shell(
        f"lstmc compile $'b\\xff\\nname: 3/net.py' -o out && {made} verify out/net.prototxt"
        f" && {made} run out/net.prototxt --save-weights w.npz",
        tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "out" / "net.prototxt").read_text().startswith("# net: made by lstmc")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ("T=²", "-D takes NAME=INT, as in -D T=3, found 'T=²'"),
        ("T=--5", "-D takes NAME=INT, as in -D T=3, found 'T=--5'"),
        ("T=1_0", "-D takes NAME=INT, as in -D T=3, found 'T=1_0'"),
        ("T=" + "9" * 5000, "-D takes NAME=INT, as in -D T=3, found 'T=" + "9" * 1930 + " ... (5048 characters)"),
    ],
)
def test_sizes_that_are_no_numbers(lstmc: LSTMC, size: str, text: str) -> None:
    ended = lstmc("compile", "--cell", "gru", "-D", size)
    assert ended.code == 2
    assert ended.err.startswith("DimError: " + text[:1000])
    assert len(ended.err) < 2100


def test_sizes_past_what_a_blob_holds(lstmc: LSTMC) -> None:
    ended = lstmc("compile", "--cell", "gru", "-D", "T=2", "-D", "N=1", "-D", "D=2", "-D", "H=2147483648")
    assert ended.err.startswith("DimError: dimension H must be at most 2147483647, found 2147483648 (given as H=2147")
    Path("wide.py").write_text(PLAIN.replace("3, 4", "50000, 50000"))
    assert lstmc("compile", "wide.py").err == (
        "ShapeError: input: f32[50000,50000] has 2500000000 elements: expected at most 2147483647\n"
        "  wide.py:3:11 in model 'net'\n"
        "    def net(X=Input(50000, 50000)):\n"
        "              ^^^^^^^^^^^^^^^^^^^\n"
    )
    steps = ("-D", "T=2000000000", "-D", "N=1", "-D", "D=1", "-D", "H=1")
    ended = lstmc("compile", "--cell", "min_gru", *steps)
    assert ended.code == 2
    assert " steps of " in ended.err or "elements: expected at most" in ended.err


def test_weights_past_what_a_message_holds(lstmc: LSTMC) -> None:
    text = "from lstmc import *\n@model\ndef net(X=Input(1, 1), W=Param(2000000000, 1)):\n    return linear(X, W)\n"
    Path("large.py").write_text(text)
    ended = lstmc("compile", "large.py")
    assert ended.code == 2
    assert "weights" in ended.err


@pytest.mark.parametrize("where", ["file/dump", "file"])
def test_a_dump_folder_that_cannot_be_made(lstmc: LSTMC, where: str) -> None:
    Path("net.py").write_text(PLAIN)
    Path("file").write_text("")
    ended = lstmc("compile", "net.py", "--dump-dir", where)
    reason = "Not a directory" if "/" in where else "File exists"
    assert ended.err == f"OutputError: cannot write into {where}: {reason}: nothing was changed there\n"


def test_a_model_file_that_exits(lstmc: LSTMC) -> None:
    Path("ends.py").write_text("import sys\nfrom lstmc import *\nsys.exit(3)\n")
    assert lstmc("compile", "ends.py").err == (
        "ModelFileError: ends.py does not import: SystemExit: 3\n  ends.py:3:1\n    sys.exit(3)\n    ^^^^^^^^^^^\n"
    )
    Path("ends.py").write_text("from lstmc import *\n@model\ndef net(X=Input(1)):\n    raise SystemExit\n")
    ended = lstmc("compile", "ends.py")
    assert (ended.code, ended.err.splitlines()[0]) == (2, "ModelFileError: ends.py:net does not trace: SystemExit: ")


def test_a_model_cannot_leave_the_folder_by_its_name(lstmc: LSTMC) -> None:
    Path("evil.py").write_text(
        'from lstmc import *\ndef f(X=Input(3, 4)):\n    return tanh(X)\nf.__name__ = "../../evil"\nnet = model(f)\n'
    )
    assert lstmc("compile", "evil.py", "-o", "a/b").err == (
        "DslError: the name of a model, its function's __name__, must be an identifier, found '../../evil'\n"
        "  evil.py:2:1\n    def f(X=Input(3, 4)):\n    ^^^^^\n"
    )


def test_a_cell_with_nothing_to_return(lstmc: LSTMC) -> None:
    Path("none.py").write_text(
        "from lstmc import *\n@cell\ndef c(x=Input(2)):\n    return None, {}\n"
        "@model\ndef net(X=Input(3, 2)):\n    scan(c(), X)\n    return X\n"
    )
    assert lstmc("compile", "none.py").err.startswith(
        "DslError: a cell has an output or a state: expected one to be returned, found none\n"
        "  none.py:4:5 in cell 'c'\n    return None, {}\n"
    )


@pytest.mark.slow
def test_a_neighbour_of_the_model_file_is_not_what_lstmc_imports(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "google.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "beside" / "neighbour.py").write_text("SIZE = 4\n")
    (tmp_path / "beside" / "near.py").write_text("from neighbour import SIZE\n" + PLAIN)
    ended = shell("lstmc compile beside/near.py -o out", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "kind", ['"HDF5Output"', r'"HDF5\x4futput"', '"HDF5" "Output"', '"ImageData"', '"InfogainLoss"']
)
def test_a_net_with_layers_of_files_is_not_run(lstmc: LSTMC, kind: str) -> None:
    Path("net.py").write_text(PLAIN)
    assert lstmc("compile", "net.py").code == 0
    with Path("net.prototxt").open("a") as file:
        file.write(f'layer {{ name: "w" type: {kind} bottom: "out" hdf5_output_param {{ file_name: "PWNED" }} }}\n')
    np.savez("x.npz", X=np.zeros((3, 4)))
    ended = lstmc("run", "net.prototxt", "--inputs", "x.npz")
    name = "HDF5Output" if "HDF5" in kind else kind.strip('"')
    assert ended.err == (
        f"BackendError: net.prototxt: layer w is of type {name}, which reads or writes files: expected a net that"
        " takes its inputs and gives its outputs as arrays\n"
    )
    assert not Path("PWNED").exists()


def test_names_do_not_steer_the_terminal(lstmc: LSTMC) -> None:
    Path("net.py").write_text(PLAIN)
    assert lstmc("compile", "net.py").code == 0
    np.savez("x.npz", **{f"\x1b[31m{i}": np.zeros(1) for i in range(99)})
    err = lstmc("run", "net.prototxt", "--inputs", "x.npz").err
    assert "\x1b" not in err
    assert "  extra: \\x1b[31m0 [1]\n" in err
    assert err.endswith("  and 50 more\n")


@pytest.mark.parametrize("name", ["y[b].npz", "y:key:.npz"])  # markup, and an emoji
def test_names_are_no_markup_of_the_terminal(lstmc: LSTMC, name: str) -> None:
    Path("net.py").write_text(PLAIN)
    assert lstmc("compile", "net.py", "--backend", "c").code == 0
    np.savez("x.npz", X=np.zeros((3, 4), np.float32))
    assert lstmc("run", "net.c", "--inputs", "x.npz", "-o", name).out.endswith(f"\nwrote {name}\n")


@pytest.mark.parametrize(
    "command",
    [
        *("compile FILE.py", "show FILE.py", "run FILE.prototxt --inputs x.npz", "run net.prototxt --inputs FILE.npz"),
        *("verify FILE.prototxt", "report FILE -o c.png", "new cell FILE", "compile net.py -o FILE", "report FILE"),
        *("verify net.py --on interpreter --inputs FILE.npz", "convert FILE.onnx -o i", "show net.py -o FILE.svg"),
    ],
)
def test_names_longer_than_a_file_can_have(lstmc: LSTMC, command: str) -> None:
    Path("net.py").write_text(PLAIN)
    assert lstmc("compile", "net.py").code == 0
    ended = lstmc(*command.replace("FILE", "a" * 300).split())
    assert ended.code != 0
    assert "aaa" in ended.err or "File name too long" in ended.err
    assert "Traceback" not in ended.err


def test_standard_output_may_be_closed_before_the_object_in_its_place_goes(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as stream:
        put = _StandardOutput(stream)
    put.close()
