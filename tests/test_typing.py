"""What editors and type checkers see, by pyright, which Pylance contains: of a file in a folder of its own."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lstmc
import lstmc.cells
from lstmc.dsl import Methods, Value

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests" / "typing"


def pyright(file: Path) -> dict[int, str]:
    """The errors of pyright by line, of which each has one."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, file]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1: each["message"] for each in found}


@pytest.mark.slow
def test_a_type_checker_finds_lstmc_and_the_types_of_a_model(tmp_path: Path) -> None:
    file = tmp_path / "right.py"
    file.write_text((SAMPLES / "right.py").read_text())
    assert pyright(file) == {}
    file.write_text((SAMPLES / "wrong.py").read_text())
    found = pyright(file)
    lines = file.read_text().splitlines()
    assert list(found) == [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    said = {lines[number - 1].strip().removesuffix("  # wrong"): message for number, message in found.items()}
    assert said["a = x.reluu()"].startswith('Cannot access attribute "reluu" for class "Value"')
    assert said['lstmc.compile(net, targt="flat")'].startswith(
        'Argument of type "Literal[\'flat\']" cannot be assigned to parameter "targt" of type "DimensionSize"'
    )


@pytest.mark.parametrize("name", [name for name, thing in vars(Methods).items() if callable(thing)])
def test_a_method_of_a_value_is_its_function(name: str) -> None:
    method, function = getattr(Value, name), vars(Methods)[name]
    assert inspect.isfunction(method)
    assert inspect.signature(method) == inspect.signature(function)
    assert method.__doc__ == function.__doc__
    assert method.__doc__ or name.startswith("__")


def test_a_value_offers_what_its_users_need() -> None:
    public = {name for name in dir(Value) if not name.startswith("_")}
    assert public - set(vars(Methods)) == {"T", "ref", "shape", "trace", "type"}


@pytest.mark.parametrize("package", ["lstmc", "lstmc.api", "lstmc.cells", "lstmc_caffe"])
def test_type_checkers_and_python_find_the_same_words_in_a_package(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).with_suffix(".pyi").read_text())
    imported = [each for each in tree.body if isinstance(each, ast.ImportFrom)]
    assert len(imported) == len(tree.body)
    typed = {alias.name: str(each.module) for each in imported for alias in each.names if alias.name != "*"}
    assert all(alias.asname == alias.name for each in imported for alias in each.names if alias.name != "*")
    assert typed.keys() - {"__version__"} <= {*module.__all__}
    assert all(getattr(module, word) is pkgutil.resolve_name(f"{source}:{word}") for word, source in typed.items())


def test_lstmc_has_the_language_and_no_other_words() -> None:
    assert lstmc.cell is pkgutil.resolve_name("lstmc.dsl.language:cell")
    with pytest.raises(AttributeError, match=r"^module 'lstmc' has no attribute 'compil'$"):
        _ = lstmc.compil  # type: ignore[attr-defined]


def test_each_library_cell_is_offered_beside_its_module() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lstmc.cells"]
    assert sorted(lstmc.cells.__all__) == sorted(points)
    for name, value in points.items():
        assert getattr(lstmc.cells, name) is pkgutil.resolve_name(value)
