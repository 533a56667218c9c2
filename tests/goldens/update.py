"""The expected texts of every pass: an LSTM written gate by gate, as each pass of the pipeline leaves it.

``make golden`` runs this as a program and writes the files anew: ``lstm.model.lir`` is written by hand, and each
``lstm.NN-PASS.lir`` is what a pass makes of the file before it. Read the difference before you commit it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lstmc.ir import Graph, parse_graph
from lstmc.passes import Pass, run_passes
from lstmc.pipeline import all_passes
from lstmc_caffe import CaffeBackend

FOLDER = Path(__file__).parent
MODEL = FOLDER / "lstm.model.lir"
BACKEND = CaffeBackend()


def golden_passes() -> Iterator[tuple[Path, Pass]]:
    """Each pass of the pipeline, and the file that has its result."""
    for number, step in enumerate(all_passes(BACKEND), 1):
        yield FOLDER / f"lstm.{number:02d}-{step.name}.lir", step


def read(path: Path) -> Graph:
    return parse_graph(path.read_text(), BACKEND.ops)


def main() -> None:
    steps = list(golden_passes())
    for stale in set(FOLDER.glob("lstm.[0-9]*.lir")) - {path for path, _ in steps}:
        stale.unlink()
    dumps = FOLDER / "dumps"
    run_passes(read(MODEL), [step for _, step in steps], BACKEND.ops, dumps)
    for (path, _), dump in zip(steps, sorted(dumps.iterdir())[1:], strict=True):
        dump.replace(path)
    for left in dumps.iterdir():
        left.unlink()
    dumps.rmdir()


if __name__ == "__main__":
    main()
