"""Tables from ops to the functions that write them in a format: a backend's own, and those that packages bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from lstmc.errors import BackendError
from lstmc.ops import Op
from lstmc.plugins import entry_points_of, load, malformed

Function = TypeVar("Function")


def all_lowerings(own: Mapping[type[Op], Function], group: str, to: str) -> Mapping[type[Op], Function]:
    """Return a backend's table with those that packages have in a group of entry points; ``to`` names the format.

    Raises :class:`~lstmc.errors.PluginError` for a package's table that does not load.
    """
    tables, what = dict(own), f"{to} lowerings"
    for name, points in entry_points_of(group).items():
        table: Any = load(group, name, what)
        if not isinstance(table, Mapping):
            raise malformed(points[0], what, "a table from ops to functions that write them", repr(table))
        tables.update(table)
    return tables


def lowering_in(table: Mapping[type[Op], Function], op: Op, group: str, to: str) -> Function:
    """Return the lowering of an op, or of the op that it derives from. Raises :class:`BackendError` without one."""
    for kind in type(op).__mro__:
        if kind in table:
            return table[kind]
    raise BackendError(f"{op.name} has no lowering to {to}: a package can bring one by an entry point in {group}")
