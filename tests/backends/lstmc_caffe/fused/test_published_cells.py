"""Cells of no library as generated layers in real Caffe: forward and all gradients, however they are scanned.

``make test`` scans each cell in one of the ways, which take turns; ``make exhaustive`` in all.
"""

from __future__ import annotations

import pytest

from lstmc import Cell, Input, Value, model, scan
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.fused.published_cells import CELLS, coverage
from tests.quick_sample import one_in

T, N, D, S = 5, 3, 17, 4
SIZES = {"mogrifier": {"H": 21}, "cornn": {"H": 16}, "fast_weights": {"A": 18}, "coverage": {"H": 5, "A": 3}}
WAYS = ["reversed", "of lengths", "with cont"]
CASES = [(cell, WAYS[(number + turn) % 3]) for number, cell in enumerate(CELLS) for turn in range(3)]


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.parametrize("case", one_in(3, CASES, tested=3), ids=[f"{cell.name} {how}" for cell, how in CASES])
def test_published_cells(caffe: Runner, case: tuple[Cell, str]) -> None:
    made, how = case

    @model
    def net(
        X: Value = Input(T, N, D), L: Value = Input(N), C: Value = Input(T, N), memory: Value = Input(N, S, D)
    ) -> dict[str, Value]:
        y, last = scan(
            made(**SIZES.get(made.name, {})),
            X,
            static={"memory": memory} if made is coverage else None,
            reverse=how == "reversed",
            lengths=L if how == "of lengths" else None,
            cont=C if how == "with cont" else None,
        )
        return {"y": y} | {f"last_{name}": value for name, value in last.items()}

    backend, graph = CaffeBackend(), net.graph()
    compiled, weights = compile_graph(graph, backend, "caffe-fused"), initial_weights(graph)
    artifact = backend.emit(compiled, weights)
    report = check(compiled, artifact, weights, CaffeExecutor(caffe, "cpu"), seed=1)
    assert report.passed, [d for d in report.differences if not d.passed]
    assert {d.name for d in report.differences if d.kind == "gradient"} >= {*weights, "X"}
