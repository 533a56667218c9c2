"""Random models by the workers of a Dask scheduler: ``python -m tests.on_demand.fuzz --scheduler ADDRESS``.

Scheduler and workers import this package, so they run at the root of a clone with ``PYTHONPATH=.``.
"""

from __future__ import annotations

import argparse
import atexit
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lstmc.process.pool import pool
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz.hunt import TARGETS, Tally, hunt

PER_JOB = 10  # models
AHEAD = 2  # jobs that wait for each worker
LOOK_SECONDS = 1.0


class WorkerLostError(Exception):
    """A job that nobody brought to its end."""


@dataclass(frozen=True)
class Job:
    """The models of so many seeds for these targets; files of failures go into ``out``, a path of all workers."""

    seeds: range
    targets: tuple[str, ...]
    out: Path


def tried(job: Job) -> Tally:
    """What became of the models of a job, by the Caffe of this worker."""
    total = Tally()
    for tally in hunt(job.seeds, _runner(), job.out, job.targets):
        total.add(tally)
    return total


@cache
def _runner() -> Runner:
    made = Runner()
    atexit.register(made.close)
    return made


def by_scheduler(given: argparse.Namespace, until: float) -> Iterator[Tally]:
    """What became of the models of each job. No job begins past ``until``, but for the first.

    Raises :class:`WorkerLostError` for one that was given up, as its workers ended again and again.
    """
    starts = itertools.count(given.seed * 10**9, PER_JOB)
    targets, out = tuple(given.target or TARGETS), given.out.absolute()
    with pool(given.scheduler) as workers:
        begun = False
        while workers.waiting or not begun or time.monotonic() < until:
            while workers.waiting < AHEAD * max(1, workers.workers) and (not begun or time.monotonic() < until):
                begun, start = True, next(starts)
                workers.submit(tried, Job(range(start, start + PER_JOB), targets, out), f"models-{start}")
            for ended in workers.ended(LOOK_SECONDS):
                if ended.problem:
                    raise WorkerLostError(f"{ended.name}: {ended.problem}")
                yield ended.result
