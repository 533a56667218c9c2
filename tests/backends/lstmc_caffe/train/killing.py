"""Training in a process of its own, which is killed at a random moment, or its worker is."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[4]
# Trains until it is done, printing each iteration; one that is to be killed waits for that after some iterations,
# so that it is, however busy the machine.
TRAINING = """
import sys
from pathlib import Path
from lstmc.errors import LstmcError
from lstmc_caffe.runtime.runner import Runner
from lstmc.runs.solver import parse_overrides
from tests.backends.lstmc_caffe.train import training_nets
class Printing(training_nets.Told):
    def stepped(self, iteration, loss, rate):
        super().stepped(iteration, loss, rate)
        print(iteration, flush=True)
        if len(self.steps) == most:
            sys.stdin.read()
folder, resume, most, *settings = sys.argv[1:]
most = int(most)
with Runner() as runner:
    print(runner.pid, flush=True)
    try:
        training_nets.train(runner, training_nets.dropping(), parse_overrides(settings), Path(folder),
            callbacks=Printing(), resume=resume == "True")
    except LstmcError as error:
        sys.exit(str(error))
"""


def train_and_kill(
    folder: Path, settings: list[str], resume: bool, after: int, seconds: float, worker: bool = False
) -> tuple[int, int, str]:
    """Starts a training and kills it, or its worker, some time after so many iterations, unless it is done.

    Returns the exit status, how many iterations there were, and what was said on stderr.
    """
    command = [sys.executable, "-c", TRAINING, str(folder), str(resume), str(after + 5), *settings]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        lines = (process.stdout.readline() for _ in range(after))
        done = sum(1 for _ in itertools.takewhile(bool, lines))
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it may be done by then
            os.kill(pid if worker else process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return process.returncode, done + len(out.splitlines()), err
