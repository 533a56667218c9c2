"""A package with a cell and a backend, really installed, is found and used by the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lstmc.ir import Stage, parse_graph, verify

EXAMPLE = Path(__file__).with_name("plugin_example")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def lstmc(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs ``python -m lstmc`` where the example is installed beside lstmc."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")  # setuptools writes beside what it builds
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "site"), str(source)]
    subprocess.run(install, check=True, capture_output=True)
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "lstmc", *arguments]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=folder, env={**os.environ, "PYTHONPATH": path}
        )
        return ended.stdout

    return run


@pytest.mark.slow
def test_its_cell_is_listed_and_verified(lstmc: Run) -> None:
    assert "minimal_gated" in lstmc("cells")
    sizes = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
    assert "interpreter: all " in lstmc("verify", "--cell", "minimal_gated", *sizes, "--on", "interpreter")


@pytest.mark.slow
@pytest.mark.caffe
def test_its_cell_runs_in_real_caffe(lstmc: Run, caffe: object) -> None:
    sizes = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
    assert "caffe-cpu: all " in lstmc("verify", "--cell", "minimal_gated", *sizes, "--on", "caffe-cpu")


@pytest.mark.slow
def test_its_backend_compiles_a_library_cell(lstmc: Run, tmp_path: Path) -> None:
    assert "text" in lstmc("backends")
    sizes = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
    lstmc("compile", "--cell", "gru", *sizes, "--backend", "text", "-o", str(tmp_path))
    verify(parse_graph((tmp_path / "gru.lir").read_text()), Stage.EXPANDED)
