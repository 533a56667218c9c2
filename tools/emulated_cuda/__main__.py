"""``python -m tools.emulated_cuda``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import LstmcError
from lstmc_caffe.install.installer import install
from tools.emulated_cuda.toolkit import RECIPE, STEPS


def main(arguments: Sequence[str] | None = None) -> int:
    """Build Caffe for the emulated device unless it is there, print where it is, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.emulated_cuda",
        description="Build Caffe with CUDA for a device that the CPU emulates, unless it is built already.",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="install below DIR (default: the user's cache)")
    parser.add_argument("--jobs", type=int, metavar="N", help="run N compilers at a time (default: one per core)")
    parser.add_argument("--force", action="store_true", help="build again, even if there is a build")
    options = parser.parse_args(arguments)
    try:
        print(install(options.cache, options.jobs, force=options.force, recipe=RECIPE, steps=STEPS).pythonpath.parent)
    except LstmcError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
