"""The functions that generated code calls: headers that stand in each source, and the names that they take."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

CPU = ("elements.h", "vectors.h", "panels.h", "products.h", "weight_gradients.h")  # each needs those before it
GPU = ("gpu_functions.h",)
_TAKEN = re.compile(r"(?<!::)\b([A-Za-z_]\w*)(?:<[^<>;]*>)?\(|#define (\w+)")  # functions, what looks like one, macros


def header(name: str) -> str:
    """The text of a header of this folder, or of what includes one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def functions(names: tuple[str, ...]) -> str:
    """Headers as one text, in their order."""
    return "\n".join(header(name) for name in names)


@cache
def taken_names() -> frozenset[str]:
    """What may be called, or is a macro, in a source of either language: no variable of a layer may hide it."""
    found = _TAKEN.findall(functions(CPU + GPU))
    return frozenset(name for names in found for name in names if name)
