"""``python -m tools.gpu_check [-o FILE]``: the card, the differential suite, the benchmark, and a line that sums up."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmc import __version__
from lstmc.errors import LstmcError
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor
from tools.gpu_check.benchmark import benchmark
from tools.gpu_check.cases import CHECKED, TIMED, TIMED_CELLS, cases
from tools.gpu_check.outcome import Outcome
from tools.gpu_check.suite import suite

_DESCRIPTION = "Whether lstmc's nets compute the same on this machine's GPU, and how fast they are there."
_PAGE = """# Measured on a GPU

Written by `python -m tools.gpu_check -o FILE`, with lstmc {version}.

- card: {card}
- checks against the float64 interpreter, and of the GPU against the CPU: {counts}

A forward and backward pass, in milliseconds, and as a ratio to target caffe's net on the same GPU. `torch nn` is
PyTorch's own layer, by cuDNN; `eager`, `script` and `compile` run one step of the cell after the other:

```
{times}
```
"""


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


def main(arguments: Sequence[str] = ()) -> int:
    """Prints as it goes; gives 0 when everything passed, on the GPU too, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_check", description=_DESCRIPTION)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write what a GPU was measured as: Markdown")
    parser.add_argument("--cells", nargs="+", metavar="CELL", help="check and time these alone (default: all)")
    options = parser.parse_args(arguments)
    output: Path | None = options.output
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
        for outcome in suite(cases(CHECKED, options.cells), usable):
            _count(outcome, tally)
    timed = tuple(cell for cell in TIMED_CELLS if cell in (options.cells or TIMED_CELLS))
    times = _print_benchmark(usable, timed, tally)
    for executor in executors:
        executor.close()
    counts = f"{tally[True]} passed, {tally[False]} failed"
    if output is not None and times:
        output.write_text(_PAGE.format(card=card(), version=__version__, counts=counts, times="\n".join(times)))
        print(f"wrote {output}")
    elif output is not None:
        print(f"did not write {output}: no GPU was measured")
    print(counts)
    return 0 if tally[True] and not tally[False] else 1


def _print_benchmark(usable: list[CaffeExecutor], cells: tuple[str, ...], tally: dict[bool, int]) -> list[str]:
    """The lines of a GPU's times; empty where there is none, or one that is emulated."""
    gpu = [executor for executor in usable if executor.mode == "gpu"]
    times: list[str] = []
    if not gpu:
        print("no benchmark: there is no GPU to measure")
    for executor in gpu:
        print(f"device of {executor.name}: {executor.runner.gpu.device}")
        if executor.runner.gpu.emulated:
            print("no benchmark: the times of an emulated device say nothing")
            continue
        try:
            for line in benchmark(executor, TIMED, cells):
                print(line, flush=True)
                times.append(line)
        except LstmcError as error:
            _count(Outcome("benchmark", 0, 0, str(error)), tally)
    return times


def _count(outcome: Outcome, tally: dict[bool, int]) -> None:
    print(outcome, flush=True)
    tally[outcome.passed] += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
