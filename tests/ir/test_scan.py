"""The scan op: its roles, its results' types, and operands that do not fit."""

from __future__ import annotations

import pytest

from lstmc.errors import ShapeError
from lstmc.ir import Scan, parse_graph
from lstmc.types import TensorType

BODY = parse_graph("""\
graph step {
  %W: f32[2,5] = arg(role='weight')
  %x: f32[4,5] = arg()
  %h_prev: f32[4,2] = arg(role='state')
  %s: f32[4,2] = arg(role='static')
  %c_prev: f32[3] = arg(role='state')
  %z: f32[4,2] = linear(%x, %W)
  %h: f32[4,2] = add(%z, %h_prev)
  %y: f32[4,2] = mul(%h, %s)
  return a=%y, b=%z, next h=%h, next c=%c_prev
}
""")
OPERANDS = [(2, 5), (6, 4, 5), (4, 2), (4, 2), (3,)]


def test_results_are_the_outputs_over_time_then_the_last_states() -> None:
    found = Scan(BODY, 6).infer(*map(TensorType, OPERANDS))
    assert found == tuple(map(TensorType, [(6, 4, 2), (6, 4, 2), (4, 2), (3,)]))


def test_roles_outputs_and_states_are_read_off_the_body() -> None:
    scan = Scan(BODY, 6)
    assert [scan.role(i) for i in range(5)] == ["weight", "x", "state", "static", "state"]
    assert scan.states == 2
    assert [output.name for output in scan.step_outputs] == ["a", "b"]
    assert [output.name for output in scan.next_states] == ["h", "c"]
    assert scan.bodies == (BODY,)
    assert Scan(BODY, 6, first=BODY).bodies == (BODY, BODY)


@pytest.mark.parametrize(("reverse", "expected"), [(False, [0, 1, 2]), (True, [2, 1, 0])])
def test_steps_run_in_the_order_said(reverse: bool, expected: list[int]) -> None:
    assert list(Scan(BODY, 3, reverse).order()) == expected


@pytest.mark.parametrize(
    ("slot", "shape", "text"),
    [
        (0, (2, 4), "scan: argument W must be f32[2,5], found f32[2,4]"),
        (1, (4, 5), "scan: argument x must be f32[6,4,5], found f32[4,5]"),
        (1, (5, 4, 5), "scan: argument x must be f32[6,4,5], found f32[5,4,5]"),
        (2, (4, 3), "scan: argument h_prev must be f32[4,2], found f32[4,3]"),
        (3, (6, 4, 2), "scan: argument s must be f32[4,2], found f32[6,4,2]"),
    ],
)
def test_operands_that_do_not_fit_are_refused(slot: int, shape: tuple[int, ...], text: str) -> None:
    operands = [shape if i == slot else operand for i, operand in enumerate(OPERANDS)]
    with pytest.raises(ShapeError) as caught:
        Scan(BODY, 6).infer(*map(TensorType, operands))
    assert caught.value.message == text


def test_a_wrong_number_of_operands_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        Scan(BODY, 6).infer(TensorType((6, 4, 5)))
    assert caught.value.message == "scan: the body takes 5 arguments, found 1"


def test_a_scan_is_run_and_differentiated_by_the_interpreter_alone() -> None:
    with pytest.raises(NotImplementedError):
        Scan(BODY, 6).eval()
    with pytest.raises(NotImplementedError):
        Scan(BODY, 6).vjp((), ())
    with pytest.raises(NotImplementedError):
        Scan.sample(None)  # type: ignore[arg-type]
