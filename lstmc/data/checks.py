"""Check training arrays against a model's inputs, and report all problems at once.

The batch axis of an input is the dimension that the model declares as such.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lstmc.dsl import Dim, Model
from lstmc.dsl.dims import Scope
from lstmc.errors import Argument, DataError, DimError, size_argument
from lstmc.files.arrays import AnyArray, value_problem
from lstmc.ops import Input
from lstmc.text import did_you_mean

BATCH = "N"  # as Caffe's own documents call the batch axis


@dataclass(frozen=True)
class Axes:
    """How an input was declared: its sizes as written, and the axis that counts examples (None: it has none)."""

    sizes: tuple[str, ...]
    batch: int | None = None

    def text(self, shape: tuple[int, ...], any_number: str = "") -> str:
        """``[T=3, N=4, 8]``; with ``any_number`` the batch axis is called so: ``[T=3, examples, 8]``."""
        parts = []
        for axis, (written, size) in enumerate(zip(self.sizes, shape, strict=True)):
            named = str(size) if written == str(size) else f"{written}={size}"
            parts.append(any_number if any_number and axis == self.batch else named)
        return f"[{', '.join(parts)}]"


def batch_axes(model: Model, dim: str | None = None) -> dict[str, Axes]:
    """For each input that a model declares, its axes. The batch axis is the one declared as dimension ``dim``.

    An axis of which ``dim`` is only a part, as in ``T*N``, counts something else. Without ``dim`` it is N, if
    there is an N. Raises :class:`DataError` where no input has an axis ``dim``, or one has two.
    """
    found = {}
    for name, declared in model.inputs.items():
        axes = [i for i, size in enumerate(declared.shape) if isinstance(size, Dim) and size.name == (dim or BATCH)]
        if len(axes) > 1:
            raise DataError(f"{name} of {model.name} has {dim or BATCH} twice: expected one axis that counts examples")
        found[name] = Axes(tuple(map(str, declared.shape)), axes[0] if axes else None)
    if dim is not None and all(axes.batch is None for axes in found.values()):
        names = [size.name for declared in model.inputs.values() for size in declared.shape if isinstance(size, Dim)]
        known = ", ".join(dict.fromkeys(names)) or "none"
        argument = Argument("batch", dim)
        raise DataError(f"{argument}: no input of {model.name} has an axis {dim}: found {known}", arguments=(argument,))
    return found


def sizes_of_data(
    model: Model, axes: Mapping[str, Axes], arrays: Mapping[str, AnyArray], given: Collection[str]
) -> dict[str, int]:
    """Return the sizes of the model's dimensions that the arrays show, besides those ``given``, whose names these are.

    An array shows all sizes of its input but the batch size; that too if it has one more axis, in front, which counts
    batches. Raises :class:`~lstmc.errors.DimError` where two arrays show different sizes.
    """
    scope = Scope()
    for name, declared in model.inputs.items():
        shape = arrays[name].shape if name in arrays else ()
        batches = len(shape) == len(declared.shape) + 1
        found = shape[1:] if batches else shape
        if len(found) != len(declared.shape):
            continue
        for axis, (size, number) in enumerate(zip(declared.shape, found, strict=True)):
            if isinstance(size, Dim) and size.name not in given and (batches or axis != axes[name].batch):
                try:
                    scope.bind(size.name, number, f"in {name} {list(shape)} of the data")
                except DimError as error:
                    raise error.located(declared.loc, model.owner) from None
    return {name: scope.size(Dim(name)) for name in scope.names}


def axes_of(name: str, op: Input, declared: Mapping[str, Axes]) -> Axes:
    """The axes of an input; of one that tracing made, as numbers."""
    return declared[name] if name in declared else Axes(tuple(map(str, op.shape)))


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
