"""Where in the user's files a value was made: exact spans, and the names it was assigned to.

Spans come from ``code.co_positions()`` (PEP 657), names from matching that span in the file's syntax tree.
"""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType

PACKAGE = Path(__file__).resolve().parent
# Frames of these modules are the compiler's own; the library cells are written as a user would write them.
_INTERNAL = ("lstmc.source", "lstmc.dsl", "lstmc.ir", "lstmc.ops", "lstmc.passes")


@dataclass(frozen=True, slots=True)
class SrcLoc:
    """A span in a source file: 1-based lines, 0-based columns (as in ``ast``), the end column exclusive."""

    file: str
    line: int
    col: int
    end_line: int
    end_col: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col + 1}"

    @property
    def short(self) -> str:
        """``file:line``, for the second place that an error names."""
        return f"{self.file}:{self.line}"

    def excerpt(self) -> tuple[str, str] | None:
        """The source line and a line of carets under the span, or None where the file cannot be read."""
        path = resolve(self.file)
        linecache.checkcache(path)  # the file may have been edited since
        text = linecache.getline(path, self.line).rstrip("\n")
        if not text.strip():
            return None
        end = self.end_col if self.end_line == self.line else len(text.encode())
        raw = text.encode()  # columns count UTF-8 bytes
        start_char = len(raw[: self.col].decode(errors="replace"))
        width = max(1, len(raw[self.col : end].decode(errors="replace")))
        indent = len(text) - len(text.lstrip())
        return text[indent:], " " * (start_char - indent) + "^" * width


def display(filename: str) -> str:
    """The path a person reads: below the package ``lstmc/...``, below the current folder relative, else whole."""
    if filename.startswith("<"):
        return filename
    path = Path(filename).resolve()
    for root, prefix in ((PACKAGE, PACKAGE.name), (Path.cwd(), "")):
        if path.is_relative_to(root):
            return (Path(prefix) / path.relative_to(root)).as_posix()
    return path.as_posix()


def resolve(file: str) -> str:
    """The inverse of :func:`display`: a whole path that can be opened."""
    if file.startswith("<"):
        return file
    if file.startswith(PACKAGE.name + "/") and not Path(file).exists():
        return str(PACKAGE.parent / file)
    return os.path.abspath(file)


def here() -> SrcLoc | None:
    """The span of the expression being evaluated in the nearest frame that is not the compiler's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_INTERNAL):
        frame = frame.f_back
    return None if frame is None else _span(frame)


def _span(frame: FrameType) -> SrcLoc:
    line, end_line, col, end_col = next(
        islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None, None, None, None)
    )
    line = line or frame.f_lineno
    return SrcLoc(_display_cached(frame.f_code.co_filename), line, col or 0, end_line or line, end_col or 0)


@functools.lru_cache(maxsize=256)
def _display_cached(filename: str) -> str:
    return display(filename)


def function_location(function: object) -> SrcLoc | None:
    """Where a function's ``def`` stands."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    line = code.co_firstlineno
    return SrcLoc(display(code.co_filename), line, 0, line, 0)


def assigned_names(loc: SrcLoc | None) -> tuple[str, ...]:
    """The variable names that the expression at ``loc`` is assigned to: ``i, f = split(z)`` gives (i, f)."""
    if loc is None:
        return ()
    return _assignments(resolve(loc.file)).get((loc.line, loc.col, loc.end_line, loc.end_col), ())


@functools.lru_cache(maxsize=64)
def _assignments(filename: str) -> dict[tuple[int, int, int, int], tuple[str, ...]]:
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[int, int, int, int], tuple[str, ...]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        names = tuple(e.id for e in elements if isinstance(e, ast.Name))
        if len(names) == len(elements):
            span = (value.lineno, value.col_offset, value.end_lineno or 0, value.end_col_offset or 0)
            found[span] = names
    return found
