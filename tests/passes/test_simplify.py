"""Every rule of ``simplify``: what it makes of what, and that it means the same."""

from __future__ import annotations

import inspect
import re

import pytest

from lstmc.passes import Dead, Simplify
from lstmc.passes.simplify import RULES
from lstmc.testing.equivalence import assert_same_meaning
from tests.passes.rule_text import dedented, graph_of, shown

USED: list[tuple[str, str, str]] = [
    (
        "drop_identity_affine",
        """
        %a: f32[2,6] = affine(%x)
        %z: f32[2,6] = tanh(%a)
        return z=%z
        """,
        """
        %z: f32[2,6] = tanh(%x)
        return z=%z
        """,
    ),
    (
        "merge_affines",
        """
        %a: f32[2,6] = affine(%x, scale=2.0, shift=1.0)
        %z: f32[2,6] = affine(%a, scale=-3.0, shift=0.5)
        return z=%z
        """,
        """
        %z: f32[2,6] = affine(%x, scale=-6.0, shift=-2.5)
        return z=%z
        """,
    ),
    (
        "fold_neutral_operand",
        """
        %zero: f32[2,6] = full()
        %some: f32[6] = full()
        %one: f32[1] = full(value=1.0)
        %a: f32[2,6] = add(%zero, %x)
        %b_2: f32[2,6] = add(%a, %some)
        %c: f32[2,6] = sub(%b_2, %zero)
        %d: f32[2,6] = mul(%one, %c)
        %z: f32[2,6] = tanh(%d)
        return z=%z
        """,
        """
        %z: f32[2,6] = tanh(%x)
        return z=%z
        """,
    ),
    (
        "fold_zero_product",
        """
        %zero: f32[6] = full()
        %a: f32[2,6] = mul(%zero, %x)
        %c: f32[2,6] = mul(%x, %zero)
        %d: f32[2,6] = affine(%x, scale=0.0, shift=0.5)
        return a=%a, c=%c, d=%d
        """,
        """
        %a: f32[2,6] = full()
        %c: f32[2,6] = full()
        %d: f32[2,6] = full(value=0.5)
        return a=%a, c=%c, d=%d
        """,
    ),
    (
        "absorb_full_operand",
        """
        %three: f32[2,6] = full(value=3.0)
        %two: f32[] = full(value=2.0)
        %a: f32[2,6] = add(%three, %x)
        %c: f32[2,6] = sub(%x, %two)
        %d: f32[2,6] = sub(%three, %x)
        %e: f32[2,6] = mul(%x, %two)
        %zero: f32[2,6] = full()
        %f: f32[2,6] = sub(%zero, %x)
        return a=%a, c=%c, d=%d, e=%e, f=%f
        """,
        """
        %a: f32[2,6] = affine(%x, shift=3.0)
        %c: f32[2,6] = affine(%x, shift=-2.0)
        %d: f32[2,6] = affine(%x, scale=-1.0, shift=3.0)
        %e: f32[2,6] = affine(%x, scale=2.0)
        %f: f32[2,6] = affine(%x, scale=-1.0)
        return a=%a, c=%c, d=%d, e=%e, f=%f
        """,
    ),
    (
        "fold_function_of_full",
        """
        %four: f32[2,4] = full(value=4.0)
        %a: f32[2,4] = power(%four, exponent=0.5)
        %c: f32[2,4] = affine(%a, scale=3.0, shift=-6.0)
        %d: f32[2,4] = sigmoid(%c)
        %e: f32[2,4] = softmax(%four, axis=1)
        return d=%d, e=%e
        """,
        """
        %d: f32[2,4] = full(value=0.5)
        %e: f32[2,4] = full(value=0.25)
        return d=%d, e=%e
        """,
    ),
    (
        "fold_product_of_zero",
        """
        %zero: f32[2,6] = full()
        %a: f32[2,4] = linear(%zero, %W)
        %c: f32[2,4] = linear(%zero, %W, %b)
        %images: f32[2,1,2,3] = full()
        %filters: f32[3,1,1,2] = param()
        %e: f32[2,3,2,2] = conv(%images, %filters)
        return a=%a, c=%c, e=%e
        """,
        """
        %a: f32[2,4] = full()
        %full: f32[2,4] = full()
        %c: f32[2,4] = add(%full, %b)
        %e: f32[2,3,2,2] = full()
        return a=%a, c=%c, e=%e
        """,
    ),
    (
        "add_without_broadcast_zero",
        """
        %zero: f32[2,6] = full()
        %a: f32[2,6] = add(%zero, %y)
        %c: f32[2,6] = add(%y, %zero)
        %d: f32[2,6] = add(%a, %x)
        %e: f32[2,6] = add(%x, %c)
        return d=%d, e=%e
        """,
        """
        %d: f32[2,6] = add(%x, %y)
        %e: f32[2,6] = add(%x, %y)
        return d=%d, e=%e
        """,
    ),
    (
        "merge_reshapes",
        """
        %a: f32[2,6] = reshape(%x, shape=(2, 6))
        %c: f32[12] = reshape(%a, shape=(12,))
        %d: f32[3,4] = reshape(%c, shape=(3, 4))
        %e: f32[2,6] = reshape(%d, shape=(2, 6))
        return d=%d, e=%e
        """,
        """
        %d: f32[3,4] = reshape(%x, shape=(3, 4))
        return d=%d, e=%x
        """,
    ),
    (
        "flatten_in_linear",
        """
        %a: f32[2,3,2] = reshape(%x, shape=(2, 3, 2))
        %c: f32[2,3,2] = tanh(%a)
        %d: f32[2,6] = reshape(%c, shape=(2, 6))
        %z: f32[2,4] = linear(%d, %W, %b)
        return z=%z
        """,
        """
        %a: f32[2,3,2] = reshape(%x, shape=(2, 3, 2))
        %c: f32[2,3,2] = tanh(%a)
        %z: f32[2,4] = linear(%c, %W, %b)
        return z=%z
        """,
    ),
    (
        "drop_single_piece",
        """
        %a: f32[2,6] = split(%x, axis=1, sizes=(6,))
        %c: f32[2,6] = concat(%a, axis=0)
        %z: f32[2,6] = exp(%c)
        return z=%z
        """,
        """
        %z: f32[2,6] = exp(%x)
        return z=%z
        """,
    ),
    (
        "cancel_split_and_concat",
        """
        %a, %c: f32[2,2], f32[2,4] = split(%x, axis=1, sizes=(2, 4))
        %d: f32[2,6] = concat(%a, %c, axis=1)
        %e: f32[2,2] = tanh(%a)
        %f: f32[2,6] = concat(%c, %e, axis=1)
        %g, %h: f32[2,4], f32[2,2] = split(%f, axis=1, sizes=(4, 2))
        return d=%d, g=%g, h=%h
        """,
        """
        %a, %c: f32[2,2], f32[2,4] = split(%x, axis=1, sizes=(2, 4))
        %e: f32[2,2] = tanh(%a)
        return d=%x, g=%c, h=%e
        """,
    ),
    (
        "fold_shape_of_full",
        """
        %two: f32[2,6] = full(value=2.0)
        %a, %c: f32[2,2], f32[2,4] = split(%two, axis=1, sizes=(2, 4))
        %d: f32[2,6] = concat(%c, %a, axis=1)
        %e: f32[12] = reshape(%d, shape=(12,))
        return a=%a, e=%e
        """,
        """
        %a: f32[2,2] = full(value=2.0)
        %e: f32[12] = full(value=2.0)
        return a=%a, e=%e
        """,
    ),
    (
        "fold_trivial_power",
        """
        %a: f32[2,6] = power(%x, exponent=1.0)
        %c: f32[2,6] = exp(%a)
        %d: f32[2,6] = power(%x, exponent=0.0)
        return c=%c, d=%d
        """,
        """
        %c: f32[2,6] = exp(%x)
        %d: f32[2,6] = full(value=1.0)
        return c=%c, d=%d
        """,
    ),
    (
        "drop_double_relu",
        """
        %a: f32[2,6] = relu(%x)
        %c: f32[2,6] = relu(%a)
        %z: f32[2,6] = relu(%c)
        return z=%z
        """,
        """
        %a: f32[2,6] = relu(%x)
        return z=%a
        """,
    ),
]


@pytest.mark.parametrize(("rule", "before", "after"), USED, ids=[rule for rule, _, _ in USED])
def test_rule(rule: str, before: str, after: str) -> None:
    graph = graph_of(before)
    outcome = Simplify().run(graph)
    assert outcome.modified
    assert outcome.counts[rule] > 0
    assert shown(Dead().run(outcome.graph).graph) == dedented(after)
    assert_same_meaning(graph, outcome.graph)
    again = Simplify().run(outcome.graph)
    assert not again.modified
    assert again.graph is outcome.graph


def test_every_rule_has_its_case_and_its_line_in_the_docstring() -> None:
    assert [rule for rule, _, _ in USED] == [rule.__name__ for rule in RULES]
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", inspect.getdoc(Simplify) or "", re.MULTILINE)]
    assert numbers == list(range(1, len(RULES) + 1))
