"""Every rule of ``simplify``: what it makes of what, and that it means the same."""

from __future__ import annotations

import inspect
import random
import re
from collections import Counter
from math import prod
from typing import Any, cast

import pytest

from lstmc.ir import Builder, Graph, Node, Ref
from lstmc.ops import (
    Add,
    Affine,
    Binary,
    Concat,
    Full,
    Input,
    Leaf,
    Linear,
    Mul,
    Op,
    Param,
    Power,
    Relu,
    Reshape,
    Softmax,
    Split,
    Sub,
)
from lstmc.passes import Dead, Expand, Simplify, simplify
from lstmc.passes.base import Refs, Visit
from lstmc.passes.simplify import RULES, simplified
from lstmc.testing.equivalence import assert_same_meaning
from lstmc.testing.random_models import seeded_model
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
        %some: f32[6] = full()
        %one: f32[1] = full(value=1.0)
        %g: f32[2,6] = add(%zero, %x)
        %h: f32[2,6] = add(%g, %some)
        %i: f32[2,6] = sub(%h, %zero)
        %j: f32[2,6] = mul(%one, %i)
        %k: f32[2,6] = tanh(%j)
        return a=%a, c=%c, d=%d, e=%e, f=%f, k=%k
        """,
        """
        %a: f32[2,6] = affine(%x, shift=3.0)
        %c: f32[2,6] = affine(%x, shift=-2.0)
        %d: f32[2,6] = affine(%x, scale=-1.0, shift=3.0)
        %e: f32[2,6] = affine(%x, scale=2.0)
        %f: f32[2,6] = affine(%x, scale=-1.0)
        %k: f32[2,6] = tanh(%x)
        return a=%a, c=%c, d=%d, e=%e, f=%f, k=%k
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
        %none: f32[4,6] = full()
        %d: f32[2,4] = linear(%x, %none)
        return a=%a, c=%c, d=%d, e=%e
        """,
        """
        %a: f32[2,4] = full()
        %full: f32[2,4] = full()
        %c: f32[2,4] = add(%full, %b)
        %e: f32[2,3,2,2] = full()
        %d: f32[2,4] = full()
        return a=%a, c=%c, d=%d, e=%e
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
        %g: f32[6,2] = transpose(%d, axis=0)
        return a=%a, e=%e, g=%g
        """,
        """
        %a: f32[2,2] = full(value=2.0)
        %e: f32[12] = full(value=2.0)
        %g: f32[6,2] = full(value=2.0)
        return a=%a, e=%e, g=%g
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
    (
        "drop_pooling_of_one",
        """
        %i: f32[1,2,6] = reshape(%x, shape=(1, 2, 6))
        %p: f32[1,2,6] = max_pool(%i, size=(1, 1))
        %q: f32[1,2,6] = max_pool(%p, size=(1, 1))
        %a: f32[1,2,6] = ave_pool(%q, size=(1, 1))
        %z: f32[1,1,6] = ave_pool(%a, size=(2, 1))
        return z=%z
        """,
        """
        %i: f32[1,2,6] = reshape(%x, shape=(1, 2, 6))
        %z: f32[1,1,6] = ave_pool(%i, size=(2, 1))
        return z=%z
        """,
    ),
    (
        "add_multiples",
        """
        %a: f32[2,6] = affine(%x, scale=2.0, shift=1.0)
        %c: f32[2,6] = sub(%a, %x)
        %d: f32[2,6] = add(%c, %c)
        %z: f32[2,6] = sub(%a, %a)
        return d=%d, z=%z
        """,
        """
        %d: f32[2,6] = affine(%x, scale=2.0, shift=2.0)
        %z: f32[2,6] = full()
        return d=%d, z=%z
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


# termination --------------------------------------------------------------------------------------------------------


class Weights:
    """A builder with the weights of its nodes, as the docstring of ``Simplify`` has them, and the nodes last added."""

    def __init__(self, builder: Builder) -> None:
        self.builder, self.added = builder, list[str]()
        self._known = dict[str, int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.builder, name)

    def add(self, op: Op, *operands: Ref, **fields: Any) -> Refs:
        refs = self.builder.add(op, *operands, **fields)
        self.added.append(refs[0].node)
        return refs

    def of(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = self.sum(self.builder.node(name).op, self.builder.args(name))
        return self._known[name]

    def sum(self, op: Op, args: Refs) -> int:
        own = 0 if isinstance(op, Leaf) else 3 if isinstance(op, Linear) else 2 if isinstance(op, Binary) else 1
        return own + sum(self.of(ref.node) for ref in args)


def decreasing(rule: Visit) -> Visit:
    """The rule, which fails where it replaces a node by what does not weigh less."""
    builders: dict[int, Weights] = {}

    def checked(b: Builder, node: Node, args: Refs) -> Refs | None:
        weights = builders.setdefault(id(b), Weights(b))
        weight = weights.sum(node.op, args)
        weights.added.clear()
        rewritten = rule(cast(Builder, weights), node, args)
        if rewritten is not None:
            assert all(weights.of(name) < weight for name in weights.added), rule.__name__
            assert all(weights.of(ref.node) <= weight for ref in rewritten), rule.__name__
        return rewritten

    checked.__name__ = rule.__name__
    return checked


def random_rows(seed: int) -> Graph:
    """A graph of ops that rules read, many of them neutral, on values of 12 elements in several shapes."""
    draw, b = random.Random(seed), Builder("g")
    pool = [*b.add(Input((2, 6))), *b.add(Input((12,))), *b.add(Param((6, 6))), *b.add(Param((6,)))]
    matrix, bias = pool[2:]
    pool[2:] = [*b.add(Full((2, 6))), *b.add(Full((2, 6), 1.0)), *b.add(Full((6,)))]
    for _ in range(draw.randint(3, 25)):
        x = draw.choice(pool[-6:])
        rank, shape = len(b.type(x).shape), b.type(x).shape
        alike = [y for y in pool if b.type(y).shape in (shape, (6,) if rank > 1 and shape[-1] == 6 else shape)]
        match draw.randrange(8):
            case 0:
                pool += b.add(Affine(draw.choice([0.0, 1.0, -2.0]), draw.choice([0.0, 0.0, 0.5])), x)
            case 1 | 2:
                operands = (x, draw.choice(alike))
                pool += b.add(draw.choice([Add(), Sub(), Mul()]), *draw.choice([operands, operands[::-1]]))
            case 3:
                pool += b.add(draw.choice([Relu(), Power(draw.choice([0.0, 1.0, 2.0])), Softmax(rank - 1)]), x)
            case 4 if prod(shape) == 12:
                pool += b.add(Reshape(draw.choice([(2, 6), (12,), (2, 2, 3), (1, 12)])), x)
            case 5 if shape[-1] == 6 and rank > 1:
                pool += b.add(Linear(axis=rank - 1), x, matrix, *draw.choice([(), (bias,)]))
            case 6 if shape[-1] > 1:
                pieces = b.add(Split(rank - 1, draw.choice([(1, shape[-1] - 1), (shape[-1],)])), x)
                pool += b.add(Concat(rank - 1), *draw.choice([pieces, pieces[::-1]]))
            case 7 if rank > 1:
                pool += b.add(Split(0, (1,) * shape[0]), *b.add(Concat(0), *b.add(Split(0, (1,) * shape[0]), x)))[:1]
    return b.finish([(f"y{i}", ref) for i, ref in enumerate(pool[-3:])])


@pytest.fixture
def checked_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplify, "RULES", tuple(map(decreasing, RULES)))


@pytest.mark.usefixtures("checked_rules")
def test_each_use_of_a_rule_makes_the_weight_smaller() -> None:
    counts = Counter[str]()
    graphs = [graph_of(before) for _, before, _ in USED] + [random_rows(seed) for seed in range(150)]
    for graph in graphs:
        assert_same_meaning(graph, simplified(graph, counts))
    for seed in range(6):
        graph = seeded_model(seed).graph()
        simplified(Expand().run(graph).graph, counts)
    assert counts.keys() == {rule.__name__ for rule in RULES}
    assert min(counts.values()) >= 3, counts


@pytest.mark.parametrize("op", [Mul(), Sub()])
def test_a_rule_that_goes_round_is_found(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    def swap(b: Builder, node: Node, args: Refs) -> Refs | None:
        return b.add(node.op, *args[::-1], names=node.names) if node.op == op else None

    monkeypatch.setattr(simplify, "RULES", (*map(decreasing, (*RULES, swap)),))
    graph = graph_of(f"%z: f32[2,6] = {op.name}(%x, %y)\nreturn z=%z")
    with pytest.raises(AssertionError, match="swap"):
        simplified(graph, Counter())
