"""Nets for tests: a model compiled for one of Caffe's targets, what is written of it, and real Caffe's word on it."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.backend import Artifact, Compiled
from lstmc.dsl import Model
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.passes import PassResult
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc.verification.report import Report
from lstmc.weights import initial_weights
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.legalize.legalize import legalization
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner


def compiled(made: Model, target: str = "caffe", **sizes: int) -> Compiled:
    return compile_graph(made.graph(**sizes), CaffeBackend(), target)


def emitted(net: Compiled) -> tuple[Artifact, dict[str, Array]]:
    """What is written of a net, and the weights that are in it."""
    weights = initial_weights(net.model, 1)
    return CaffeBackend().emit(net, weights), weights


def assert_caffe_agrees(
    caffe: Runner, net: Compiled, weights: Mapping[str, Array] | None = None, seed: int = 0
) -> Report:
    """Every output, blob and gradient of the net in real Caffe is the model's, on inputs drawn with ``seed``."""
    weights = initial_weights(net.model, 1) if weights is None else weights
    report = check(net, CaffeBackend().emit(net, weights), weights, CaffeExecutor(caffe, "cpu"), seed)
    assert report.passed, [difference for difference in report.differences if not difference.passed]
    return report


def legalised(graph: Graph, trained: bool = True) -> PassResult:
    """The result of the passes of legalisation, one after the other, as that of one pass."""
    outcomes = [PassResult(graph, False)]
    for step in legalization(trained):
        step.requires(outcomes[-1].graph)
        outcomes.append(step.run(outcomes[-1].graph))
    counts = {rule: count for outcome in outcomes for rule, count in outcome.counts.items()}
    modified = any(outcome.modified for outcome in outcomes)
    return PassResult(outcomes[-1].graph, modified, counts)
