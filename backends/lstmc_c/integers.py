"""The C of a step in integers, from the kernels of :mod:`lstmc.numerics.integers`: the same numbers, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lstmc.errors import BackendError
from lstmc.ir import Ref
from lstmc.numerics.integers import (
    EXP_ZERO,
    Greater,
    IntegerRounding,
    Integers,
    Kernel,
    Lookup,
    Moved,
    Normalized,
    Product,
    ScaledProduct,
    ScaledSum,
    Scaling,
    WeightedSum,
)
from lstmc.ops import Add, Affine, Array, Conv, Linear, Max, Maximum, Mul, Op, Pointwise, Softmax, Sub, Sum
from lstmc_c.code import ALONG, Writer, along, at
from lstmc_c.elements import ELEMENTS, Names, View, nest
from lstmc_c.numbers import Constants
from lstmc_c.plan import Item, Plan

SUM_BITS = 32


def integer_type(most: int) -> str:
    """Return the type of integers up to ``most``."""
    return "int8_t" if most <= 127 else "int16_t"


def _narrow(sum_: str, scaling: Scaling, most: int) -> str:
    return f"narrow((int64_t){sum_} * {scaling.multiplier} + {scaling.half}, {scaling.shift}, {most})"


def _weighted(kernel: WeightedSum, *reads: str) -> str:
    terms = [f"(int64_t){x} * {factor}" for x, factor in zip(reads, kernel.multipliers, strict=True)]
    return f"narrow({' + '.join([*terms, str(kernel.constant)])}, {kernel.shift}, {kernel.most})"


def _greater(kernel: Greater, *reads: str) -> str:
    scaled = (_narrow(x, scaling, kernel.most) for x, scaling in zip(reads, kernel.scalings, strict=True))
    return f"greater({', '.join(scaled)})"


# An element of a result from an element of each operand.
EXPRESSIONS: Mapping[type[Kernel], Callable[..., str]] = {
    WeightedSum: _weighted,
    ScaledProduct: lambda kernel, x, y: _narrow(f"({x} * {y})", kernel.scaling, kernel.most),
    Greater: _greater,
}


class IntegerWriter(Writer):
    """Writes the groups of a plan in integers. ``values`` has the arrays of constants, ``types`` the type of the
    elements of each array of the caller, by its memory and its name in the plan; scratch memory is int16_t."""

    variable = "int32_t"
    elementwise = (Add, Sub, Mul, Affine, Maximum, *(kind for kind in ELEMENTS if issubclass(kind, Pointwise)))

    def __init__(
        self,
        plan: Plan,
        arrays: Mapping[tuple[str, str], str],
        names: Names,
        rounding: IntegerRounding,
        values: Mapping[Ref, Array],
        types: Mapping[tuple[str, str], str],
        constants: Constants,
    ) -> None:
        super().__init__(plan, arrays, names)
        self.rounding, self.values, self.types, self.constants = rounding, values, types, constants

    def kernel(self, item: Item) -> Kernel:
        """Return the integer kernel of an item's node."""
        graph = self.plan.graph
        refs = graph.args(item.node.name)
        args = [self.values.get(ref, np.asarray(self.plan.numbers.get(ref, 0.0))) for ref in refs]
        kernel = self.rounding.kernel(item.node, args)
        if isinstance(kernel, Product):
            grid = self.rounding.grid(refs[0])
            assert grid is not None
            bits = kernel.sum_bits(grid.high)
            if bits > SUM_BITS:
                raise BackendError(
                    f"the sums of {item.node.name} may need {bits} bits, and have {SUM_BITS}: expected fewer inputs, a"
                    " smaller bias, or values in 8 bits",
                    loc=item.node.loc,
                )
        return kernel

    # where elements are ----------------------------------------------------------------------------------------------

    def _store(self, view: View, element: str, value: str) -> None:
        place = self.plan.places[view.base]
        type_ = self.types.get((place.memory, place.name), "int16_t")
        self.code.add(f"{element} = ({type_}){value};")

    def _slot(self, item: Item, slot: int) -> int:
        """Return the operand of its node that an item reads: a copy reads one of several."""
        if item.op is not None:
            return slot
        refs = self.plan.graph.args(item.node.name)
        return next(i for i, ref in enumerate(refs) if self.plan.views[ref].base == item.reads[0].base)

    def _read(self, item: Item, slot: int, strides: Iterable[int]) -> str:
        view = item.reads[slot]
        if view.base not in self.plan.numbers and self.plan.places[view.base].memory != "weight":
            return self._element(view, strides)
        numbers = self.kernel(item).constants[self._slot(item, slot)]
        if view.base in self.plan.numbers:
            return str(int(numbers.flat[0]))
        name = self.plan.places[view.base].name
        array = self._constant(name, numbers, f"{name}, in integers", integer_type(int(np.abs(numbers).max())))
        return self._element(view, strides, array=array)

    def _constant(self, name: str, values: Integers, comment: str, type_: str) -> str:
        return self.constants.add(name, values.astype(type_.removesuffix("_t")).ravel(), comment)

    # ops -------------------------------------------------------------------------------------------------------------

    def _value(self, item: Item, reads: Sequence[str]) -> str:
        if item.op is None and item.base.out < 0:  # a copy of the same numbers
            return reads[0]
        kernel = self.kernel(item)
        if isinstance(kernel, Moved):
            scaling = kernel.scalings[self._slot(item, 0)]
            return reads[0] if scaling is None else _narrow(reads[0], scaling, kernel.most)
        if isinstance(kernel, Lookup):
            return self._lookup(item.node.op.name, kernel, reads[0])
        return EXPRESSIONS[type(kernel)](kernel, *reads)

    def _lookup(self, name: str, kernel: Lookup, x: str) -> str:
        direct = kernel.fraction == 0
        type_ = integer_type(kernel.most) if direct else "int16_t"
        table = self._constant(f"{name} table", kernel.table, f"{name}, by integers", type_)
        return f"{table}[{x} + 128]" if direct else f"between({table}, {x}, {kernel.fraction})"

    def _other(self, item: Item) -> None:
        self.product = self.kernel(item)
        assert item.op is not None
        WRITERS[type(item.op)](self, item.op, item.result, *item.reads)

    def _rows(self, w: View) -> tuple[str, str, str]:
        """Return the expressions of an integer product: its matrix, the initial value of the sum of ``row``, and the
        scaled sum.
        """
        kernel, name = self.product, self.plan.places[w.base].name
        assert isinstance(kernel, Product)
        matrix = self._constant(name, kernel.matrix, f"{name}, in integers", "int8_t")
        start = "0"
        if kernel.bias is not None:
            start = self._constant(f"{name} bias", kernel.bias, f"the bias of the sums of {name}", "int32_t") + "[row]"
        multipliers, shifts = (
            np.array([getattr(scaling, part) for scaling in kernel.scalings]) for part in ("multiplier", "shift")
        )
        multiplier = self._constant(f"{name} multiplier", multipliers, f"the scale of each sum of {name}", "int32_t")
        shift = self._constant(f"{name} shift", shifts, f"its shift, for {name}", "uint8_t")
        half = f"((int64_t)1 << ({shift}[row] - 1))"
        return matrix, start, f"narrow((int64_t)sum * {multiplier}[row] + {half}, {shift}[row], {kernel.most})"

    def linear(self, op: Linear, y: View, x: View, w: View, b: View | None = None) -> None:
        ins, outs = x.shape[-1], y.shape[-1]
        lead, (to, of) = nest(y.shape[:-1], [view.like(view.cells[..., 0]) for view in (y, x)])
        matrix, start, result = self._rows(w)
        with self.code.loops(lead), self.code.block(f"for (size_t row = 0; row < {outs}; ++row)"):
            self.code.add(f"int32_t sum = {start};")
            element = self._element(x, of, x.cells.strides[-1])
            self.code.add(f"{along(ins)} sum += {matrix}[{ins} * row + {ALONG}] * {element};")
            self._store(y, self._element(y, to, at(0, [y.cells.strides[-1]], ["row"])), result)

    def conv(self, op: Conv, y: View, x: View, w: View, b: View | None = None) -> None:
        matrix, start, result = self._rows(w)
        weight = self._element(w, w.cells.strides, indices=("row", "m", "i", "j"), array=matrix)
        self._convolved(op, y, x, w, (start, weight, result), "row")

    def _check_sum(self, count: int, most: int) -> None:
        if count * most >= 2 ** (SUM_BITS - 1):
            raise BackendError(f"a sum of {count} values may need more than {SUM_BITS} bits")

    def reduction(self, op: Sum | Max, y: View, x: View) -> None:
        kernel = self.product
        first = x.like(np.moveaxis(x.cells, op.axis, 0)[0, ...])
        sizes, (to, of) = nest(y.shape, [y, first])
        element = self._element(first, of, x.cells.strides[op.axis])
        with self.code.loops(sizes):
            if isinstance(kernel, ScaledSum):
                self._check_sum(x.shape[op.axis], kernel.most)
                self.code.add("int32_t sum = 0;")
                self.code.add(f"{along(x.shape[op.axis])} sum += {element};")
                self._store(y, self._element(y, to), _narrow("sum", kernel.scaling, kernel.most))
                return
            self.code.add(f"int32_t most = {self._element(first, of)};")
            self.code.add(f"{along(x.shape[op.axis])} most = {element} > most ? {element} : most;")
            self._store(y, self._element(y, to), "most")

    def softmax(self, op: Softmax, y: View, x: View) -> None:
        kernel, each = self.product, along(x.shape[op.axis])
        assert isinstance(kernel, Normalized)
        self._check_sum(x.shape[op.axis], EXP_ZERO)
        sizes, first, of_each, to_each = self._slices(op.axis, y, x)
        entry = f"{EXP_ZERO} + {_narrow(f'({of_each} - most)', kernel.scaling, 2 * EXP_ZERO + 1)}"
        part = self._lookup("exp", kernel.exponential, entry)
        with self.code.loops(sizes):
            self.code.add(f"int32_t most = {first};")
            self.code.add(f"{each} most = {of_each} > most ? {of_each} : most;")
            self.code.add("int32_t sum = 0;")
            self.code.add(f"{each} sum += {part};")
            self.code.add(f"const int32_t value = (int32_t)({kernel.one} / sum);")
            with self.code.block(each):
                shifted = f"{1 << (kernel.shift - 1)}, {kernel.shift}, {kernel.most}"
                self._store(y, to_each, f"narrow((int64_t){part} * value + {shifted})")


WRITERS: Mapping[type[Op], Callable[..., None]] = {
    Linear: IntegerWriter.linear,
    Conv: IntegerWriter.conv,
    Sum: IntegerWriter.reduction,
    Max: IntegerWriter.reduction,
    Softmax: IntegerWriter.softmax,
}
