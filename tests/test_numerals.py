"""What people write as numbers, and what Python would take for one too."""

from __future__ import annotations

import pytest

from lstmc.text import number, whole


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-3", -3), ("+7", 7), ("007", 7), ("9" * 19, 10**19 - 1)])
def test_whole_numbers(text: str, value: int) -> None:
    assert whole(text) == value


@pytest.mark.parametrize("text", ["", "-", "--5", "1_0", " 1", "1\n", "²", "٣", "1.0", "0x1", "9" * 20, "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    assert whole(text) is None


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("-.5", -0.5), ("3", 3.0), ("3.", 3.0), ("1e-3", 1e-3), ("+2E2", 200.0)]
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", ".", "nan", "inf", "-infinity", "1e999", "1_0.5", "٣.5", " 1", "1e", "9" * 5000])
def test_what_is_no_number(text: str) -> None:
    assert number(text) is None
