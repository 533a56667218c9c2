"""``python -m tests.on_demand.fuzz --minutes M`` (``make fuzz MINUTES=M``): random models in real Caffe.

With ``--files`` (``make fuzz FUZZ=--files``) damaged files of every format that is read instead. A process a core, or
the workers of a Dask scheduler (``make fuzz SCHEDULER=ADDRESS``).
Exits with 1 if a model or a file failed.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path

from lstmc.cli.commands import activity_line
from lstmc.cli.console import Printer, err
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz.files import Counts, damaged_files
from tests.on_demand.fuzz.hunt import TARGETS, Tally, hunt
from tests.on_demand.fuzz.scheduled import by_scheduler

EVERY = 30.0  # seconds between two lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.fuzz", description="Random models in real Caffe.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="draw the models of an earlier run")
    parser.add_argument("--target", choices=TARGETS, action="append", help="repeatable (default: all)")
    parser.add_argument("--files", action="store_true", help="damaged files instead of models")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="(default: one a core)")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("out/fuzz"), help="where failures go (default: out/fuzz)"
    )
    parser.add_argument("--scheduler", help="the address of a Dask scheduler, whose workers try the models")
    given = parser.parse_args()
    if given.files and given.scheduler:
        parser.error("--files: each is read in a process of its own, which workers of a scheduler may not start")
    print(f"seed {given.seed}; failures go to {given.out}", flush=True)
    until = time.monotonic() + 60 * given.minutes
    total: Tally | Counts = Counts() if given.files else Tally()
    out, told = Printer(), time.monotonic()
    with activity_line(err, out) as line:
        for tally in by_processes(given, until) if given.scheduler is None else by_scheduler(given, until):
            total.add(tally)  # type: ignore[arg-type]
            for failed in tally.failed:
                out.print(f"failed: {failed}")
            now, first = time.monotonic(), str(total).splitlines()[0]
            if line is not None:
                line.tell(f"{first}; {min(99, round(100 - (until - now) / (0.6 * given.minutes)))} % of the time")
            elif now - told > EVERY:
                told = now
                out.print(first)
    print(total)
    return 1 if total.failed else 0


def by_processes(given: argparse.Namespace, until: float) -> Iterator[Tally | Counts]:
    """What became of each model or file, by processes here. Ends the program where one of them fails by itself."""
    results: Queue[Tally | Counts | None] = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(
            target=work_on_files if given.files else work,
            # seeds that no other process has, nor a run with a seed near by
            args=(itertools.count(given.seed * 10**9 + i, given.processes), given, until, results),
        )
        for i in range(given.processes)
    ]
    for process in processes:
        process.start()
    running = len(processes)
    while running:
        tally = results.get()
        if tally is None:
            running -= 1
        else:
            yield tally
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("a process of the hunt has failed")


def work(
    seeds: itertools.count[int], given: argparse.Namespace, until: float, results: Queue[Tally | Counts | None]
) -> None:
    try:
        with Runner() as runner:
            for tally in hunt(seeds, runner, given.out, tuple(given.target or TARGETS)):
                results.put(tally)
                if time.monotonic() >= until:
                    return
    except KeyboardInterrupt:
        pass
    finally:
        results.put(None)


def work_on_files(
    seeds: itertools.count[int], given: argparse.Namespace, until: float, results: Queue[Tally | Counts | None]
) -> None:
    try:
        for counts in damaged_files(seeds, given.out):
            results.put(counts)
            if time.monotonic() >= until:
                return
    except KeyboardInterrupt:
        pass
    finally:
        results.put(None)


if __name__ == "__main__":
    sys.exit(main())
