"""The mutants of a source, and whether tests kill them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.mutants import EQUAL, FOLDERS, ROOT, all_mutants, killed, mutants

SOURCE = '''\
"""Not a mutant: 1 < 2."""
SIZES: tuple[int, ...] = (1, 2)


def largest(é: list[int], least: int = 0) -> int | None:
    if not é and least is None:
        return None
    return é[0] + 1 if é[0] > least else 3
'''


def test_mutants_of_a_source() -> None:
    found = list(mutants("m.py", SOURCE))
    assert [str(mutant) for mutant in found] == [
        "m.py:5 0 => (1)",
        "m.py:6 not é and least is None => (not é or least is None)",
        "m.py:6 not é => (é)",
        "m.py:6 least is None => (least is not None)",
        "m.py:8 é[0] > least => (é[0] >= least)",
        "m.py:8 0 => (1)",
        "m.py:8 é[0] + 1 => (é[0] - 1)",
        "m.py:8 0 => (1)",
        "m.py:8 1 => (2)",
        "m.py:8 3 => (4)",
    ]
    for mutant in found:
        changed = mutant.applied(SOURCE)
        compile(changed, "m.py", "exec")
        assert changed != SOURCE
        assert changed.count("\n") == SOURCE.count("\n")


def test_what_tests_kill(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(SOURCE)
    (tmp_path / "conftest.py").write_text("from hypothesis import settings\nsettings.register_profile('quick')\n")
    (tmp_path / "test_m.py").write_text("from m import largest\n\ndef test_one():\n    assert largest([4]) == 5\n")
    by_new = {mutant.new: mutant for mutant in mutants("m.py", SOURCE)}
    assert killed(tmp_path, by_new["(é[0] - 1)"], [["test_m.py"]])
    assert not killed(tmp_path, by_new["(4)"], [["test_m.py"]])
    assert (tmp_path / "m.py").read_text() == SOURCE


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_mutants_and_tests(folder: str) -> None:
    assert len(all_mutants(ROOT, [folder])) > 100
    assert list((ROOT / FOLDERS[folder]).glob("test_*.py"))


def test_equal_mutants_are_of_expressions_that_there_are() -> None:
    keys = {mutant.key for mutant in all_mutants(ROOT, list(FOLDERS))}
    assert set(EQUAL.read_text().splitlines()) <= keys
