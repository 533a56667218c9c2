"""Commands of Typer: their help, the options that every command has, their progress, and their end at a signal."""

from __future__ import annotations

import functools
import inspect
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, fields, is_dataclass
from textwrap import shorten
from types import FrameType
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from lstmc.cli.console import Form, Plain, Printer, elsewhere, err, out, output, silence
from lstmc.process.status import activity_listener, launched_processes

# Windows has no closed terminal to tell of
SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]


class Interruption:
    """The signal that interrupted the command, if any."""

    signal: signal.Signals | None = None

    def requested(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit status of a shell for a process that the signal ended: 130, 143 or 129."""
        assert self.signal is not None
        return 128 + self.signal


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch the first SIGINT, SIGTERM or SIGHUP in the block; a second signal ends the process at once. A signal that
    the process was started to ignore, like SIGHUP under nohup, stays ignored."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.signal is not None:
            raise SystemExit(128 + number)  # unwinds, so that the terminal has its cursor again
        interruption.signal = signal.Signals(number)
        if signal.Signals(number).name == "SIGHUP":  # the terminal is gone: what is printed would fail
            silence(1, 2)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


SECONDS = 1.0  # what a person waits without asking
LOG_SECONDS = 10.0  # between lines in a file or a pipe
FRAMES_PER_SECOND = 8


class ActivityLine:
    """A line with the current activity and the seconds since the start, shown after ``seconds`` without a print.
    ``printer`` is the console of the command's output, perhaps on the same terminal."""

    def __init__(self, console: Plain, printer: Printer, seconds: float) -> None:
        self._console, self._printer, self._seconds = console, printer, seconds
        self._what = ""
        self._began = time.monotonic()
        self._spinner = Spinner("dots")
        self._live: Live | None = None  # the line on the terminal
        self._closed = False
        self._timer: threading.Timer | None = None  # of the delay before the line is shown

    def start(self) -> None:
        """Show the line after the delay, unless it is closed."""
        if self._closed:
            return
        if self._seconds == 0:
            self._show()
            return
        self._timer = threading.Timer(self._seconds, self._show)
        self._timer.daemon = True
        self._timer.start()

    def tell(self, what: str) -> None:
        self._what = what

    def close(self) -> None:
        """Remove the line for good. May be called twice."""
        self._closed = True
        self._hide()

    def _hide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Hide the line in the block; afterwards it appears again after the delay."""
        self._hide()
        try:
            yield
        finally:
            self.start()

    def _show(self) -> None:
        self._live = Live(
            console=self._console,
            transient=True,
            refresh_per_second=FRAMES_PER_SECOND,
            get_renderable=self._line,
            redirect_stdout=self._printer.is_terminal,  # else it is a file, and what is printed belongs there
        )
        self._live.start()

    def _line(self) -> Spinner:
        self._spinner.update(text=Text(f"{self._what or 'starting'}  {time.monotonic() - self._began:.0f} s"))
        return self._spinner


@contextmanager
def activity_line(console: Plain, printer: Printer) -> Iterator[ActivityLine | None]:
    """Yield a line with the library's progress on the terminal ``console``, which disappears while ``printer`` prints.
    Another console gets a line from time to time, several ranks or a quiet printer nothing; then None is yielded."""
    if launched_processes() > 1 or printer.quiet:
        yield None
        return
    if not console.is_terminal:
        with _activity_log(console):
            yield None
        return
    line = ActivityLine(console, printer, SECONDS)
    line.start()
    try:
        with activity_listener(line.tell), printer.making_room(line.away):
            yield line
    finally:
        line.close()


@contextmanager
def _activity_log(console: Plain) -> Iterator[None]:
    """Print the current activity and the seconds since the block began, repeatedly."""
    began, current, ended = time.monotonic(), {"what": "starting"}, threading.Event()

    def log() -> None:
        while not ended.wait(LOG_SECONDS):
            console.print(f"{current['what']}  {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=log, daemon=True)
    thread.start()
    try:
        with activity_listener(lambda what: current.update(what=what)):
            yield
    finally:
        ended.set()
        thread.join()


def option(spelling: str, help: str, **more: Any) -> Any:
    """Return an option of Typer from its spelling in the help: ``-o --output FILE``; a flag has no metavar."""
    names = [word for word in spelling.split() if word.startswith("-")]
    return typer.Option(*names, metavar="".join(spelling.split()[len(names) :]) or None, help=help, **more)


advanced = functools.partial(option, rich_help_panel="Advanced")  # for few people


def argument(metavar: str, help: str, **more: Any) -> Any:
    """Return a positional argument of Typer; without a ``metavar`` help shows its choices."""
    return typer.Argument(metavar=metavar or None, help=help, **more)


QuietOption = Annotated[bool, option("-q --quiet", "Print errors only; the exit code has the result.")]
VerboseOption = Annotated[bool, option("-v --verbose", "Print more.")]
JsonOption = Annotated[bool, option("--json", "Print one JSON object instead of tables.")]


def typer_command(command: Callable[..., None], tables: bool = True, waits: bool = True) -> Callable[..., None]:
    """Return a command for Typer with the common options; ``--json`` only if it prints ``tables``. A dataclass as a
    parameter becomes an option for each of its fields. A command that ``waits`` prints nothing until its work is done:
    meanwhile a terminal shows its activity."""
    own = inspect.signature(command, eval_str=True)
    options = {"quiet": QuietOption, "verbose": VerboseOption} | ({"json": JsonOption} if tables else {})

    @functools.wraps(command)
    def spoken(**values: Any) -> None:
        form = Form.JSON if values.get("json") else Form.QUIET if values["quiet"] else Form.TEXT
        output.begin(form, values["verbose"])
        with activity_line(err, out) if waits else nullcontext():
            command(**{p.name: _value(p.name, p.annotation, values) for p in own.parameters.values()})

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in options.items()
    ]
    flat = [option for parameter in own.parameters.values() for option in _options(parameter)]
    spoken.__signature__ = own.replace(parameters=[*flat, *added])  # type: ignore[attr-defined]
    spoken.__annotations__ = {p.name: p.annotation for p in spoken.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return spoken


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return the options of a command's parameter: the parameter itself, or the fields of a dataclass."""
    kind = parameter.annotation
    if not is_dataclass(kind):
        return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    hints = get_type_hints(kind, include_extras=True)
    listed = list[inspect.Parameter]()
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        listed += _options(parameter.replace(name=field.name, default=default, annotation=hints[field.name]))
    return listed


def _value(name: str, kind: Any, values: Mapping[str, Any]) -> Any:
    """Return the value of a command's parameter: its option's value, or a dataclass from the values of its fields."""
    if not is_dataclass(kind):
        return values[name]
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{field.name: _value(field.name, hints[field.name], values) for field in fields(kind)})  # type: ignore[operator]


_UsageError: Any = typer.BadParameter.__mro__[1]  # whatever Click Typer is made of


def one_line(description: str) -> str:
    """Return a description that fits the terminal: Typer wraps it, and fish offers its second line as a name."""
    return shorten(description, Console().width, placeholder=" ...")


class _Flags:
    """A command whose flags are listed without the name of their type, and whose completions are single lines."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        items: list[Any] = super().shell_complete(ctx, incomplete)  # type: ignore[misc]
        for item in items:
            item.help = one_line(item.help) if item.help else None
        return items


class Command(_Flags, TyperCommand):
    """A command."""


class Group(_Flags, TyperGroup):
    """A command with subcommands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; for the name of a command of another tool, the error names lstmc's command."""
        for words in (args[:1], args[:2]):
            if self.get_command(ctx, name := " ".join(words)) is None and name in elsewhere("commands"):
                raise _UsageError(f"lstmc has no command {name}: use `{elsewhere('commands')[name]}`", ctx)
        return super().resolve_command(ctx, args)
