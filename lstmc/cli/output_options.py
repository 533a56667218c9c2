"""How much a command says, and in which form: ``--quiet``, ``-v`` and ``--json``, the same for every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from lstmc.cli.console import Form, err, out, said
from lstmc.cli.working import working

QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only; the exit code has the result.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Print more.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def speaking(command: Callable[..., None], tables: bool = True, waits: bool = True) -> Callable[..., None]:
    """Return a command for Typer: with these options added to its own, ``--json`` if it prints ``tables``.

    A parameter that is a dataclass becomes an option for each of its fields. A command that ``waits`` prints nothing
    until its work is done: on a terminal it is shown what it does.
    """
    own = inspect.signature(command, eval_str=True)
    options = {"quiet": QuietOption, "verbose": VerboseOption} | ({"json": JsonOption} if tables else {})

    @functools.wraps(command)
    def spoken(**values: Any) -> None:
        form = Form.JSON if values.get("json") else Form.QUIET if values["quiet"] else Form.TEXT
        said.begin(form, values["verbose"])
        with working(err, out) if waits else nullcontext():
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
    """Return the options of a command's parameter: itself, or for a dataclass those of its fields."""
    kind = parameter.annotation
    if not is_dataclass(kind):
        return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    hints = get_type_hints(kind, include_extras=True)
    return [option for field in fields(kind) for option in _options(_parameter(field, hints[field.name]))]


def _parameter(field: Field[Any], annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value(name: str, kind: Any, values: Mapping[str, Any]) -> Any:
    """Return the value of a command's parameter: its option's, or a dataclass of the values of its fields."""
    if not is_dataclass(kind):
        return values[name]
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{field.name: _value(field.name, hints[field.name], values) for field in fields(kind)})  # type: ignore[operator]
