"""Recurrences that were written out step by step: rolled up again, with the numbers of the program that runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lstmc.importers import from_onnx, from_torch
from lstmc.importers.canonical import canonicalize
from lstmc.importers.checks import evaluate
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.recur import Cell, add_layer
from lstmc.importers.ir.values import OpenSize, Weight
from lstmc.ir import Scan
from lstmc.ops import Concat, Split
from lstmc_caffe.runtime.runner import Runner
from tests.importers.imported import assert_close, imported

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch, about its own exporter


class ByHand(nn.Module):
    """Cells called step by step; with ``feeding`` each step reads what the one before gave."""

    def __init__(self, kind: str, layers: int = 1, feeding: bool = False) -> None:
        super().__init__()
        self.cells = nn.ModuleList([getattr(nn, kind)(3, 3) for _ in range(layers)])
        self.out, self.feeding, self.two = nn.Linear(3, 3), feeding, kind == "LSTMCell"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(x.shape[0], 3)
        states: list[Any] = [(zeros, zeros) if self.two else zeros for _ in self.cells]
        given = []
        for t in range(x.shape[1]):
            value = x[:, t] + given[-1] if self.feeding and given else x[:, t]
            for number, cell in enumerate(self.cells):
                states[number] = cell(value, states[number])
                value = states[number][0] if self.two else states[number]
            given.append(self.out(value) if self.feeding else value)
        return torch.stack(given, 1)


def steps_of(net: Any) -> list[int]:
    """The lengths of all steps over time."""
    steps = [step.op.length for step in net.steps if isinstance(step.op, Scan)]
    return [net.sizes[count.name] if isinstance(count, OpenSize) else count for count in steps]


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("module", "steps"),
    [
        (ByHand("LSTMCell"), [4]), (ByHand("GRUCell", 2), [4, 4]), (ByHand("RNNCell"), [4]),
        (ByHand("GRUCell", feeding=True), [3]),
    ],
    ids=["lstm", "two layers", "rnn", "feeding"],
)  # fmt: skip
def test_cells_that_onnx_has_step_by_step(caffe: Runner, tmp_path: Any, module: ByHand, steps: list[int]) -> None:
    x = torch.randn(2, 4, 3)
    torch.onnx.export(
        module.eval(), (x,), str(tmp_path / "m.onnx"), input_names=["x"], output_names=["y"], dynamo=False
    )
    made = imported(from_onnx(onnx.load(tmp_path / "m.onnx")).described)
    assert steps_of(made.net) == steps
    wanted, inputs = {"y": module(x).detach().numpy()}, {"x": x.numpy().astype(float)}
    assert_close(made.interpreted(inputs), wanted)
    assert_close(made.in_caffe(caffe, inputs)[0], wanted)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_of_a_module(kind: str) -> None:
    module, x = ByHand(kind, 2).eval(), torch.randn(2, 4, 3)
    found = from_torch(module, x)
    made = imported(found.described)
    assert steps_of(made.net) == [4, 4]
    roles = {"W_x", "b", "W_h"} | ({"b_h"} if kind == "GRUCell" else set())
    assert sorted(name.rpartition("/")[2] for name in made.weights) == sorted([*roles, *roles])
    inputs = {name: x.numpy().astype(float) for name in found.described.inputs}
    assert_close(made.interpreted(inputs), {"Y": module(x).detach().numpy()})


def test_what_is_no_chain_of_equal_steps_stays_as_it_is() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.cell(x[0])
            h = self.cell(x[1], torch.sigmoid(h))
            return self.cell(x[2], h * 2)

    module, x = Mixed().eval(), torch.randn(3, 2, 3)
    found = from_torch(module, x)
    made = imported(found.described)
    assert steps_of(made.net) == [1, 1, 1]
    inputs = {name: np.asarray(x, float) for name in found.described.inputs}
    assert_close(made.interpreted(inputs), {"Y": module(x).detach().numpy()})


def test_a_first_step_from_zeros_for_one_sequence_is_one_of_the_steps() -> None:
    class FromOne(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_x, self.of_h = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h, hs = torch.zeros(1, 2), []
            for t in reversed(range(4)):
                h = torch.tanh(self.of_x(x[t]) + self.of_h(h))
                hs.append(h)
            return torch.stack(hs[::-1])

    module, x = FromOne().eval(), torch.randn(4, 3, 3)
    made = imported(from_torch(module, x).described)
    assert steps_of(made.net) == [4]
    assert [step.op.reverse for step in made.net.steps if isinstance(step.op, Scan)] == [True]
    assert_close(
        made.interpreted({name: x.numpy().astype(float) for name in made.net.inputs}), {"Y": module(x).detach().numpy()}
    )


class Greedy(nn.Module):
    """A decoder that reads its own words: its first step, from a fixed word, is not one of the loop's."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.encoder, self.cell = nn.Embedding(7, 3), nn.LSTM(3, 4), nn.LSTMCell(3, 4)
        self.out = nn.Linear(4, 7)

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        _, (h, c) = self.encoder(self.word(source))
        h, c, word, scores = h[0], c[0], torch.zeros(source.shape[1], dtype=torch.long), []
        for _ in range(4):
            h, c = self.cell(self.word(word), (h, c))
            scores.append(self.out(h))
            word = scores[-1].argmax(-1)
        return torch.stack(scores)


class Hierarchy(nn.Module):
    """A layer over all words in each step of an outer recurrence: no loop has another in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.cell = nn.GRU(4, 4), nn.GRUCell(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.shape[1], 4)
        for _ in range(3):
            y, _ = self.inner(x + h)
            h = self.cell(y[-1], h)
        return h


@pytest.mark.parametrize(
    ("module", "x", "steps"),
    [(Greedy(), torch.randint(0, 7, (5, 2)), [5, 1, 3]), (Hierarchy(), torch.randn(3, 2, 4), [3, 1, 3, 1, 3, 1])],
    ids=["greedy", "hierarchy"],
)
def test_recurrent_layers_within_steps(module: nn.Module, x: torch.Tensor, steps: list[int]) -> None:
    found = from_torch(module.eval(), x)
    made = imported(found.described)
    assert steps_of(made.net) == steps
    inputs = {name: x.numpy().astype(float) for name in found.described.inputs}
    assert_close(made.interpreted(inputs), {"Y": module(x).detach().numpy()})


CELLS = [
    Cell("rnn", bias=False, clip=0.5), Cell("gru"), Cell("gru", reset_after=True), Cell("lstm", peepholes=True),
    Cell("lstm", coupled=True), Cell("lstm", projection=True),
]  # fmt: skip


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_layers_of_one_step_of_any_cell_are_one_loop(cell: Cell) -> None:
    rng, builder = np.random.default_rng(0), NetBuilder("net", "a test", "a step")
    sizes = {"H": 4, "D": 3, "P": 2 if cell.projection else 4}
    x, h = builder.input("X", (4, "N", 3)), builder.input("h", ("N", sizes["P"]))
    states = [h, builder.input("c", ("N", 4))][: len(cell.states)]
    weights = {}
    for role, shape in cell.weights().items():
        array = rng.normal(size=[eval(size, sizes) for size in shape.split(", ")])
        weights[role] = Weight(array.shape, (role,), role, lambda array=array: array)  # type: ignore[misc]
    ys = []
    for x_t in builder.add(Split(0, (1,) * 4), x, hint="x", origin="steps"):
        first = dict(zip(cell.states, states, strict=True))
        y, *states = add_layer(builder, "cell", x_t, cell, weights, first)
        ys.append(y)
    builder.output("Y", builder.one(Concat(0), *ys, hint="Y", origin="steps"))
    net = builder.finish()
    settled = canonicalize(net)
    assert steps_of(settled) == [4]
    inputs = {name: rng.normal(size=(4, 2, 3) if name == "X" else (2, shape[1])) for name, shape in net.inputs.items()}
    assert settled.axes == {}
    assert_close(evaluate(settled, inputs), evaluate(net, inputs), 1e-12)
