"""Run the grid in readers, and write ``docs/readers/table.md``: ``make readers``.

Without names it makes the environment of every reader that lstmc knows and runs each. What a run found of a reader is
kept in ``docs/readers/found/``, so that readers can be run one at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lstmc.errors import LstmcError
from lstmc_caffe.readers.environment import make
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.readers.known import load_reader, reader_names
from lstmc_caffe.readers.session import ReaderSession
from tools.readers.grid import outcomes
from tools.readers.table import FOUND, write_table


def run_reader(name: str, seconds: float) -> None:
    """Install a reader, run the grid in it, and keep what was found."""
    reader = load_reader(name)
    found: dict[str, object] = {"title": reader.title, "target": reader.target}
    try:
        make(reader)
        with ReaderSession(reader) as session:
            found["version"] = session.version()
    except LstmcError as error:
        found["missing"] = " ".join((error.message, *error.notes))
    else:
        executor = ReaderExecutor(reader)
        rows = []
        for case, outcome, said, off in outcomes(executor, reader.target, seconds):
            print(f"{name}: {case}: {outcome} {off:.1e} {said[:100]}", flush=True)
            rows.append({"net": str(case), "outcome": outcome, "said": said[:400], "off": off})
        executor.close()
        found["nets"] = rows
    FOUND.mkdir(parents=True, exist_ok=True)
    Path(FOUND, f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.readers", description=__doc__)
    parser.add_argument("reader", nargs="*", help="those to run; all without")
    parser.add_argument("--minutes", type=float, default=30.0, help="for each reader at the most")
    options = parser.parse_args()
    for name in options.reader or reader_names():
        run_reader(name, 60 * options.minutes)
    write_table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
