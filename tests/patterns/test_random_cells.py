"""What is recognised computes what the scan computes, at every stage; what is written as a cell is recognised."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings

from lstmc.interp import forward
from lstmc.ir import Graph, Scan
from lstmc.ops import Input, Param
from lstmc.passes import run_passes
from lstmc.patterns import Unrecognised, describe, recognise
from lstmc.pipeline import MODEL_PASSES
from lstmc.testing import SeededDraw, random_leaves
from tests.patterns.by_numpy import assert_computes
from tests.patterns.random_gates import KINDS, Written, scanned
from tests.quick_sample import one_in
from tests.random_models.models import RandomModel
from tests.strategies import random_models

FEWER = settings(max_examples=settings.default.max_examples // 2)


def stages(graph: Graph) -> list[Graph]:
    """The model as it was traced, and after each of the core's passes on models that changes it."""
    return list(dict.fromkeys([graph, *(snapshot.graph for snapshot in run_passes(graph, MODEL_PASSES, ()))]))


def recognised(graph: Graph) -> Counter[str]:
    """How many scans of each kind there are, each of which computes what was recognised."""
    run = forward(graph, random_leaves(graph, Input), random_leaves(graph, Param, -1, 1))
    kinds: Counter[str] = Counter()
    for node in graph:
        if isinstance(node.op, Scan):
            found = recognise(graph, node.name)
            kinds[type(found).__name__] += 1
            if not isinstance(found, Unrecognised):
                assert_computes(found, run)
                assert describe(found, graph)
    return kinds


def drawn(seed: int, changed: bool) -> tuple[Written, Graph]:
    draw = SeededDraw(seed)
    written = draw.choice(KINDS)(draw)
    return written, scanned(draw, written, changed)


@pytest.mark.parametrize("seed", one_in(4, range(80)))
def test_what_is_written_as_a_cell_is_recognised_at_every_stage(seed: int) -> None:
    written, graph = drawn(seed, changed=False)
    for number, stage in enumerate(stages(graph)):
        assert recognised(stage)[written.kind] == 1, (number, written.lines)


@pytest.mark.slow
def test_what_is_changed_is_never_taken_for_what_it_is_not() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(150):
        _, graph = drawn(seed, changed=True)
        kinds += recognised(stages(graph)[-1])
    assert min(kinds[kind] for kind in ("LSTM", "GRU", "RNN")) > 15, kinds
    assert kinds["Unrecognised"] > 50, kinds


@FEWER
@given(random_models())
def test_no_random_model_is_taken_for_what_it_is_not(model: RandomModel) -> None:
    traced, *_, last = stages(model.graph())
    for stage in (traced, last):
        recognised(stage)
