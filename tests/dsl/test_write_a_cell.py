"""Every block of docs/write-a-cell.md is run: Python, commands, the entry points, the error, the table of errors."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lstmc.dsl
from lstmc.backend import find_cells, load_cell
from lstmc.cli import main
from lstmc.errors import LstmcError
from lstmc.plugins import CELLS

TEXT = (Path(__file__).parents[2] / "docs" / "write-a-cell.md").read_text()


@dataclass(frozen=True)
class Block:
    """A fenced block, or a run of indented lines, which are commands."""

    kind: str
    code: str


def blocks() -> Iterator[Block]:
    for fenced in re.finditer(r"^```(\w+)\n(.*?)^```$|((?:^    \S[^\n]*\n)+)", TEXT, re.MULTILINE | re.DOTALL):
        yield Block(fenced[1] or "commands", fenced[2] or fenced[3])


BLOCKS = tuple(blocks())
PYTHON = [block.code for block in BLOCKS if block.kind == "python"]
WRONG = PYTHON.pop()  # the last one shows an error


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the page writes, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("cells.py")
    path.write_text("\n".join(PYTHON))
    return path


def test_every_block_is_of_a_kind_that_is_run() -> None:
    kinds = [block.kind for block in BLOCKS]
    assert set(kinds) == {"python", "commands", "toml", "text"}
    assert TEXT.count("```") == 2 * sum(kind != "commands" for kind in kinds)
    assert len(PYTHON) > 10


def test_the_python_runs_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "cells"}
    for number, code in enumerate(PYTHON):
        path = tmp_path / f"block{number}.py"
        path.write_text(code)
        exec(compile(code, str(path), "exec"), names)


COMMANDS = [line.strip() for block in BLOCKS if block.kind == "commands" for line in block.code.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_is_shown_for(
    command: str, cells: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offered(monkeypatch)
    words = shlex.split(command)
    assert words[0] == "lstmc"
    monkeypatch.setattr(sys, "argv", words + (["--on", "interpreter"] if words[1] == "verify" else []))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0), capsys.readouterr().err
    assert capsys.readouterr().out
    if words[1] == "compile":
        assert list(Path("out").glob("*.prototxt"))


def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Install a package in the current folder that has the page's entry points."""
    (toml,) = [block.code for block in BLOCKS if block.kind == "toml"]
    ((group, points),) = tomllib.loads(toml)["project"]["entry-points"].items()
    installed = Path("my_cells-1.0.dist-info")
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-cells\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, "cells", raising=False)
    assert group == CELLS
    return dict(points)


def test_a_package_with_these_entry_points_offers_the_cells(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = offered(monkeypatch)
    assert set(points) <= set(find_cells())
    assert {name: load_cell(name).name for name in points} == {name: name for name in points}


def test_the_error_is_shown_as_it_is(cells: Path) -> None:
    names: dict[str, object] = {"__name__": "cells"}
    exec("\n".join(PYTHON[:1]), names)
    cells.write_text(WRONG)
    with pytest.raises(LstmcError) as caught:
        exec(compile(WRONG, str(cells.resolve()), "exec"), names)
    (text,) = [block.code for block in BLOCKS if block.kind == "text"]
    assert str(caught.value) == text.rstrip("\n")


def spoken() -> str:
    """Every text that the language and its ops can say, with … for what is filled in."""
    package = Path(lstmc.__file__).parent
    said = []
    for path in (*(package / "dsl").glob("*.py"), *(package / "ops").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                said.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    return "\n".join(said)


def test_the_table_of_errors_quotes_what_is_said() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", TEXT, re.MULTILINE)
    assert len(rows) > 10
    said = spoken()
    quoted = [quote for row in rows for quote in re.findall(r"`(.*?)`", row)]
    assert [quote for quote in quoted if quote not in said] == []
