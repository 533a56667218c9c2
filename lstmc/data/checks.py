"""Arrays held against a model's inputs: which form they have, and everything that is wrong with them, at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lstmc.arrays import value_problem
from lstmc.data.axes import Axes
from lstmc.errors import size_argument
from lstmc.ops import Input
from lstmc.similar_names import did_you_mean
from lstmc.stored import AnyArray

# examples: the batch axis is of any length. batches: one more axis in front. whole: the same in each batch.
Form = Literal["examples", "batches", "whole"]


@dataclass(frozen=True)
class Given:
    """An input that data is needed for, and the array there is for it. ``form`` is None where the rank fits none."""

    name: str
    op: Input
    axes: Axes
    array: AnyArray

    @property
    def form(self) -> Form | None:
        more = self.array.ndim - len(self.op.shape)
        if more == 1:
            return "batches"
        return None if more else "whole" if self.axes.batch is None else "examples"

    @property
    def count(self) -> int:
        """How many examples or batches there are."""
        shape: tuple[int, ...] = self.array.shape
        return shape[0 if self.form == "batches" or self.axes.batch is None else self.axes.batch]

    @property
    def expected(self) -> str:
        """The shapes it may have, in words."""
        whole = self.axes.text(self.op.shape)
        return f"{self.axes.text(self.op.shape, 'examples')} or [batches, {whole[1:]}"

    def shape_problem(self) -> str | None:
        shape = list(self.op.shape)
        if self.form == "batches":
            shape.insert(0, self.count)
        elif self.form == "examples" and self.axes.batch is not None:
            shape[self.axes.batch] = self.count
        if self.form is None or self.array.shape != tuple(shape):
            return f"wrong shape: {self.name} must be {self.expected}, found {list(self.array.shape)}"
        return None

    def element_problem(self) -> str | None:
        return value_problem(self.name, self.array, self.op.values)


def missing_and_extra(
    needed: Mapping[str, tuple[Input, Axes]], inputs: Mapping[str, str | None], arrays: Mapping[str, AnyArray]
) -> Iterator[str]:
    """What has no array, and what needs none. ``inputs`` are all, each with the output that is carried to it."""
    for name, (op, axes) in needed.items():
        if name not in arrays:
            yield f"missing: {name} {axes.text(op.shape, 'examples')}"
    for name, array in arrays.items():
        if name in needed:
            continue
        if name in inputs:
            carried = inputs[name]
            why = f": it takes the value of {carried}" if carried else ": the net fills it"
        else:
            why = did_you_mean(name, [n for n in needed if n not in arrays])
        yield f"extra: {name} {list(array.shape)}{why}"


def form_problems(given: Iterable[Given]) -> Iterator[str]:
    """What does not fit together: forms that are mixed, numbers of examples or batches that differ or are too few."""
    by_form = {form: [g for g in given if g.form == form] for form in ("examples", "batches")}
    if all(by_form.values()):
        names = {form: ", ".join(g.name for g in found) for form, found in by_form.items()}
        yield f"mixed: {names['batches']} as whole batches, {names['examples']} as examples: give all in one form"
    for form, found in by_form.items():
        counts = {g.name: g.count for g in found}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            yield f"different numbers of {form}: {listed}"
        elif form == "batches" and 0 in counts.values():
            yield "too few batches: found 0"
        elif form == "examples" and found and (count := found[0].count) < (size := batch_size(found[0])):
            name = found[0].axes.sizes[found[0].axes.batch or 0]
            mend = f"make it smaller with {size_argument(name)}"
            yield f"too few examples: found {count}, a batch has {name} = {size}: {mend}"


def batch_size(given: Given) -> int:
    """The number of examples of a batch that an input declares."""
    assert given.axes.batch is not None
    return given.op.shape[given.axes.batch]
