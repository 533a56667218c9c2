"""``lstmc cells`` lists the library, and ``lstmc cells NAME`` prints one of it."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from lstmc.api import library_cell
from lstmc.backend import find_cells, load_cell
from lstmc.cli import console
from lstmc.plugins import cell_groups, group_of
from tests.cli.conftest import LSTMC


def test_the_cells_are_listed_in_their_groups_with_a_line_each(lstmc: LSTMC) -> None:
    lines = lstmc("cells").out.splitlines()
    assert [line for line in lines if line in cell_groups()] == list(cell_groups())
    assert " gru             2014 as in the paper" in lines
    assert " gru_reset_after 2014 PyTorch and Keras" in lines
    assert {line.split()[0] for line in lines if line.startswith(" ")} >= set(find_cells())
    assert max(map(len, lines)) < 80


def test_on_a_terminal_of_80_columns_the_cells_fill_two_screens_at_most(
    lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_lines = lstmc("cells").out.split()
    monkeypatch.setattr(console.out, "_force_terminal", True)
    monkeypatch.setattr(console.out, "no_color", True)
    monkeypatch.setattr(console.out, "_width", 80)
    lines = re.sub(r"\x1b\[\d*m", "", lstmc("cells").out).splitlines()
    assert " gru_reset_after 2014 PyTorch and Keras para_gru        2025 diagonal matrices" in lines
    assert len(lines) <= 2 * 24
    assert max(map(len, lines)) < 80
    assert sorted(" ".join(lines).split()) == sorted(in_lines)
    monkeypatch.setattr(console.out, "_width", 60)
    assert lstmc("cells").out.count("\n") > len(find_cells())


@pytest.mark.parametrize("name", [name for names in cell_groups().values() for name in names])
def test_a_cell_is_listed_with_the_year_that_its_documentation_has(name: str) -> None:
    assert f" {cell_groups()[group_of(name)][name].year}" in str(inspect.getdoc(load_cell(name)))


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--verbose", "--json"])
def test_costs_are_listed_at_the_given_sizes(lstmc: LSTMC, option: str) -> None:
    told = lstmc("cells", "-D", "H=8", "-D", "D=5", option).out
    if option == "--json":
        rnn = json.loads(told)["cells"][0]
        assert (rnn["name"], rnn["parameters"], rnn["FLOPs"], rnn["not_for"]) == ("rnn", 112, 224, ["caffe-native"])
        return
    assert told == lstmc("cells", "-D", "H=8", "-D", "D=5").out  # sizes ask for them too
    lines = told.splitlines()
    assert [line for line in lines if line in cell_groups()] == list(cell_groups())
    (rnn,) = [line.split() for line in lines if line.startswith("rnn ")]
    assert (rnn[1:3], rnn[-1]) == (["112", "224"], "caffe-native")


def test_a_cell_that_the_sizes_do_not_suit_hides_no_other(lstmc: LSTMC) -> None:
    lines = lstmc("cells", "-D", "H=7").out.splitlines()
    assert [line for line in lines if line.startswith("phased_lstm ")]
    (refused,) = [line for line in lines if line.startswith("clockwork")]
    assert refused.startswith("clockwork: split: axis 0 has 7 elements, which do not make 4 equal parts")


def test_json_has_the_dimensions_of_each_cell_and_why_others_are_not_there(lstmc: LSTMC) -> None:
    found = json.loads(lstmc("cells", "-D", "H=7", "--json").out)
    dimensions = {cell["name"]: cell["dimensions"] for cell in found["cells"]}
    assert dimensions["gru"] == ["N", "D", "H"]
    assert {*dimensions, *found["refused"]} >= {*find_cells()}
    assert found["refused"]["clockwork"].startswith("split: axis 0 has 7 elements")


def test_a_cell_is_shown(lstmc: LSTMC) -> None:
    whole = library_cell("min_gru", {"D": 3}).text + "\n"
    ended = lstmc("cells", "min_gru", "-D", "D=3")
    assert (ended.code, ended.out, ended.err) == (0, whole, "")


def test_an_unknown_cell_is_refused(lstmc: LSTMC) -> None:
    ended = lstmc("cells", "grux")
    assert (ended.code, ended.out) == (2, "")
    assert "grux" in ended.err
    assert "gru" in ended.err.replace("grux", "")


def test_the_list_needs_no_cell_to_be_traced(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.api.library_cell", None)
    assert lstmc("cells").code == 0


def test_a_size_below_one_is_refused_once_for_all_cells(lstmc: LSTMC) -> None:
    for arguments in ((), ("min_gru",)):
        refused = lstmc("cells", *arguments, "-D", "H=0")
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == "DimError: dimension H must be at least 1, found 0\n"


def test_a_dimension_that_no_cell_has_is_refused(lstmc: LSTMC) -> None:
    for arguments in ((), ("min_gru",)):
        refused = lstmc("cells", *arguments, "-D", "Q=4")
        assert refused.code == 2
        assert refused.err.startswith("DimError: no cell of lstmc has a dimension Q: found A, B, C, D, E, ")
