"""``python -m lstmc_caffe.readers install READER``: makes a reader's own environments, or installs it beside lstmc.

With ``python READER`` in place of ``install READER`` it prints the path of the Python in which a reader's nets run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lstmc.errors import LstmcError
from lstmc.text import plain
from lstmc_caffe.install.report import Report
from lstmc_caffe.readers.executor import ReaderSession, make, reader_python
from lstmc_caffe.readers.known import load_reader, reader_names


def main(arguments: Sequence[str] | None = None) -> int:
    """Install runtimes and print the version of each, or print their Python; return 0, or 2 for an error."""
    parser = argparse.ArgumentParser(prog="python -m lstmc_caffe.readers", description=__doc__)
    parser.add_argument("command", choices=("install", "python"))
    parser.add_argument("reader", nargs="+", help=f"one of {', '.join(reader_names())}")
    parser.add_argument("--quiet", action="store_true", help="print only the versions")
    options = parser.parse_args(arguments)
    try:
        for name in options.reader:
            reader = load_reader(name)
            if options.command == "python":
                print(reader_python(reader)[0])
                continue
            make(reader, Report.on_standard_error(options.quiet))
            with ReaderSession(reader) as session:
                print(f"{name}: {session.version()}")
    except LstmcError as error:
        print(plain(str(error)), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
