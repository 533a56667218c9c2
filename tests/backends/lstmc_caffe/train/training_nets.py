"""Small hand-written nets to train, their data, and callbacks that keep what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstmc.backend.compiled import TrainingRequest
from lstmc.errors import TrainingError
from lstmc.runs.solver import Solver
from lstmc.runs.updates import TrainedNet
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import TrainableNet, train_net

Array = NDArray[np.float32]

# What each policy of the learning rate needs.
NEEDED: dict[str, dict[str, Any]] = {
    "fixed": {},
    "step": {"gamma": 0.5, "stepsize": 2},
    "exp": {"gamma": 0.9},
    "inv": {"gamma": 0.1, "power": 0.5},
    "multistep": {"gamma": 0.5, "stepvalue": (2, 4)},
    "poly": {"power": 1.5},
    "sigmoid": {"gamma": -0.5, "stepsize": 3},
}

# y = W x + b, loss = |y - t|^2 / 2N, for gradients that are written down in a line.
LINE = """
name: "line"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 2 } } }
layer {
  name: "y" type: "InnerProduct" bottom: "x" top: "y" param { name: "W" } param { name: "b" lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 2 }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 0.5 }
"""

# Two layers with Dropout between, a parameter shared by two layers, and a score in phase TEST alone.
DROPPING = """
name: "dropping"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 5 } } }
layer {
  name: "in/a" type: "InnerProduct" bottom: "x" top: "a" param { name: "W" } param { name: "b" }
  inner_product_param { num_output: 5 }
}
layer { name: "tanh" type: "TanH" bottom: "a" top: "a" }
layer { name: "drop" type: "Dropout" bottom: "a" top: "d" dropout_param { dropout_ratio: 0.4 } }
layer {
  name: "mid/b" type: "InnerProduct" bottom: "d" top: "h" param { name: "U" }
  inner_product_param { num_output: 5 bias_term: false }
}
layer { name: "sigmoid" type: "Sigmoid" bottom: "h" top: "g" }
layer {
  name: "out/c" type: "InnerProduct" bottom: "g" top: "y" param { name: "U" }
  inner_product_param { num_output: 5 bias_term: false }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
layer { name: "again" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "score" include { phase: TEST } }
"""

# h_T = tanh(W x + U h_0); the next batch starts from h_T.
CARRYING = """
name: "carrying"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "h_0" type: "Input" top: "h_0" input_param { shape { dim: 4 dim: 5 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 5 } } }
layer {
  name: "wx" type: "InnerProduct" bottom: "x" top: "wx" param { name: "W" }
  inner_product_param { num_output: 5 bias_term: false }
}
layer {
  name: "uh" type: "InnerProduct" bottom: "h_0" top: "uh" param { name: "U" }
  inner_product_param { num_output: 5 bias_term: false }
}
layer { name: "z" type: "Eltwise" bottom: "wx" bottom: "uh" top: "z" }
layer { name: "h_T" type: "TanH" bottom: "z" top: "h_T" }
layer { name: "loss" type: "EuclideanLoss" bottom: "h_T" bottom: "t" top: "loss" }
"""


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def line() -> TrainableNet:
    blobs = {"W": drawn(1, 2, 3), "b": drawn(2, 2)}
    return TrainableNet("line", LINE, {"x": (4, 3), "t": (4, 2)}, ("loss",), (), blobs, False)


def dropping() -> TrainableNet:
    blobs = {"W": drawn(1, 5, 3), "b": drawn(2, 5), "U": drawn(3, 5, 5)}
    return TrainableNet("dropping", DROPPING, {"x": (4, 3), "t": (4, 5)}, ("loss", "score"), (), blobs, True)


def carrying() -> TrainableNet:
    blobs = {"W": drawn(1, 5, 3), "U": drawn(3, 5, 5)}
    inputs = {"x": (4, 3), "t": (4, 5), "h_0": (4, 5)}
    return TrainableNet("carrying", CARRYING, inputs, ("loss",), (("h_T", "h_0"),), blobs, False)


@dataclass
class Drawn:
    """Batches that are a function of the iteration; ``change`` may spoil one."""

    net: TrainableNet
    per_epoch: int = 3
    fingerprint: str = "the data"
    change: Callable[[int, dict[str, Array]], None] = lambda iteration, batch: None

    def batch(self, iteration: int) -> dict[str, Array]:
        carried = {target for _, target in self.net.carried}
        names = sorted(set(self.net.inputs) - carried)
        arrays = {n: drawn(1000 * iteration + i, *self.net.inputs[n]) for i, n in enumerate(names)}
        self.change(iteration, arrays)
        return arrays


@dataclass
class Told:
    """What callbacks were told: (iteration, loss, rate), (iteration, scores), (iteration, snapshot)."""

    steps: list[tuple[int, float, float]] = field(default_factory=list)
    tests: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    saves: list[tuple[int, Path]] = field(default_factory=list)

    def stepped(self, iteration: int, loss: float, rate: float) -> None:
        self.steps.append((iteration, loss, rate))

    def tested(self, iteration: int, scores: Mapping[str, float]) -> None:
        self.tests.append((iteration, dict(scores)))

    def saved(self, iteration: int, snapshot: Path) -> None:
        self.saves.append((iteration, snapshot))


def run_of(net: TrainableNet, folder: Path, **changes: object) -> TrainingRequest:
    """A run in ``folder`` on drawn batches, with nothing tested and nobody who stops it."""
    values: dict[str, object] = {
        "folder": folder,
        "batches": Drawn(net),
        "test_batches": None,
        "callbacks": Told(),
        "stop": lambda: False,
    }
    return TrainingRequest(**(values | changes))  # type: ignore[arg-type]


def train(caffe: Runner, net: TrainableNet, solver: Solver, folder: Path, **changes: object) -> TrainedNet:
    return train_net(caffe, net, solver, run_of(net, folder, **changes))


def refused(caffe: Runner, net: TrainableNet, solver: Solver, folder: Path, **changes: object) -> str:
    """The whole text of the error that training ends with."""
    with pytest.raises(TrainingError) as caught:
        train(caffe, net, solver, folder, **changes)
    return str(caught.value)


def same(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    """Whether both have the same names, and to each the same numbers to the last bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
