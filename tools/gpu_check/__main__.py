"""``python -m tools.gpu_check``: the card, the differential suite, the benchmark, and one line that sums up."""

from __future__ import annotations

import platform
import subprocess
import sys

from lstmc import __version__
from lstmc.errors import LstmcError
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor
from tools.gpu_check.benchmark import benchmark
from tools.gpu_check.cases import CHECKED, TIMED, cases
from tools.gpu_check.outcome import Outcome
from tools.gpu_check.suite import suite


def card() -> str:
    """What NVIDIA's own program says of the cards here."""
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader"]
    try:
        ended = subprocess.run(query, capture_output=True, text=True, errors="replace")
    except OSError:
        return "not known: there is no nvidia-smi"
    if ended.returncode != 0:
        return f"not known: nvidia-smi ended with exit status {ended.returncode}"
    return "; ".join(ended.stdout.strip().splitlines()) or "none"


def main() -> int:
    """Prints as it goes; gives 0 when everything passed, on the GPU too, 1 otherwise."""
    print(f"lstmc {__version__}, Python {platform.python_version()}, {platform.machine()}, {platform.platform()}")
    print(f"card: {card()}", flush=True)
    executors = CaffeBackend().executors()
    usable, tally = [], {True: 0, False: 0}
    for executor in executors:
        reason = executor.unavailable()
        if reason is None:
            usable.append(executor)
        else:
            _count(Outcome(f"{executor.name} can be used", 0, 0, "; ".join(map(str.strip, reason.splitlines()))), tally)
    if usable:
        for outcome in suite(cases(CHECKED), usable):
            _count(outcome, tally)
    _print_benchmark(usable, tally)
    for executor in executors:
        executor.close()
    print(f"{tally[True]} passed, {tally[False]} failed")
    return 0 if tally[True] and not tally[False] else 1


def _print_benchmark(usable: list[CaffeExecutor], tally: dict[bool, int]) -> None:
    gpu = [executor for executor in usable if executor.mode == "gpu"]
    if not gpu:
        print("no benchmark: there is no GPU to measure")
    for executor in gpu:
        print(f"device of {executor.name}: {executor.runner.gpu.device}")
        if executor.runner.gpu.emulated:
            print("no benchmark: the times of an emulated device say nothing")
            continue
        try:
            for line in benchmark(executor, TIMED):
                print(line, flush=True)
        except LstmcError as error:
            _count(Outcome("benchmark", 0, 0, str(error)), tally)


def _count(outcome: Outcome, tally: dict[bool, int]) -> None:
    print(outcome, flush=True)
    tally[outcome.passed] += 1


if __name__ == "__main__":
    sys.exit(main())
