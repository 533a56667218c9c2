"""What the axes of inputs are: which one counts examples, and the sizes of the others by the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lstmc.dsl import Dim, Model
from lstmc.dsl.scope import Scope
from lstmc.errors import Argument, DataError, DimError
from lstmc.ops import Input
from lstmc.stored import AnyArray

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
