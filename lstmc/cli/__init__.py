"""The command line. ``lstmc --help`` lists the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lstmc.cli.compile import compile_command
from lstmc.cli.console import standard_output
from lstmc.cli.doctor import doctor_command
from lstmc.cli.draw import draw_command
from lstmc.cli.generate import generate_command
from lstmc.cli.import_model import convert_command, import_command
from lstmc.cli.lint import lint_command
from lstmc.cli.listing import backends_command, cells_app
from lstmc.cli.run import run_command
from lstmc.cli.show import show_command
from lstmc.cli.train import train_command
from lstmc.cli.verify import verify_command
from lstmc.cli.weights import weights_app
from lstmc.cli.wording import error_text
from lstmc.errors import LstmcError
from lstmc.version import __version__

app = typer.Typer(
    name="lstmc",
    help="Compile recurrent cells written in Python into nets that real Caffe trains and runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lstmc {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What comes before a command."""


app.command("compile")(compile_command)
app.command("verify")(verify_command)
app.command("show")(show_command)
app.command("draw")(draw_command)
app.command("train")(train_command)
app.command("run")(run_command)
app.command("generate")(generate_command)
app.command("import")(import_command)
app.command("convert")(convert_command)
app.command("lint")(lint_command)
app.command("backends")(backends_command)
app.command("doctor")(doctor_command)
app.add_typer(cells_app, name="cells")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Run the command line. What a user can mend is said without a traceback, with exit code 2."""
    try:
        with standard_output():
            app()
    except LstmcError as error:
        print(error_text(error), file=sys.stderr)
        raise SystemExit(2) from None


__all__ = ["app", "main"]
