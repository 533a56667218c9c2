"""A list of passes that a person can read and change: each has a name, and where it runs twice a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

from lstmc.errors import PassError
from lstmc.ir import Stage
from lstmc.passes.base import Pass
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
