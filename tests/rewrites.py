"""Rewrites as text, from ``.lir`` files: ``# NAME``, the lines before, ``=>``, the lines after.

Names of values are free in the lines after: their ops, types, operands, outputs and order count.
"""

from __future__ import annotations

import re
from pathlib import Path

NAME = re.compile(r"%[\w/.]+")


def rewrites(path: Path) -> dict[str, tuple[str, str]]:
    """Return the lines before and after of each case of a file, by its name."""
    cases = {}
    for case in re.split(r"^# ", path.read_text(), flags=re.MULTILINE)[1:]:
        name, _, lines = case.partition("\n")
        before, arrow, after = lines.partition("=>\n")
        assert arrow, f"{path}: {name} has no =>"
        assert name not in cases, f"{path}: {name} is there twice"
        cases[name] = before, after
    return cases


def numbered(lines: str) -> str:
    """Return lines with their values called by the order in which they are computed: %1, %2, ..."""
    numbers: dict[str, str] = {}
    count, shown = 0, []
    for line in lines.strip().splitlines():
        results, colon, rest = line.strip().partition(": ")
        defined = NAME.findall(results) if colon and results.startswith("%") else []
        rest = NAME.sub(lambda name: numbers.get(name[0], name[0]), rest if defined else line.strip())
        for name in defined:
            count += 1
            numbers[name] = f"%{count}"
        shown.append(f"{', '.join(numbers[name] for name in defined)}: {rest}" if defined else rest)
    return "\n".join(shown)
