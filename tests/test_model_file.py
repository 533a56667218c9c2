"""A model file is read as it is now, and nothing is left beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import lstmc
from lstmc.api.models import model_in
from lstmc.backend import find_backends
from lstmc.errors import ModelFileError

TEXT = "from lstmc import *\n@model\ndef net(X=Input(2, {width})):\n    return tanh(X)\n"


def test_a_file_that_changes_within_a_second_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "net.py"
    for width in (3, 4):
        path.write_text(TEXT.format(width=width))
        os.utime(path, (1e9, 1e9))
        assert model_in(str(path)).graph({}).outputs[0].name == "out"
        assert f"f32[2,{width}]" in str(model_in(str(path)).graph({}).node("X").types[0])
    assert [found.name for found in tmp_path.iterdir()] == ["net.py"]


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("")
    with pytest.raises(ModelFileError) as caught:
        model_in(str(path))
    assert caught.value.message == f"{path} is not a Python file: expected a name ending in .py"


def test_the_folder_of_a_model_is_on_the_path_once_and_nothing_installed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.py"
    path.write_text(TEXT.format(width=3))
    found = find_backends()
    monkeypatch.setattr("lstmc.plugins.entry_points", lambda **group: pytest.fail(f"{group} were read again"))
    for _ in range(2):
        model_in(str(path))
    assert sys.path.count(str(tmp_path.resolve())) == 1
    assert find_backends() == found


CELL = """from lstmc import Input, State, cell, dims
from lstmc.cells import lstm
N, D = dims("N D")
@cell
def mine(x=Input(N, D), h=State(N, D)):
    h = 0.5 * h + x
    return h, {"h": h}
"""


def test_the_one_cell_of_a_file_needs_no_name_whatever_the_file_imports(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CELL)
    source = model_in(str(path))
    assert source.model.name == "mine"
    assert set(source.cells) == {"mine", "lstm"}
    path.write_text(CELL + CELL[CELL.index("@cell") :].replace("mine", "other"))
    with pytest.raises(ModelFileError) as caught:
        model_in(str(path))
    assert caught.value.message.endswith(f"found the cells lstm, mine, other: name one, {path}:mine")


def test_an_error_in_a_cell_is_at_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "cells.py"
    path.write_text(
        "from lstmc import *\n"
        "@cell\n"
        "def c(x=Input(2, 3), h=State(2, 3)):\n"
        "    h = torch.tanh(x + h)\n"
        '    return h, {"h": h}\n'
    )
    with pytest.raises(ModelFileError) as caught:
        model_in(f"{path}:c").graph({"T": 2})
    assert caught.value.message == f"{path}:c does not trace: NameError: name 'torch' is not defined"
    assert caught.value.loc is not None
    assert (caught.value.loc.line, caught.value.loc.text()) == (4, "torch")


def test_a_name_that_is_not_defined_has_its_import_or_what_it_is_called_here(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    for called, hint in (("softmax", "from lstmc import softmax"), ("zeros", "full(shape, 0)")):
        path.write_text(f"from lstmc import Input, model\n@model\ndef net(X=Input(2, 3)):\n    return {called}(X)\n")
        with pytest.raises(ModelFileError) as caught:
            model_in(str(path)).graph({})
        assert caught.value.message.endswith(f"NameError: name '{called}' is not defined: write {hint}")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("net.py", "a model is compiled first, as by lstmc compile"),
        ("net.pt", "a trained model is converted first, as by lstmc convert"),
    ],
)
def test_what_is_no_net_is_not_loaded(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelFileError) as caught:
        lstmc.load(tmp_path / name)
    assert caught.value.message == f"{tmp_path / name} is no net: expected a file that lstmc compiled; {remedy}"
