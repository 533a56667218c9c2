"""Which axis of an input counts examples: the one that the model declares as its batch dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lstmc.dsl import Dim, Model
from lstmc.errors import Argument, DataError
from lstmc.ops import Input

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


def axes_of(name: str, op: Input, declared: Mapping[str, Axes]) -> Axes:
    """The axes of an input; of one that tracing made, as numbers."""
    return declared[name] if name in declared else Axes(tuple(map(str, op.shape)))
