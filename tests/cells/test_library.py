"""The library cells: each is what its paper says, each the same in real Caffe, and most run in other readers."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lstmc.api.installed import refusal, targets_written
from lstmc.backend import load_backend, load_cell
from lstmc.pipeline import compile_graph
from lstmc.plugins import CELLS as GROUP
from lstmc.plugins import entry_points_of
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees
from tests.cells.references import REFERENCES
from tests.cells.scanned import LENGTHS, by_hand, cell_graph, drawn, interpreted, with_all_ops

CELLS = [name for name, (point, *_) in entry_points_of(GROUP).items() if point.value.startswith("lstmc.cells.")]


def test_every_cell_has_a_reference() -> None:
    assert set(CELLS) == set(REFERENCES), f"of the entry points in {GROUP}"


@pytest.mark.parametrize("length", [(2, 3), *(pytest.param(x, marks=pytest.mark.slow) for x in ((1, 1), (7, 1)))])
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_what_its_paper_says(name: str, length: tuple[int, int]) -> None:
    graph = cell_graph(name, length)
    values = drawn(name, graph)
    found, wanted = interpreted(graph, values), by_hand(name, graph, values)
    assert set(found) == set(wanted)
    for output, array in wanted.items():
        assert np.any(array != 0)
        np.testing.assert_allclose(found[output], array, rtol=1e-9, atol=1e-9, err_msg=output)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_says_what_it_is_and_where_its_equations_come_from(name: str) -> None:
    doc = load_cell(name).__doc__ or ""
    assert re.search(r"arXiv:|\b(19|20)\d\d\b|https://", doc), doc
    assert len(doc.split("\n")[0]) <= 120


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_a_few_lines(name: str) -> None:
    """With the functions of its file that it calls but :func:`legendre`, without what declares and documents."""
    tree = ast.parse(Path(inspect.getfile(load_cell(name).function)).read_text())
    bodies = {f.name: f.body[1:] for f in tree.body if isinstance(f, ast.FunctionDef) and f.name != "legendre"}
    words = {node.id for line in bodies[name] for node in ast.walk(line) if isinstance(node, ast.Name)}
    parts = [bodies[name], *(body for other, body in bodies.items() if other in words)]
    lines = sum(body[-1].end_lineno - body[0].lineno + 1 for body in parts)  # type: ignore[operator]
    assert lines <= (25 if name == "ntm" else 15)


WAYS: dict[str, dict[str, bool]] = {"from states": {}, "from zero": {"states": False}, "reverse": {"reverse": True}}


def in_caffe() -> Iterator[Any]:
    """Each cell from its states at one length, and in one more pair of a way and a length; the rest in ``make
    exhaustive``.

    The pair goes round, so that six cells or more meet each: how a scan begins and which way it runs is made by the
    same passes, whatever the cell, and random cells meet it too (tests/test_properties.py).
    """
    usual = ("from states", (2, 3))
    pairs = [(way, length) for way in WAYS for length in LENGTHS if (way, length) != usual]
    for number, name in enumerate(CELLS):
        for way, options in WAYS.items():
            for length in LENGTHS:
                sampled = (way, length) in (usual, pairs[number % len(pairs)])
                marks = () if sampled else pytest.mark.exhaustive
                yield pytest.param(name, length, options, id=f"{name}-{way}-{length}", marks=marks)


@pytest.mark.caffe
@pytest.mark.parametrize(("name", "length", "options"), [*in_caffe()])
def test_every_cell_means_the_same_in_real_caffe(
    caffe: Runner, name: str, length: tuple[int, int], options: dict[str, bool]
) -> None:
    backend = load_backend("caffe")
    graph = cell_graph(name, length, **options)
    compiled, weights = compile_graph(graph, backend), drawn(name, graph).weights
    assert_caffe_agrees(caffe, compiled, weights)


def in_other_nets() -> Iterator[Any]:
    """Each cell on one of two targets, on which others are built, and those on the other that have all its ops; the
    rest in ``make exhaustive``."""
    for turn, target in enumerate(("flat", "noslice")):
        taken = [name for name in CELLS if name in targets_written()["caffe"][target]]
        tested = {*taken[turn::2], *with_all_ops(taken)}
        for name in taken:
            yield pytest.param(target, name, marks=() if name in tested else pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.caffe
@pytest.mark.parametrize(("target", "name"), [*in_other_nets()])
def test_a_cell_means_the_same_in_the_nets_of_other_readers(caffe: Runner, target: str, name: str) -> None:
    graph = cell_graph(name, (2, 3))
    compiled, weights = compile_graph(graph, load_backend("caffe"), target), drawn(name, graph).weights
    assert_caffe_agrees(caffe, compiled, weights)


LEAST = {
    "caffe": 1.0,
    "flat": 0.85,
    "noslice": 0.70,
    "caffe-native": 0.0,
    "caffe-fused": 1.0,
    "opencv": 0.85,
    "mnn": 0.85,
    "openvino": 0.8,
    "openvino-2022.3": 0.8,
    "rknn": 0.8,
    "tpu-mlir": 0.9,
    "acuity": 0.9,
    "ncnn": 0.9,
    "tvm": 0.9,
    "x2paddle": 0.9,
    "coreml": 0.7,
    "tensorrt": 0.7,
    "ascend": 0.85,
}  # the share of all cells


def sample(target: str) -> list[str]:
    """The cells that are written down as refused, and of the others some that have all their ops between them.

    A target refuses an op, whatever the cell. Other cells are in tests/test_written.py, some on each target, and that
    of every target all cells are as written is in ``make exhaustive``.
    """
    taken = [name for name in CELLS if name in targets_written()["caffe"][target]]
    chosen = {*CELLS}.difference(taken) | with_all_ops(taken)
    return [name for name in CELLS if name in chosen]


def on_targets() -> Iterator[Any]:
    """Samples of the cells on each target, and all of them."""
    for target in LEAST:
        yield pytest.param(target, False, id=target)
        yield pytest.param(target, True, id=f"{target}-all", marks=pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "whole"), [*on_targets()])
def test_most_cells_are_for_other_readers_too_and_it_is_written_down_which(target: str, whole: bool) -> None:
    cells = CELLS if whole else sample(target)
    backend = load_backend("caffe")
    assert set(backend.targets) == set(LEAST)
    errors = {name: refusal(load_cell(name), backend, target) for name in cells}
    refused = {name: error.message for name, error in errors.items() if error is not None}
    taken = set(CELLS) - set(refused)
    assert len(taken) >= LEAST[target] * len(CELLS), refused
    assert set(targets_written()["caffe"][target]) == taken, "run `make docs`"
    if not target.startswith("caffe-"):  # scans become layers there: it is a scan that is refused
        lacks = f"target {target} has no (such )?[A-Z][A-Za-z]+ layer[,:]"
        named = re.compile(
            f"{lacks}|target {target}: .* in another shape: there is no Reshape"
            f"|target {target} cannot round a value that depends on no input"
        )
        assert not {name: why for name, why in refused.items() if not named.match(why)}


# PyTorch's gates: LSTM i, f, g, o; GRU r, z, n. Ours by theirs: which of theirs each of our gates is.
TORCH = {"rnn": ("RNN", (0,)), "lstm": ("LSTM", (0, 1, 3, 2)), "gru_reset_after": ("GRU", (0, 1, 2))}


@pytest.mark.parametrize("length", LENGTHS, ids=str)
@pytest.mark.parametrize("name", TORCH)
def test_cells_are_pytorch_s(name: str, length: tuple[int, int]) -> None:
    graph = cell_graph(name, length)
    values = drawn(name, graph)
    run, params = interpreted(graph, values), SimpleNamespace(b_x=None, b_h=None)
    vars(params).update({n.removeprefix("cell/"): array for n, array in values.weights.items()})
    kind, order = TORCH[name]
    theirs: Any = getattr(torch.nn, kind)(params.W_x.shape[1], params.W_h.shape[1]).double()
    given = {
        "weight_ih_l0": params.W_x,
        "weight_hh_l0": params.W_h,
        "bias_ih_l0": params.b if params.b_x is None else params.b_x,
        "bias_hh_l0": np.zeros_like(params.b) if params.b_h is None else params.b_h,
    }
    with torch.no_grad():
        for parameter, array in given.items():
            gates = np.split(array, len(order))
            reordered = np.concatenate([gates[order.index(k)] for k in range(len(order))])
            getattr(theirs, parameter).copy_(torch.from_numpy(reordered))
        h0, *c0 = (torch.from_numpy(values.inputs[state])[None] for state in ("h_0", "c_0") if state in values.inputs)
        y, last = theirs(torch.from_numpy(values.inputs["x"]), (h0, *c0) if c0 else h0)
    np.testing.assert_allclose(run["y"], y.numpy(), rtol=1e-12, atol=1e-12)
    for state, value in zip(("h_T", "c_T"), last if c0 else (last,), strict=False):
        np.testing.assert_allclose(run[state], value[0].numpy(), rtol=1e-12, atol=1e-12)
