"""Formulas of a body: equal however they are written, and with an end however long the body is."""

from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from lstmc.interp import forward
from lstmc.ir import Builder, Ref, parse_graph
from lstmc.ops import Add, Arg, Array, Input, Mul, Reshape, Tanh
from lstmc.patterns import CORE_FORMULAS, Equations
from lstmc.patterns.equations import Columns, Place, Polynomial
from lstmc.testing import random_leaves
from tests.patterns.linear_bodies import as_model, random_body

BODY = """\
graph body {
  %z: f32[2,6] = arg()
  %h: f32[2,3] = arg(role='state')
  %mask: f32[2] = arg()
  %b: f32[6] = arg(role='weight')
  %s: f32[2,6] = add(%z, %b)
  %one, %two: f32[2,3], f32[2,3] = split(%s, axis=1, sizes=(3, 3))
  %rows: f32[2,1] = reshape(%mask, shape=(2, 1))
  %missing: f32[2,1] = affine(%rows, scale=-1.0, shift=1.0)
  %p: f32[2,3] = sub(%one, %h)
  %q: f32[2,3] = mul(%p, %rows)
  %first: f32[2,3] = add(%q, %h)
  %r: f32[2,3] = mul(%h, %missing)
  %t: f32[2,3] = mul(%rows, %one)
  %second: f32[2,3] = add(%r, %t)
  %both: f32[2,6] = concat(%first, %two, axis=1)
  %third, %rest: f32[2,3], f32[2,3] = split(%both, axis=1, sizes=(3, 3))
  return next h=%second
}
"""


def test_one_formula_written_three_ways() -> None:
    equations = Equations(parse_graph(BODY), CORE_FORMULAS)
    formula = equations.value(Ref("first"))
    assert equations.equal_to(formula) == [Ref("first"), Ref("second"), Ref("third", 0)]
    assert len(formula) == 4  # mask z + mask b - mask h + h
    assert formula.recurrent


def test_values_of_one_formula_are_equal() -> None:
    equal = 0
    for seed in range(150):
        body = random_body(seed)
        equations, model = Equations(body, CORE_FORMULAS), as_model(body)
        run = forward(model, random_leaves(model, Input)).by_name()
        arrays: dict[tuple[Polynomial, tuple[int, ...]], Array] = {}  # a formula has no shape
        for node in body:
            for out, type_ in enumerate(node.types):
                if type_.rank:
                    value = run[body.value_name(Ref(node.name, out))]
                    other = arrays.setdefault((equations.value(Ref(node.name, out)), type_.shape), value)
                    assert_allclose(value, other, rtol=1e-9, atol=1e-9)
                    equal += other is not value
    assert equal > 100


@pytest.mark.parametrize(
    ("before", "of_before", "after", "of_after", "same"),
    [
        ((2, 3), (0, 3), (1, 2, 3), (0, 3), True),
        ((1, 2, 3), (1, 2), (2, 3), (1, 2), True),
        ((2,), None, (2, 1), (0, 1), True),
        ((1, 2, 1), (0, 1), (2,), None, True),
        ((2, 1), (0, 1), (1, 2), None, True),
        ((2, 3), (0, 2), (3, 2), (0, 2), False),
        ((4,), None, (2, 2), (0, 2), False),
    ],
)
def test_reshapes_of_ones_are_read_through(
    before: tuple[int, ...], of_before: Columns, after: tuple[int, ...], of_after: Columns, same: bool
) -> None:
    b = Builder("body")
    (x,) = b.add(Arg(before, "x"))
    (y,) = b.add(Reshape(after), x)
    equations = Equations(b.finish([("y", y)]), CORE_FORMULAS)
    assert (equations.at(Place(x, of_before)) == equations.at(Place(y, of_after))) is same


@pytest.mark.parametrize("op", [Mul(), pytest.param(Add(), marks=pytest.mark.slow)])
def test_a_long_body_has_an_end(op: Mul | Add) -> None:
    b = Builder("body")
    (state,) = b.add(Arg((2, 3), "state"), names=("h",))
    (x,) = b.add(Arg((2, 3), "x"), names=("x",))
    (value,) = b.add(Add(), state, x)
    for _ in range(2000):
        (value,) = b.add(op, value, *b.add(Tanh(), value))
    body = b.finish([("next.h", value)])
    assert Equations(body, CORE_FORMULAS).value(value).recurrent
    equations = Equations(body, CORE_FORMULAS)
    assert [ref for ref in equations.equal_to(equations.value(value)) if ref != value] == []


def test_a_cut_changes_what_is_equal_and_not_the_order() -> None:
    equations = Equations(parse_graph(BODY), CORE_FORMULAS)
    before = equations.value(Ref("first"))
    assert equations.equal_to(before, "first") == [Ref("first")]
    equations.cut(Ref("q"))
    assert equations.equal_to(before) == [Ref("second")]
    assert equations.equal_to(equations.value(Ref("first"))) == [Ref("first"), Ref("third", 0)]
    equations.cut(Ref("r"))
    assert equations.equal_to(before) == []


def test_each_value_is_compared_once_however_many_formulas_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    equations, asked = Equations(parse_graph(BODY), CORE_FORMULAS), []
    formulas = {name: equations.value(Ref(name)) for name in ("z", "s", "p", "first", "second", "both")}
    value = equations.value
    monkeypatch.setattr(equations, "value", lambda ref: (asked.append(ref), value(ref))[1])
    for name, formula in formulas.items():
        assert equations.equal_to(formula, name)
    assert len(asked) == len(set(asked))
