"""The command line. ``lstmc --help`` lists the commands."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer

from lstmc.cli.compile import compile_command
from lstmc.cli.console import said, standard_output
from lstmc.cli.doctor import doctor_command
from lstmc.cli.draw import draw_command
from lstmc.cli.flags import Command, Group
from lstmc.cli.generate import generate_command
from lstmc.cli.import_model import convert_command, import_command
from lstmc.cli.lint import lint_command
from lstmc.cli.listing import backends_command, cells_command
from lstmc.cli.new import new_command
from lstmc.cli.output_options import speaking
from lstmc.cli.plot import plot_command
from lstmc.cli.report import report_command
from lstmc.cli.run import run_command
from lstmc.cli.show import show_command
from lstmc.cli.sweep import sweep_command
from lstmc.cli.train import train_command
from lstmc.cli.verify import verify_command
from lstmc.cli.weights import weights_app
from lstmc.cli.wording import error_text
from lstmc.errors import LstmcError
from lstmc.plain_text import plain
from lstmc.version import __version__

HELP = """Compile recurrent cells written in Python into nets that real Caffe trains and runs.

Examples:

```console
lstmc compile --cell gru -D T=20 -D N=8 -D D=32 -D H=64 -o net
lstmc new model tagger
lstmc verify tagger.py -D T=5 -D N=2
```
"""
EXIT_CODES = """Exit codes: 0, done. 1, done, with a difference, a finding, or something missing.
2, not done: a mistake in the arguments or files, which the error names.
129, 130, 143: ended by a closed terminal, Ctrl-C, SIGTERM."""

app = typer.Typer(
    name="lstmc",
    cls=Group,
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
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


app.command("compile", cls=Command)(speaking(compile_command))
app.command("verify", cls=Command)(speaking(verify_command))
app.command("show", cls=Command)(speaking(show_command, tables=False))
app.command("draw", cls=Command)(speaking(draw_command, tables=False))
app.command("train", cls=Command)(speaking(train_command, waits=False))
app.command("sweep", cls=Command)(speaking(sweep_command, waits=False))
app.command("run", cls=Command)(speaking(run_command))
app.command("generate", cls=Command)(speaking(generate_command, tables=False, waits=False))
app.command("import", cls=Command)(speaking(import_command))
app.command("convert", cls=Command)(speaking(convert_command))
app.command("new", cls=Command)(speaking(new_command))
app.command("plot", cls=Command)(speaking(plot_command, tables=False))
app.command("report", cls=Command)(speaking(report_command, tables=False))
app.command("lint", cls=Command)(speaking(lint_command))
app.command("backends", cls=Command)(speaking(backends_command))
app.command("doctor", cls=Command)(speaking(doctor_command))
app.command("cells", cls=Command)(speaking(cells_command))
app.add_typer(weights_app, name="weights")


# what Typer raises for arguments that it does not take, whatever Click it is made of
_WrongUse: type[Any] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line. What a user can mend is said without a traceback, with exit code 2."""
    try:
        with standard_output():
            code = app(prog_name="lstmc", standalone_mode=False)
            said.end()
            raise SystemExit(code)
    except LstmcError as error:
        text = error_text(error, said.verbose)
        said.forget()
        print(text, file=sys.stderr)
        raise SystemExit(2) from None
    except _WrongUse as error:
        said.forget()
        told = io.StringIO()
        error.show(told)
        print(plain(told.getvalue()), end="", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


__all__ = ["app", "main"]
