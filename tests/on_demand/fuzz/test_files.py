"""A short run over damaged files; and that what it looks for would be found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.on_demand.fuzz.files import Counts, _in_child, damaged_files
from tests.on_demand.fuzz.formats import Format, formats
from tests.on_demand.fuzz.mutate import mutant


def total(found: list[Counts]) -> Counts:
    made = Counts()
    for one in found:
        made.add(one)
    return made


@pytest.mark.slow
def test_damaged_files_end_in_an_error_or_a_right_result() -> None:
    counts = total(list(damaged_files(range(7 * 10**8, 7 * 10**8 + 340))))
    assert counts.failed == []
    assert counts.outcomes.total() == 340


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return formats(tmp_path_factory.mktemp("corpus"))


def test_the_whole_files_are_read(whole: dict[str, Format], tmp_path: Path) -> None:
    for name, form in whole.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(form.content)
        form.read(folder)


def test_mutants_are_of_their_seed(whole: dict[str, Format]) -> None:
    content = whole["run.json"].content
    assert [mutant(content, seed) for seed in range(50)] == [mutant(content, seed) for seed in range(50)]
    assert len({mutant(content, seed) for seed in range(50)}) > 40


def runs(folder: Path) -> None:
    os.system("true")


def leaves(folder: Path) -> None:
    Path("/tmp/lstmc-fuzz-was-here").write_text("")


def ends(folder: Path) -> None:
    os._exit(3)


def grows(folder: Path) -> None:
    bytearray(2 << 30)


def steers(folder: Path) -> None:
    json.loads("{")


@pytest.mark.posix  # the fuzzer forks a child, and ends it by SIGALRM
@pytest.mark.parametrize(
    ("read", "why"),
    [
        (runs, "Forbidden: os.system"),
        (leaves, "Forbidden: writes /tmp/lstmc-fuzz-was-here"),
        (ends, "the process ended with 3"),
        (grows, "MemoryError"),
        (steers, "JSONDecodeError"),
    ],
)
def test_what_must_not_be_is_found(read: Callable[[Path], None], why: str, tmp_path: Path) -> None:
    counts = total(list(_in_child([(5, Format("any", b"abc", read))], tmp_path)))
    assert counts.outcomes == {("any", "failed"): 1}
    assert why in counts.failed[0]
    assert [path.name for path in tmp_path.iterdir()] == ["5.any"]
    assert not Path("/tmp/lstmc-fuzz-was-here").exists()
