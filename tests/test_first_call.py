"""What the first compilation of a process loads: the rooms that it needs, each once."""

from __future__ import annotations

import ast
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from lstmc import text
from lstmc.on_use import ByName

COMPILES = "import lstmc\nlstmc.compile('gru', T=4, N=1, D=4, H=4)\n"
OTHERS = ("psutil", "onnx", "jinja2", "filelock", "asyncio", "ssl", "torch", "platformdirs")
ROOMS = ("importers", "sweeps", "cli", "report", "data", "verification.native", "numerics.device", "nets.tune")


def in_a_new_process(statements: str) -> str:
    ended = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_compilation_loads_what_it_needs() -> None:
    loaded = set(in_a_new_process(f"{COMPILES}import sys; print(*sys.modules)").split())
    assert loaded & {*OTHERS, *(f"lstmc.{room}" for room in ROOMS)} == set()
    ours = {name for name in loaded if name.partition(".")[0].startswith("lstmc")}
    assert len(ours) <= 155  # 254 when all rooms were imported


def test_a_model_is_compiled_where_these_packages_cannot_be_imported() -> None:
    hidden = f"import sys\nsys.modules |= dict.fromkeys({OTHERS})\n"
    assert in_a_new_process(f"{hidden}{COMPILES}print('compiled')") == "compiled\n"


def test_the_command_compiles_where_psutil_and_onnx_cannot_be_imported(tmp_path: Path) -> None:
    words = [
        "lstmc",
        "compile",
        "--cell",
        "gru",
        *["-D", "T=3", "-D", "N=1", "-D", "D=3", "-D", "H=4"],
        "-o",
        str(tmp_path),
    ]
    hidden = "import sys\nsys.modules |= dict.fromkeys(('psutil', 'onnx'))\n"
    in_a_new_process(f"{hidden}sys.argv = {words}\nfrom lstmc.cli import main\nsys.exit(main())")
    assert (tmp_path / "gru.prototxt").is_file()


def test_the_metadata_of_packages_are_read_once() -> None:
    counted = (
        "import importlib.metadata as metadata\nread, calls = metadata.entry_points, []\n"
        "metadata.entry_points = lambda **group: calls.append(group) or read(**group)\n"
    )
    calls = ast.literal_eval(in_a_new_process(f"{counted}{COMPILES}print(calls)"))
    others = ("networkx.", "pydantic")  # which look for plug-ins of their own
    assert [call for call in calls if not call.get("group", "").startswith(others)] == [{}]


@pytest.mark.parametrize("package", ["lstmc", "lstmc.api", "lstmc.cells", "lstmc_caffe"])
def test_the_words_of_a_package_are_listed_before_they_are_used(package: str) -> None:
    asked = f"import {package} as package\nprint({{*package.__all__}} - {{*dir(package)}}, package.__all__[0])"
    assert in_a_new_process(asked).startswith("set()")


def test_a_module_by_name_can_be_copied() -> None:
    module = ByName("lstmc.text")
    for copied in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.plain is text.plain
