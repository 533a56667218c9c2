"""Every example of the API's docstrings and of its documentation gives what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import lstmc

ROOT = Path(__file__).parents[2]
MODULES = [f"lstmc.api.{path.stem}" for path in sorted((ROOT / "lstmc" / "api").glob("*.py")) if path.stem[0] != "_"]
IN_CAFFE = ("lstmc.api.training",)
FLAGS = doctest.IGNORE_EXCEPTION_DETAIL | doctest.REPORT_NDIFF


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.caffe) if name in IN_CAFFE else name for name in MODULES]
)
def test_examples_of_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


def test_examples_of_the_documentation() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "python-api.md"), module_relative=False, optionflags=FLAGS)
    assert (found.failed, found.attempted > 20) == (0, True)


@pytest.mark.parametrize("name", ["compile", "train", "load", "export_training"])
def test_every_function_of_the_face_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(lstmc, name).__doc__ or "")


@pytest.mark.parametrize("name", ["layers", "prototxt", "save", "verify", "run", "stream", "after", "draw", "example"])
def test_every_method_of_a_net_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(lstmc.Net, name).__doc__ or "")


def test_no_word_is_hidden_by_a_module_of_its_name() -> None:
    """Words of a package that imports them late are looked up after its modules."""
    assert not {name.rpartition(".")[2] for name in MODULES} & set(lstmc.api.__all__)
