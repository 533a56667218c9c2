"""The numbers of a net in C: constant arrays in float32, float16 or integers, in the source or in a separate file; and
a step in integers, by the kernels of :mod:`lstmc.numerics.integers`: the same numbers, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.ir import Node, Ref
from lstmc.loops import memory
from lstmc.loops.index import Index
from lstmc.loops.loop_code import LoopCode
from lstmc.loops.memory import Loop, Place, Sink, Store
from lstmc.numerics import integers
from lstmc.numerics.chosen import ChosenNumbers, step_rounding
from lstmc.numerics.device import Device, Format
from lstmc.numerics.rounding import DeviceRounding
from lstmc.ops import Array, Conv, Full, Linear, Max, Op, Softmax, Sum
from lstmc.text import Names, quoted
from lstmc_c.code import PANEL, StepCode, Writer
from lstmc_c.elements import Use, View, along, nest, number
from lstmc_c.ops import WIDTH
from lstmc_c.plan import Operation, Plan, Step


class Numbers(ChosenNumbers):
    """The numbers of a net in C."""

    backend = "c"

    @staticmethod
    def problem(device: Device) -> str | None:
        """Return what was expected of the device's formats if C cannot compute in them. Return None if C can."""
        weights, values = device.weights.format, device.values.format
        if device.arithmetic == "integer":
            formats = {values, values if device.state is None else device.state.format}
            fits = not device.kernels and weights == "int8" and formats <= {"int8", "int16"}
            return None if fits else "for C in integers, expected weights in int8, values and states in int8 or int16"
        fits = values == "float" and weights in ("float", "fp16", "int8")
        expected = "arithmetic in integers, or values in float and weights in float, fp16 or int8, in which C computes"
        return None if fits else f"expected {expected}"

    @property
    def half(self) -> bool:
        """Whether matrices are float16."""
        return self.device is not None and self.device.weights.format == "fp16"

    def format_of(self, use: Use) -> Format:
        """Return the format of a weight with this use, in a net that computes in floats."""
        if self.device is None or use in ("value", "groups"):
            return "float"
        format = self.device.weights.format
        return "float" if use == "bias" and format == "int8" else format

    def rounding(self, compiled: Compiled) -> DeviceRounding | None:
        """Return the arithmetic of a net of one step in these numbers, or None for float32."""
        if self.device is None:
            return None
        if not self.integers:
            return DeviceRounding(self.device, compiled.expanded, {})
        return step_rounding(self.device, compiled, self.limits or {})


FLOAT32 = Numbers()
_PER_LINE = 8  # numbers
LARGE = 1024  # bytes


@dataclass(frozen=True)
class Constant:
    """A constant array of C."""

    name: str
    values: Array
    comment: str

    @property
    def type(self) -> str:
        name = self.values.dtype.name
        return {"float32": "float", "float16": "uint16_t"}.get(name, f"{name}_t")  # the bits of a float16 are integers

    @property
    def size(self) -> int:
        return int(self.values.size)

    @property
    def is_large(self) -> bool:
        """Whether the array begins at a cache line, because a vector across two lines takes twice the time."""
        return self.values.nbytes >= LARGE

    @property
    def lines(self) -> list[str]:
        values = self.values.view(np.uint16) if self.values.dtype == np.float16 else self.values
        texts = [number(value) if self.type == "float" else str(value) for value in values.tolist()]
        return [", ".join(texts[i : i + _PER_LINE]) + "," for i in range(0, len(texts), _PER_LINE)]


class Constants:
    """The constant arrays of a net; equal arrays are stored once. ``in_file``: the source reads the arrays from a
    struct, whose layout does not depend on their numbers: so equal arrays with different names are both stored."""

    def __init__(self, names: Names, in_file: bool) -> None:
        self.names, self.in_file = names, in_file
        self.list: list[Constant] = []
        self._known: dict[tuple[str, str, bytes], str] = {}

    def add(self, name: str, values: Array, comment: str) -> str:
        """Return the C name of an array, which resembles ``name``. Arrays that are stored once share one name."""
        key = (name if self.in_file else "", values.dtype.str, values.tobytes())
        if key not in self._known:
            constant = Constant(self.names.unique(name), values, quoted(comment, "comment"))
            self.list.append(constant)
            self._known[key] = f"weights->{constant.name}" if self.in_file else constant.name
        return self._known[key]

    @property
    def ordered(self) -> list[Constant]:
        """The arrays in their order. In a file the widest elements come first, so that the struct has no gaps."""
        return sorted(self.list, key=lambda each: -each.values.dtype.itemsize) if self.in_file else self.list

    @property
    def bytes(self) -> int:
        """The size of all arrays; if they are in a file, the size of the file with its two checksums."""
        size = sum(constant.values.nbytes for constant in self.list)
        return size + -size % 4 + 8 if self.in_file else size


PANELS: Mapping[Use, int] = {"panel": PANEL, "groups": PANEL, "windows": PANEL, "lanes": WIDTH}  # rows of a panel


def in_panels(weight: Array, use: Use = "panel") -> Array:
    """Return a weight as products read it: in panels of rows, each column by column; lanes get zeros as last rows."""
    rows, of_groups = PANELS[use], use == "groups"
    matrices = [matrix.reshape(len(matrix), -1) for matrix in (weight if of_groups else [weight])]
    if use == "lanes":
        matrices = [np.pad(matrices[0], ((0, -len(weight) % rows), (0, 0)))]
    return np.concatenate([m[row : row + rows].T.ravel() for m in matrices for row in range(0, len(m), rows)])


def in_bands(matrix: Array) -> tuple[list[Array], NDArray[Any]]:
    """Return each panel of rows from its first to its last column that is not zero, and the bounds of these columns."""
    panels = [matrix[row : row + PANEL] for row in range(0, len(matrix), PANEL)]
    used = [np.flatnonzero(panel.any(0)) for panel in panels]
    bounds = np.array([(columns[0], columns[-1] + 1) if columns.size else (0, 0) for columns in used], np.uint32)
    return [panel[:, low:high] for panel, (low, high) in zip(panels, bounds, strict=True)], bounds


def finite(name: str, array: Array, dtype: type[np.generic]) -> Array:
    """Return weights in ``dtype``. Raises :class:`BackendError` for a number that is not finite in this type."""
    with np.errstate(over="ignore"):
        stored = np.asarray(array).astype(dtype)
    if not np.isfinite(stored).all():
        raise BackendError(f"weight {name} is not finite in {np.dtype(dtype).name}: C has no constant for it")
    return stored


def layout_checksum(constants: Sequence[Constant]) -> int:
    """Return the checksum of the names, types and sizes of a file's arrays."""
    return crc32("".join(f"{each.type} {each.name}[{each.size}];" for each in constants).encode())


def weights_file(constants: Sequence[Constant]) -> bytes:
    """Return a file of weights: checksums of layout and arrays, the arrays, zeros up to 4 bytes; all little-endian."""
    arrays = b"".join(each.values.astype(each.values.dtype.newbyteorder("<")).tobytes() for each in constants)
    arrays += bytes(-len(arrays) % 4)
    return np.array([layout_checksum(constants), crc32(arrays)], "<u4").tobytes() + arrays


SUM_BITS = 32
ROWS = 4  # rows of a matrix whose sums of integers are computed together


def integer_type(most: int) -> str:
    """Return the C type of integers from -``most`` to ``most``."""
    return "int8_t" if most <= 127 else "int16_t"


def _narrow(sum_: str, scaling: integers.Scaling, most: int) -> str:
    return f"narrow((int64_t){sum_} * {scaling.multiplier} + {scaling.half}, {scaling.shift}, {most})"


def _weighted(kernel: integers.WeightedSum, *reads: str) -> str:
    terms = [f"(int64_t){x} * {factor}" for x, factor in zip(reads, kernel.multipliers, strict=True)]
    return f"narrow({' + '.join([*terms, str(kernel.constant)])}, {kernel.shift}, {kernel.most})"


def _greater(kernel: integers.ScaledOperands, *reads: str) -> str:
    pairs = zip(reads, kernel.scalings, strict=True)
    return f"greater({', '.join(_narrow(x, scaling, kernel.most) if scaling else x for x, scaling in pairs)})"


# An element of a result from an element of each operand.
EXPRESSIONS: Mapping[type[integers.Kernel], Callable[..., str]] = {
    integers.WeightedSum: _weighted,
    integers.ScaledResult: lambda kernel, x, y: _narrow(f"({x} * {y})", kernel.scaling, kernel.most),
    integers.ScaledOperands: _greater,
}


class IntegerCode(StepCode):
    """Writes the lines of loops that compute in integers."""

    def __init__(self, step: Step, writer: IntegerWriter) -> None:
        super().__init__(step, writer.names)
        self.writer = writer

    def expression(self, node: Node, reads: Sequence[str]) -> str:
        kernel = self.writer.kernel(node)
        if isinstance(kernel, integers.Lookup):
            return self.writer.lookup(node.op.name, kernel, reads[0])
        return EXPRESSIONS[type(kernel)](kernel, *reads)

    def constant(self, loop: Loop, node: Node | None, slot: int, ref: Ref, index: Index) -> str | None:
        """Return a constant operand as C: a number, or an element of an added array. Return None for other operands."""
        source = self.values.sources.get(ref)
        if node is None or self.values.computed(ref) or (source is not None and source.array.kind != "weight"):
            return None
        numbers = self.writer.kernel(node).constants[slot]
        if self.values.constant(ref) is not None:
            return str(int(numbers.flat[0]))
        name, type_ = self.values.graph.value_name(ref), integer_type(int(np.abs(numbers).max()))
        text = self.writer.constant(name, numbers, f"{name}, in integers", type_)
        return self._element(loop, Place(memory.Array("weight", -1, text, numbers.size, False, False)), index)

    def copy(self, sink: Sink, index: Index) -> Loop:
        """Return the loop of a copy. An operand of a join is scaled to the scale of the join's result."""
        loop = super().copy(sink, index)
        kernel = None if sink.node is None else self.writer.kernel(sink.node)
        (line,) = loop.lines
        if isinstance(kernel, integers.ScaledOperands) and isinstance(line, Store):
            scaling = kernel.scalings[sink.slot]
            loop.lines = [replace(line, value=_narrow(line.value, scaling, kernel.most) if scaling else line.value)]
        return loop

    def summed(self, node: Node, total: str) -> str:
        """Return the C of a sum's result: the total, scaled. Raises :class:`BackendError` if the total may overflow."""
        kernel, op = self.writer.kernel(node), node.op
        assert isinstance(kernel, integers.ScaledResult)
        assert isinstance(op, Sum)
        check_sum(self.values.graph.type(*self.values.graph.args(node.name)).shape[op.axis], kernel.most)
        return _narrow(total, kernel.scaling, kernel.most)


def check_sum(count: int, most: int) -> None:
    """Raise :class:`BackendError` if a sum of ``count`` values up to ``most`` may overflow."""
    if count * most >= 2 ** (SUM_BITS - 1):
        raise BackendError(f"a sum of {count} values may need more than {SUM_BITS} bits")


class IntegerWriter(Writer):
    """Writes the C of a plan that computes in integers; scratch memory is int16_t. ``values`` has the arrays of
    constants, ``types`` the C type of each array of the caller, by its kind and its name in the plan."""

    variable = "int32_t"

    def __init__(
        self, plan: Plan, arrays: Mapping[tuple[str, str], str], names: Names, rounding: integers.IntegerRounding,
        values: Mapping[Ref, Array], types: Mapping[tuple[str, str], str], constants: Constants,
    ) -> None:  # fmt: skip
        super().__init__(plan, arrays, names)
        self.rounding, self.values, self.types, self.constants = rounding, values, types, constants

    def loop_code(self, step: Step) -> LoopCode:
        return IntegerCode(step, self)

    def kernel(self, node: Node) -> integers.Kernel:
        """Return the kernel of a node. Raises :class:`BackendError` if a sum may need more than SUM_BITS bits."""
        graph, refs = self.plan.graph, self.plan.graph.args(node.name)
        ops = {ref: graph.node(ref.node).op for ref in refs}
        numbers = {ref: np.asarray(op.value if isinstance(op, Full) else 0.0) for ref, op in ops.items()}
        kernel = self.rounding.kernel(node, [self.values.get(ref, numbers[ref]) for ref in refs])
        if isinstance(kernel, integers.Product):
            grid = self.rounding.grid(refs[0])
            assert grid is not None
            bits = kernel.sum_bits(grid.high)
            if bits > SUM_BITS:
                expected = "expected fewer inputs, a smaller bias, or values in 8 bits"
                problem = f"the sums of {node.name} may need {bits} bits, and have {SUM_BITS}: {expected}"
                raise BackendError(problem, loc=node.loc)
        return kernel

    # the places of elements ------------------------------------------------------------------------------------------

    def _type(self, array: memory.Array) -> str:
        return "int16_t" if array.kind == "buffer" else self.types[self.kind(array), array.name]

    def _store(self, array: memory.Array, element: str, value: str) -> None:
        self.code.add(f"{element} = ({self._type(array)}){value};")

    def constant(self, name: str, values: integers.Integers, comment: str, type_: str) -> str:
        return self.constants.add(name, values.astype(type_.removesuffix("_t")).ravel(), comment)

    # ops -------------------------------------------------------------------------------------------------------------

    def lookup(self, name: str, kernel: integers.Lookup, x: str) -> str:
        """Return the C of a function's result at the integer ``x``, from the function's table."""
        direct = kernel.fraction == 0
        type_ = integer_type(kernel.most) if direct else "int16_t"
        table = self.constant(f"{name} table", kernel.table, f"{name}, by integers", type_)
        return f"{table}[{x} + 128]" if direct else f"between({table}, {x}, {kernel.fraction})"

    def _operation(self, work: Operation) -> None:
        self.product = self.kernel(work.node)
        WRITERS[type(work.op)](self, work.op, View.of(work.y, work.shape), *work.reads)

    def _rows(self, w: View) -> tuple[str, str, str]:
        """Return three expressions of a product: its matrix, the first value of a sum, and the result from a sum."""
        kernel, name = self.product, w.place.array.name
        assert isinstance(kernel, integers.Product)
        matrix = self.constant(name, kernel.matrix, f"{name}, in integers", "int8_t")
        start = "0"
        if kernel.bias is not None:
            start = self.constant(f"{name} bias", kernel.bias, f"the bias of the sums of {name}", "int32_t") + "[row]"
        multipliers, shifts = np.array([(each.multiplier, each.shift) for each in kernel.scalings]).T
        multiplier = self.constant(f"{name} multiplier", multipliers, f"the scale of each sum of {name}", "int32_t")
        shift = self.constant(f"{name} shift", shifts, f"its shift, for {name}", "uint8_t")
        product = f"(int64_t)sum * {multiplier}[row]"
        if shifts.min() > 32:
            return matrix, start, f"narrow_high({product}, {shift}[row], {kernel.most})"
        return matrix, start, f"narrow({product} + ((int64_t)1 << ({shift}[row] - 1)), {shift}[row], {kernel.most})"

    def linear(self, op: Linear, y: View, x: View, w: View, b: View | None = None) -> None:
        """Write a matrix product in integers: sums of ``ROWS`` rows at a time, each then scaled to the result."""
        ins, outs = x.shape[-1], y.shape[-1]
        lead, (to, of) = nest(y.shape[:-1], [view.without(-1) for view in (y, x)])
        matrix, start, result = self._rows(w)
        operand = self._type(x.place.array).removesuffix("_t")
        rows = str(ROWS) if outs % ROWS == 0 else f"lesser({outs} - first, {ROWS})"
        with self.code.loops(lead), self.code.block(f"for (size_t first = 0; first < {outs}; first += {ROWS})"):
            self.code.add(f"int32_t totals[{ROWS}] = {{0}};")
            arrays = f"totals, {matrix} + {ins} * first, {self._address(x, of)}"
            self.code.add(f"row_sums_{operand}({arrays}, {rows}, {ins});")
            with self.code.block(f"for (size_t row = first; row < first + {rows}; ++row)"):
                self.code.add(f"const int32_t sum = {start} + totals[row - first];".replace(" 0 + ", " "))
                self._store(y.place.array, self._element(y, to, "row"), result)

    def conv(self, op: Conv, y: View, x: View, w: View, b: View | None = None) -> None:
        matrix, start, result = self._rows(w)
        weight = self._element(w, w.strides, indices=("row", "m", "i", "j"), array=matrix)
        self._convolved(op, y, x, w, (start, weight, result), "row")

    def most(self, op: Max, y: View, x: View) -> None:
        first = x.without(op.axis)
        sizes, (to, of) = nest(y.shape, [y, first])
        element = self._element(first, of, x.strides[op.axis])
        with self.code.loops(sizes):
            self.code.add(f"int32_t most = {self._element(first, of)};")
            self.code.add(f"{along(x.shape[op.axis])} most = {element} > most ? {element} : most;")
            self._store(y.place.array, self._element(y, to), "most")

    def softmax(self, op: Softmax, y: View, x: View) -> None:
        """Write a softmax in integers: exponentials from a table, divided by their sum."""
        kernel, each = self.product, along(x.shape[op.axis])
        assert isinstance(kernel, integers.Normalized)
        check_sum(x.shape[op.axis], integers.EXP_ZERO)
        sizes, first, of_each, to_each = self._slices(op.axis, y, x)
        entry = f"{integers.EXP_ZERO} + {_narrow(f'({of_each} - most)', kernel.scaling, 2 * integers.EXP_ZERO + 1)}"
        part = self.lookup("exp", kernel.exponential, entry)
        with self.code.loops(sizes):
            self.code.add(f"int32_t most = {first};")
            self.code.add(f"{each} most = {of_each} > most ? {of_each} : most;")
            self.code.add("int32_t sum = 0;")
            self.code.add(f"{each} sum += {part};")
            self.code.add(f"const int32_t value = (int32_t)({kernel.one} / sum);")
            with self.code.block(each):
                shifted = f"{1 << (kernel.shift - 1)}, {kernel.shift}, {kernel.most}"
                self._store(y.place.array, to_each, f"narrow((int64_t){part} * value + {shifted})")


WRITERS: Mapping[type[Op], Callable[..., None]] = {
    Linear: IntegerWriter.linear, Conv: IntegerWriter.conv, Max: IntegerWriter.most, Softmax: IntegerWriter.softmax,
}  # fmt: skip
