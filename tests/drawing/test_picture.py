"""What is drawn of a graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.api.models import model_in
from lstmc.drawing.picture import Flow, Kind, Picture, picture_of
from lstmc.ir import Stage
from tests.graphs import graph_after

ROOT = Path(__file__).parents[2]


def unrolled(cell: str = "rnn", steps: int = 4, **sizes: int) -> Picture:
    return picture_of(graph_after(cell, stage=Stage.EXPANDED, **{"N": 2, "D": 3, "H": 5, **sizes}), steps)


def titles(picture: Picture) -> list[str]:
    return [part.title for part in picture.whole.parts if not hasattr(part, "key")]


def arrows(picture: Picture, flow: Flow) -> list[tuple[str, str]]:
    return [(arrow.tail, arrow.head) for arrow in picture.arrows if arrow.flow is flow]


def test_each_node_of_a_short_net_is_a_box_and_each_step_a_frame() -> None:
    graph = graph_after("rnn", stage=Stage.EXPANDED, T=3, N=2, D=3, H=5)
    picture = picture_of(graph)
    results = [f"result {output.name}" for output in graph.outputs if output.name not in graph]
    assert sorted(box.key for box in picture.boxes) == sorted([*(node.name for node in graph), *results])
    assert titles(picture) == ["t = 0", "t = 1", "t = 2"]


def test_a_parameter_is_one_box_with_an_arrow_to_each_step_that_shares_it() -> None:
    picture = unrolled(T=3)
    assert [box.title for box in picture.boxes if box.kind is Kind.PARAMETER] == ["rnn/W_x", "rnn/b", "rnn/W_h"]
    assert arrows(picture, Flow.PARAMETER) == [
        ("rnn/W_x", "rnn/linear_W_x"),
        ("rnn/b", "rnn/linear_W_x"),
        ("rnn/W_h", "rnn/t001/linear_W_h"),
        ("rnn/W_h", "rnn/t002/linear_W_h"),
    ]


def test_a_state_goes_from_each_step_to_the_next() -> None:
    assert arrows(unrolled(T=3), Flow.STATE) == [
        ("rnn/t000/h", "rnn/t001/linear_W_h"),
        ("rnn/t001/h", "rnn/t002/linear_W_h"),
    ]


@pytest.mark.parametrize(
    ("steps", "drawn", "said"),
    [
        (4, [0, 1, 48, 49], "46 more steps t = 2 to 47, not drawn"),
        (3, [0, 1, 49], "47 more steps t = 2 to 48, not drawn"),
        (1, [0], "49 more steps t = 1 to 49, not drawn"),
    ],
)
def test_of_a_long_scan_the_middle_is_left_out_and_said(steps: int, drawn: list[int], said: str) -> None:
    picture = unrolled(T=50, steps=steps)
    assert [title for title in titles(picture) if title] == [f"t = {t}" for t in drawn]
    assert [f"{box.title} {box.text}" for box in picture.boxes if box.kind is Kind.OMITTED] == [said]


def test_steps_are_left_out_only_where_two_are_at_least() -> None:
    assert titles(unrolled(T=5)) == [f"t = {t}" for t in range(5)]
    assert titles(unrolled(T=6)) == ["t = 0", "t = 1", "", "t = 4", "t = 5"]


def test_arrows_of_the_steps_left_out_are_those_of_their_box() -> None:
    picture = unrolled(T=50)
    assert arrows(picture, Flow.STATE) == [
        ("rnn/t000/h", "rnn/t001/linear_W_h"),
        ("rnn/t001/h", "rnn ..."),
        ("rnn ...", "rnn/t048/linear_W_h"),
        ("rnn/t048/h", "rnn/t049/linear_W_h"),
    ]
    assert ("rnn/W_h", "rnn ...") in arrows(picture, Flow.PARAMETER)


def test_a_rolled_scan_is_its_body_once_with_its_states_going_round() -> None:
    picture = picture_of(graph_after("gru", T=50, N=2, D=3, H=5))
    assert titles(picture) == ["gru, 50 steps"]
    assert arrows(picture, Flow.STATE) == [("y h", "y h_prev")]
    assert ("y x_z_x_r" in {box.key for box in picture.boxes}) is False  # nothing is fused as yet
    assert {box.title for box in picture.boxes if box.kind is Kind.OUTPUT} == {"y", "h_T"}


def test_a_first_step_of_its_own_has_a_frame_and_hands_its_state_on() -> None:
    picture = picture_of(graph_after("gru", "peel", T=50, N=2, D=3, H=5))
    assert titles(picture) == ["gru, the first step", "gru, the other 49 steps"]
    assert arrows(picture, Flow.STATE) == [("y first h", "y h_prev"), ("y h", "y h_prev")]


def test_frames_say_the_scan_where_there_are_several() -> None:
    model = model_in(f"{ROOT}/docs/examples/digits.py:bidirectional_digits")
    picture = picture_of(graph_after(model, stage=Stage.EXPANDED, N=2), steps=1)
    assert titles(picture) == ["down, t = 0", "", "up, t = 0", ""]


def test_a_cut_sequence_is_called_once_for_all_of_its_steps() -> None:
    assert "linear_W_x of 50 steps" in [box.title for box in unrolled(T=50).boxes]


def test_what_only_joins_or_cuts_steps_left_out_is_left_out_with_them() -> None:
    graph = graph_after("rnn", stage=Stage.EXPANDED, T=200, N=2, D=3, H=5)
    trees = [node.name for node in graph if node.step is None and ("_to_" in node.name or len(node.names) > 1)]
    drawn = {box.key for box in picture_of(graph).boxes}
    assert len(trees) > 30
    assert len(drawn & set(trees)) < 8
