"""The parts that installed packages add: entry points, optional packages, and the list of library cells.
If two distributions offer a name, or an entry point does not load, only the use of that name raises an error. Reading
the list of cells imports no cell."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from itertools import chain
from typing import Any, NamedTuple

from lstmc.errors import LstmcError, PluginError
from lstmc.text import nearest_or_all

Offers = dict[str, tuple[EntryPoint, ...]]


def entry_points_of(group: str) -> Offers:
    """Return the entry points of a group by name, sorted: several if several packages define a name."""
    folders = [(folder, _modified(folder)) for folder in sys.path]
    return dict(_offered(group, tuple([stamp for stamp in folders if _has_metadata(*stamp)])))


_read = lru_cache(maxsize=8)(lambda folders: entry_points())  # by folders with metadata, and their times of change


@lru_cache(maxsize=64)
def _offered(group: str, folders: tuple[tuple[str, int], ...]) -> Offers:
    """Return the entry points of a group by name. ``folders``, with the times of their change, are the key of the
    cache: Python would read the metadata of all distributions for each query, 30 ms for 100 of them."""
    points_by_name: dict[str, dict[str, EntryPoint]] = {}
    for point in _read(folders).select(group=group):  # a point that two folders of metadata have counts once
        points_by_name.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(points.values()) for name, points in sorted(points_by_name.items())}


@lru_cache(maxsize=1024)
def _has_metadata(folder: str, modified: int) -> bool:
    """Return whether a folder has metadata of a distribution, or may have, like an archive."""
    if modified < 0:
        return False
    try:
        return any(name.lower().endswith(("dist-info", "egg-info")) for name in os.listdir(folder or "."))
    except OSError:
        return True


def _modified(folder: str) -> int:
    """Return the time when a folder's entries last changed, in nanoseconds; -1 for no folder."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return -1


def installed_parts() -> dict[str, list[str]]:
    """Return the entry points that each distribution adds to lstmc, by group: ``{"my": ["lstmc.cells: elman"]}``."""
    parts: dict[str, list[str]] = {}
    for group in sorted(entry_points().groups):
        names: dict[str, list[str]] = {}
        for point in chain(*entry_points_of(group).values()) if group.startswith(("lstmc.", "lstmc_")) else ():
            names.setdefault(distribution(point), []).append(point.name)
        for package, added in names.items():
            parts.setdefault(package, []).append(f"{group}: {', '.join(added)}")
    return {package: added for package, added in sorted(parts.items()) if package != "lstmc"}


def origin(point: EntryPoint) -> str:
    """Return the distribution of an entry point, and its value: ``my-cells (my_cells:elman)``."""
    return f"{distribution(point)} ({point.value})"


def distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


def only_entry_point(group: str, name: str, kind: str) -> EntryPoint:
    """Return the entry point ``name`` of a ``group``. Raises :class:`PluginError` unless exactly one package has it."""
    offers = entry_points_of(group)
    if name not in offers:
        raise PluginError(f"unknown {kind} {name!r}{nearest_or_all(name, offers, 'available')}")
    points = offers[name]
    if len(points) > 1:
        offered = " and by ".join(map(origin, points))
        raise PluginError(f"{kind} {name} is offered by {offered}: uninstall all but one of them")
    return points[0]


def load(group: str, name: str, kind: str) -> Any:
    """Return the object of the entry point of that name. Raises :class:`PluginError` if it cannot be loaded."""
    return load_point(only_entry_point(group, name, kind), kind)


def load_point(point: EntryPoint, kind: str) -> Any:
    """Return the object of an entry point. Raise PluginError, which calls it a ``kind``, if it cannot be imported."""
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # the module of a package may raise anything
        raise does_not_load(point, kind, error) from error


def does_not_load(point: EntryPoint, kind: str, error: BaseException) -> PluginError:
    """Return the error for an entry point that raised ``error``; ``kind`` is a word such as "backend"."""
    return _wrong(point, kind, f" does not load: {type(error).__name__}: {error}")


def malformed(point: EntryPoint, kind: str, expected: str, actual: str) -> PluginError:
    """Return the error for an entry point whose object is not a ``kind``."""
    return _wrong(point, kind, f": expected {expected}, found {actual}")


def _wrong(point: EntryPoint, kind: str, problem: str) -> PluginError:
    remedy = f"Fix {distribution(point)}, or uninstall it"
    return PluginError(f"{kind} {point.name} of {origin(point)}{problem}. {remedy}")


def need(module: str, what: str, extra: str, error: type[LstmcError]) -> Any:
    """Return an optional package, or a module of lstmc that imports one. Raise ``error``, which calls it ``what`` and
    has the command that installs the ``extra``, if the package is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        remedy = f"python -m pip install 'lstmc[{extra}]'"
        raise error(f"{what} is needed for this and cannot be imported ({missing}): {remedy}") from None


def problem_with(get: Callable[[], object]) -> str | None:
    """Return the message if a function raises an error of lstmc, as :func:`need` does; otherwise None."""
    try:
        get()
    except LstmcError as error:
        return error.message
    return None


BACKENDS = "lstmc.backends"  # the groups of entry points
CELLS = "lstmc.cells"


def recorded(part: str) -> Any:
    """Return the ``purposes`` or the ``cells`` of lstmc's targets, as ``docs/generate_cells.py`` recorded them."""
    return json.loads(files("lstmc").joinpath("cells", "targets.json").read_text(encoding="utf-8"))[part]


def recorded_targets() -> Mapping[str, Mapping[str, str]] | None:
    """Return the purposes of the targets of lstmc's backends as recorded, because importing them takes a second. None
    if other packages extend lstmc: then the backends must be loaded."""
    purposes: Mapping[str, Mapping[str, str]] = recorded("purposes")
    return purposes if not installed_parts() and sorted(entry_points_of(BACKENDS)) == sorted(purposes) else None


class Entry(NamedTuple):
    """An entry of the list of cells: the year of publication, and a summary in 17 letters."""

    year: int
    title: str


@cache
def cell_groups() -> Mapping[str, Mapping[str, Entry]]:
    """Return the cells of lstmc by group; cells of other packages form a further group."""
    text = files("lstmc").joinpath("cells", "groups.toml").read_text(encoding="utf-8")
    return {group: {n: Entry(*entry) for n, entry in cells.items()} for group, cells in tomllib.loads(text).items()}


ELSEWHERE = "of other packages"


def group_of(name: str) -> str:
    """Return the group that a cell is listed in."""
    return next((group for group, names in cell_groups().items() if name in names), ELSEWHERE)


def entry_of(name: str) -> Entry | None:
    """Return the entry of a cell of lstmc in the list; None for a cell of another package."""
    return next((names[name] for names in cell_groups().values() if name in names), None)


def library_names() -> Iterator[str]:
    """Yield all installed cells, group by group."""
    installed = entry_points_of(CELLS)
    order = [*cell_groups(), ELSEWHERE]
    own = [name for names in cell_groups().values() for name in names]
    key = {name: (order.index(group_of(name)), own.index(name) if name in own else 0, name) for name in installed}
    yield from sorted(installed, key=lambda name: key[name])
