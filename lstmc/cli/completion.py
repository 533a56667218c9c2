"""What a shell offers for an option that takes a name: those that are installed here.

Options name these functions, so ``import lstmc`` alone stands here: it imports a part of itself at its first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

import lstmc
from lstmc.catalog import library_names
from lstmc.cli.commands import one_line
from lstmc.errors import LstmcError

if TYPE_CHECKING:
    import lstmc.verification
    from lstmc.backend import Backend


def complete_cells(incomplete: str) -> Iterator[str]:
    """For ``--cell``: the library's, and those of packages."""
    return _beginning(library_names(), incomplete)


def complete_backends(incomplete: str) -> Iterator[str]:
    """For ``--backend``."""
    return _beginning(lstmc.backend.find_backends(), incomplete)


def complete_targets(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """For ``--target``: those of the backend that was typed before it, each with what it is for."""
    with suppress(LstmcError):
        told = _backend(context).targets
        yield from ((name, one_line(told[name])) for name in _beginning(told, incomplete))


def complete_forms(context: typer.Context, incomplete: str) -> Iterator[str]:
    """For ``--form``: those of the target that was typed before it, or of the backend's first one."""
    with suppress(LstmcError):
        backend = _backend(context)
        target = context.params.get("target") or next(iter(backend.targets))
        yield from _beginning(backend.forms(target) if isinstance(backend, lstmc.backend.Tunes) else (), incomplete)


def complete_passes(context: typer.Context, incomplete: str) -> Iterator[str]:
    """For ``--after``: those that the target's models go through."""
    with suppress(LstmcError):
        names = lstmc.api.pass_names(context.params.get("target"), _backend(context), context.params.get("form"))
        yield from _beginning(names, incomplete)


def complete_places(context: typer.Context, incomplete: str) -> Iterator[str]:
    """For ``--on``: the interpreter, and what the backend runs its nets in."""
    with suppress(LstmcError):
        backend = _backend(context)
        own = [executor.name for executor in backend.executors()] if isinstance(backend, lstmc.backend.Executes) else []
        yield from _beginning([lstmc.verification.InterpreterExecutor.name, *own], incomplete)


def _backend(context: typer.Context) -> Backend:
    return lstmc.backend.backend_for(context.params.get("backend"), context.params.get("target"))


def _beginning(names: Iterable[str], incomplete: str) -> Iterator[str]:
    yield from (name for name in names if name.startswith(incomplete))
