"""``python -m lstmc_caffe.install``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lstmc.errors import LstmcError
from lstmc_caffe.install.installer import install, require_mpi
from lstmc_caffe.install.recipe import CPU, DEFAULT_ARCHITECTURES, cuda_recipe, parse_architectures
from lstmc_caffe.install.system import InstallError


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the installer's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m lstmc_caffe.install",
        description="Build Caffe, pycaffe and the caffe program for lstmc, unless they are built already.",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="install below DIR (default: the user's cache)")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="run N compilers at a time (default: one per core)")
    parser.add_argument("--force", action="store_true", help="build again, even if there is a build")
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="use this source archive instead of a download")
    second = "make a second build, for GPUs; work on the CPU keeps the first"
    parser.add_argument("--cuda", action="store_true", help=second)
    parser.add_argument("--quiet", action="store_true", help="print the path of the build only")
    parser.add_argument("--mpi", action="store_true", help="also install the packages for training by several ranks")
    default = ",".join(DEFAULT_ARCHITECTURES)
    parser.add_argument("--arch", metavar="sm_NN,...", help=f"GPUs that --cuda compiles for (default: {default})")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, print the locations, and return the exit code: 0, 2 for an error, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, quiet=options.quiet)
    try:
        if options.arch is not None and not options.cuda:
            raise InstallError("--arch names GPUs to compile for, and is for --cuda: found no --cuda")
        architectures = DEFAULT_ARCHITECTURES if options.arch is None else parse_architectures(options.arch)
        recipe = cuda_recipe(architectures) if options.cuda else CPU
        places = (options.cache, options.jobs, console)
        installed = install(*places, force=options.force, sdist=options.sdist, recipe=recipe)
        if options.mpi:
            require_mpi(console)
    except LstmcError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: compiled files are kept, run it again to continue", file=sys.stderr)
        return 130
    print(f"python      {installed.python}")
    print(f"PYTHONPATH  {installed.pythonpath}")
    print(f"caffe       {installed.caffe_binary}")
    if installed.architectures:
        print(f"GPUs        {', '.join(installed.architectures)} and later")
    return 0


if __name__ == "__main__":
    sys.exit(main())
