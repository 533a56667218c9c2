"""The library cells as a whole: found by entry point, each proved by a test of its own, each right in real Caffe."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.backend import find_cells, load_backend, load_cell
from lstmc.differential import check
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner
from tests.cells.scanned import SIZES, assert_equal, cell_graph, scanned

CELLS = sorted(find_cells())
ONE_ROW = (3, 1, 2, 4)  # N = 1, where the layers that broadcast have nothing to broadcast over


def test_the_library_has_the_five_cells() -> None:
    assert CELLS == ["gru", "gru_reset_after", "lstm", "lstm_peephole", "rnn"]


def test_every_cell_has_a_test_against_numpy() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path.stem != "test_library")
    assert [name for name in CELLS if f'scanned("{name}", sizes)' not in tests] == []


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_says_where_its_equations_come_from(name: str) -> None:
    assert load_cell(name).__doc__


@pytest.mark.caffe
@pytest.mark.parametrize("states", [True, False], ids=["states fed", "states zero"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("sizes", [*SIZES, ONE_ROW], ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_means_the_same_in_real_caffe(
    caffe: Runner, name: str, sizes: tuple[int, int, int, int], reverse: bool, states: bool
) -> None:
    backend = load_backend("caffe")
    graph = cell_graph(name, sizes, reverse, states)
    compiled, weights = compile_graph(graph, backend), initial_weights(graph, seed=1)
    report = check(compiled, backend.emit(compiled, weights), weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [difference for difference in report.differences if not difference.passed]


# PyTorch's gates: LSTM i, f, g, o; GRU r, z, n. Ours by theirs: which of theirs each of our gates is.
TORCH = {"rnn": ("RNN", (0,)), "lstm": ("LSTM", (0, 1, 3, 2)), "gru_reset_after": ("GRU", (0, 1, 2))}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", TORCH)
def test_cells_are_pytorch_s(name: str, sizes: tuple[int, int, int, int]) -> None:
    if find_spec("torch") is None:
        pytest.skip(f"NOT CHECKED: {name} against PyTorch, which is not installed (an optional extra check)")
    torch: Any = import_module("torch")
    run, (_, _, width, units) = scanned(name, sizes), sizes
    kind, order = TORCH[name]
    theirs: Any = getattr(torch.nn, kind)(width, units).double()
    biases = {"b_x": None, "b_h": None, **vars(run.params)}
    given = {
        "weight_ih_l0": run.params.W_x,
        "weight_hh_l0": run.params.W_h,
        "bias_ih_l0": biases["b_x"] if biases["b_x"] is not None else biases["b"],
        "bias_hh_l0": biases["b_h"] if biases["b_h"] is not None else np.zeros_like(biases["b"]),
    }
    with torch.no_grad():
        for parameter, array in given.items():
            gates = np.split(array, len(order))
            reordered = np.concatenate([gates[order.index(k)] for k in range(len(order))])
            getattr(theirs, parameter).copy_(torch.from_numpy(reordered))
        h0, c0 = (torch.from_numpy(run.initial[state])[None] for state in "hc")
        y, last = theirs(torch.from_numpy(run.x), (h0, c0) if kind == "LSTM" else h0)
    assert_equal(run.y, y.numpy())
    last = dict(zip("hc", last, strict=True)) if kind == "LSTM" else {"h": last}
    for state, value in last.items():
        assert_equal(run.last[state], value[0].numpy())
