"""Entry points of installed distributions, and optional packages.

A name that two distributions offer, or an entry point that does not load, is a fault of that name alone: an error is
raised when the name is used, and everything else keeps working.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lstmc.errors import LstmcError, PluginError
from lstmc.text import nearest_or_all

Offers = dict[str, tuple[EntryPoint, ...]]


def offered(group: str) -> Offers:
    """The entry points of a group by name, sorted. Several of one name: distributions that clash."""
    folders = [(folder, _modified(folder)) for folder in sys.path]
    return dict(_offered(group, tuple([known for known in folders if _has_metadata(*known)])))


@lru_cache(maxsize=64)
def _offered(group: str, folders: tuple[tuple[str, int], ...]) -> Offers:
    """What is offered, while the folders that packages are found in stay as they are. The folder of a model is none.

    Python reads the metadata of every installed distribution for each question: 30 ms in an environment of 100, and
    each parsed op and each compiled model asks.
    """
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=group):  # one that is seen twice, in two folders of metadata, is one
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(points.values()) for name, points in sorted(found.items())}


@lru_cache(maxsize=1024)
def _has_metadata(folder: str, modified: int) -> bool:
    """Whether there is metadata of a distribution in a folder, or may be, as in an archive."""
    if modified < 0:
        return False
    try:
        return any(name.lower().endswith(("dist-info", "egg-info")) for name in os.listdir(folder or "."))
    except OSError:
        return True


def _modified(folder: str) -> int:
    """When something was put into a folder or taken out, in nanoseconds; -1 for no folder."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return -1


def origin(point: EntryPoint) -> str:
    """Whose entry point it is, and what it names: ``my-cells (my_cells:elman)``."""
    return f"{distribution(point)} ({point.value})"


def distribution(point: EntryPoint) -> str:
    """The name of the distribution that an entry point is of."""
    return point.dist.name if point.dist else "an unknown distribution"


def the_one(group: str, name: str, kind: str) -> EntryPoint:
    """The entry point of that name. Raises :class:`PluginError` if there is none, or several."""
    offers = offered(group)
    if name not in offers:
        raise PluginError(f"unknown {kind} {name!r}{nearest_or_all(name, offers, 'available')}")
    points = offers[name]
    if len(points) > 1:
        raise PluginError(
            f"{kind} {name} is offered by {' and by '.join(map(origin, points))}: uninstall all but one of them"
        )
    return points[0]


def load(group: str, name: str, kind: str) -> Any:
    """What the entry point of that name names. Raises :class:`PluginError` if that cannot be had."""
    return load_point(the_one(group, name, kind), kind)


def load_point(point: EntryPoint, kind: str) -> Any:
    """What an entry point names. Raises :class:`PluginError` if its module does not import, or has no such thing."""
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # whatever its module does as it is imported
        raise does_not_load(point, kind, error) from error


def does_not_load(point: EntryPoint, kind: str, error: BaseException) -> PluginError:
    """The error for an entry point whose import, or what it makes of itself, failed."""
    return PluginError(
        f"{kind} {point.name} of {origin(point)} does not load: {type(error).__name__}: {error}."
        f" Fix {distribution(point)}, or uninstall it"
    )


def malformed(point: EntryPoint, kind: str, expected: str, found: str) -> PluginError:
    """The error for what loads and is something else than a ``kind`` must be."""
    return PluginError(
        f"{kind} {point.name} of {origin(point)}: expected {expected}, found {found}."
        f" Fix {distribution(point)}, or uninstall it"
    )


def need(module: str, what: str, extra: str, error: type[LstmcError]) -> Any:
    """A package that may not be installed, or a module of ours that imports one at its top.

    Raises ``error`` with the command that installs it; ``what`` is its name for people.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise error(
            f"{what} is needed for this and cannot be imported ({missing}): python -m pip install 'lstmc[{extra}]'"
        ) from None
