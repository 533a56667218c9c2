"""A list of passes that a person can read and change: each has a name, and where it runs twice a number.

Packages insert passes of their own: entry points of the group ``lstmc.passes``, each an :class:`Insertion`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Self

from lstmc.errors import PassError
from lstmc.ir import Stage
from lstmc.passes.base import Pass
from lstmc.plugins import entry_points_of, load_point, malformed, only_entry_point
from lstmc.text import did_you_mean


def numbered(names: Sequence[str]) -> list[str]:
    """Names of passes in order, each that is there again with the number of its run: ``cse:1``, ``cse:2``."""
    counts, seen = Counter(names), Counter[str]()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(f"{name}:{seen[name]}" if counts[name] > 1 else name)
    return labels


def place_of(names: Sequence[str], name_or_run: str) -> int:
    """Where a pass is among the names of all, in order: ``cse:2`` is its second run, ``cse`` its last.

    Raises :class:`PassError` where there is none.
    """
    runs = [i for i, name in enumerate(names) if name == name_or_run]
    if runs:
        return runs[-1]
    each = numbered(names)
    if name_or_run not in each and name_or_run.removesuffix(":1") in each:  # the first run of a pass that runs once
        name_or_run = name_or_run.removesuffix(":1")
    if name_or_run not in each:
        near = did_you_mean(name_or_run, names) or f": found {', '.join(each) or 'none'}"
        raise PassError(f"there is no pass {name_or_run}{near}")
    return each.index(name_or_run)


class PassList(list[Pass]):
    """The passes that a model goes through, in order. It is a list, with places found by name.

    A pass that runs several times is named with the number of its run, ``cse:2``; a name without one is enough where
    a pass runs once. The methods that change the list return it.
    """

    @property
    def names(self) -> list[str]:
        """The name of each, ``cse:1`` for the first run of one that runs again: ``["simplify:1", "hoist", ...]``."""
        return numbered([step.name for step in self])

    def at(self, name: str) -> int:
        """The index of a pass. Raises :class:`PassError` where there is none of that name, or several."""
        runs = [i for i, step in enumerate(self) if step.name == name]
        if len(runs) > 1:
            listed = ", ".join(self.names[i] for i in runs)
            raise PassError(f"{name} runs {len(runs)} times: name one of {listed}")
        return place_of([step.name for step in self], name)

    def last(self, name: str) -> int:
        """The index of a pass, the last run of one that runs several times. Raises :class:`PassError` for none."""
        return place_of([step.name for step in self], name)

    def insert_before(self, name: str, *passes: Pass) -> Self:
        """Put passes before the one of that name."""
        place = self.at(name)
        self[place:place] = passes
        return self

    def insert_after(self, name: str, *passes: Pass) -> Self:
        """Put passes after the one of that name."""
        place = self.at(name) + 1
        self[place:place] = passes
        return self

    def replace(self, name: str, *passes: Pass) -> Self:
        """Put passes in place of the one of that name; none leave it out."""
        place = self.at(name)
        self[place : place + 1] = passes
        return self

    def upto(self, index: int) -> Self:
        """The list as far as one pass, which is the last of it."""
        return type(self)(self[: index + 1])

    def stage_after(self, index: int) -> Stage:
        """The stage of the graph that a pass leaves; of the model as it was written for -1."""
        reached = [step.after for step in self[: index + 1] if step.after is not None]
        return reached[-1] if reached else Stage.MODEL

    def end_of(self, stage: Stage) -> int:
        """The index of the last pass at a stage, -1 where that is before the first: the model as it was written.

        Raises :class:`PassError` where no pass brings a graph to the stage.
        """
        last_index = {self.stage_after(index): index for index in range(-1, len(self))}
        if stage not in last_index:
            raise PassError(
                f"no pass brings a graph to stage {stage.value}: found {', '.join(s.value for s in last_index)}"
            )
        return last_index[stage]


PASSES = "lstmc.passes"


@dataclass(frozen=True)
class Insertion:
    """A pass, and where it runs: before or after the pass of that name, as :class:`PassList` names it (``cse:2``).

    It goes into every list that has that pass: of all backends, or of the one of that name, and there of all targets,
    or of those.
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
        """Return the name of the pass that it runs before or after."""
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
    """Return the passes of all packages by name. Raises :class:`~lstmc.errors.PluginError` for one that is not whole.

    A broken one is not left out: the net would be another one, without a word.
    """
    return {name: load_insertion(name) for name in entry_points_of(PASSES)}


def load_insertion(name: str) -> Insertion:
    """Return an installed pass. Raises :class:`~lstmc.errors.PluginError` for none, several, or a malformed one."""
    point = only_entry_point(PASSES, name, "pass")
    insertion = load_point(point, "pass")
    for expected, actual in _problems(insertion, point):
        raise malformed(point, "pass", expected, actual)
    assert isinstance(insertion, Insertion)
    return insertion


def _problems(insertion: object, point: EntryPoint) -> Iterator[tuple[str, str]]:
    """Yield the faults of an entry point's object: the expectation, and the actual object."""
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
    """Return the list with the passes of packages in it, those at one place sorted by name.

    A pass may have its place beside one of another package: the list is gone through until nothing is added.
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
