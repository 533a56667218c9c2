"""Every op that has a form in ONNX, and what writes it, found by entry point: ours, and those of packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from lstmc.errors import BackendError
from lstmc.ops import Op
from lstmc.plugins import load, malformed, offered
from lstmc_onnx.writer import Call, Writer

GROUP = "lstmc_onnx.forms"  # an entry point names a table from ops to forms
Form = Callable[[Writer, Call], None]


@cache
def forms() -> Mapping[type[Op], Form]:
    """All forms. Raises :class:`~lstmc.errors.PluginError` for a package's that does not load."""
    found: dict[type[Op], Form] = {}
    for name, points in offered(GROUP).items():
        table = load(GROUP, name, "ONNX forms")
        if not isinstance(table, Mapping):
            raise malformed(points[0], "ONNX forms", "a table from ops to functions that write them", repr(table))
        found.update(table)
    return found


def form_of(op: Op) -> Form:
    """The form of an op, or of the op that it derives from. Raises :class:`BackendError` where it has none."""
    known = forms()
    for kind in type(op).__mro__:
        if kind in known:
            return known[kind]
    raise BackendError(f"{op.name} has no form in ONNX: a package can bring one by an entry point in {GROUP}")
