"""What is said of the library cells: groups, parameters, operations and targets."""

from __future__ import annotations

import pytest

from lstmc.api import library_cell
from lstmc.plugins import CELLS, cell_groups, entry_points_of, library_names
from lstmc_caffe.targets.target import OWN


def test_every_cell_of_lstmc_is_in_one_group() -> None:
    own = sorted(name for name, (point, *_) in entry_points_of(CELLS).items() if point.value.startswith("lstmc.cells."))
    assert sorted(name for names in cell_groups().values() for name in names) == own
    assert sorted(library_names()) == sorted(entry_points_of(CELLS))


def test_parameters_and_operations_of_an_rnn() -> None:
    rnn = library_cell("rnn", {"N": 1, "D": 5, "H": 7})
    assert rnn.parameters == 7 * 5 + 7 * 7 + 7
    # two products of a matrix, one bias (in the place of a first sum), their sum, tanh
    assert rnn.flops == 2 * 7 * 5 + 2 * 7 * 7 + 7 + 7
    assert rnn.targets == tuple(name for name in OWN if name != "caffe-native")
    assert rnn.shapes == ("x [N, D]", "h [N, H]", "W_x [H, D]\nb [H]\nW_h [H, H]")


def test_fixed_arrays_are_no_parameters() -> None:
    assert library_cell("lmu", {"D": 3, "H": 4, "M": 5}).parameters == (3 + 4 + 5) + 4 * (3 + 4 + 5)


def test_operations_of_a_gated_cell_and_of_images() -> None:
    gru = library_cell("mgu", {"N": 2, "D": 3, "H": 4})
    # four products; sums; sigmoid and tanh; f h, 1 - f, two more products and their sum
    assert gru.flops == 2 * (2 * 4 * (3 + 4) * 2 + 2 * 4 + 2 * 4 + 4 + 4 * 4)
    assert set(library_cell("conv_gru").not_for) == {"caffe-native"}
    few, many = (library_cell("conv_lstm", {"C": 1, "F": 1, "Y": size, "X": size}).flops for size in (4, 8))
    assert many == 4 * few


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("lstm", "all targets but caffe-native; for caffe-native where y alone is kept\n"),
        ("gru", "all targets but caffe-native\n"),
    ],
)
def test_a_cell_says_which_targets_take_it_without_its_last_states(name: str, targets: str) -> None:
    assert f"; for {targets}" in library_cell(name, {"D": 3, "H": 4}).text


def test_a_cell_is_shown_with_paper_source_and_graph() -> None:
    text = library_cell("min_gru", {"D": 3, "H": 4}).text
    assert text.startswith("min_gru (gates that see only the input)\n\nh' = (1 - z) h + z n, ")
    assert "arXiv:2410.01201" in text
    assert "32 parameters, 68 FLOPs a step at N=1 D=3 H=4; for all targets but caffe-native" in text
    assert "    z, n = split(linear(x, W, b), 2)\n" in text
    assert "  %linear_W: f32[1,8] = linear(%x, %min_gru/W, %min_gru/b)" in text
