"""The structure of JSON files is declared, and all of it is checked where they are read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lstmc.files.json_file import Count, NotExpected, Number, Shape, parse_json, read_bounded, read_json


@dataclass(frozen=True)
class Held:
    whole: int
    count: Count = 0
    number: Number = 0.0
    text: str = ""
    flag: bool = False
    shape: Shape = ()
    by_name: dict[str, tuple[int, ...]] | None = None


def wrong(content: bytes | dict[str, Any], kind: Any = Held) -> str:
    with pytest.raises(NotExpected) as caught:
        parse_json(content if isinstance(content, bytes) else json.dumps(content).encode(), kind)
    return str(caught.value)


def test_what_is_there_is_read() -> None:
    text = '{"whole": -2, "number": 1, "text": "\\u00e9", "flag": true, "shape": [2, 0], "by_name": {"a": [3]}, "x": 0}'
    held = parse_json(text.encode(), Held)
    assert held == Held(-2, 0, 1.0, "é", True, (2, 0), {"a": (3,)})
    assert isinstance(held.number, float)
    assert parse_json(b'{"a": 10000000000000000000000}', dict[str, int]) == {"a": 10**22}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "expected an object with a value for whole, found {}"),
        ({"whole": "1"}, 'whole: expected a valid integer, found "1"'),
        ({"whole": True}, "whole: expected a valid integer, found true"),
        ({"whole": 1.0}, "whole: expected a valid integer, found 1.0"),
        ({"whole": 1, "count": -1}, "count: expected greater than or equal to 0, found -1"),
        ({"whole": 1, "number": True}, "number: expected a valid number, found true"),
        ({"whole": 1, "number": float("inf")}, "number: expected a finite number, found Infinity"),
        ({"whole": 1, "text": None}, "text: expected a valid string, found null"),
        ({"whole": 1, "flag": 0}, "flag: expected a valid boolean, found 0"),
        ({"whole": 1, "shape": {}}, "shape: expected a valid array, found {}"),
        ({"whole": 1, "shape": [2**20, 2**20]}, "shape: expected sizes of an array's axes, found [1048576, 1048576]"),
        ({"whole": 1, "shape": [1] * 33}, f"shape: expected sizes of an array's axes, found {str([1] * 33)[:40]} ..."),
        ({"whole": 1, "by_name": {"a": [1, None]}}, "by_name.a[1]: expected a valid integer, found null"),
        ({"whole": 1, "by_name": {"\n": 3}}, 'by_name."\\n": expected a valid array, found 3'),
        ({"whole": 1, "by_name": {"x" * 50: 3}}, f"by_name.{'x' * 40} ...: expected a valid array, found 3"),
        ({"whole": "x" * 50}, f'whole: expected a valid integer, found "{"x" * 39} ...'),
        ([1], "expected an object, found [1]"),
        (b"", "expected JSON, found something else: EOF while parsing a value at line 1 column 0"),
        (b"\xff", "expected JSON, found something else: expected value at line 1 column 1"),
        (b"[" * 10**5, "expected JSON, found something else: recursion limit exceeded at line 1 column 202"),
    ],
)
def test_what_is_not_is_said_with_its_place(content: Any, said: str) -> None:
    assert wrong(content) == said


def test_halves_of_characters_are_none() -> None:
    assert wrong(rb'{"whole": 1, "text": "\ud800"}').startswith("expected JSON, found something else: ")
    assert wrong(b'{"whole": 1, "text": "\xed\xa0\x80"}').startswith("expected JSON, found something else: ")


def test_numbers_of_many_digits_cost_nothing() -> None:
    said = wrong(b'{"whole": ' + b"9" * 10**6 + b"}")
    assert said == "expected JSON, found something else: number out of range at line 1 column 4312"


def test_a_file_that_is_large_or_has_no_end_is_not_read_to_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="expected a file, found a device or a pipe"):
        read_bounded(Path("/dev/zero"))
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**30)
    with pytest.raises(NotExpected, match="expected at most 64 MiB, found more"):
        read_bounded(tmp_path / "large")


def test_a_file_is_read_as_its_content(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"whole": 3}')
    assert read_json(tmp_path / "x.json", Held) == Held(3)
