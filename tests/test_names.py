"""Names are allocated once each."""

from __future__ import annotations

from lstmc.text import Names


def test_many_equal_names_are_found_at_once() -> None:
    names = Names({"x_2"})
    assert [names.unique("x") for _ in range(3)] == ["x", "x_3", "x_4"]
    asked = list[str]()
    names = Names(forbidden=asked.append)
    assert len({names.unique("x") for _ in range(1000)}) == len(asked) == 1000
