"""Run the grid in readers, and write ``docs/readers/table.md``: ``make readers``.

Without names it makes the environment of every reader that lstmc knows and runs each. What a run found of a reader is
kept in ``docs/readers/found/``, so that readers can be run one at a time: the rows of others stay. A net that was right
is not run again while its files, the reader's version and its programs are the same, until ``--again``. Nets that were
never run come first, then those that were not run since their files changed, so that runs of a slow reader reach all.
"""

from __future__ import annotations

import argparse
import sys

from lstmc.errors import LstmcError
from lstmc_caffe.install.report import Report
from lstmc_caffe.readers.executor import ReaderExecutor, ReaderSession, make
from lstmc_caffe.readers.known import load_reader, reader_names
from tools.readers.found import Found, known
from tools.readers.grid import outcomes
from tools.readers.table import write_table


def run_reader(name: str, seconds: float, again: bool = False) -> None:
    """Install a reader, run the grid in it, and keep what was found."""
    reader = load_reader(name)
    before = known(name)
    found = Found(reader.title, reader.target, random=dict(before.random) if before else {})
    try:
        make(reader, Report.on_standard_error())
        with ReaderSession(reader) as session:
            found.version = session.version()
    except LstmcError as error:
        found.missing = " ".join((error.message, *error.notes))
        print(f"{name}: not run: {found.missing}", flush=True)
        if before is None or not before.nets:  # what it took where it was installed is not lost
            found.keep(name)
        return
    if before is not None and before.version == found.version and not again:
        found.nets = dict(before.nets)  # until each is tried, for a run that is ended before
    executor, tried = ReaderExecutor(reader), []
    try:
        for row in outcomes(executor, reader, found.nets, seconds):
            if found.nets.get(row.net) != row:
                print(f"{name}: {row.net}: {row.outcome} {row.off:.1e} {row.said[:100]}", flush=True)
                found.nets[row.net] = row
                found.keep(name)
            tried.append(row.net)
    finally:
        executor.close()
    found.nets = {net: found.nets[net] for net in tried}  # nets that the grid does not have any more are left out
    found.keep(name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.readers", description=__doc__)
    parser.add_argument("reader", nargs="*", help="those to run; all without")
    parser.add_argument("--minutes", type=float, default=30.0, help="for each reader at the most")
    parser.add_argument("--again", action="store_true", help="run also what was right")
    options = parser.parse_args()
    for name in options.reader or reader_names():
        run_reader(name, 60 * options.minutes, options.again)
        write_table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
