"""``lstmc cells`` lists the library, and ``lstmc cells show`` prints one of it."""

from __future__ import annotations

import json

from lstmc.api import library_cell
from lstmc.api.library import GROUPS
from lstmc.backend import find_cells
from tests.cli.conftest import LSTMC


def test_the_cells_are_listed_in_their_groups(lstmc: LSTMC) -> None:
    lines = [line.rstrip() for line in lstmc("cells", "-D", "H=8", "-D", "D=5").out.splitlines()]
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    (rnn,) = [line.split() for line in lines if line.startswith("rnn ")]
    assert rnn[1:3] == ["112", "224"]
    assert rnn[-1] == "caffe-native"


def test_a_cell_that_the_sizes_do_not_suit_hides_no_other(lstmc: LSTMC) -> None:
    lines = lstmc("cells", "-D", "H=7").out.splitlines()
    assert [line for line in lines if line.startswith("phased_lstm ")]
    (refused,) = [line for line in lines if line.startswith("clockwork")]
    assert refused.startswith("clockwork: split: axis 0 has 7 elements, which do not make 4 equal parts")


def test_every_library_cell_is_listed(lstmc: LSTMC) -> None:
    ended = lstmc("cells")
    assert (ended.code, ended.err) == (0, "")
    assert set(find_cells()) <= {line.split()[0] for line in ended.out.splitlines() if line.strip()}


def test_json_has_the_dimensions_of_each_cell_and_why_others_are_not_there(lstmc: LSTMC) -> None:
    found = json.loads(lstmc("cells", "-D", "H=7", "--json").out)
    dimensions = {cell["name"]: cell["dimensions"] for cell in found["cells"]}
    assert dimensions["gru"] == ["N", "D", "H"]
    assert {*dimensions, *found["refused"]} >= {*find_cells()}
    assert found["refused"]["clockwork"].startswith("split: axis 0 has 7 elements")


def test_a_cell_is_shown(lstmc: LSTMC) -> None:
    assert lstmc("cells", "show", "min_gru", "-D", "D=3").out == library_cell("min_gru", {"D": 3}).text + "\n"


def test_a_size_below_one_is_refused_once_for_all_cells(lstmc: LSTMC) -> None:
    for arguments in ((), ("show", "min_gru")):
        refused = lstmc("cells", *arguments, "-D", "H=0")
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == "DimError: dimension H must be at least 1, found 0\n"


def test_a_dimension_that_no_cell_has_is_refused(lstmc: LSTMC) -> None:
    for arguments in ((), ("show", "min_gru")):
        refused = lstmc("cells", *arguments, "-D", "Q=4")
        assert refused.code == 2
        assert refused.err.startswith("DimError: no cell of lstmc has a dimension Q: found A, B, C, D, E, ")
