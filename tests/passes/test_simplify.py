"""Every rule of ``simplify``: what it makes of what, and that it means the same."""

from __future__ import annotations

import inspect
import random
import re
from collections import Counter
from math import prod
from pathlib import Path
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
from lstmc.testing import assert_same_meaning
from tests.passes.rule_text import graph_of, shown
from tests.random_models.models import seeded_model
from tests.rewrites import numbered, rewrites

USED = rewrites(Path(__file__).with_name("simplify.lir"))


@pytest.mark.parametrize("rule", USED)
def test_rule(rule: str) -> None:
    before, after = USED[rule]
    graph = graph_of(before)
    outcome = Simplify().run(graph)
    assert outcome.modified
    assert outcome.counts[rule] > 0
    assert numbered(shown(Dead().run(outcome.graph).graph)) == numbered(after)
    assert_same_meaning(graph, outcome.graph)
    again = Simplify().run(outcome.graph)
    assert not again.modified
    assert again.graph is outcome.graph


def test_every_rule_has_its_case_and_its_line_in_the_docstring() -> None:
    assert [*USED] == [rule.__name__ for rule in RULES]
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
    graphs = [graph_of(before) for before, _ in USED.values()] + [random_rows(seed) for seed in range(150)]
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
