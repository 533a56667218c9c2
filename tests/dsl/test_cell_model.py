"""A cell alone as a model: what ``lstmc compile --cell`` and FILE:CELL compile."""

from __future__ import annotations

import pytest

from lstmc.cells.lstm import lstm
from lstmc.dsl import CellModel
from lstmc.errors import DimError, LstmcError
from lstmc.ops import Input, Param
from tests.dsl.conftest import UserFile, leaves, lines


def test_it_has_the_cells_inputs_over_time_and_the_cells_dimensions() -> None:
    model = CellModel(lstm)
    assert (model.name, model.dims) == ("lstm", ["T", "N", "D", "H"])
    graph = model.graph(T=3, N=2, D=5, H=4)
    assert leaves(graph, Input) == {"x": (3, 2, 5)}
    assert leaves(graph, Param) == {"lstm/W_x": (16, 5), "lstm/b": (16,), "lstm/W_h": (16, 4)}
    assert {output.name: str(graph.type(output.ref)) for output in graph.outputs} == {
        "y": "f32[3,2,4]",
        "h_T": "f32[2,4]",
        "c_T": "f32[2,4]",
    }


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        ("h", ["y", "h_T"]),
        ("(h, x)", ["y_0", "y_1", "h_T"]),
        ('{"hidden": h, "seen": x}', ["hidden", "seen", "h_T"]),
        ("None", ["h_T"]),
    ],
)
def test_its_outputs_are_the_steps_outputs_and_the_last_states(user: UserFile, returned: str, names: list[str]) -> None:
    code = f"@cell\ndef step(x=Input(N, D), h=State(N, D)):\n    h = h + x\n    return {returned}, {{'h': h}}\n"
    graph = CellModel(user.module(code).step).graph(T=3, N=2, D=5)
    assert [output.name for output in graph.outputs] == names


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (
            {"T": 3, "N": 2, "D": 5},
            "DimError: dimension H of lstm(H=H) has no size: model 'lstm' has T, N, D. Write lstm(H=SIZE), or give the"
            " model's H a size with -D H=SIZE",
        ),
        (
            {"T": 3, "N": 2, "H": 5},
            "DimError: dimension D of input x [T, N, D] is not bound: give it a size with -D D=SIZE, or"
            " lstm.graph(D=SIZE) in Python\n"
            "  lstmc/cells/lstm.py:10:16\n"
            "    x: Value = Input(N, D),\n"
            "               ^^^^^^^^^^^",
        ),
    ],
    ids=["H", "D"],
)
def test_a_size_that_is_missing_is_asked_for(sizes: dict[str, int], text: str) -> None:
    with pytest.raises(LstmcError) as caught:
        CellModel(lstm).graph(**sizes)
    assert str(caught.value) == text


def test_an_unknown_size_is_refused_with_those_there_are() -> None:
    with pytest.raises(DimError) as caught:
        CellModel(lstm).graph(K=3)
    assert caught.value.message == "unknown dimension K: lstm has T, N, D, H"


def test_an_error_in_the_cell_is_at_the_cells_line(user: UserFile) -> None:
    code = "@cell\ndef step(x=Input(N, D), h=State(N, H)):\n    h = h + x\n    return h, {'h': h}\n"
    with pytest.raises(LstmcError) as caught:
        CellModel(user.module(code).step).graph(T=3, N=2, D=5, H=4)
    assert str(caught.value) == lines(
        "ShapeError: add: shapes do not fit: x is f32[2,4], y is f32[2,5]",
        "  user.py:7:9 in cell 'step'",
        "    h = h + x",
        "        ^^^^^",
        "  x is h: state [N, H], declared at user.py:6",
        "  y is x: input [N, D], declared at user.py:6",
    )
