"""Successive halving, and which points are the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lstmc.sweeps.trials import Goal, Row, best_row, budgets, last_scores, rank_rows, results_csv, survivors


@pytest.mark.parametrize(
    ("points", "updates", "factor", "expected"),
    [
        (9, 900, 3, [100, 300, 900]),
        (10, 900, 3, [100, 300, 900]),
        (4, 600, 2, [150, 300, 600]),
        (1, 900, 3, [900]),
        (50, 4, 3, [1, 4]),
    ],
)
def test_budgets_grow_by_the_factor(points: int, updates: int, factor: int, expected: list[int]) -> None:
    assert budgets(points, updates, factor) == expected


def rows() -> list[Row]:
    made = [Row(f"p{i}", {"H": str(i)}, "finished", 10, {"loss": 1 / (i + 1), "accuracy": i / 10}) for i in range(5)]
    return [
        *made,
        Row("bad", {"H": "9"}, "failed", 3, {"loss": 0.0}, "it ran away"),
        Row("none", {"H": "8"}, "finished"),
    ]


def test_one_in_so_many_goes_on_and_failed_ones_do_not() -> None:
    assert survivors(rows(), 3, Goal()) == ["p4", "p3", "p2"]  # of seven points three, though one failed
    assert survivors(rows(), 7, Goal("accuracy", highest=True)) == ["p4"]
    assert survivors(rows(), 7, Goal("accuracy")) == ["p0"]


def test_the_best_has_finished_and_has_a_score() -> None:
    best = best_row(rows(), Goal())
    assert best is not None
    assert best.name == "p4"
    assert best_row(rows()[5:], Goal()) is None
    assert [row.name for row in rank_rows(rows(), Goal())] == ["p4", "p3", "p2", "p1", "p0", "none", "bad"]


def test_a_row_of_the_table_for_each_point() -> None:
    first = replace(rows()[1], costs={"parameters": 6, "flops": 12, "seconds": 0.125})
    assert results_csv([first, rows()[5]]).decode() == (
        "H,state,iteration,loss,accuracy,parameters,flops,seconds,reason,run\n"
        "1,finished,10,0.5,0.1,6,12,0.125,,points/p1\n"
        "9,failed,3,0,,,,,it ran away,points/bad\n"
    )


def test_without_a_test_the_mean_of_the_last_losses_is_the_score() -> None:
    losses = [{"kind": "train", "iteration": i, "loss": loss} for i, loss in enumerate([5.0, 1.0, None])]
    assert 1 < last_scores(losses)["loss"] < 5
    test = {"kind": "test", "iteration": 2, "scores": {"loss": 0.25, "accuracy": None}}
    assert last_scores([*losses, test]) == {"loss": 0.25}
    assert last_scores([]) == {}
