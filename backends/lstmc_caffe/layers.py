"""``python -m lstmc_caffe.layers NAME.layers.cpp -o NAME.layers.so``: the library, for a pycaffe of one's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import BackendError, LstmcError
from lstmc.output import write_files
from lstmc_caffe.library.build import library
from lstmc_caffe.run.locate import locate


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles for the Caffe that lstmc uses, and gives the exit code: 0, or 2 for an error."""
    parser = argparse.ArgumentParser(
        prog="python -m lstmc_caffe.layers",
        description="Compiles the generated layers of a net into a library for the Caffe that lstmc uses.",
    )
    parser.add_argument("source", type=Path, metavar="NAME.layers.cpp", help="as lstmc compile wrote it")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.so", help="the library to write")
    options = parser.parse_args(arguments)
    try:
        made = library(_read(options.source), locate())
        write_files(options.output.parent, {options.output.name: made.read_bytes()})
    except LstmcError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"wrote {options.output}")
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None


if __name__ == "__main__":
    sys.exit(main())
