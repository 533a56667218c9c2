"""Products of generated loops in low precision: weights and rows in bf16, or in int8 with a scale for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal
from zlib import crc32

import numpy as np

from lstmc.ir import Graph, Node
from lstmc.ops import Array, Arrays, Linear

ProductFormat = Literal["float", "bf16", "int8"]
_MOST = {"int8": 127, "int16": 32767}
TIE = 1e-3  # of a step: numbers so near to the middle of two are rounded to either by what float32 makes of them


def to_format(array: Array, format: str) -> Array:
    """Return numbers as fp16 or bf16 stores them, with ties rounded to even. ``float`` changes nothing."""
    if format == "float":
        return array
    if format == "fp16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(array.dtype)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
    rounded = upper.view(np.float32).reshape(np.shape(array)).astype(array.dtype)
    return np.where(np.isnan(array), np.asarray(np.nan, array.dtype), rounded)


def rounded_rows(array: Array, axis: int, format: str, shift: Array | float = 0.0) -> Array:
    """Return an array with each row, which has all axes from ``axis`` on, rounded separately. A row of integers has a
    scale, from the row's largest absolute value. ``shift``, in units of the last digit, is added before numbers are
    rounded."""
    if format not in _MOST:
        return to_format(array * (1 + 2.0**-8 * shift), format)
    rows = np.asarray(array, np.float64).reshape(prod(array.shape[:axis]), -1)
    steps = np.abs(rows).max(axis=1, keepdims=True, initial=0.0) / _MOST[format]
    steps = np.where(steps == 0, 1.0, steps)
    shifted = rows / steps + (np.reshape(shift, rows.shape) if np.ndim(shift) else shift)
    integers = np.clip(np.rint(shifted), -_MOST[format], _MOST[format])
    return (integers * steps).reshape(array.shape).astype(array.dtype)


@dataclass(frozen=True)
class ProductNumbers:
    """The arithmetic of a generated loop's products, whose rows of x and of weights are rounded to ``format``.
    Everything else is float32, also gradients, which are computed at the rounded values. ``tolerance`` is the largest
    change of an output, as a part of its largest element. With a seed ``ties``, numbers near the middle of two
    neighbours are rounded to either at random. See :class:`~lstmc.interp.Rounding`."""

    format: ProductFormat = "float"
    tolerance: float = 0.0
    ties: int | None = None

    def operands(self, graph: Graph, node: Node, args: Sequence[Array]) -> Sequence[Array]:
        """Return the operands of a product rounded to ``format``, row by row; other ops read exact numbers."""
        if not isinstance(node.op, Linear):
            return args
        x, w, *b = args
        return rounded_rows(x, node.op.axis, self.format, self._shift(node, x)), rounded_rows(w, 1, self.format), *b

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays) -> Arrays:
        return results

    def _shift(self, node: Node, x: Array) -> Array | float:
        """Return what is added to ``x`` before rounding: 0, or with ``ties`` TIE, its signs random from seed 2 on."""
        if self.ties is None:
            return 0.0
        if self.ties in (0, 1):
            return (TIE, -TIE)[self.ties]
        rng = np.random.default_rng([self.ties, crc32(node.name.encode())])
        return TIE * rng.choice((-1.0, 1.0), x.shape)

    # for the code of layers

    @property
    def panel(self) -> str:
        """The name of this format's struct in low_precision.h."""
        return self.format.capitalize()

    def floats(self, ins: int) -> int:
        """Return how many floats of memory a column of ``ins`` weights takes in a panel."""
        return {"float": ins, "bf16": (ins + 1) // 2, "int8": (ins + 3) // 4 + 1}[self.format]


FLOAT32 = ProductNumbers()
