"""Discovery by entry point: backends, library cells, and functions that write ops in a format; each is checked when it
is loaded. Faults of packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from lstmc.backend.compiled import Finding
from lstmc.backend.protocols import Backend
from lstmc.dsl import Cell
from lstmc.errors import Argument, BackendError, PassError, PluginError
from lstmc.ops import Input, Op
from lstmc.ops.base import OpType, dialects, load_dialect
from lstmc.passes import Insertion, PassList
from lstmc.passes.base import PASSES, installed_passes, load_insertion, with_installed
from lstmc.plugins import BACKENDS, CELLS, does_not_load, entry_points_of, load, load_point, malformed, only_entry_point
from lstmc.text import brief, did_you_mean, nearest_or_all

__all__ = [
    "backend_for",
    "check_place",
    "find_backends",
    "find_cells",
    "load_backend",
    "load_cell",
    "load_placed",
    "plugin_faults",
    "target_of",
]

MICROCONTROLLERS = ("stm32", "esp32", "arduino", "cortex-m", "microcontroller", "mcu", "tinyml")
DEFAULT = "caffe"  # the backend where neither one nor a target of another is named
# what a backend's members must be: in words, and as a test
MEMBERS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a text", lambda name: isinstance(name, str)),
    "summary": ("a text", lambda summary: isinstance(summary, str)),
    "targets": (
        "a dict from each target's name to its purpose, the default first",
        lambda targets: isinstance(targets, Mapping) and all(isinstance(name, str) for name in targets),
    ),
    "ops": (
        "a tuple of classes of ops, lstmc.ops.Input among them",
        lambda ops: (
            isinstance(ops, tuple)
            and all(isinstance(op, OpType) for op in ops)
            and any(issubclass(op, Input) for op in ops)
        ),
    ),
}


def find_backends() -> tuple[str, ...]:
    """Return the names of all installed backends, the default one first."""
    return tuple(sorted(entry_points_of(BACKENDS), key=lambda name: (name != DEFAULT, name)))


def find_cells() -> tuple[str, ...]:
    """Return the names of all installed library cells."""
    return tuple(entry_points_of(CELLS))


def load_backend(name: str) -> Backend:
    """Return an installed backend. Raises :class:`PluginError` for none of that name, several, or an incomplete one."""
    point = only_entry_point(BACKENDS, name, "backend")
    make = load_point(point, "backend")
    try:
        backend = make()
    except Exception as error:  # whatever it does as it is made
        raise does_not_load(point, "backend", error) from error
    if not isinstance(backend, Backend):
        raise malformed(point, "backend", "a subclass of lstmc.backend.Backend", brief(backend))
    for member, (expected, holds) in MEMBERS.items():
        value = getattr(backend, member, None)
        if not holds(value):
            raise malformed(point, "backend", f"{member} to be {expected}", brief(value))
    return backend


def backend_for(name: str | None, target: str | None = None) -> Backend:
    """Return the backend of a name; without one, the backend that has the target, or else the default one."""
    if name is not None:
        return load_backend(name)
    default = load_backend(DEFAULT)
    if target is None or target in default.targets:
        return default
    other = _other_with(target, DEFAULT)
    return default if other is None else load_backend(other)


def _other_with(target: str, name: str) -> str | None:
    """Return the name of a backend other than one of this name that has a target."""
    for other in find_backends():
        with suppress(PluginError):
            if other != name and target in load_backend(other).targets:
                return other
    return None


def load_cell(name: str) -> Cell:
    """Return an installed cell. Raises :class:`PluginError` for none of that name, several, or another object."""
    point = only_entry_point(CELLS, name, "cell")
    cell = load_point(point, "cell")
    if not isinstance(cell, Cell):
        raise malformed(point, "cell", "a function made with @cell", repr(cell))
    return cell


def plugin_faults() -> Iterator[Finding]:
    """Load all installed cells, dialects and passes, and yield their faults; each backend reports its own."""
    kinds: tuple[tuple[str, Iterable[str], Callable[[str], object]], ...] = (
        ("cell", find_cells(), load_cell),
        ("dialect", dialects(), load_dialect),
        ("pass", entry_points_of(PASSES), load_placed),
    )
    for kind, names, loaded in kinds:
        for name in names:
            try:
                loaded(name)
            except PluginError as error:
                yield Finding(f"{kind} {name}", False, error.message, faulty=True)


def load_placed(name: str) -> Insertion:
    """Return an installed pass. Raises :class:`PluginError` for one that is not whole, or runs for no target."""
    insertion = load_insertion(name)
    try:
        installed_passes()
    except PluginError:  # another one is not whole, and is named itself
        return insertion
    check_place(name, insertion)
    if not any(insertion.step in passes for passes in _pass_lists()):
        raise _misplaced(name, f"none that has it: {insertion.place}")
    return insertion


def check_place(name: str, insertion: Insertion) -> None:
    """Raise :class:`PluginError` for a pass beside one that is in no list of any target of the installed backends.

    Where its backend is not installed, or cannot be loaded, the lists are unknown: then nothing is raised.
    """
    if insertion.backend is not None and insertion.backend not in [backend.name for backend in _whole_backends()]:
        return
    anchor, step_names, runs = insertion.anchor, set[str](), set[str]()
    for passes in _pass_lists():
        with suppress(PassError):
            passes.at(anchor)
            return
        step_names |= {step.name for step in passes}
        runs |= {run for step, run in zip(passes, passes.names, strict=True) if step.name == anchor}
    hint = f", which runs several times: name one of {', '.join(sorted(runs))}"
    raise _misplaced(name, f"{insertion.place}{hint if runs else did_you_mean(anchor, step_names)}")


def _misplaced(name: str, actual: str) -> PluginError:
    point = only_entry_point(PASSES, name, "pass")
    return malformed(point, "pass", "a position in the pass list of some target", actual)


def _pass_lists() -> Iterator[PassList]:
    """Yield the passes of each target that can be used, and of its other forms, with those of packages."""
    for backend in _whole_backends():
        for target in backend.targets:
            try:
                lists = [backend.passes(target), *backend.forms(target).values()]
            except (BackendError, PluginError):  # a target of a package, which is named itself
                continue
            yield from (with_installed(PassList(passes), backend.name, target) for passes in lists)


def _whole_backends() -> Iterator[Backend]:
    for name in find_backends():
        with suppress(PluginError):
            yield load_backend(name)


def target_of(backend: Backend, target: str | None) -> str:
    """Return the name of a target after checking it; by default the backend's first target."""
    if target is None:
        return next(iter(backend.targets))
    if target in backend.targets:
        return target
    other = _other_with(target, backend.name)
    if other is None:
        rest = {name: each for each in _whole_backends() if each.name != backend.name for name in each.targets}
        hint, in_c = did_you_mean(target, backend.targets), Argument("target", "c")
        if target.lower() in MICROCONTROLLERS or (not hint and did_you_mean(target, MICROCONTROLLERS)):
            hint = f": for a microcontroller write C: {in_c}"
        others = f"; of other backends {', '.join(rest)}" if rest else ""
        hint = hint or did_you_mean(target, rest) or f"{nearest_or_all(target, backend.targets)}{others}"
        raise PluginError(f"backend {backend.name} has no target {target}{hint}")
    own, expected = Argument("backend", backend.name), Argument("backend", other)
    raise PluginError(f"{own}: target {target} is one of backend {other}: give {expected}, or the target alone")


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
