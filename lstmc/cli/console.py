"""Where the command line prints: tables and results to standard output, errors to standard error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from lstmc.errors import OutputError

WIDTH_WITHOUT_TERMINAL = 120


class _Written(io.TextIOBase):
    """Standard output as it is, but that a failure to write there ends nothing: files are what work is done for.

    ``failed`` is why what was printed is not there; when nobody reads it any more (``| head``), that is no failure.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._failing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._failing():
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failed = error.strerror
            silence(self.fileno())


@contextmanager
def standard_output() -> Iterator[None]:
    """Inside, standard output is there, takes any text, and does not fail. Raises :class:`OutputError` in the end
    where what was printed could not be written."""
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by who started this: a file that is opened later would get its number
            silence(descriptor)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    written = _Written(sys.stdout)
    sys.stdout = written
    ended: SystemExit | None = None
    try:
        yield
    except SystemExit as end:  # as every command ends
        ended = end
    finally:
        written.flush()
        sys.stdout = written._stream
    if written.failed is not None and (ended is None or not ended.code):
        raise OutputError(f"cannot write to standard output: {written.failed}")
    if ended is not None:
        raise ended


def silence(*descriptors: int) -> None:
    """Send what is written there to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    if nowhere not in descriptors:
        os.close(nowhere)


def _width(stream: TextIO | None) -> int | None:
    return None if stream is not None and stream.isatty() else WIDTH_WITHOUT_TERMINAL


out = Console(width=_width(sys.stdout), highlight=False, soft_wrap=False)
err = Console(stderr=True, width=_width(sys.stderr), highlight=False)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with a title and columns, those in ``right`` aligned to the right."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
