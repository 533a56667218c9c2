"""What several ranks cost and give: measured with one and with two here, and from that a model for up to 64.

``make ranks-time`` writes ``docs/scale-measured.md``. Figures are minima, or CPU seconds, as the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

import numpy as np

import lstmc
from docs.examples.char_lm import SYMBOLS, char_lm
from lstmc import Input, Model, Param, dims, linear, model, scan, softmax_loss, uniform
from lstmc.cells import lstm
from lstmc.files.templates import text_templates
from lstmc.runs.events import Event, Updated
from lstmc.weights import parameters
from lstmc_caffe.processes.ranks import SETTINGS, launcher
from lstmc_caffe.runtime.locate import locate
from tests.on_demand.benchmarks import setting
from tests.processes import family_with

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "scale-measured.md"
MPI_TIME = Path(__file__).with_name("mpi_time.py")
FIRST = 3  # updates that are not counted
UNITS = 1024
RANKS = (2, 4, 8, 16, 32, 64)
BATCHES = (64, 512, 4096)
T, N = dims("T N")


@model
def lstm_1024(X=Input(T, N, UNITS), label=Input(N), W=Param(10, UNITS, fill=uniform(-0.05, 0.05))):
    _, last = scan(lstm(H=UNITS), X)
    scores = linear(last["h"], W)
    return {"p": scores, "loss": softmax_loss(scores, label)}


@dataclass(frozen=True)
class Case:
    """A model that is measured, of so many steps, at two sizes of its batch."""

    model: Model
    steps: int
    batches: tuple[int, int]
    updates: int

    def data(self, batch: int) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        shapes = {
            name: [{"T": self.steps, "N": batch}.get(str(d), d) for d in each.shape]
            for name, each in self.model.inputs.items()
        }
        whole = {"ids": len(SYMBOLS), "following": len(SYMBOLS), "label": 10, "cont": 2}
        return {
            name: rng.integers(0, whole[name], shape) if name in whole else rng.normal(size=shape).astype(np.float32)
            for name, shape in shapes.items()
        }


CASES = {
    "char_lm": Case(char_lm, 50, (8, 32), FIRST + 2 if setting.SMALLEST else 40),
    "an LSTM of 1024 units": Case(lstm_1024, 10, (4, 16), 20),
}


@dataclass
class Updates:
    """What updates take: told of events, as ``progress``."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Updated):
            return
        self.seconds.append(event.seconds)
        self.cpu.append(sum(sum(p.cpu_times()[:2]) for p in family_with(os.getpid(), "worker.py")))

    def least(self) -> float:
        return min(self.seconds[FIRST:])

    def mean_cpu(self) -> float:
        return (self.cpu[-1] - self.cpu[FIRST]) / (len(self.cpu) - 1 - FIRST)


def measured(case: Case, batch: int, ranks: int) -> Updates:
    found = Updates()
    solver = {"max_iter": case.updates, "snapshot": 0, "test_interval": 0, "display": 0}
    with tempfile.TemporaryDirectory() as folder:
        lstmc.train(
            case.model,
            case.data(batch),
            out=folder,
            sizes={"T": case.steps, "N": batch},
            ranks=ranks,
            solver=solver,
            progress=found,
        )
    return found


def messages(sizes: list[int]) -> Mapping[str, Any]:
    """What mpi_time.py measures: each process waits on a core of its own, as it does where every rank has one."""
    location = locate()
    command = [str(launcher()), "-n", "2", str(location.python), str(MPI_TIME), json.dumps(sizes)]
    ended = subprocess.run(
        command,
        env={**SETTINGS, **location.environment(), "OMPI_MCA_mpi_yield_when_idle": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(ended.stdout))


@dataclass(frozen=True)
class Times:
    """What an update takes, in seconds: ``fixed``, and for ``each`` example; ``copying`` the gradients into the message
    and back; the message of ``size`` bytes, by a network of this ``latency`` and so many ``seconds_a_byte``."""

    fixed: float
    each: float
    copying: float
    size: int
    latency: float
    seconds_a_byte: float

    def allreduce(self, ranks: int) -> float:
        """By recursive halving and doubling (Thakur, Rabenseifner and Gropp 2005)."""
        return 2 * ceil(log2(ranks)) * self.latency + 2 * (ranks - 1) / ranks * self.size * self.seconds_a_byte

    def update(self, batch: int, ranks: int) -> float:
        between = self.copying + self.allreduce(ranks) if ranks > 1 else 0.0
        return self.fixed + self.each * ceil(batch / ranks) + between

    def speed_up(self, batch: int, ranks: int) -> float:
        return self.update(batch, 1) / self.update(batch, ranks)

    def pays_from(self, ranks: int, least: float) -> int | None:
        """The smallest batch, a power of two that has an example for each rank, with such a speed-up."""
        sizes = (2**power for power in range(ceil(log2(ranks)), 24))
        return next((batch for batch in sizes if self.speed_up(batch, ranks) >= least), None)


def weights_of(case: Case) -> int:
    graph = case.model.graph(T=case.steps, N=case.batches[0])
    return sum(prod(shape.shape) for shape in parameters(graph).values())


def ms(seconds: float) -> str:
    """Milliseconds, as tables have them."""
    return f"{1e3 * seconds:.3g} ms"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.benchmarks.ranks_time")
    parser.add_argument(
        "--latency", type=float, help="of the network of the model, in seconds (default: measured here)"
    )
    parser.add_argument("--rate", type=float, help="of it, in bytes a second (default: measured here)")
    parser.add_argument("--smallest", action="store_true", help="few updates of the first net")
    given = parser.parse_args()
    cases = dict(setting.rows(tuple(CASES.items())))
    load = os.getloadavg()[0]
    sizes = [weights_of(case) + 1 for case in cases.values()]
    between = messages(sizes)
    latency = between["latency"]
    size, seconds = between["large"]
    rate = size / (seconds - latency)
    rows = []
    for (name, case), count, allreduce, copying in zip(
        cases.items(), sizes, between["allreduce"], between["copy"], strict=True
    ):
        small, large = case.batches
        ones = {batch: measured(case, batch, 1) for batch in case.batches}
        two = measured(case, large, 2)
        each = max(0.0, (ones[large].mean_cpu() - ones[small].mean_cpu()) / (large - small))
        fixed = max(0.0, ones[large].mean_cpu() - each * large)
        seconds_a_byte = 1 / given.rate if given.rate else (allreduce - 2 * latency) / (4 * count)
        times = Times(fixed, each, copying, 4 * count, given.latency or latency, seconds_a_byte)
        computing = fixed + each * large / 2
        rows.append(
            {
                "name": name,
                "T": case.steps,
                "N": large,
                "bytes": 4 * count,
                "one": ones[large].least(),
                "cpu": ones[large].mean_cpu(),
                "two": two.least(),
                "allreduce": allreduce,
                "copying": copying,
                "share": (allreduce + copying) / (computing + allreduce + copying),
                "times": times,
            }
        )
        print(rows[-1], flush=True)
    page = text_templates("tests.on_demand.benchmarks", ".").get_template("scale-measured.md.j2")
    PAGE.write_text(
        page.render(
            rows=rows,
            latency=latency,
            rate=rate,
            nice=os.nice(0),
            ms=ms,
            load=(load, os.getloadavg()[0]),
            cores=len(os.sched_getaffinity(0)),
            machine=platform.machine(),
            ranks=RANKS,
            batches=BATCHES,
        )
    )
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
