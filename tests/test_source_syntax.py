"""What spans stand for in a file's syntax tree: assigned names, arguments, parameters, returns."""

from __future__ import annotations

import importlib.util
import linecache
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from lstmc import source
from lstmc.source import (
    SrcLoc,
    argument_location,
    assigned_names,
    encloses,
    function_location,
    parameter_location,
    return_location,
    returned_names,
)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Written]:
    monkeypatch.chdir(tmp_path)
    return Written


class Written:
    """A module written to ``code.py``; ``at("text")`` is where a text first stands in it."""

    def __init__(self, code: str) -> None:
        self.code = dedent(code)
        Path("code.py").write_text(self.code)
        spec = importlib.util.spec_from_file_location("code_of_a_test", Path("code.py").resolve())
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def at(self, text: str) -> SrcLoc:
        start = self.code.index(text)
        before = self.code[:start]
        line, col = before.count("\n") + 1, len(before.rpartition("\n")[2])
        last = text.rpartition("\n")[2]
        end_line = line + text.count("\n")
        return SrcLoc("code.py", line, col, end_line, len(last) + (col if end_line == line else 0))


def test_names_are_those_the_expression_is_assigned_to(written: type[Written]) -> None:
    file = written(
        """\
        a = dict(one=1)
        b, c = dict(two=2), 3
        d, e = (dict(three=3), 4)
        [f, g] = list("fg")
        h: dict = dict(four=4)
        i = j = dict(five=5)
        (k, (l, m)) = (1, (2, 3))
        n = a["one"] = dict(six=6)
        o = (
            dict(seven=7)
        )
        """
    )
    names = {
        "dict(one=1)": ("a",),
        "dict(two=2)": ("b",),
        "(dict(three=3), 4)": ("d", "e"),
        "dict(three=3)": ("d",),
        "(2, 3)": ("l", "m"),
        'list("fg")': ("f", "g"),
        "dict(four=4)": ("h",),
        "dict(five=5)": (),
        "(1, (2, 3))": (),
        "dict(six=6)": (),
        "dict(seven=7)": ("o",),
    }
    assert {text: assigned_names(file.at(text)) for text in names} == names
    assert assigned_names(None) == ()


def test_an_argument_is_found_by_position_and_by_keyword(written: type[Written]) -> None:
    file = written('r = print(1 + 1, "two", *(3, 4), sep="", end=  "")\n')
    call = file.at('print(1 + 1, "two", *(3, 4), sep="", end=  "")')
    assert argument_location(call, 0) == file.at("1 + 1")
    assert argument_location(call, 1) == file.at('"two"')
    assert argument_location(call, 0, "sep") == file.at('sep=""')
    assert argument_location(call, None, "end") == file.at('end=  ""')
    for position, keyword in ((2, None), (3, None), (None, "file"), (None, None)):
        assert argument_location(call, position, keyword) == call
    assert argument_location(file.at("r"), 0) == file.at("r")
    assert argument_location(None, 0) is None


# functions -------------------------------------------------------------------------------------------------------

FUNCTIONS = """\
import functools


def plain(a, *b, c=lambda d: d, **e):
    return a


@functools.lru_cache
@functools.wraps(plain)
async def decorated(
    x, y=1
):
    if x:
        return y
    return x, (y)


class Holder:
    def method(self):
        def inner():
            return 1
        return self, inner


shown = lambda z: z
def nothing(): pass
"""


def test_a_function_stands_at_its_def_and_name(written: type[Written]) -> None:
    file = written(FUNCTIONS)
    assert function_location(file.module.plain) == file.at("def plain")
    assert function_location(file.module.decorated.__wrapped__) == file.at("def plain")
    assert function_location(file.module.Holder.method) == file.at("def method")
    line = file.at("shown").line
    assert function_location(file.module.shown) == SrcLoc("code.py", line, 0, line, 0)
    assert function_location(len) is None


def test_a_decorated_and_asynchronous_function_too(written: type[Written]) -> None:
    file = written(FUNCTIONS.replace("@functools.lru_cache\n@functools.wraps(plain)\n", "@staticmethod\n"))
    decorated = file.module.decorated.__func__
    assert function_location(decorated) == file.at("async def decorated")
    y = file.at("y=1")
    assert parameter_location(decorated, "y") == SrcLoc("code.py", y.line, y.col, y.line, y.col + 1)


def test_a_parameter_stands_where_it_is_declared(written: type[Written]) -> None:
    file = written(FUNCTIONS)
    plain = file.module.plain
    for name, near in (("a", "a, *b"), ("b", "b, c"), ("c", "c=lambda"), ("e", "e):")):
        start = file.at(near)
        assert parameter_location(plain, name) == SrcLoc("code.py", start.line, start.col, start.line, start.col + 1)
    assert parameter_location(plain, "absent") == function_location(plain)


def test_a_return_is_the_only_one_or_else_the_def(written: type[Written]) -> None:
    file = written(FUNCTIONS)
    assert return_location(file.module.plain) == file.at("return a")
    assert return_location(file.module.Holder.method) == file.at("return self, inner")
    assert return_location(file.module.nothing) == file.at("def nothing")
    assert returned_names(file.module.plain) == ("a",)
    assert returned_names(file.module.Holder.method) == ("self", "inner")
    assert returned_names(file.module.nothing) == (None,)
    assert returned_names(len) == (None,)


def test_a_function_encloses_its_own_lines(written: type[Written]) -> None:
    file = written(FUNCTIONS)
    method = file.module.Holder.method
    assert encloses(method, file.at("return 1"))
    assert encloses(method, file.at("return self"))
    assert not encloses(method, file.at("shown"))
    assert not encloses(method, file.at("return a"))
    assert not encloses(method, None)
    assert not encloses(len, file.at("shown"))


# reading files -----------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_python_has_no_names(tmp_path: Path) -> None:
    for content in ("a = (1\n", "\x00\n"):
        (tmp_path / "bad.py").write_text(content)
        assert assigned_names(SrcLoc(str(tmp_path / "bad.py"), 1, 4, 1, 5)) == ()


def test_a_file_is_read_anew_after_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    loc = SrcLoc(str(file), 1, 4, 1, 9)
    for name in ("a", "b"):
        file.write_text(f"{name} = [1,2]{'#' if name == 'b' else ''}\n")
        assert assigned_names(loc) == (name,)


def test_what_is_known_of_files_is_bounded() -> None:
    for i in range(200):
        name = f"<made {i}>"
        linecache.cache[name] = (6, None, [f"v{i} = 1\n"], name)
        assert assigned_names(SrcLoc(name, 1, len(f"v{i} = "), 1, len(f"v{i} = 1"))) == (f"v{i}",)
        del linecache.cache[name]
    assert len(source._trees) <= source._MOST_TREES
