"""Values of JSON files are checked where they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.json_file import Item, NotExpected, parsed, read_bounded


def wrong(call: object) -> str:
    with pytest.raises(NotExpected) as caught:
        call()  # type: ignore[operator]
    return str(caught.value)


def test_what_is_there_is_read() -> None:
    item = parsed(b'{"a": [1, -2], "b": {"c": 0.5, "d": "text", "e": false}, "s": [2, 0]}')
    assert [part.whole(None) for part in item["a"].items()] == [1, -2]
    assert (item["b"]["c"].number(), item["b"]["d"].text(), item["b"]["e"].flag()) == (0.5, "text", False)
    assert item["s"].shape() == (2, 0)
    assert item.get("none") is None


def test_what_is_not_is_said_with_its_place() -> None:
    item = Item({"a": [1, -2], "n": float("inf"), "\n": {"x" * 50: 1}, "long": "x" * 50, "t": True})
    assert wrong(lambda: item["a"].items()[1].whole()) == "a[1]: expected a whole number from 0 on, found -2"
    assert wrong(item["a"].text) == "a: expected a text, found [1, -2]"
    assert wrong(item["t"].whole) == "t: expected a whole number from 0 on, found true"
    assert wrong(item["t"].number) == "t: expected a number, found true"
    assert wrong(item["n"].number) == "n: expected a number, found Infinity"
    assert wrong(item["long"].flag) == f'long: expected true or false, found "{"x" * 39} ...'
    assert wrong(item["\n"]["x" * 50].text) == f'"\\n".{"x" * 40} ...: expected a text, found 1'
    assert wrong(lambda: item["b"]).startswith("expected an object with a value for b, found {")
    assert wrong(lambda: Item([2**20, 2**20]).shape()) == "expected sizes of an array's axes, found [1048576, 1048576]"


def test_a_file_without_end_is_not_read_to_it() -> None:
    with pytest.raises(NotExpected, match="expected at most 64 MiB, found more"):
        read_bounded(Path("/dev/zero"))
