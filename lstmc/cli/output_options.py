"""How much a command says, and in which form: ``--quiet``, ``-v`` and ``--json``, the same for every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from lstmc.cli.console import Form, err, out, said
from lstmc.cli.working import working

QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only; the exit code has the result.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Print more.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def speaking(command: Callable[..., None], tables: bool = True, waits: bool = True) -> Callable[..., None]:
    """A command with these options added to its own: ``--json`` if it prints ``tables``.

    One that ``waits`` prints nothing until its work is done: on a terminal it is shown what it does.
    """
    options = {"quiet": QuietOption, "verbose": VerboseOption} | ({"json": JsonOption} if tables else {})

    @functools.wraps(command)
    def spoken(*args: Any, **given: Any) -> None:
        wanted = {name: given.pop(name) for name in options}
        form = Form.JSON if wanted.get("json") else Form.QUIET if wanted["quiet"] else Form.TEXT
        said.begin(form, wanted["verbose"])
        with working(err, out) if waits else nullcontext():
            command(*args, **given)

    own = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in options.items()
    ]
    spoken.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    spoken.__annotations__ = {p.name: p.annotation for p in spoken.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return spoken
