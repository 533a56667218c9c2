"""A reshape of a value whose axes lie in another order: possible where whole groups of axes move together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lstmc.importers.describe.shapes import Shape, volume

Order = tuple[int, ...]


def groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """The fewest axes of ``old`` that together are fewest axes of ``new``, from the front, as many elements."""
    i = j = 0
    pending: tuple[list[int], list[int]] | None = None
    while i < len(old) or j < len(new):
        mine: list[int] = []
        theirs: list[int] = []
        while not (mine or theirs) or volume([old[a] for a in mine]) != volume([new[a] for a in theirs]):
            (left, left_names), (right, right_names) = volume([old[a] for a in mine]), volume([new[a] for a in theirs])
            short = left < right or bool(right_names - left_names)
            if i < len(old) and (short or j == len(new) or not mine):
                mine.append(i)
                i += 1
            else:
                theirs.append(j)
                j += 1
        if pending is not None and (not mine or not theirs):  # sizes of 1 at the end belong to what stands before
            pending = (pending[0] + mine, pending[1] + theirs)
            continue
        if pending is not None:
            yield pending
        pending = (mine, theirs)
    if pending is not None:
        yield pending


def regrouped(old: Shape, new: Shape, order: Sequence[int]) -> Order | None:
    """The order of the new axes if the old ones lie in ``order``; None where the reshape would tear a group apart."""
    found: list[int] = []
    parts = list(groups(old, new))
    wide = [axis for axis in order if old[axis] != 1]
    waiting = [([axis for axis in mine if old[axis] != 1], theirs) for mine, theirs in parts]
    while wide:
        group = next((part for part in waiting if part[0] and part[0][0] == wide[0]), None)
        if group is None or wide[: len(group[0])] != group[0]:
            return None
        found += group[1]
        wide = wide[len(group[0]) :]
        waiting.remove(group)
    # groups of ones lie where they are told
    for _, theirs in waiting:
        found += theirs
    return tuple(found)
