"""Each pass makes of a golden text the next one, exactly; ``make golden`` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lstmc.ir import print_graph
from lstmc.passes import Pass, run_passes
from lstmc.testing.equivalence import assert_same_meaning
from tests.goldens.update import BACKEND, FOLDER, MODEL, golden_passes, read

STEPS = list(golden_passes())
BEFORE = [MODEL, *(path for path, _ in STEPS)]


def without_header(text: str) -> str:
    return re.sub(r"\A(#.*\n)+", "", text)


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[path.stem for path, _ in STEPS])
def test_pass_makes_the_next_golden_text(number: int) -> None:
    path, step = STEPS[number]
    before = read(BEFORE[number])
    outcome = step.run(before)
    assert print_graph(outcome.graph) == without_header(path.read_text())
    assert_same_meaning(before, outcome.graph)
    again = step.run(outcome.graph)
    assert not again.modified
    assert again.graph == outcome.graph


def test_the_pipeline_writes_the_golden_texts(tmp_path: Path) -> None:
    run_passes(read(MODEL), [step for _, step in STEPS], BACKEND.ops, tmp_path)
    dumps = sorted(tmp_path.iterdir())[1:]
    assert [dump.read_text() for dump in dumps] == [path.read_text() for path, _ in STEPS]  # headers and all


def test_the_last_golden_text_means_what_the_first_one_does() -> None:
    assert_same_meaning(read(BEFORE[0]), read(BEFORE[-1]))


def test_every_pass_has_something_to_do() -> None:
    def does(number: int, step: Pass) -> bool:
        return step.run(read(BEFORE[number])).modified

    busy = {step.name for number, (_, step) in enumerate(STEPS) if does(number, step)}
    # these need steps that were written out, 100 steps, a linear state, an indicator, a transposed or packed parameter
    # or a narrower target, and have tests of their own; check_gradients refuses models
    elsewhere = {"roll_up", "limit_fan", "parallel_time", "reshape_once", "narrow", "constants"}
    elsewhere |= {"check_gradients", "untie_transposes", "pass_packed_values"}
    assert busy == {step.name for _, step in STEPS} - elsewhere


def test_there_are_no_other_golden_texts() -> None:
    assert set(FOLDER.glob("*.lir")) == set(BEFORE)
    assert print_graph(read(MODEL)) == MODEL.read_text()
