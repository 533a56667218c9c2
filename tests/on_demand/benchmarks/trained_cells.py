"""Every library cell trained on two tasks, as a module of PyTorch: ``make trained``.

    python -m tests.on_demand.benchmarks.trained_cells [--updates 600] [--cells gru lstm]

- adding (Hochreiter and Schmidhuber 1997, section 5.4): sequences of 50 pairs of a number from 0 to 1 and a mark; the
  answer after the last step is the sum of the two numbers that are marked. The score is the mean squared error; an
  answer of 1 to all has 0.167.
- characters: each next character of 50, in the language reference that Python carries. The score is bits a
  character, of topics that are not trained on.

A linear layer or an embedding is before the cell, a linear layer behind it. Rows are kept in ``out/trained``, and
docs/cells-trained.md is written from all that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from math import log, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lstmc_torch
from docs.examples.char_lm import SYMBOLS, read_topics
from lstmc.backend import load_cell
from lstmc.errors import LstmcError
from lstmc.files.templates import text_templates
from lstmc.plugins import entry_of, library_names

KEPT = Path("out/trained")
PAGE = Path("docs/cells-trained.md")
SIZES = {"D": 16, "H": 32, "P": 32, "E": 32, "S": 8, "R": 4, "G": 4, "K": 8, "V": 8, "M": 8, "B": 32}
OF_CELL = {"retnet": {"H": 8}, "sru": {"H": 16}}  # H of one head; that of the input
STEPS, BATCH, RATE = 50, 32, 5e-3
Task = tuple[nn.Module, int, Callable[[bool], tuple[Tensor, Tensor]], Callable[[Tensor, Tensor], Tensor]]


class Net(nn.Module):  # type: ignore[misc]
    """A cell of the library behind ``first``, which gives D numbers a step, and before a linear layer."""

    def __init__(self, name: str, first: nn.Module, answers: int) -> None:
        super().__init__()
        cell = load_cell(name)
        sizes = {"T": STEPS} | {dim: size for dim, size in (SIZES | OF_CELL.get(name, {})).items() if dim in cell.dims}
        self.first, self.cell = first, lstmc_torch.module(name, outputs=["y"], seed=1, sizes=sizes)
        self.input, *self.others = cell.inputs
        y = self.run(torch.zeros(STEPS, 1, SIZES["D"]))
        self.last = nn.Linear(prod(y.shape[2:]), answers)

    def run(self, xs: Tensor) -> Tensor:
        """The cell's outputs over xs [T, N, D]. Of others ``time`` is the step, all else 1: nothing is missing."""
        ones = {name: torch.ones(*xs.shape[:2], self.cell.spec.inputs[name][-1]) for name in self.others}
        steps = torch.arange(float(len(xs)))[:, None, None]
        others = {name: value * steps if name == "time" else value for name, value in ones.items()}
        y: Tensor = self.cell(**{self.input: xs}, **others)["y"]
        return y

    def forward(self, X: Tensor) -> Tensor:
        answer: Tensor = self.last(self.run(self.first(X)).flatten(2))
        return answer


def adding() -> Task:
    def draw(train: bool) -> tuple[Tensor, Tensor]:
        count = BATCH if train else 1000
        numbers, marks = torch.rand(STEPS, count), torch.zeros(STEPS, count)
        for half in (0, STEPS // 2):
            marks[torch.randint(STEPS // 2, (count,)) + half, torch.arange(count)] = 1
        return torch.stack([numbers, marks], -1), (numbers * marks).sum(0)

    return nn.Linear(2, SIZES["D"]), 1, draw, lambda out, total: ((out[-1, :, 0] - total) ** 2).mean()


def characters() -> Task:
    number = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    train, test = (torch.tensor([number[c] for text in texts for c in text]) for texts in read_topics())

    def draw(training: bool) -> tuple[Tensor, Tensor]:
        text, count = (train, BATCH) if training else (test, 500)
        begins = torch.randint(len(text) - STEPS - 1, (count,))
        window = text[begins + torch.arange(STEPS + 1)[:, None]]
        return window[:-1], window[1:]

    def bits(out: Tensor, following: Tensor) -> Tensor:
        return nn.functional.cross_entropy(out.flatten(0, 1), following.flatten()) / log(2)

    return nn.Embedding(len(SYMBOLS), SIZES["D"]), len(SYMBOLS), draw, bits


def row_of(name: str, updates: int) -> dict[str, Any]:
    """A cell's number of parameters and its scores, or why there are none."""
    row: dict[str, Any] = {"cell": name, "updates": updates}
    start = time.process_time()
    if not all(len(declared.shape) == 2 for declared in load_cell(name).inputs.values()):
        return row | {"why": "it reads images, or a memory with many states"}
    for task in (adding, characters):
        torch.manual_seed(1)
        first, answers, draw, loss = task()
        try:
            net = Net(name, first, answers)
        except LstmcError as error:
            return row | {"why": error.message}
        row["parameters"] = sum(p.numel() for p in net.cell.parameters() if p.requires_grad)
        optimizer = torch.optim.Adam(net.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
        for _ in range(updates):
            X, right = draw(True)
            optimizer.zero_grad()
            loss(net(X), right).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            X, right = draw(False)
            row[task.__name__] = float(loss(net(X), right))
    return row | {"seconds": time.process_time() - start}


def page() -> None:
    """Write the page from the rows that are kept."""
    rows = json.loads((KEPT / "rows.json").read_text())
    template = text_templates("tests", "on_demand/benchmarks").get_template("cells-trained.md.j2")
    done = [{**row, "year": getattr(entry_of(row["cell"]), "year", "")} for row in rows if "why" not in row]
    PAGE.write_text(template.render(done=done, others=[row for row in rows if "why" in row], sizes=SIZES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--cells", nargs="*", default=sorted(library_names()))
    options = parser.parse_args()
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / "rows.json"
    rows = {row["cell"]: row for row in (json.loads(file.read_text()) if file.exists() else [])}
    for name in options.cells:
        rows[name] = row_of(name, options.updates)
        print(*rows[name].values(), flush=True, file=sys.stderr)
        file.write_text(json.dumps([rows[name] for name in sorted(rows)], indent=1))
    page()


if __name__ == "__main__":
    main()
