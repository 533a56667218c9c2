"""The space of a sweep: its points, and what is refused of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.errors import SweepError
from lstmc.sweeps import Range, Space


def test_a_grid_has_every_combination_by_names_that_say_it() -> None:
    points = Space.parse(["cell=lstm,gru", "solver.base_lr=1e-3, 3e-3", "H=8"]).points(None, 0)
    assert list(points) == [
        "cell=lstm,solver.base_lr=1e-3,H=8",
        "cell=lstm,solver.base_lr=3e-3,H=8",
        "cell=gru,solver.base_lr=1e-3,H=8",
        "cell=gru,solver.base_lr=3e-3,H=8",
    ]
    assert points["cell=gru,solver.base_lr=1e-3,H=8"] == {"cell": "gru", "solver.base_lr": "1e-3", "H": "8"}


def test_names_of_folders_are_safe_and_differ() -> None:
    points = Space.from_values({"word": ["a/b", "a b", "x" * 200]}).points(None, 0)
    assert list(points) == ["word=a_b", "0001"]  # a/b and a b would be one folder: the first has it
    assert points["word=a_b"] == {"word": "a/b"}


def test_random_points_differ_lie_in_their_ranges_and_come_again() -> None:
    space = Space.from_values(
        {
            "solver": {"base_lr": {"from": 1e-4, "to": 1e-1, "log": True}},
            "H": {"from": 4, "to": 6, "whole": True},
            "cell": ["lstm", "gru"],
        }
    )
    points = list(space.points(40, 3).values())
    assert len(points) == 40
    assert points == list(space.points(40, 3).values()) != list(space.points(40, 4).values())
    rates = [float(point["solver.base_lr"]) for point in points]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert sum(rate < 10**-2.5 for rate in rates) > 5  # half of them, evenly of their logarithms
    assert {point["H"] for point in points} == {"4", "5", "6"}


def test_no_more_points_are_drawn_than_there_are() -> None:
    assert len(Space.from_values({"H": [1, 2], "deep": {"from": 1, "to": 3, "whole": True}}).points(50, 0)) == 6


def test_a_file_and_the_command_line_together(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        'H = [8, 16]\nsolver.base_lr = {from = 0.1, to = 1.0}\n"solver.clip_gradients" = [5]\nflag = [true]\n'
    )
    space = Space.read(path).over(Space.parse(["H=4"]))
    assert space.values == {
        "H": ("4",),
        "solver.base_lr": Range(0.1, 1.0),
        "solver.clip_gradients": ("5",),
        "flag": ("true",),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"H": []}, "H: expected a list of values, or a range with from and to, found []"),
        ({"a b": [1]}, "'a b' is no name: expected a dimension, an option of the model, solver.SETTING or seed"),
        ({"H": [None]}, "H: expected numbers, words or true and false, found None"),
        (
            {"H": {"from": 1, "to": 2, "step": 1}},
            "H: a range has numbers from and to, and true or false for log and whole,"
            " found {'from': 1, 'to': 2, 'step': 1}",
        ),
        ({"H": {"from": 3, "to": 2}}, "H: expected numbers of which from is the smaller, found 3 to 2"),
        (
            {"H": {"from": 0, "to": 2, "log": True}},
            "H: expected numbers above 0 of which from is the smaller, found 0 to 2",
        ),
        (
            {"H": {"from": 0.5, "to": 2, "whole": True}},
            "H: expected integers of which from is the smaller, found 0.5 to 2",
        ),
    ],
)
def test_what_is_no_space(given: dict[str, object], message: str) -> None:
    with pytest.raises(SweepError) as error:
        Space.from_values(given)
    assert error.value.message == message


def test_what_are_no_points(tmp_path: Path) -> None:
    ranged = Space.from_values({"lr": {"from": 1, "to": 2}})
    many = Space.from_values({name: list(range(101)) for name in "ab"})
    for make, message in (
        (lambda: ranged.points(None, 0), "lr has a range: give random= the number of points to draw"),
        (lambda: ranged.points(0, 0), "random=0: expected at least one point"),
        (lambda: many.points(None, 0), "expected at most 10000 points, found 10201"),
        (lambda: Space({}).points(None, 0), "a sweep varies something: expected values for some name, found none"),
        (lambda: Space.parse(["H"]), "grid=H: expected NAME=VALUE,VALUE, found 'H'"),
        (lambda: Space.parse(["H=1,,2"]), "grid=H=1,,2: expected NAME=VALUE,VALUE, found 'H=1,,2'"),
        (lambda: Space.parse(["H=1", "H=2"]), "grid=H=2: H is given twice"),
        (lambda: Space.read(tmp_path / "no.toml"), f"{tmp_path / 'no.toml'}: no such file"),
    ):
        with pytest.raises(SweepError) as error:
            make()
        assert error.value.message == message
    for text in ("H = [", "H = " + "[" * 100_000):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(SweepError, match=r"bad\.toml: expected TOML, found something else: "):
            Space.read(tmp_path / "bad.toml")
