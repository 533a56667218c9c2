"""How backends and library cells are found: by entry point, each checked when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lstmc.backend.protocols import Backend, lacks
from lstmc.dsl import Cell
from lstmc.errors import PluginError

BACKENDS = "lstmc.backends"
CELLS = "lstmc.cells"


def find_backends() -> dict[str, EntryPoint]:
    """Every installed backend's entry point by name. Raises :class:`PluginError` for a name taken twice."""
    return _find(BACKENDS)


def find_cells() -> dict[str, EntryPoint]:
    """Every installed library cell's entry point by name. Raises :class:`PluginError` for a name taken twice."""
    return _find(CELLS)


def load_backend(name: str) -> Backend:
    """An installed backend. Raises :class:`PluginError` if there is none of that name, or it does not load or is not
    whole."""
    points = _find(BACKENDS, name)
    loaded = _load(points, name, "backend", lambda offered: offered())
    if not isinstance(loaded, Backend):
        lacking = ", ".join(lacks(loaded, Backend))
        raise PluginError(
            f"backend {name} of {_distribution(points[name])} is not whole: expected it to have {lacking} too"
        )
    return loaded


def load_cell(name: str) -> Cell:
    """An installed library cell. Raises :class:`PluginError` if there is none of that name or it does not load."""
    loaded = _load(_find(CELLS, name), name, "cell")
    if not isinstance(loaded, Cell):
        raise PluginError(f"cell {name} is not a cell: expected a function made with @cell, found {loaded!r}")
    return loaded


def _find(group: str, wanted: str | None = None) -> dict[str, EntryPoint]:
    """The entry points of a group. A name that is taken twice does not matter to who wants another one."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        twice = point.name in found and found[point.name].value != point.value
        if twice and wanted in (None, point.name):
            ours, theirs = (_distribution(p) for p in (found[point.name], point))
            raise PluginError(f"{point.name} is offered twice in {group}: by {ours} and by {theirs}")
        found[point.name] = point
    return dict(sorted(found.items()))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'an unknown distribution'} ({point.value})"


def _load(points: Mapping[str, EntryPoint], name: str, kind: str, make: Callable[[Any], Any] = lambda x: x) -> Any:
    if name not in points:
        raise PluginError(f"there is no {kind} called {name}: found {', '.join(points) or 'none'}")
    try:
        return make(points[name].load())
    except Exception as error:
        where = _distribution(points[name])
        raise PluginError(f"{kind} {name} of {where} does not load: {type(error).__name__}: {error}") from error


def target_of(backend: Backend, target: str | None) -> str:
    """The target's name, checked; the backend's first one if none is given."""
    if target is None:
        return next(iter(backend.targets))
    if target not in backend.targets:
        raise PluginError(f"backend {backend.name} has no target {target}: found {', '.join(backend.targets)}")
    return target
