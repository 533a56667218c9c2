"""The output of the command line: tables, results, and errors, which name the library's arguments as options."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstmc.errors import Argument, LstmcError, Mend, OutputError, PassError, VerifyError
from lstmc.process.status import launched_processes
from lstmc.text import did_you_mean, escaped, plain

UNLIMITED = 1_000_000  # what is no terminal gets lines of any length

_PADDING = re.compile(r"[ \t]+$", re.MULTILINE)  # of the last column of a table


class _StandardOutput(io.TextIOBase):
    """Standard output whose write errors do not end the command: results are in files. ``failed`` is the reason why
    output is missing; a closed pipe (``| head``) is not a failure."""

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
        if not self._stream.closed:  # Python 3.13 flushes once more when the object goes, and reports an error
            with self._failing():
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty() and launched_processes() == 1  # what all ranks print comes out at one place

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Catch a write error in the block, and discard all later output; a closed pipe is no failure."""
        try:
            yield
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failed = error.strerror
            silence(self.fileno())


@contextmanager
def standard_output() -> Iterator[None]:
    """Replace standard output in the block by a stream that is open, takes any text, and does not fail. Raises
    :class:`OutputError` at the end if some output could not be written."""
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # it was closed before the start: a file that is opened later would get its number
            silence(descriptor)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stream_out = _StandardOutput(sys.stdout)
    sys.stdout = stream_out
    ended: SystemExit | None = None
    try:
        yield
    except SystemExit as end:  # as every command ends
        ended = end
    finally:
        stream_out.flush()
        sys.stdout = stream_out._stream
    if stream_out.failed is not None and (ended is None or not ended.code):
        raise OutputError(f"cannot write to standard output: {stream_out.failed}")
    if ended is not None:
        raise ended


def silence(*descriptors: int) -> None:
    """Redirect file descriptors to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    if nowhere not in descriptors:
        os.close(nowhere)


def _width(stream: TextIO | None) -> int | None:
    return None if stream is not None and stream.isatty() else UNLIMITED


class Plain(Console):
    """A console that prints texts unchanged: without markup, control sequences and wrapped lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        texts = [escaped(each) if isinstance(each, str) else each for each in objects]
        super().print(*texts, soft_wrap=all(isinstance(each, str | Text) for each in texts), **options)


class Printer(Plain):
    """A console that clears a progress line from the terminal, on standard error, while it prints."""

    _room: Callable[[], AbstractContextManager[None]] = nullcontext

    @contextmanager
    def making_room(self, away: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """In the block, enter ``away()`` around each print: it removes a progress line and draws it again."""
        before, self._room = self._room, away
        try:
            yield
        finally:
            self._room = before

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; in a file, lines have no trailing blanks."""
        with self._room():
            if self.is_terminal or self.quiet:
                super().print(*objects, **options)
                return
            with self.capture() as captured:
                super().print(*objects, **options)
            self.file.write(_PADDING.sub("", captured.get()))


out = Printer(width=_width(sys.stdout))
err = Plain(stderr=True, width=_width(sys.stderr))


class Form(Enum):
    """The form of a command's result."""

    TEXT = "text"
    QUIET = "quiet"
    JSON = "json"


class Output:
    """The result of the running command beside its printed text: as JSON one object, printed at the command's end, with
    each table by its key, as a list of rows, and further values by their names."""

    def __init__(self) -> None:
        self.begin(Form.TEXT, False)

    def begin(self, form: Form, verbose: bool) -> None:
        self.form, self.verbose = form, verbose
        self.tables: list[Rows] = []
        self.facts: dict[str, object] = {}
        out.quiet = form is not Form.TEXT

    def fact(self, name: str, value: object) -> None:
        """Add a value outside of all tables to the JSON object."""
        self.facts[name] = value

    def end(self) -> None:
        """Print the JSON object, if that is the form."""
        if self.form is Form.JSON:
            tables: dict[str, object] = {}
            for table in self.tables:
                tables.setdefault(table.key, []).extend(table.objects())  # type: ignore[attr-defined]
            print(json.dumps(tables | self.facts, indent=1, default=str))
        self.forget()

    def forget(self) -> None:
        self.begin(Form.TEXT, False)


Cell = str | int | float | Sequence[str]


class Rows:
    """A table: it has raw values for JSON, and their text for a terminal."""

    def __init__(self, key: str, title: str, columns: Sequence[str], texts: Mapping[str, str], styles: Styles) -> None:
        self.key, self.title, self.columns = key, title, columns
        self._texts, self._styles = texts, styles
        self._rows: list[tuple[Cell, ...]] = []

    def add_row(self, *values: Cell) -> None:
        self._rows.append(values)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def objects(self) -> list[dict[str, Cell]]:
        """Return the rows by the names of the columns; a column without a title is called ``state``."""
        names = [column.replace(" ", "_") or "state" for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self._rows]

    def __rich__(self) -> Table:
        """Return the table for a terminal: columns of numbers are aligned to the right."""
        rich_table = Table(
            title=plain(self.title) or None,
            title_justify="left",
            title_style="bold",
            header_style="dim",
            box=None,
            pad_edge=False,
        )
        for i, column in enumerate(self.columns):
            numbers = bool(self._rows) and all(isinstance(row[i], int | float) for row in self._rows)
            rich_table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in self._rows:
            rich_table.add_row(*(self._text(column, value) for column, value in zip(self.columns, row, strict=True)))
        return rich_table

    def _text(self, column: str, value: Cell) -> Text:
        """Return the text of a cell: a number in the column's format, several texts joined by commas."""
        if isinstance(value, str):
            text = plain(value)
        elif isinstance(value, int | float):
            text = format(value, self._texts.get(column, "," if isinstance(value, int) else ".6g"))
        else:
            text = plain(", ".join(value))
        return Text(text, style=self._styles.get(text, ""))


Styles = Mapping[str, str]  # of cells, by their texts
PLAIN: Styles = MappingProxyType({})
output = Output()


def table(
    title: str,
    *columns: str,
    key: str,
    rows: Iterable[Sequence[Cell]] = (),
    texts: Mapping[str, str] = PLAIN,
    styles: Styles = PLAIN,
) -> Rows:
    """Return a table, which is also part of the command's JSON object, under ``key``. ``texts`` has formats of numbers
    by column, ``styles`` has styles by the texts of cells."""
    made = Rows(key, title, columns, texts, styles)
    for row in rows:
        made.add_row(*row)
    output.tables.append(made)
    return made


def print_files(paths: Iterable[Path], *more: tuple[str, int], title: str = "wrote") -> None:
    """Print the written files with their sizes in bytes, and ``more`` rows."""
    rows = [*((str(path), path.stat().st_size) for path in paths), *more]
    out.print(table(title, "file", "bytes", key="files", rows=rows))


MENDS: Mapping[Mend, str] = {
    Mend.ONE_STEP: "compile it with --step",
    Mend.OTHER_FOLDER: "choose another folder with -o",
    Mend.OVERWRITE: "begin again in this folder with --overwrite",
    Mend.RESUME: "resume it with --resume",
    Mend.START: "start one without --resume",
}
# options that are called otherwise than their argument; a flag takes no value
OPTIONS = {
    "out": "-o",
    "sizes": "-D",
    "outputs": "--keep",
    "shapes": "--shape",
    "states": "--state",
    "language": "--example",
    "runtimes": "--for",
}
FLAGS = ("resume", "overwrite", "step", "gpu", "tune", "recurrent_only", "whole")


@cache
def elsewhere(kind: Literal["commands", "options", "training"]) -> Mapping[str, str]:
    """Return names of commands or options in other programs or earlier versions, each with lstmc's name."""
    table: Mapping[str, str] = tomllib.loads(Path(__file__).with_name("elsewhere.toml").read_text("utf-8"))[kind]
    return table


SET = (
    "only train and sweep set the options of a model. To compile it with other values, change the defaults in its file,"
    " or call lstmc.compile(model.with_options(NAME=VALUE), ...) in Python"
)


def unknown_option(unknown: str, options: Sequence[str], command: str) -> str:
    """Return the end of the error for an unknown option: the option that was probably meant, or a remedy."""
    name = unknown.lstrip("-").replace("_", "-")
    if name == "set":
        return f": {SET}"
    if command == "run" and name in ("on", "device", "cuda"):
        return ": run computes the net with the backend that wrote it, on the CPU, or on a GPU with --gpu"
    training = command in ("train", "sweep")
    if training and name in elsewhere("training"):
        return f"\nWrite {elsewhere('training')[name]}."
    if (now := elsewhere("options").get(name)) in options:
        return f": it is now {now}"
    near = did_you_mean(name, [one.removeprefix("--") for one in options if one.startswith("--")]).replace(
        "mean ", "mean --"
    )
    if near or not training:
        return near
    return f"\nWrite --solver {name.replace('-', '_')}=VALUE for a setting of the solver, -D NAME=INT for a size."


def option(argument: Argument) -> str:
    """Return an argument as an option: ``--test-split 0.5`` for ``test_split=0.5``, ``-D T=3`` for the size ``T=3``."""
    name = OPTIONS.get(argument.name, f"--{argument.name.replace('_', '-')}")
    if argument.name == "sizes":  # of several dimensions
        return " ".join(f"{name} {size}" for size in argument.value.split())
    return name if argument.name in FLAGS or not argument.value else f"{name} {argument.value}"


def error_text(error: LstmcError, verbose: bool = False) -> str:
    """Return an error's text, with options for arguments. ``verbose`` adds its notes, such as the pass at fault; a bug
    of the compiler always shows them, for a report."""
    notes = getattr(error, "__notes__", ()) if verbose or isinstance(error, PassError | VerifyError) else ()
    return "\n".join((error.text(MENDS, option), *notes))
