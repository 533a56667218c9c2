"""Source locations of values in the user's files: exact spans, names of assigned variables, and arguments of calls.
Spans come from ``code.co_positions()`` (PEP 657); the syntax tree of the file has the node of each span."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import opcode
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

from lstmc.text import from_one_line, one_line

PACKAGE = Path(__file__).resolve().parent
# Frames of these modules are the language's own. Other modules of the package call it without a user's line, but the
# library cells are written as a user would write them.
_INTERNAL = ("lstmc.source", "lstmc.dsl", "lstmc.ir", "lstmc.ops", "lstmc.passes")
_LIBRARY = "lstmc.cells"

_SHORT = 40  # characters of an expression that is quoted in a sentence

Span = tuple[int, int, int, int]  # line, column, end line, end column, as in ``ast``


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

    @property
    def span(self) -> Span:
        return self.line, self.col, self.end_line, self.end_col

    def excerpt(self) -> tuple[str, str] | None:
        """Return the source line and a line of carets under the span, or None if the file cannot be read."""
        text = self._line_text()
        if not text.strip():
            return None
        end = self.end_col if self.end_line == self.line else len(text.encode())
        raw = text.encode()  # columns count UTF-8 bytes
        start_char = len(raw[: self.col].decode(errors="replace"))
        width = max(1, len(raw[self.col : end].decode(errors="replace")))
        indent = len(text) - len(text.lstrip())
        return text[indent:], " " * (start_char - indent) + "^" * width

    def text(self) -> str | None:
        """Return the source text of the span, or None if it has several lines or cannot be read."""
        raw = self._line_text().encode()[self.col : self.end_col]
        return raw.decode(errors="replace") or None if self.line == self.end_line else None

    def _line_text(self) -> str:
        path = resolve(self.file)
        linecache.checkcache(path)  # the file may have been edited since
        return linecache.getline(path, self.line).rstrip("\n")


def display(filename: str) -> str:
    """Return a path for messages, in one line: ``lstmc/...`` in the package, else relative or absolute."""
    return filename if filename.startswith("<") else _display_path(filename, os.getcwd())


@functools.lru_cache(maxsize=256)
def _display_path(filename: str, folder: str) -> str:
    path = Path(filename).resolve()
    for root, prefix in ((PACKAGE, PACKAGE.name), (Path(folder), "")):
        if path.is_relative_to(root):
            return one_line((Path(prefix) / path.relative_to(root)).as_posix())
    return one_line(path.as_posix())


def resolve(file: str) -> str:
    """Return the inverse of :func:`display`: an absolute path that can be opened."""
    if file.startswith("<"):
        return file
    path = from_one_line(file)
    if path.startswith(PACKAGE.name + "/") and not Path(path).exists():
        return str(PACKAGE.parent / path)
    return os.path.abspath(path)


_CALLS = frozenset(
    opcode.opmap[name] for name in opcode.opmap.keys() & {"PRECALL", "CALL", "CALL_KW", "CALL_FUNCTION_EX"}
)


def here(*own: str, function_of: str | None = None) -> SrcLoc | None:
    """Return the span of the expression being evaluated in the nearest frame outside of the compiler.
    None if the package itself calls the language, as the command line does. Frames of the modules in ``own``, such as
    modules of a backend that model files call, are skipped too. A function of the module ``function_of`` counts as one
    of the language: the span is the user's call of it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_in(frame, *_INTERNAL, *own):
        frame = frame.f_back
    if frame is not None and frame.f_globals.get("__name__") == function_of:
        caller = frame.f_back
        frame = frame if caller is None or _is_in(caller, *_INTERNAL, *own) else caller
    if frame is None or (_is_in(frame, PACKAGE.name) and not _is_in(frame, _LIBRARY)):
        return None
    loc = _span(frame)
    if _is_calling(frame):  # the file need not be read
        return loc
    looked_at = _tree(loc.file).looked_at.get(loc.span)
    return SrcLoc(loc.file, *looked_at) if looked_at else loc


def _is_calling(frame: FrameType) -> bool:
    """Return whether a frame executes a call. Otherwise a statement asks for a value's truth or elements."""
    code, at = frame.f_code.co_code, frame.f_lasti
    while opcode.opname[code[at]] == "CACHE" and at > 0:  # in Python 3.11 f_lasti is at the end of a call
        at -= 2
    return code[at] in _CALLS


def _is_in(frame: FrameType, *modules: str) -> bool:
    name = frame.f_globals.get("__name__") or ""
    return any(name == module or name.startswith(module + ".") for module in modules)


def _span(frame: FrameType) -> SrcLoc:
    """Return the span of the expression that a frame evaluates, or the frame's line if Python has no columns for it."""
    positions = _positions(frame.f_code)
    at = frame.f_lasti // 2
    line, end_line, col, end_col = positions[at] if at < len(positions) else (None, None, None, None)
    line = line or frame.f_lineno
    return SrcLoc(display(frame.f_code.co_filename), line, col or 0, end_line or line, end_col or 0)


_Position = tuple[int | None, int | None, int | None, int | None]
_MOST_CODES = 64
_codes: dict[int, tuple[CodeType, list[_Position]]] = {}  # by identity: a code object's hash reads all of it


def _positions(code: CodeType) -> list[_Position]:
    """Return the positions of a code object's instructions, read once: Python reads them from the first one on."""
    if id(code) not in _codes:
        if len(_codes) >= _MOST_CODES:
            _codes.clear()
        _codes[id(code)] = code, list(code.co_positions())
    return _codes[id(code)][1]


def assigned_names(loc: SrcLoc | None) -> tuple[str, ...]:
    """Return the variable names that the expression at ``loc`` is assigned to: ``i, f = split(z)`` gives (i, f)."""
    return () if loc is None else _tree(loc.file).assigned.get(loc.span, ())


def called(loc: SrcLoc | None) -> str | None:
    """Return the function called at ``loc`` as written, or the whole text if it is no call; None if that is long."""
    if loc is None:
        return None
    call = _tree(loc.file).calls.get(loc.span)
    text = ast.unparse(call.func) if call else loc.text() or ""
    return text if 0 < len(text) <= _SHORT else None


def argument_location(loc: SrcLoc | None, position: int | None, keyword: str | None = None) -> SrcLoc | None:
    """Return the location of an argument of the call at ``loc``, or the whole call if the argument cannot be found."""
    call = _tree(loc.file).calls.get(loc.span) if loc else None
    if loc is None or call is None:
        return loc
    for named in call.keywords:
        if named.arg is not None and named.arg == keyword:
            return _at(loc.file, named)
    positional = call.args[: (position or 0) + 1]
    if position is None or len(positional) <= position or any(isinstance(a, ast.Starred) for a in positional):
        return loc
    return _at(loc.file, positional[position])


def function_location(function: object) -> SrcLoc | None:
    """Return the location of a function's ``def`` and name, or None if it has no code in Python."""
    code = _code(function)
    if code is None:
        return None
    file, node = display(code.co_filename), _definition(code)
    if node is None:
        return SrcLoc(file, code.co_firstlineno, 0, code.co_firstlineno, 0)
    start = _at(file, node)
    header = SrcLoc(file, start.line, start.col, start.line, sys.maxsize).text() or ""
    name = re.match(r"(async\s+)?def\s+\w+", header)
    return SrcLoc(file, start.line, start.col, start.line, start.col + len(name[0].encode() if name else b""))


def parameter_location(function: object, name: str) -> SrcLoc | None:
    """Return the location of a function's parameter, or of the ``def`` if the parameter cannot be found."""
    code = _code(function)
    node = _definition(code) if code else None
    if code is not None and node is not None:
        arguments = [a for a in ast.walk(node.args) if isinstance(a, ast.arg) and a.arg == name]
        if arguments:
            return _at(display(code.co_filename), arguments[0])
    return function_location(function)


def return_location(function: object) -> SrcLoc | None:
    """Return the location of a function's only ``return`` statement; its ``def`` if there is none or several."""
    code, returned = _code(function), _one_return(function)
    return function_location(function) if not code or not returned else _at(display(code.co_filename), returned)


def returned_names(function: object) -> tuple[str | None, ...]:
    """Return the variables in a function's one ``return``: ``return y, f(z)`` gives (y, None)."""
    returned = _one_return(function)
    value = returned.value if returned else None
    elements = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
    return tuple(element.id if isinstance(element, ast.Name) else None for element in elements)


def _one_return(function: object) -> ast.Return | None:
    """Return a function's ``return`` statement; None if there is none or several."""
    code = _code(function)
    node = _definition(code) if code else None
    returns = list(_returns(node)) if node else []
    return returns[0] if len(returns) == 1 else None


def encloses(function: object, loc: SrcLoc | None) -> bool:
    """Return whether ``loc`` is in a function's own lines."""
    code = _code(function)
    if code is None or loc is None or loc.file != display(code.co_filename):
        return False
    return code.co_firstlineno <= loc.line <= max(_lines(code), default=0)


def _code(function: object) -> CodeType | None:
    """Return the code object of a function, also of a decorated one; None for other objects."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _lines(code: CodeType) -> Iterator[int]:
    yield from (line for _, _, line in code.co_lines() if line is not None)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _lines(constant)


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """Yield the ``return`` statements of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returns(child)


def _definition(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the ``def`` of a code object in its file, or None if the file has changed."""
    node = _tree(display(code.co_filename)).functions.get(code.co_firstlineno)
    return node if node is not None and node.name == code.co_name else None


def _span_of(node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> Span:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0


def _at(file: str, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> SrcLoc:
    return SrcLoc(file, *_span_of(node))


class _Tree:
    """The spans of a file's syntax tree."""

    def __init__(self, lines: list[str]) -> None:
        """Note the spans of the nodes of a file; one that does not parse has none."""
        self.lines = lines
        self.assigned: dict[Span, tuple[str, ...]] = {}  # an expression -> the variables that it is assigned to
        self.looked_at: dict[Span, Span] = {}  # a statement -> the expression whose truth or elements it asks for
        self.calls: dict[Span, ast.Call] = {}
        self.functions: dict[int, ast.FunctionDef | ast.AsyncFunctionDef] = {}  # by first line, decorators included
        try:
            tree = ast.parse("".join(lines))
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            self._note(node)

    def _note_assigned(self, target: ast.expr, value: ast.expr) -> None:
        """Note the names that an expression is assigned to; element by element if both sides are tuples."""
        elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        names = tuple(e.id for e in elements if isinstance(e, ast.Name))
        if len(names) == len(elements):
            self.assigned[_span_of(value)] = names
        inner = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        starred = any(isinstance(one, ast.Starred) for one in (*elements, *inner))
        if isinstance(target, ast.Tuple | ast.List) and len(inner) == len(elements) and not starred:
            for own, one in zip(elements, inner, strict=True):
                self._note_assigned(own, one)

    def _note(self, node: ast.AST) -> None:
        """Note what a node gives: assigned names, tested expressions, calls and functions."""
        match node:
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                self._note_assigned(target, value)
                if isinstance(target, ast.Tuple | ast.List):
                    self.looked_at[_span_of(target)] = _span_of(value)
            case ast.If() | ast.While() | ast.IfExp() | ast.Assert():
                self.looked_at[_span_of(node)] = _span_of(node.test)
            case ast.For():
                self.looked_at[_span_of(node)] = _span_of(node.iter)
            case ast.Call():
                self.calls[_span_of(node)] = node
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.functions[min(n.lineno for n in (node, *node.decorator_list))] = node
            case _:
                pass


_MOST_TREES = 64
_trees: dict[str, _Tree] = {}  # by whole path; a file that was edited gets a new one


def _tree(file: str) -> _Tree:
    """Return the spans of a file's syntax tree. The file is parsed again if it was edited."""
    path = resolve(file)
    linecache.checkcache(path)
    lines = linecache.getlines(path)
    if path not in _trees or _trees[path].lines is not lines:
        if len(_trees) >= _MOST_TREES:
            _trees.clear()
        _trees[path] = _Tree(lines)
    return _trees[path]
