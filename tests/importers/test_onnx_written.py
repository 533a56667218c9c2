"""What imports of ONNX's cases write stays the same; here, where :mod:`test_onnx_operators` has made the cases."""

from __future__ import annotations

import pytest

from tests.goldens.written import import_lines
from tests.test_written import FROZEN


@pytest.mark.slow
def test_imports_of_each_operator_are_written_as_before() -> None:
    assert set(import_lines(4)) <= FROZEN


@pytest.mark.exhaustive
def test_all_imports_are_written_as_before() -> None:
    assert set(import_lines()) <= FROZEN
