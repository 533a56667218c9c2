"""``python -m tools.bundle``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lstmc.errors import LstmcError
from lstmc_caffe.install.installer import Steps, install
from lstmc_caffe.install.recipe import DEFAULT_ARCHITECTURES, EMULATED, cuda_recipe, parse_architectures
from lstmc_caffe.install.report import Report
from tools.bundle import python312
from tools.bundle.make import Plan, make
from tools.emulated_cuda.toolkit import STEPS


def _parser() -> argparse.ArgumentParser:
    default = ",".join(DEFAULT_ARCHITECTURES)
    parser = argparse.ArgumentParser(
        prog="python -m tools.bundle",
        description="Makes one archive that checks lstmc's nets on a machine with a GPU; builds Caffe with CUDA first.",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("out/lstmc-gpu.tar.xz"), metavar="FILE")
    parser.add_argument("--python", metavar="FILE", help="a Python 3.12 with its headers (default: the one found)")
    parser.add_argument(
        "--arch", default=default, metavar="sm_NN,...", help=f"GPUs it is for (default: {default}), or {EMULATED}"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="compilers at a time (default: one per core)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the archive and prints where it is; gives the exit code: 0, 2 for an error, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        python = python312.find(options.python, python312.candidates())
        emulated = options.arch == EMULATED
        recipe = cuda_recipe((EMULATED,) if emulated else parse_architectures(options.arch))
        done = install(jobs=options.jobs, console=console, recipe=recipe, steps=STEPS if emulated else Steps())
        jobs = options.jobs or len(os.sched_getaffinity(0))
        target = make(Plan(done, python, options.output, jobs, Report(console)))
    except LstmcError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: a build of Caffe goes on the next time, the bundle begins anew", file=sys.stderr)
        return 130
    print(f"{target}  {target.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
