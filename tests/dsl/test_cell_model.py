"""A cell alone as a model: what ``lstmc compile --cell`` and FILE:CELL compile."""

from __future__ import annotations

import pytest

from lstmc.cells import lstm
from lstmc.dsl import CellModel
from lstmc.errors import DimError, LstmcError
from lstmc.ops import Input, Param
from lstmc.source import display
from tests.dsl.conftest import UserFile, leaves


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
            {"T": 3, "N": 2, "H": 4},
            "dimension D of input x [N, D] is not bound: give it a size with D=SIZE\n"
            "  lstmc/cells/lstm.py:39:16 in cell 'lstm'\n"
            "    x: Value = Input(N, D),\n"
            "               ^^^^^^^^^^^\n"
            "  for example D=32",
        ),
        (
            {"T": 3, "N": 2, "D": 5},
            "dimension H of state h [N, H] is not bound: give it a size with H=SIZE\n"
            "  lstmc/cells/lstm.py:40:16 in cell 'lstm'\n"
            "    h: Value = State(N, H),\n"
            "               ^^^^^^^^^^^\n"
            "  for example H=64",
        ),
        (
            {"N": 2, "D": 5, "H": 4},
            "dimension T of input x [T, N, D] is not bound: give it a size with T=SIZE\n"
            "  lstmc/cells/lstm.py:39:16 in cell 'lstm'\n"
            "    x: Value = Input(N, D),\n"
            "               ^^^^^^^^^^^\n"
            "  for example T=20",
        ),
        (
            {"T": 3},
            "dimension N of input x [N, D] is not bound: give it a size with N=SIZE\n"
            "  lstmc/cells/lstm.py:39:16 in cell 'lstm'\n"
            "    x: Value = Input(N, D),\n"
            "               ^^^^^^^^^^^\n"
            "  for example N=1, D=32, H=64",
        ),
        (
            {"K": 3},
            "unknown dimension K: lstm has T, N, D, H\n"
            "  lstmc/cells/lstm.py:38:1 in cell 'lstm'\n"
            "    def lstm(\n"
            "    ^^^^^^^^",
        ),
        (
            {"T": 3, "N": 0},
            "dimension N must be at least 1, found 0 (given as N=0)\n"
            "  lstmc/cells/lstm.py:38:1 in cell 'lstm'\n"
            "    def lstm(\n"
            "    ^^^^^^^^",
        ),
    ],
    ids=["D", "H", "T", "several", "unknown", "zero"],
)
def test_sizes_are_asked_for_at_the_cells_own_declarations(sizes: dict[str, int], text: str) -> None:
    with pytest.raises(DimError) as caught:
        CellModel(lstm).graph(**sizes)
    assert str(caught.value) == f"DimError: {text}"


def test_an_error_in_the_cell_is_at_the_cells_line(user: UserFile) -> None:
    code = "@cell\ndef step(x=Input(N, D), h=State(N, H)):\n    h = h + x\n    return h, {'h': h}\n"
    with pytest.raises(LstmcError) as caught:
        CellModel(user.module(code).step).graph(T=3, N=2, D=5, H=4)
    found = str(caught.value).splitlines()
    assert found[:-1] == [
        "ShapeError: add: shapes do not fit: x is f32[2,4], y is f32[2,5]",
        "  user.py:7:9 in cell 'step'",
        "    h = h + x",
        "        ^^^^^",
        "  x is h: state [N, H], declared at user.py:6",
        "  y is x: input [N, D], declared at user.py:6",
    ]
    assert found[-1].startswith(f"  cell 'step' is scanned at {display(__file__)}:")
