"""``python -m lstmc_caffe.install``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import LstmcError
from lstmc_caffe.install import install


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lstmc_caffe.install",
        description="Builds Caffe (CPU), pycaffe and the caffe program for lstmc, unless that is done already.",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="install below DIR (default: the user's cache)")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="compilers at a time (default: one per core)")
    parser.add_argument("--force", action="store_true", help="build anew even when it is there")
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="use this source archive, download none")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs, prints what is where, and gives the exit code: 0, 2 for an error, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        done = install(options.cache, options.jobs, force=options.force, sdist=options.sdist)
    except LstmcError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what is compiled is kept, run it again to go on", file=sys.stderr)
        return 130
    print(f"python      {done.python}")
    print(f"PYTHONPATH  {done.pythonpath}")
    print(f"caffe       {done.caffe_binary}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
