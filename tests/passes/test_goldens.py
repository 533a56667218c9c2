"""The golden texts of an LSTM after each pass; ``make golden`` writes them anew."""

from __future__ import annotations

import pytest

from lstmc.ir import parse_graph, print_graph
from lstmc.passes import Pass, run_passes
from lstmc.pipeline import all_passes
from lstmc.testing import assert_same_meaning
from tests.goldens.update import BACKEND, MODEL, PASSES, golden_passes, read

STEPS = all_passes(BACKEND)
GRAPHS = [snapshot.graph for snapshot in run_passes(read(MODEL), STEPS, BACKEND.ops)]


def test_the_pipeline_writes_the_golden_texts() -> None:
    assert golden_passes() == PASSES.read_text()
    assert print_graph(GRAPHS[0]) == MODEL.read_text()


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[f"{n}-{step.name}" for n, step in enumerate(STEPS)])
def test_a_pass_keeps_the_meaning_and_a_second_run_changes_nothing(number: int) -> None:
    after = GRAPHS[number + 1]
    assert_same_meaning(GRAPHS[number], after)
    again = STEPS[number].run(after)
    assert not again.modified
    assert again.graph == after == parse_graph(print_graph(after), BACKEND.ops)


def test_the_last_graph_means_what_the_first_one_does() -> None:
    assert_same_meaning(GRAPHS[0], GRAPHS[-1])


def test_every_pass_has_something_to_do() -> None:
    def does(number: int, step: Pass) -> bool:
        return step.run(GRAPHS[number]).modified

    busy = {step.name for number, step in enumerate(STEPS) if does(number, step)}
    # these need steps that were written out, 100 steps, a linear state, an indicator, a transposed or packed parameter
    # or a narrower target, and have tests of their own
    elsewhere = {"roll_up", "limit_fan", "parallel_time", "reshape_once", "narrow", "constants"}
    elsewhere |= {"untie_transposes", "pass_packed_values"}
    assert busy == {step.name for step in STEPS} - elsewhere
