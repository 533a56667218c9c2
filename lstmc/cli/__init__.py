"""The command line. ``lstmc --help`` lists the commands."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import groupby
from typing import Annotated, Any, NamedTuple

import typer

from lstmc.cli.commands import Command, Group, option, typer_command
from lstmc.cli.console import error_text, output, standard_output, unknown_option
from lstmc.errors import LstmcError
from lstmc.text import plain
from lstmc.version import __version__

HELP = """Usage: lstmc COMMAND ...              lstmc COMMAND --help: options and examples
Compile recurrent nets for OpenCV, MNN, ncnn, NPUs, Caffe, C or ONNX. First:
  lstmc new model tagger
  lstmc verify tagger.py -D T=5 -D N=2
  lstmc compile tagger.py -D T=20 -D N=1 --target opencv -o net
"""
FOOTER = "Also: --version, --install-completion. Exit codes: 0 done, 1 finding, 2 error."


class Entry(NamedTuple):
    """A command: a ``function`` of ``lstmc.cli.MODULE``. Without a ``panel``, its part of ``--help``, it is hidden."""

    module: str
    function: str
    panel: str = ""
    summary: str = ""
    tables: bool = True  # whether it prints tables, and so takes --json
    waits: bool = True  # whether it prints nothing until its work is done


START, COMPILE, USE = "Start", "Compile", "Train, run, inspect"
COMMANDS: Mapping[str, Entry] = {
    "new": Entry("new", "new_command", START, "Write the first files of a model, a cell or a package"),
    "cells": Entry("listing", "cells_command", START, "List the library cells, or show one: paper, shapes, costs"),
    "targets": Entry("listing", "targets_command", START, "List the targets that nets are written for"),
    "doctor": Entry("listing", "doctor_command", START, "Show what is installed, and how to install what is missing"),
    "compile": Entry("compile", "compile_command", COMPILE, "Write a model's net for a target, with its weights"),
    "inspect": Entry("import_model", "inspect_command", COMPILE, "Say what a trained model is, and what it would lose"),
    "convert": Entry(
        "import_model", "convert_command", COMPILE, "Convert a model of PyTorch, ONNX, TFLite, Keras, Caffe"
    ),
    "verify": Entry("compile", "verify_command", COMPILE, "Compare a net with its model, or check a net file"),
    "numbers": Entry("streams", "numbers_app", COMPILE, "Prepare int8: ranges, calibration data, a kit for the board"),
    "train": Entry("train", "train_command", USE, "Train a model", waits=False),
    "sweep": Entry("train", "sweep_command", USE, "Train a model at every point of a search space", waits=False),
    "run": Entry("run", "run_command", USE, "Run a compiled net on arrays, or save its parameters"),
    "show": Entry("show", "show_command", USE, "Print or draw a model's graph, as written or after a pass", False),
    "report": Entry("show", "report_command", USE, "Write a page about a net, or the curves of runs", False),
}


class Commands(Mapping[str, Any]):
    """The commands by name. A command's module is imported on demand: importing all takes a second."""

    def __len__(self) -> int:
        return len(COMMANDS)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        return _command(name)


@cache
def _command(name: str) -> Any:
    """Import a command's module, and return the command with the options that its entry sets."""
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
        """Print the list of commands on one screen of 80 x 24; no command's module is imported."""
        formatter.write(HELP)
        listed = ((name, entry) for name, entry in COMMANDS.items() if entry.panel)
        for panel, entries in groupby(listed, key=lambda item: item[1].panel):
            formatter.write(typer.style(panel, bold=True) + "\n")
            for name, entry in entries:
                formatter.write(f"  {name:8} {entry.summary}\n")
        formatter.write(FOOTER)


app = typer.Typer(
    name="lstmc",
    cls=Root,
    help=HELP,
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
        bool, option("-V --version", "Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Define the options of ``lstmc`` itself, before a command."""


# what Typer raises for arguments that it does not take, whatever Click it is made of
_WrongUse: type[Any] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line. An error that the user can fix, or too little memory, exits with 2, without a traceback."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        with standard_output():
            code = app(prog_name="lstmc", standalone_mode=False)
            output.end()
            raise SystemExit(code)
    except (LstmcError, MemoryError) as error:
        lack = plain(f"there is not enough memory: {error}".removesuffix(": "))
        text = error_text(error, output.verbose) if isinstance(error, LstmcError) else lack
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
