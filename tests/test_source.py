"""Places in the user's files: spans, excerpts, and how paths are shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lstmc.source import (
    PACKAGE,
    SrcLoc,
    display,
    here,
    resolve,
)

HERE = display(__file__)


# paths ---------------------------------------------------------------------------------------------------------


def test_a_path_is_shown_from_the_current_folder_and_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    file = str(tmp_path / "models" / "net.py")
    monkeypatch.chdir(tmp_path)
    assert display(file) == "models/net.py"
    assert resolve("models/net.py") == file
    monkeypatch.chdir(tmp_path / "models")
    assert display(file) == "net.py"
    monkeypatch.chdir("/")
    assert display(file) == file[1:]
    monkeypatch.chdir(PACKAGE)
    assert display(file) == file


def test_a_file_of_the_package_is_shown_below_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display(str(PACKAGE / "cells" / "lstm.py")) == "lstmc/cells/lstm.py"
    assert resolve("lstmc/cells/lstm.py") == str(PACKAGE / "cells" / "lstm.py")


def test_code_that_has_no_file_is_shown_by_its_name() -> None:
    assert (display("<stdin>"), resolve("<stdin>")) == ("<stdin>", "<stdin>")


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "a\\nb", "\\", "\x1b[31m", "\t é \u3000", "\U000e0001"])
def test_a_displayed_path_is_one_printable_line_that_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / name / "net.py")
    assert display(file).isprintable()
    assert resolve(display(file)) == file


# excerpts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "span", "carets"),
    [
        ("y = tanh(x)", (4, 11), "    ^^^^^^^"),
        ("    y = tanh(x)", (8, 15), "    ^^^^^^^"),
        ("y = tanh(x)", (0, 0), "^"),
        ("é = 'ü' + ö", (5, 9), "    ^^^"),
        ("\ty = x", (1, 2), "^"),
    ],
)
def test_an_excerpt_marks_the_span_without_the_indent(
    tmp_path: Path, line: str, span: tuple[int, int], carets: str
) -> None:
    file = tmp_path / "net.py"
    file.write_text(line + "\n")
    assert SrcLoc(str(file), 1, span[0], 1, span[1]).excerpt() == (line.strip(), carets)


def test_a_span_over_lines_is_marked_to_the_end_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("y = f(\n  x)\n")
    loc = SrcLoc(str(file), 1, 4, 2, 4)
    assert (loc.excerpt(), loc.text()) == (("y = f(", "    ^^"), None)


def test_what_cannot_be_read_has_no_excerpt(tmp_path: Path) -> None:
    for loc in (SrcLoc(str(tmp_path / "absent.py"), 1, 0, 1, 1), SrcLoc("<stdin>", 1, 0, 1, 1)):
        assert (loc.excerpt(), loc.text()) == (None, None)
    (tmp_path / "short.py").write_text("x\n")
    assert SrcLoc(str(tmp_path / "short.py"), 7, 0, 7, 1).excerpt() is None


def test_a_place_reads_file_line_column() -> None:
    loc = SrcLoc("net.py", 3, 4, 3, 9)
    assert (str(loc), loc.short, loc.span) == ("net.py:3:5", "net.py:3", (3, 4, 3, 9))


# here ----------------------------------------------------------------------------------------------------------


def probe(*_: object) -> SrcLoc | None:
    """What ``here`` says as seen from a caller: this function plays a part of the language."""
    return here()


def test_here_is_the_expression_that_the_user_is_evaluating() -> None:
    found = here()
    assert found is not None
    assert (found.file, found.text()) == (HERE, "here()")


class Language:
    """Its methods are run as if they were the language's own."""

    def __init__(self) -> None:
        names = {"__name__": "lstmc.dsl.pretended", "here": here, "seen": []}
        exec("def look(*_, **__):\n    seen.append(here())\n    return True\n", names)
        exec("def items(_):\n    seen.append(here())\n    return iter((1, 2))\n", names)
        self.seen: list[SrcLoc] = names["seen"]  # type: ignore[assignment]
        look, items = names["look"], names["items"]
        self.value = type("Value", (), {"__bool__": look, "__add__": look, "__iter__": items, "__gt__": look})()

    def text(self) -> str | None:
        return self.seen[-1].text()


def test_here_is_the_operand_whose_truth_or_elements_are_asked_for() -> None:
    language = Language()
    v = language.value
    found = []
    if v:
        found.append(language.text())
    while v:
        found.append(language.text())
        break
    assert v
    found.append(language.text())
    _ = 1 if v else 2
    found.append(language.text())
    for _ in v:
        found.append(language.text())
        break
    _a, _b = v
    found.append(language.text())
    [_a, _b] = v
    found.append(language.text())
    assert found == ["v"] * 7
    _ = v + 1
    assert language.text() == "v + 1"
    if v > 1:
        assert language.text() == "v > 1"


def test_here_skips_frames_of_the_language_and_sees_the_library_cells_as_users_code() -> None:
    def called_from(module: str) -> SrcLoc | None:
        names = {"__name__": module, "here": here}
        exec(compile("def f():\n    return here()\n", "<f>", "exec"), names)
        found: SrcLoc | None = names["f"]()  # type: ignore[operator]
        return found

    for module in ("lstmc.dsl", "lstmc.dsl.scan", "lstmc.ops.leaf", "lstmc.source"):
        loc = called_from(module)
        assert loc is not None
        assert (loc.file, loc.text()) == (HERE, 'names["f"]()')
    for module in ("lstmc.cells.lstm", "my_cells", "lstmc_like", "lstmc.dsl_of_mine"):
        loc = called_from(module)
        assert (loc.file if loc else None) == (None if module == "lstmc.dsl_of_mine" else "<f>")


def test_here_is_nowhere_where_the_package_itself_calls_the_language() -> None:
    names = {"__name__": "lstmc.cli.compile", "here": here}
    exec("def f():\n    return here()\n", names)
    assert names["f"]() is None  # type: ignore[operator]


# what is read --------------------------------------------------------------------------------------------------


def test_no_file_is_read_where_cells_are_declared() -> None:
    program = "import linecache, lstmc.cells; print([file for file in linecache.cache if 'cells' in file])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
