"""What the elements of inputs are said to be: what is refused. What comes of it is in tests/test_soundness.py."""

from __future__ import annotations

import pytest

from tests.dsl.conftest import UserFile


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Input(3, values=integers(0.5, 1))", "DslError: integers: low must be an integer, found float 0.5"),
        ("Input(3, values=integers(2, 1))", "DslError: integers: expected low <= high, found 2 and 1"),
        ("Input(3, values=reals(0, 'a'))", "DslError: reals: high must be a finite number, found str 'a'"),
        ("Input(3, values=reals(1, 0))", "DslError: reals: expected low <= high, found 1 and 0"),
        (
            "Input(3, values=(0, 1))",
            "DslError: input values: expected integers(low, high) or reals(low, high), found tuple (0, 1)",
        ),
    ],
)
def test_errors_of_values(user: UserFile, value: str, message: str) -> None:
    assert user.refused(f"@model\ndef net(x={value}):\n    return x\n").startswith(f"{message}\n  user.py:")
