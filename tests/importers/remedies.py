"""Remedies in the errors of ``lstmc.importers``, found in its source: what tests must try, or say why they do not."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import lstmc.importers
from lstmc.errors import worded

ROOT = Path(lstmc.importers.__file__).parent
_WAY = re.compile(r"\b(use|write|give|save|call|replace|rename) ")  # words of a message that names a way out


@cache
def _modules() -> dict[str, tuple[ModuleType, ast.Module]]:
    """Return the modules of the importers and their syntax, by their paths without ``.py``."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        module = import_module(f"lstmc.importers.{name.replace('/', '.')}".removesuffix(".__init__"))
        found[name] = module, ast.parse(inspect.getsource(module))
    return found


@cache
def _takers() -> dict[str, int]:
    """Return the place of ``mend`` among the arguments of each function and class that takes one."""
    found = {"Refused": 3, "Refusal": 4}
    for _, tree in _modules().values():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
            if "mend" in names and function.name != "__init__":
                found[function.name] = names.index("mend")
    return found


def remedies(*prefixes: str) -> set[str]:
    """Return the remedies of the modules whose paths begin so: last parts of refusals, and other errors that name one.

    Parts that are computed stand in braces.
    """
    found = set[str]()
    for name, (module, tree) in _modules().items():
        if name.startswith(prefixes):
            for function in (
                node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign)
            ):
                found |= {worded(" ".join(text.split())) for text in _of_function(module, function)}
    return found - {""}


def _of_function(module: ModuleType, function: ast.stmt) -> Iterator[str]:
    local: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            value = value.values[-1] if isinstance(value, ast.BoolOp) else value  # what is said of the rest
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            for one, other in zip(names, values, strict=False):
                local.setdefault(ast.unparse(one), []).append(other)

    def texts(node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.Name) and node.id in local:
            yield from (_text(one) for one in local[node.id])
        elif isinstance(node, ast.Name):
            yield str(getattr(module, node.id, ""))
        else:
            yield _text(node)

    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called in _takers():
            place = _takers()[called]
            if isinstance(call.args[-1], ast.Starred):
                yield getattr(module, ast.unparse(call.args[-1].value))[-1]
            elif len(call.args) > place:
                yield from texts(call.args[place])
        elif called in ("SourceError", "DataError", "WeightsError"):
            notes = [note for key in call.keywords if key.arg == "notes" for note in getattr(key.value, "elts", ())]
            said = [text for node in (*call.args, *notes) for text in texts(node)]
            yield from (text for text in said if _WAY.search(text))


def _text(node: ast.expr) -> str:
    """Return a text in the source, with what is computed in braces."""
    if isinstance(node, ast.JoinedStr):
        return ast.unparse(node)[2:-1]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
