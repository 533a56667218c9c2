"""``python -m tests.on_demand.fuzz.process_kills --kills N`` (``make faults``): N times each, ``kill -9`` of a rank, of
the MPI launcher, of a Dask worker and of the Dask scheduler, and SIGSTOP of a rank, at random moments.

A training by two ranks, and sweeps by two workers, are begun again by the same command after each kill; before that,
files of the training may be damaged. In the end all weights are, number by number, those of trainings that nothing
happened to; and of what is killed no process is left.
"""

from __future__ import annotations

import argparse
import csv
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from lstmc.runs.folder import RUN, SNAPSHOTS
from tests.dask_cluster import Cluster, cluster
from tests.on_demand.fuzz.kills import damage
from tests.processes import family_with

LSTMC = (sys.executable, "-m", "lstmc")
SNAPSHOT = 20  # updates between two
SOLVER = ("type=Adam", "base_lr=0.005", f"snapshot={SNAPSHOT}")
MODEL = """\
from lstmc import Input, Param, dims, dropout, linear, model, scan, softmax_loss, uniform
from lstmc.cells import gru

T, N = dims("T N")


@model
def net(X=Input(T, N, 2), label=Input(N), V=Param(3, 4, fill=uniform(-1, 1))):
    _, last = scan(gru(H=4), X)
    scores = linear(dropout(last["h"], 0.2), V)
    return {"p": scores, "loss": softmax_loss(scores, label)}
"""
TRAINED = (
    "net.py",
    "--data",
    "data.npz",
    "-D",
    "T=3",
    "-D",
    "N=4",
    *(word for each in SOLVER for word in ("--solver", each)),
)
PARTS = ("ranks", "worker", "scheduler")
SEEDS = ("0", "1", "2")
POINT = 400  # updates of a point of a sweep
LATEST = 3.0  # seconds after its beginning at which something is killed
GONE_SECONDS = 60.0  # in which what belonged to a killed process has ended
ENDLESS = "max_iter=1000000"


def prepared(folder: Path) -> None:
    (folder / "net.py").write_text(MODEL)
    drawn = np.random.default_rng(0)
    np.savez(folder / "data.npz", X=drawn.normal(size=(3, 44, 2)), label=drawn.integers(0, 3, 44))


def lstmc(folder: Path, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*LSTMC, *words], cwd=folder, stdout=pipe, stderr=pipe, text=True)


def done(folder: Path, *words: str) -> None:
    """A command that nothing happens to."""
    process = lstmc(folder, *words)
    said = process.communicate()
    assert process.returncode == 0, said


def kill(process: psutil.Process) -> int:
    """Kills it, and waits until all that it had started has ended. Returns 1 if it still ran."""
    try:
        family = [process, *process.children(recursive=True)]
        process.kill()
    except psutil.NoSuchProcess:
        return 0
    left = psutil.wait_procs(family, GONE_SECONDS)[1]
    assert not left, left
    return 1


def ranks_killed(folder: Path, kills: int, rng: random.Random) -> Counter[str]:
    """A training by two ranks of which a rank, and as often the launcher, is killed so many times; as often a rank is
    stopped and the training gets a SIGTERM."""
    prepared(folder)
    left, found = Counter({"rank": kills, "launcher": kills, "stopped rank": kills}), Counter[str]()
    while left.total():
        which = rng.choice(sorted(left.elements()))
        resume = resumption(folder / "run")
        process = lstmc(folder, "train", *TRAINED, "-o", "run", "--ranks", "2", "--solver", ENDLESS, *resume)
        while len(ranks := [p for p in family_with(process.pid, "rank.py") if "python" in p.name()]) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        family = psutil.Process(process.pid).children(recursive=True)
        # while it starts, or while it trains: only there a process that is stopped is looked for
        until = newest(folder) + SNAPSHOT * rng.randint(which == "stopped rank", 2)
        while newest(folder) < until and process.poll() is None:
            time.sleep(0.05)
        launchers = [p for p in family if p.name() in ("prterun", "mpirun", "mpiexec")]
        time.sleep(rng.uniform(0, LATEST))
        if which == "stopped rank":
            rng.choice(ranks).suspend()
            process.terminate()
            killed = 1
        else:
            killed = kill(rng.choice(ranks) if which == "rank" else launchers[0])
        _, err = process.communicate(timeout=GONE_SECONDS if which == "stopped rank" else None)
        assert process.returncode == 2, err
        assert which != "stopped rank" or "a signal has stopped it (process id " in err, err
        assert "the last good snapshot is of iteration " in err or "no snapshot yet" in err or "the ranks could" in err
        assert not psutil.wait_procs(family, GONE_SECONDS)[1]
        left[which] -= killed
        found[which if which == "stopped rank" else f"{which} killed"] += killed
        found.update(damage(folder / "run", rng))
        told(found)
    last = newest(folder)
    end = ("--ranks", "2", "--solver", f"max_iter={last + 20}")
    done(folder, "train", *TRAINED, "-o", "run", *end, *resumption(folder / "run"))
    done(folder, "train", *TRAINED, "-o", "whole", *end)
    found["updates of it"] = last + 20
    found["weights equal"] = int(same(folder / "run", folder / "whole"))
    return found


def resumption(run: Path) -> tuple[str, ...]:
    """The option that goes on with a run, where there is one: its ``run.json`` may be lost."""
    return ("--resume",) if (run / RUN).exists() or (run / SNAPSHOTS).exists() else ()


def newest(folder: Path) -> int:
    """The iteration of the last snapshot; 0 without one."""
    return max([0, *(int(path.name) for path in (folder / "run" / "snapshots").glob("0*"))])


def sweeps_killed(folder: Path, kills: int, which: str, rng: random.Random) -> Counter[str]:
    """Sweeps of which ``worker`` or ``scheduler`` is killed so many times, each begun again until it is done."""
    prepared(folder)
    found = Counter[str]()
    for seed in SEEDS:
        done(folder, "train", *TRAINED, "-o", f"whole_{seed}", "--solver", f"max_iter={POINT}", "--seed", seed)
    while found[f"{which} killed"] < kills:
        found["sweeps"] += 1
        name = f"sweep_{found['sweeps']}"
        grid = ("--grid", f"seed={','.join(SEEDS)}", "--solver", f"max_iter={POINT}", "-o", name)
        ended = False
        while not ended:
            found["commands"] += 1
            (folder / "scheduler.json").unlink(missing_ok=True)
            with cluster(folder, workers=2) as there:
                process = lstmc(folder, "sweep", *TRAINED, *grid, "--scheduler", there.address)
                while process.poll() is None:
                    while not there.busy() and process.poll() is None and there.scheduler.poll() is None:
                        time.sleep(0.05)
                    time.sleep(rng.uniform(0, LATEST))
                    if process.poll() is None and found[f"{which} killed"] < kills and there.scheduler.poll() is None:
                        found[f"{which} killed"] += kill_of(there, which, rng)
                out, err = process.communicate()
                caffes = family_with(there.workers.pid, "worker.py")
                assert not psutil.wait_procs(caffes, GONE_SECONDS)[1]
            told(found)
            ended = process.returncode == 0
            assert ended or "run the command again to continue" in err or "interrupted" in out, (out, err)
        with (folder / name / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [(row["state"], row["iteration"]) for row in rows] == [("finished", str(POINT))] * len(SEEDS)
        found["points"] += len(rows)
        found["points whose weights are equal"] += sum(
            same(folder / name / row["run"], folder / f"whole_{row['seed']}") for row in rows
        )
    return found


def told(found: Counter[str]) -> None:
    print(", ".join(f"{what}: {count}" for what, count in found.items()), flush=True)


def kill_of(there: Cluster, which: str, rng: random.Random) -> int:
    if which == "scheduler":
        there.scheduler.kill()
        there.scheduler.wait()
        return 1
    busy = there.busy()
    with suppress(psutil.NoSuchProcess):
        return kill(rng.choice(busy)) if busy else 0
    return 0


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the very same weights."""
    with np.load(one / "weights.npz") as a, np.load(other / "weights.npz") as b:
        return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.fuzz.process_kills")
    parser.add_argument("--kills", type=int, default=20, help="of each (default: 20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of an earlier run")
    parser.add_argument("--only", choices=PARTS, action="append", help="repeatable (default: all)")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    rng, wrong = random.Random(given.seed), 0
    for which in given.only or PARTS:
        with tempfile.TemporaryDirectory(prefix="lstmc-kills-") as path:
            folder = Path(path)
            found = (
                ranks_killed(folder, given.kills, rng)
                if which == "ranks"
                else sweeps_killed(folder, given.kills, which, rng)
            )
        told(found)
        wrong += (
            not found["weights equal"]
            if which == "ranks"
            else found["points"] - found["points whose weights are equal"]
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
