"""``python -m tests.on_demand.fuzz.kills --kills N`` (``make faults``): a training, killed and damaged again and again.

The process or its worker is killed at a random moment; between two lives a file of the run may be damaged: the newest
snapshots (never all), or ``run.json``; or there are foreign folders with higher numbers. In the end the weights are
those of a training that nothing happened to.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lstmc.errors import TrainingError
from lstmc.runs.folder import RUN, SNAPSHOTS
from lstmc.runs.solver import parse_overrides
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import FILES, last_state, read_state
from tests.backends.lstmc_caffe.train.killing import train_and_kill
from tests.backends.lstmc_caffe.train.training_nets import dropping, same, train
from tests.on_demand.fuzz.mutate import mutant

SNAPSHOT = 7  # iterations between two
PER_LIFE = 20  # at least as many iterations as a life makes on average, of those that are kept


def killed_and_damaged(folder: Path, kills: int, seed: int, runner: Runner) -> Counter[str]:
    """What was done to a training, counted; ``weights equal`` is 1 if it ended as it should. Raises AssertionError if
    a life ends otherwise than by what was done to it."""
    rng, done = random.Random(seed), Counter[str]()
    settings = ["type=Adam", "base_lr=0.01", f"max_iter={PER_LIFE * kills}", f"snapshot={SNAPSHOT}"]
    whole = train(runner, dropping(), replace(parse_overrides(settings), snapshot=0), folder / "whole")
    run = folder / "killed"
    for life in range(kills):
        worker = rng.random() < 0.5
        resume = (run / RUN).exists() or (run / SNAPSHOTS).exists()
        status, steps, said = train_and_kill(run, settings, resume, rng.randint(1, 30), rng.uniform(0, 0.02), worker)
        assert status == -signal.SIGKILL or "SIGKILL" in said or status == 0, (life, status, said)
        done["worker killed" if status > 0 else "finished" if status == 0 else "killed"] += 1
        done["iterations"] += steps
        done.update(damage(run, rng))
    status, steps, said = train_and_kill(run, settings, True, 10**6, 0)
    assert status == 0, said
    done["iterations"] += steps
    last = last_state(run / SNAPSHOTS)
    done["weights equal"] = int(last is not None and same(last[1].blobs, whole.blobs))
    return done


def damage(run: Path, rng: random.Random) -> list[str]:
    """Damages some of a run's files, and says which. One whole snapshot stays."""
    intact = [path for path in sorted((run / SNAPSHOTS).glob("0*")) if is_whole(path)]
    if len(intact) < 2 or rng.random() < 0.4:
        return []
    kind = rng.choice(("snapshot", "snapshot", "two snapshots", RUN, "foreign folders"))
    if kind == "foreign folders":
        for number in range(3):
            (run / SNAPSHOTS / f"{900000 + number}").mkdir(exist_ok=True)
        return [kind]
    paths = [run / kind]
    if kind.endswith(("snapshot", "snapshots")):
        paths = [snapshot / rng.choice(FILES) for snapshot in intact[1:][-2 if kind == "two snapshots" else -1 :]]
    for path in paths:
        if rng.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(mutant(path.read_bytes(), rng.randrange(10**9)))
    return [f"{kind} damaged"]


def is_whole(path: Path) -> bool:
    try:
        read_state(path)
    except TrainingError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.fuzz.kills")
    parser.add_argument("--kills", type=int, default=100, help="(default: 100)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of an earlier run")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lstmc-kills-") as folder, Runner() as runner:
        done = killed_and_damaged(Path(folder), given.kills, given.seed, runner)
    print(", ".join(f"{what}: {count}" for what, count in done.most_common()))
    return 0 if done["weights equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
