"""The nets of the grid, and what became of each in one reader."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lstmc.api import library_names
from lstmc.backend import load_backend, load_cell
from lstmc.differential import check
from lstmc.dsl import CellModel
from lstmc.errors import BackendError
from lstmc.pipeline import compile_graph
from lstmc.weights import random_weights
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.readers.session import ReaderError

STEPS, SIZES = 4, {"D": 5, "H": 4}  # other dimensions of a cell are 3
# "right", "wrong", "refused" by the reader, "not written" for it, or "not judged"; and what was said
Outcome = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """One net: a cell, of one step or all, and how many sequences."""

    cell: str
    step: bool
    batch: int

    def __str__(self) -> str:
        return f"{self.cell} N={self.batch}{' --step' if self.step else ''}"


def cases() -> list[Case]:
    """All nets, mixed, so that a part of them has every kind; always in the same order."""
    found = [Case(cell, step, batch) for cell in library_names() for step in (False, True) for batch in (1, 2)]
    random.Random(0).shuffle(found)
    return found


def outcomes(executor: ReaderExecutor, target: str, seconds: float) -> Iterator[tuple[Case, str, str, float]]:
    """What became of each net, what was said of it, and how far it was off; until the time is over."""
    end = time.monotonic() + seconds
    for case in cases():
        if time.monotonic() > end:
            return
        yield (case, *_outcome(executor, target, case))


def _outcome(executor: ReaderExecutor, target: str, case: Case) -> tuple[str, str, float]:
    cell, backend = load_cell(case.cell), load_backend("caffe")
    sizes = dict.fromkeys(cell.dims, 3) | {"N": case.batch, **SIZES}
    graph = CellModel(cell).graph(T=STEPS, **{dim: sizes[dim] for dim in cell.dims})
    try:
        compiled = compile_graph(graph, backend, target, step=case.step)
        weights = random_weights(compiled.model, 0)
        artifact = backend.emit(compiled, weights)
    except BackendError as error:
        return "not written", " ".join((error.message, *error.notes[:1])), 0.0
    try:
        report = check(compiled, artifact, weights, executor)
    except ReaderError as error:
        return "refused", re.sub(r"/\S*/", "", error.message), 0.0  # without folders of the machine
    if any("is not finite" in remark for remark in report.remarks):  # a step is fed any numbers as its states
        return "not judged", report.remarks[0], 0.0
    worst = max(difference.relative for difference in report.differences if difference.kind == "output")
    return ("right" if report.passed else "wrong"), "", worst
