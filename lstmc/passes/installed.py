"""Passes of packages: entry points of the group ``lstmc.passes``, each an :class:`Insertion` of a pass into lists."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from lstmc.errors import PassError
from lstmc.passes.base import Pass, PassList
from lstmc.plugins import entry_points_of, load_point, malformed, only_entry_point

__all__ = ["Insertion", "installed_passes", "load_insertion", "with_installed"]

PASSES = "lstmc.passes"


@dataclass(frozen=True)
class Insertion:
    """A pass, and the pass before or after which it runs, by its name in :class:`PassList` (``cse:2``).

    It goes into every list that has that pass; ``backend`` and ``targets`` restrict it to a backend and to targets.
    """

    step: Pass
    before: str | None = None
    after: str | None = None
    backend: str | None = None
    targets: Collection[str] | None = None

    @property
    def place(self) -> str:
        """Return where the pass runs, for listings: ``after sink, backend caffe, target flat``."""
        where = [f"after {self.after}" if self.before is None else f"before {self.before}"]
        where += [] if self.backend is None else [f"backend {self.backend}"]
        where += [] if self.targets is None else [f"target {' or '.join(self.targets)}"]
        return ", ".join(where)

    @property
    def anchor(self) -> str:
        """Return the name of the pass before or after which it runs."""
        name = self.after if self.before is None else self.before
        assert name is not None
        return name

    def put_into(self, passes: PassList, backend: str | None, target: str | None) -> bool:
        """Insert the pass into a list in place; return whether it belongs there."""
        applies = self.backend in (None, backend) and (self.targets is None or target in self.targets)
        try:
            at = passes.at(self.anchor)
        except PassError:
            return False
        if applies:
            passes.insert(at + (self.before is None), self.step)
        return applies


def installed_passes() -> dict[str, Insertion]:
    """Return the passes of all packages by name. Raises :class:`~lstmc.errors.PluginError` for a malformed pass.

    A broken pass is not skipped: the net would silently be another net.
    """
    return {name: load_insertion(name) for name in entry_points_of(PASSES)}


def load_insertion(name: str) -> Insertion:
    """Return an installed pass. Raises :class:`~lstmc.errors.PluginError` for no such pass, several, or a malformed
    pass."""
    point = only_entry_point(PASSES, name, "pass")
    insertion = load_point(point, "pass")
    for expected, actual in _problems(insertion, point):
        raise malformed(point, "pass", expected, actual)
    assert isinstance(insertion, Insertion)
    return insertion


def _problems(insertion: object, point: EntryPoint) -> Iterator[tuple[str, str]]:
    """Yield the faults of an entry point's object, as pairs: expected, found."""
    if not isinstance(insertion, Insertion):
        yield 'a lstmc.passes.Insertion, as in Insertion(MyPass(), after="sink")', repr(insertion)
        return
    step = insertion.step
    if not isinstance(step, Pass):
        yield "an Insertion of a Pass", f"one of {step!r}"
    elif step.name != point.name:
        yield f'a pass whose name is that of the entry point, name = "{point.name}"', repr(step.name)
    elif step.after is not None:
        yield "a pass that keeps the stage of the graph", f"one that brings it to {step.after.value}"
    if (insertion.before is None) == (insertion.after is None):
        yield "one of before= and after=", "both" if insertion.before else "neither"
    if isinstance(insertion.targets, str):
        yield "targets as a tuple of names", repr(insertion.targets)


def with_installed(passes: PassList, backend: str | None, target: str | None) -> PassList:
    """Return the list with the passes of packages in it; passes at the same place are sorted by name.

    A pass may be placed beside a pass of another package, so insertion is repeated until nothing is added.
    """
    waiting = dict(sorted(installed_passes().items()))
    while True:
        before = [name for name, each in waiting.items() if each.before is not None]
        after = [name for name, each in waiting.items() if each.before is None]
        placed = [name for name in (*before, *reversed(after)) if waiting[name].put_into(passes, backend, target)]
        if not placed:
            return passes
        for name in placed:
            del waiting[name]
