"""Every target of the Makefile that the tests do not run as a whole is started here, with its smallest setting."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTED = {
    "bench": "BENCH=--smallest",
    "c": "MODELS=2",
    "fuzz": "MINUTES=0.05 SANITIZED=0.05 SEED=1",
    "golden": "",
    "numbers": "STEPS=2 CELLS=rnn NUMBERS=onnxruntime-a8w8",
    "onnx-cases": "MODELS=1",
    "ranks-time": "BENCH=--smallest",
    "trained": "UPDATES=1 CELLS=rnn",
}
# targets that run pytest, or are started by another test: its file, or the reason
OTHERS = {
    **dict.fromkeys(("quick", "test", "walk", "exhaustive", "gpu", "portable", "check"), "they are the tests"),
    **dict.fromkeys(("help", "clean"), "they start no program of lstmc"),
    **dict.fromkeys(("browser", "package", "proofs", "ranges", "readers", "real-nets", "site"), "they fetch packages"),
    "zoo": "tests/importers/test_zoo.py",
    "caffe": "tests/backends/lstmc_caffe/install/test_install_main.py",
    "demo": "tests/test_examples.py",
    "docs": "tests/test_architecture.py",
    "emulated": "tests/tools/emulated_cuda/test_emulated_cuda.py",
    "frozen": "tests/test_written.py",
    "faults": "tests/on_demand/fuzz/test_kills.py",
    "gpu-bundle": "tests/tools/bundle/test_bundle_make.py",
    "mpi": "tests/backends/lstmc_caffe/install/test_install_main.py",
    "mutants": "tests/tools/test_mutants.py",
    "notebooks": "tests/api/test_notebook.py",
}
PROGRAM = re.compile(r"python (-m )?(docs|tests|tools)\b")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files of this tree, where generated pages may be written."""
    folder = tmp_path_factory.mktemp("tree")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def programs(copy: Path, target: str, setting: str) -> list[str]:
    """Return the lines of a target that start a program of this repository."""
    make = ["make", "-n", target, f"BIN={Path(sys.executable).parent}", *setting.split()]
    printed = subprocess.run(make, cwd=copy, capture_output=True, text=True, check=True).stdout
    return [line for line in printed.replace("\\\n", " ").splitlines() if PROGRAM.search(line)]


def test_every_target_is_started() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == {*STARTED, *OTHERS}
    assert all((ROOT / place).is_file() for place in OTHERS.values() if place.endswith(".py"))


@pytest.mark.walk
@pytest.mark.caffe
@pytest.mark.parametrize("target", STARTED)
def test_a_target_ends_well_with_its_smallest_setting(copy: Path, target: str) -> None:
    lines = programs(copy, target, STARTED[target])
    assert lines
    for line in lines:
        done = subprocess.run(["bash", "-ec", line], cwd=copy, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
