"""The command line. ``lstmc --help`` lists the commands."""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Annotated, Any, NamedTuple

import typer

from lstmc.cli.commands import Command, Group, typer_command
from lstmc.cli.console import error_text, output, standard_output, unknown_option
from lstmc.errors import LstmcError
from lstmc.text import plain
from lstmc.version import __version__

HELP = """Compile recurrent nets for runtimes without recurrent layers: OpenCV, MNN, ncnn, NPUs, Caffe; or for ONNX.

Examples:

```console
lstmc new model tagger
lstmc verify tagger.py -D T=5 -D N=2
lstmc compile tagger.py -D T=20 -D N=1 --target opencv -o net
```
"""
EXIT_CODES = """Exit codes: 0, done. 1, done, with a difference, a finding, or something missing.
2, not done: an error in the arguments or files.
129, 130, 143: ended by a closed terminal, Ctrl-C, SIGTERM."""


class Entry(NamedTuple):
    """A command: a function of ``lstmc.cli.MODULE``, or a Typer app; see ``typer_command`` for the rest.

    ``panel`` is the part of ``lstmc --help`` that lists it; a command without one is not listed.
    """

    module: str
    function: str
    panel: str = ""
    tables: bool = True
    waits: bool = True


START, COMPILE, TRAIN, INSPECT = "Start", "Compile", "Train and run", "Inspect"
COMMANDS: Mapping[str, Entry] = {
    "new": Entry("new", "new_command", START),
    "cells": Entry("listing", "cells_command", START),
    "targets": Entry("listing", "targets_command", START),
    "doctor": Entry("listing", "doctor_command", START),
    "compile": Entry("compile", "compile_command", COMPILE),
    "convert": Entry("import_model", "convert_command", COMPILE),
    "verify": Entry("verify", "verify_command", COMPILE),
    "calibrate": Entry("streams", "calibrate_command", COMPILE),
    "golden": Entry("streams", "golden_command", COMPILE),
    "train": Entry("train", "train_command", TRAIN, waits=False),
    "sweep": Entry("sweep", "sweep_command", TRAIN, waits=False),
    "run": Entry("run", "run_command", TRAIN),
    "report": Entry("report", "report_command", TRAIN, tables=False),
    "show": Entry("graphs", "show_command", INSPECT, tables=False),
    "draw": Entry("graphs", "draw_command", INSPECT, tables=False),
    "ranges": Entry("streams", "ranges_command", INSPECT),
    "lint": Entry("verify", "lint_command", INSPECT),
    # an example's, and old names
    "generate": Entry("run", "generate_command", tables=False, waits=False),
    "import": Entry("import_model", "import_command"),
    "plot": Entry("report", "plot_command", tables=False),
    "backends": Entry("listing", "backends_command"),
    "weights": Entry("run", "weights_app"),
}


class Commands(Mapping[str, Any]):
    """The commands by name. A command's module is imported when it is asked for: all together take a second."""

    def __len__(self) -> int:
        return len(COMMANDS)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        return _command(name)


@cache
def _command(name: str) -> Any:
    entry = COMMANDS[name]
    function = getattr(import_module(f"lstmc.cli.{entry.module}"), entry.function)
    if isinstance(function, typer.Typer):
        function.rich_markup_mode = "markdown"
        command: Any = typer.main.get_group(function)
        command.name = name
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        alone.command(name, cls=Command)(typer_command(function, entry.tables, entry.waits))
        command = typer.main.get_command(alone)
    command.rich_help_panel, command.hidden = entry.panel, not entry.panel
    return command


class Root(Group):
    """The command ``lstmc``, whose commands are :data:`COMMANDS`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the list of commands, for which no command's module is imported."""
        self.commands = {name: _listed(name, entry) for name, entry in COMMANDS.items() if entry.panel}
        super().format_help(ctx, formatter)


def _listed(name: str, entry: Entry) -> Any:
    """A command as the list has it: its help, from the source of its module."""
    source = (files(__name__) / f"{entry.module}.py").read_text(encoding="utf-8")
    (function,) = [
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == entry.function
    ]
    command = Command(name, help=ast.get_docstring(function))
    command.rich_help_panel = entry.panel
    return command


app = typer.Typer(
    name="lstmc",
    cls=Root,
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"lstmc {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("-V", "--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What comes before a command."""


# what Typer raises for arguments that it does not take, whatever Click it is made of
_WrongUse: type[Any] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line. What a user can mend is said without a traceback, with exit code 2."""
    try:
        with standard_output():
            code = app(prog_name="lstmc", standalone_mode=False)
            output.end()
            raise SystemExit(code)
    except LstmcError as error:
        text = error_text(error, output.verbose)
        output.forget()
        print(text, file=sys.stderr)
        raise SystemExit(2) from None
    except _WrongUse as error:
        output.forget()
        unknown = getattr(error, "option_name", "")
        if unknown and hasattr(error, "possibilities"):
            names = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts]
            error.possibilities, error.message = (), error.message + unknown_option(unknown, names, error.ctx.info_name)
        message = io.StringIO()
        error.show(message)
        print(plain(message.getvalue()), end="", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


__all__ = ["app", "main"]
