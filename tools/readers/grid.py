"""The nets of the grid, and what became of each in one reader."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lstmc.backend import Artifact, Compiled, load_backend, load_cell
from lstmc.dsl import CellModel
from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.plugins import library_names
from lstmc.verification.differential import check
from lstmc.verification.report import NOT_FINITE
from lstmc.weights import random_weights
from lstmc_caffe.readers.executor import ReaderError, ReaderExecutor
from lstmc_caffe.readers.known import Reader
from tools.readers.found import Row

STEPS, SIZES = 4, {"D": 5, "H": 4}  # other dimensions of a cell are 3


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


def outcomes(executor: ReaderExecutor, reader: Reader, before: Mapping[str, Row], seconds: float) -> Iterator[Row]:
    """Yield what became of each net: those without a row ``before`` first, then those whose row is of older files.

    What was right with the same files is not run again. Rows of other files that there is no time for are ``older``.
    """
    end = time.monotonic() + seconds
    turns = {net: 1 if row.older else 2 for net, row in before.items()}
    for case in sorted(cases(), key=lambda case: turns.get(str(case), 0)):
        try:
            written = _written(case, reader.target)
        except BackendError as error:
            yield Row(str(case), "not written", _words(error))
            continue
        programs = [program.file for program in reader.programs]
        files, row = digest(written[1], programs), before.get(str(case))
        if row is not None:
            row = replace(row, older=row.files != files)
        if time.monotonic() < end and (row is None or row.older or row.outcome != "right"):
            row = _run(executor, str(case), files, *written)
        if row is not None:
            yield row


def _written(case: Case, target: str) -> tuple[Compiled, Artifact, dict[str, Array]]:
    cell, backend = load_cell(case.cell), load_backend("caffe")
    sizes = dict.fromkeys(cell.dims, 3) | {"N": case.batch, **SIZES}
    graph = CellModel(cell).graph(T=STEPS, **{dim: sizes[dim] for dim in cell.dims})
    compiled = compile_graph(graph, backend, target, step=case.step)
    weights = random_weights(compiled.model, 0)
    return compiled, backend.emit(compiled, weights), weights


def digest(artifact: Artifact, programs: Iterable[Path]) -> str:
    """Return a digest of the files of a net and of the programs that run it."""
    read = hashlib.sha256()
    for data in (*artifact.files.values(), *(program.read_bytes() for program in programs)):
        read.update(hashlib.sha256(data).digest())
    return read.hexdigest()[:16]


def _run(
    executor: ReaderExecutor,
    net: str,
    files: str,
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
) -> Row:
    try:
        report = check(compiled, artifact, weights, executor)
    except ReaderError as error:
        return Row(net, "refused", _words(error), files=files)
    if any(remark.startswith(NOT_FINITE) for remark in report.remarks):  # a step is fed any numbers as its states
        return Row(net, "not judged", report.remarks[0], files=files)
    worst = max(difference.relative for difference in report.differences if difference.kind == "output")
    return Row(net, "right" if report.passed else "wrong", off=worst, files=files)


def _words(error: BackendError) -> str:
    """All that an error says, in one line, without folders of the machine."""
    said = "; ".join((error.message, *(note for note in error.notes if not note.startswith("documented in: "))))
    return " ".join(re.sub(r"(?<![\w%])/\S*/", "", said).split())
