"""Modules and names of packages that are imported at their first use: so compiling a model imports no importer."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class ByName:
    """A module of lstmc that is imported when one of its names is first used."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, word: str) -> Any:
        return getattr(import_module(self._module), word)

    def __reduce__(self) -> tuple[Any, ...]:  # a copy would ask itself for its module before it knows that
        return ByName, (self._module,)


def modules_on_use(package: str, *names: str) -> None:
    """Let ``from PACKAGE import NAME`` return these modules as :class:`ByName`. Type checkers see the modules."""
    vars(sys.modules[package]).update({name: ByName(f"{package}.{name}") for name in names})


def words_on_use(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a package that imports names at their first use. Its
    ``__init__.pyi``, which type checkers read too, has the module of each name. Submodules are names too."""

    @cache
    def in_stub() -> dict[str, str]:
        """Return the module of each name in the stub; the key ``*`` has the module of ``from module import *``."""
        stub = Path(str(sys.modules[package].__file__)).with_suffix(".pyi").read_text(encoding="utf-8")
        lines = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(line.module) for line in lines for alias in line.names if alias.name[:2] != "__"}

    @cache
    def listed() -> dict[str, str]:
        """Return the module of every name; ``import *`` stands for the names that lstmc defines in the module."""
        starred = in_stub().get("*")
        things = vars(import_module(starred)).items() if starred else ()
        own = {word: str(starred) for word, thing in things if getattr(thing, "__module__", "").startswith("lstmc.")}
        return own | {word: module for word, module in in_stub().items() if word != "*"}

    def get(word: str) -> Any:
        """Return the value of a name, or a submodule; for ``__all__`` all names: constants, classes, functions."""
        if word == "__all__":
            return sorted(listed(), key=lambda each: (not each.isupper(), not each[0].isupper(), each))
        if not word.startswith("__"):
            if word not in in_stub() and find_spec(f"{package}.{word}"):  # a submodule
                return import_module(f"{package}.{word}")
            if module := in_stub().get(word) or listed().get(word):
                value = vars(sys.modules[package])[word] = getattr(import_module(module), word)
                return value
        other = f": import {package}_{word}" if find_spec(f"{package}_{word}") else ""
        raise AttributeError(f"module {package!r} has no attribute {word!r}{other}")

    return get, lambda: sorted({*vars(sys.modules[package]), *listed()})
