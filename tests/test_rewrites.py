"""Texts of graphs that are compared up to the names of their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rewrites import numbered, rewrites

LINES = """
%a, %c: f32[2], f32[4] = split(%x, axis=0, sizes=(2, 4))
%d/half: f32[2] = add(%a, %y)
return d=%d/half, c=%c
"""


def test_names_of_values_are_free_and_nothing_else() -> None:
    assert numbered(LINES.replace("%a", "%first").replace("%d/half", "%e")) == numbered(LINES)
    for one, other in (("%a, %y", "%y, %a"), ("%y", "%z"), ("c=%c", "c=%a"), ("c=", "e="), ("f32[4]", "f32[5]")):
        assert numbered(LINES.replace(one, other)) != numbered(LINES), one


def test_a_file_has_cases_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cases.lir"
    path.write_text("# a, twice\n%a: f32[] = f(%x)  # net.py:1\n=>\nreturn z=%x\n\n# b\nreturn\n=>\nreturn\n")
    assert rewrites(path) == {
        "a, twice": ("%a: f32[] = f(%x)  # net.py:1\n", "return z=%x\n\n"),
        "b": ("return\n", "return\n"),
    }
    path.write_text("# a\nreturn\n")
    with pytest.raises(AssertionError, match="a has no =>"):
        rewrites(path)
