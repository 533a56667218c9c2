"""What is written stays the same, byte for byte: ``make frozen`` writes tests/goldens/written.txt anew."""

from __future__ import annotations

import pytest

from lstmc.plugins import library_names
from tests.goldens.written import FORMS, WRITTEN, cell_line

FROZEN = frozenset(WRITTEN.read_text(encoding="utf-8").splitlines())
CELLS = sorted(library_names())
EACH = 16  # of the cells each form has a few here, other ones than the form before it


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_few_cells_are_written_as_before(form: str) -> None:
    first = list(FORMS).index(form) % EACH
    assert {cell_line(form, name) for name in CELLS[first::EACH]} <= FROZEN


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", FORMS)
def test_all_cells_are_written_as_before(form: str) -> None:
    assert {cell_line(form, name) for name in CELLS} <= FROZEN


def test_the_file_has_each_case_once() -> None:
    lines = WRITTEN.read_text(encoding="utf-8").splitlines()
    cases = [" ".join(line.split()[:-1]).removesuffix(" refused") for line in lines]
    assert len(set(cases)) == len(cases)
    assert {f"{form}: {name}" for form in FORMS for name in CELLS} == {c for c in cases if not c.startswith("import:")}
