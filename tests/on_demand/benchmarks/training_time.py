"""Seconds an update of lstmc train takes, by target, and of the same models in PyTorch: Adam, gradients clipped.

    python -m tests.on_demand.benchmarks.training_time

One thread; least time between two updates, of runs that take turns. The examples are docs/examples/digits.py,
adding.py and char_lm.py, on random data of their sizes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import lstmc
from lstmc.api.models import model_in
from lstmc.runs.events import Updated

EXAMPLES = Path(__file__).parents[3] / "docs/examples"
TARGETS = ("caffe", "caffe-fused")
TURNS = 3
SYMBOLS = 97
Data = dict[str, np.ndarray]


def digits() -> Data:
    rng = np.random.default_rng(0)
    return {"X": rng.random((8, 600, 8), np.float32), "label": rng.integers(0, 10, 600).astype(np.float32)}


def adding() -> Data:
    rng = np.random.default_rng(0)
    return {"X": rng.random((100, 500, 2), np.float32), "total": rng.random((500, 1), np.float32)}


def characters() -> Data:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, SYMBOLS, (12, 50, 32)).astype(np.float32)
    return {"ids": ids, "cont": np.ones_like(ids), "following": np.roll(ids, -1)}


class Reader(torch.nn.Module):
    """An LSTM of 64 and a product with its last state."""

    def __init__(self, width: int, outs: int) -> None:
        super().__init__()
        self.lstm, self.out = torch.nn.LSTM(width, 64), torch.nn.Linear(64, outs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x)[0][-1])


class Characters(torch.nn.Module):
    """Two LSTMs of 192 with dropouts of 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(SYMBOLS, 48)
        self.lstm, self.out = torch.nn.LSTM(48, 192, 2, dropout=0.1), torch.nn.Linear(192, SYMBOLS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(torch.dropout(self.lstm(self.embed(ids))[0], 0.1, True)).flatten(0, 1)


def in_torch(model: torch.nn.Module, loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    """The least seconds of an update."""
    optimiser, best = torch.optim.Adam(model.parameters()), float("inf")
    for _ in range(60):
        start = time.perf_counter()
        optimiser.zero_grad()
        loss(model(x)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimiser.step()
        best = min(best, time.perf_counter() - start)
    return best


def trained(name: str, data: Data, target: str, **sizes: int) -> float:
    """The least seconds between two updates of a short run."""
    source = model_in(f"{EXAMPLES}/{name}")
    times: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, Updated):
            times.append(time.perf_counter())

    solver = replace(source.model.solver, max_iter=40, test_interval=0, snapshot=0)
    with tempfile.TemporaryDirectory() as folder:
        lstmc.train(source, data, out=Path(folder, "run"), solver=solver, target=target, progress=note, **sizes)
    return float(np.diff(times).min())


def main() -> None:
    """Measure, and print milliseconds and ratios."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    cross_entropy, mse = torch.nn.functional.cross_entropy, torch.nn.functional.mse_loss
    labels, ids = torch.randint(0, 10, (60,)), torch.randint(0, SYMBOLS, (50, 32))
    totals = torch.rand(50, 1)
    rows: dict[str, tuple[Data, dict[str, int], Callable[[], float]]] = {
        "digits.py:lstm_digits": (
            digits(), {"N": 60},
            lambda: in_torch(Reader(8, 10), lambda y: cross_entropy(y, labels), torch.rand(8, 60, 8)),
        ),
        "adding.py:lstm_adds": (
            adding(), {"N": 50}, lambda: in_torch(Reader(2, 1), lambda y: mse(y, totals), torch.rand(100, 50, 2)),
        ),
        "char_lm.py:char_lm": (
            characters(), {"T": 50, "N": 32},
            lambda: in_torch(Characters(), lambda y: cross_entropy(y, ids.flatten()), ids),
        ),
    }  # fmt: skip
    table = Table(title="an update, one thread, ms")
    for column in ("example", "caffe-fused", "caffe", "PyTorch", "to caffe", "to PyTorch"):
        table.add_column(column, justify="left" if column == "example" else "right")
    for name, (data, sizes, rival) in rows.items():
        least = dict.fromkeys((*TARGETS, "torch"), float("inf"))
        for _ in range(TURNS):
            for target in TARGETS:
                least[target] = min(least[target], trained(name, data, target, **sizes))
            least["torch"] = min(least["torch"], rival())
        fused = least["caffe-fused"]
        shown = [f"{least[way] * 1e3:.2f}" for way in ("caffe-fused", "caffe", "torch")]
        table.add_row(name, *shown, f"{fused / least['caffe']:.2f}", f"{fused / least['torch']:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
