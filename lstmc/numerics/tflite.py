"""The integers of a net in TFLite, by one of four sets of kernels, each exact to the bit. An integer minus a zero
point, times a scale, is the value; here zero points are already subtracted from all integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np

from lstmc import ops
from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref
from lstmc.numerics import tflite_kernels
from lstmc.numerics.device import Device, Format, Grid, Range, rounded
from lstmc.numerics.integers import SAME_NUMBERS, IntegerRounding, Integers, Kernel, ScaledOperands, shifted
from lstmc.numerics.ranges import elements_of
from lstmc.numerics.tflite_kernels import I64, by_blocks, by_lines16, scaled_once, scaled_twice, scaled_up, single
from lstmc.ops.base import Draw, Sample, sample_type

Formula = Callable[..., Integers]
TINY = 1 / 64  # the range of a value that is always zero: no scale may be zero, or far from its neighbours' scales
# The grids of results that kernels take for granted, in 8 and in 16 bits.
FIXED: Mapping[type[ops.Op], Mapping[str, Grid]] = {
    ops.Sigmoid: {"int8": Grid(1 / 256, -128, 127, -128), "int16": Grid(1 / 32768, -32768, 32767)},
    ops.Softmax: {"int8": Grid(1 / 256, -128, 127, -128), "int16": Grid(1 / 32768, -32768, 32767)},
    ops.Tanh: {"int8": Grid(1 / 128, -128, 127), "int16": Grid(1 / 32768, -32768, 32767)},
}
JOINS = (ops.Concat, ops.Stack)
# The functions that a target computes in integers of 8 and of 16 bits, beside what all targets do. Not here: DIV, where
# a zero is an error, and in 16 bits RSQRT, whose table has straight lines where it is steep, but for an NPU.
_ALL = ("abs", "maximum", "softmax")
_TABLES = (*_ALL, "exp", "log", "max")
FUNCTIONS: Mapping[str, Mapping[Format, Sequence[str]]] = {
    "tflite": {"int8": (*_TABLES, "rsqrt"), "int16": _TABLES},
    "tflite-micro": {"int8": (*_ALL, "max", "rsqrt"), "int16": _ALL},
    "ethos-u": {"int8": (*_TABLES, "rsqrt"), "int16": (*_TABLES, "rsqrt")},
    "edgetpu": {"int8": (*_TABLES, "rsqrt"), "int16": _TABLES},
}


def keeps_numbers(op: ops.Op) -> bool:
    """Return whether the elements of an op's results are elements of its operands."""
    return op.moves or isinstance(op, SAME_NUMBERS)


def keeps_bits(op: ops.Op) -> bool:
    """Return whether the result of an op has as many bits as its operands."""
    kept = isinstance(op, ops.Add | ops.Sub | ops.Mul | ops.Affine | ops.Abs | ops.Maximum | ops.Sigmoid | ops.Tanh)
    return kept or keeps_numbers(op) or is_square(op)


def is_square(op: ops.Op) -> bool:
    """Return whether an op is written as a product of its operand with itself."""
    return isinstance(op, ops.Power) and op.exponent == 2


@dataclass(frozen=True)
class Requantize(ops.Pointwise):
    """y = x, in ``bits``: a QUANTIZE of TFLite."""

    name = "tflite.requantize"
    bits: int

    def f(self, x: ops.Array) -> ops.Array:
        return x

    def df(self, y: ops.Array, x: ops.Array) -> float:
        return 1.0

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.choice((8, 16))), (sample_type(draw),))


def format_of_bits(bits: int) -> Format:
    """Return the format of integers of 8 or 16 bits."""
    return "int8" if bits == 8 else "int16"


# The bits of each value: a graph in which Requantize nodes stand wherever they change.


def widths(graph: Graph, narrow: Format, states: Mapping[Ref, Ref], state: Format) -> dict[Ref, Format]:
    """Return each value's format: a Requantize's, ``state`` for states and what keeps their bits, else ``narrow``."""
    found: dict[Ref, Format] = {}
    for node in graph:
        args = graph.args(node.name)
        format = narrow
        if isinstance(node.op, Requantize):
            format = format_of_bits(node.op.bits)
        elif isinstance(node.op, ops.Input):
            format = state if Ref(node.name) in states else narrow
        elif keeps_bits(node.op) and any(found.get(ref) == state for ref in args):
            format = state
        found |= dict.fromkeys(node.refs, format)
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Computed(Kernel):
    """A kernel by a formula; its results are from ``least`` to ``most``, from which the zero point is subtracted."""

    least: int
    formula: Formula

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        return (np.clip(self.formula(*operands).astype(I64), self.least, self.most),)


def number_grid(values: ops.Array, format: Format) -> Grid:
    """Return the grid of a constant operand. The scale is a power of two if the constant is a single number."""
    most = 2 ** (7 if format == "int8" else 15)
    largest = float(np.abs(values).max()) or TINY
    scale = 2.0 ** np.ceil(np.log2(largest / most * 2)) if np.size(values) == 1 else np.float32(largest / (most - 1))
    return Grid(float(scale), -most, most - 1)


def integers_of(values: ops.Array, grid: Grid) -> Integers:
    """Return the integers that stand for numbers on a grid, with the zero point subtracted."""
    whole = np.rint(np.asarray(values, np.float64) / grid.scale).astype(I64)
    return np.clip(whole, grid.low - grid.zero, grid.high - grid.zero)


def matrix_integers(matrix: ops.Array, per: str) -> tuple[Integers, ops.Array]:
    """Return the integers of a matrix, and the scale of each row or of the whole matrix, in float32."""
    values = np.asarray(matrix, np.float32)
    most = np.abs(values.reshape(len(values), -1)).max(axis=1)
    scales = np.maximum((most if per == "row" else most.max(keepdims=True)) / np.float32(127), np.float32(1e-9))
    quotients = values / scales.reshape(-1, *[1] * (values.ndim - 1))
    return np.clip(np.rint(quotients), -127, 127).astype(I64), scales


# Sets of kernels, of which the first takes what XNNPACK lacks from the second.
OPTIMISED = ("xnnpack", "litert-optimised")
KERNELS = (ops.Add, ops.Affine, ops.Mul, ops.Relu, Requantize, ops.Sigmoid, ops.Sub, ops.Tanh)


SPAN = 2.0**31  # half the span of integers of 32 bits
WIDEST = 4.0  # from this scale on the kernels of LOGISTIC and TANH overflow


def has_kernel(op: ops.Op, grids: Sequence[Grid | None], result: Grid, target: str | None) -> bool:
    """Return whether a target computes an op on operands of these grids, None for constants, in integers."""
    fixed = [grid is None for grid in grids]
    if isinstance(op, ops.Linear | ops.Conv):
        return not fixed[0] and all(fixed[1:]) and getattr(op, "group", 1) == 1
    if isinstance(op, ops.Sigmoid | ops.Tanh) and (grid := grids[0]) is not None and grid.scale >= WIDEST:
        return False
    if isinstance(op, ops.Abs | ops.Exp | ops.Log | ops.Max | ops.Maximum | ops.Softmax) or (
        isinstance(op, ops.Power) and op.exponent == -0.5
    ):
        kind, operand = "rsqrt" if isinstance(op, ops.Power) else op.name, grids[0]
        negative = operand is not None and operand.low < operand.zero and kind == "rsqrt" and operand.high == 127
        functions = FUNCTIONS[target or "tflite"]["int8" if result.high == 127 else "int16"]
        return kind in functions and not negative  # RSQRT raises an error for negative operands
    return isinstance(op, KERNELS) or is_square(op) or keeps_numbers(op)


def _ends(grid: Grid) -> dict[str, Any]:
    return {"least": grid.low - grid.zero, "most": grid.high - grid.zero}


class TfliteRounding(IntegerRounding):
    """The integers of a net in TFLite. See :class:`~lstmc.numerics.integers.IntegerRounding`."""

    joins = True

    def __init__(self, device: Device, graph: Graph, ranges: Mapping[Ref, Range], states: Mapping[Ref, Ref] = {},
                 *options: Any) -> None:  # fmt: skip
        state = device.values.format if device.state is None else device.state.format
        self._widths = widths(graph, device.values.format, states, state)
        ranges = dict(ranges)
        for node in graph:  # ops that the measured net lacks: their results have their operands' ranges
            if isinstance(node.op, Requantize | ops.Transpose):
                for source in (graph.args(node.name)[0], elements_of(graph, Ref(node.name))):
                    if source in ranges:
                        ranges.setdefault(Ref(node.name), ranges[source])
        super().__init__(device, graph, ranges, states, *options)

    def _format(self, ref: Ref) -> Format:
        return "float" if self._group[ref] in self._exact_groups else self._widths[ref]

    def _grid(self, ref: Ref, ranges: Mapping[Ref, Range]) -> Grid | None:
        """Return a kernel's fixed grid, or that of the measured range; None without one, for constants and floats."""
        format, group = self._formats[ref], self._group[ref]
        if format == "float" or ref.node in self._fixed:
            return None
        fixed = [self._graph.node(each.node) for each, of in self._group.items() if of == group]
        kinds = {type(node.op) for node in fixed} & FIXED.keys()
        if len(kinds) > 1:
            names = ", ".join(sorted(node.name for node in fixed if type(node.op) in kinds))
            raise BackendError(f"one scale for {names}, whose kernels have a scale each", loc=fixed[0].loc)
        if kinds:
            return FIXED[kinds.pop()][format]
        limits = self._limits_of(group)
        if limits is None:
            return None
        low, high = min(limits[0], 0.0), max(limits[1], 0.0)
        high = high if high > low else TINY
        if format == "int16":
            scale = max(-low, high) / 32767
            exponent = log2(scale)
            if round(exponent) in (-12, -11) and abs(exponent - round(exponent)) < 1e-3:
                scale *= 1.002  # LiteRT's optimised TANH and LOGISTIC have another formula at just these (CheckedLog2)
            return Grid(float(np.float32(scale)), -32768, 32767)
        scale = (high - low) / 255
        return Grid(float(np.float32(scale)), -128, 127, int(np.clip(np.rint(-128 - low / scale), -128, 127)))

    def integers(self, array: ops.Array, node: Node | None = None) -> tuple[ops.Array, ops.Array]:
        whole, scales = matrix_integers(array, self.device.weights.per)
        steps = scales.astype(np.float64).reshape(-1, *[1] * (array.ndim - 1))
        return whole.astype(np.float64), np.broadcast_to(steps, (len(array), *steps.shape[1:]))

    def _new_kernel(self, node: Node, args: Sequence[ops.Array]) -> Kernel:
        """Return the kernel of a node; an op without an integer kernel computes in float32."""
        op, result = node.op, self._grids[Ref(node.name)]
        constants: dict[int, Integers] = {}
        sources = self._graph.args(node.name)
        if not has_kernel(op, [self._grids.get(ref) for ref in sources], result, self.device.target):
            return Computed(formula=self._in_floats(node, result), **_ends(result), constants=self._floats(node, args))
        if isinstance(op, ops.Linear | ops.Conv):
            return Computed(formula=self._product(node, args, self._grids[sources[0]], result), **_ends(result))
        grids, format = [], self._widths[Ref(node.name)]
        for slot, (ref, array) in enumerate(zip(sources, args, strict=True)):
            grid = self._grids.get(ref)
            if grid is None:
                grid = result if isinstance(op, (*JOINS, ops.Maximum)) else number_grid(array, format)
                constants[slot] = integers_of(array, grid)
            grids.append(grid)
        if keeps_numbers(op):
            return ScaledOperands(most=2**31, op=op, scalings=[None] * len(args), constants=constants)
        ends = _ends(result) | ({"least": 0} if isinstance(op, ops.Relu) else {})
        return Computed(formula=self._formula(op, grids, result), **ends, constants=constants)

    def _floats(self, node: Node, args: Sequence[ops.Array]) -> dict[int, Any]:
        sources = self._graph.args(node.name)
        return {i: np.asarray(args[i], np.float32) for i, ref in enumerate(sources) if ref.node in self._fixed}

    def _in_floats(self, node: Node, y: Grid) -> Formula:
        """Return the formula of an op without a kernel: a DEQUANTIZE of each operand, the op in floats, a QUANTIZE."""
        grids = [self._grids.get(ref) for ref in self._graph.args(node.name)]
        xnnpack, scale = self.device.kernels == "xnnpack" and y.high == 127, np.float32(y.scale)

        def formula(*operands: Any) -> Integers:
            pairs = zip(operands, grids, strict=True)
            reals = [x if grid is None else x.astype(np.float32) * np.float32(grid.scale) for x, grid in pairs]
            with np.errstate(all="ignore"):
                real = in_float32(node.op, reals)
                if xnnpack:
                    whole = np.rint(np.nan_to_num(real, nan=np.inf) * (np.float32(1) / scale))
                else:
                    whole = rounded(real / scale, "away")
                    overflow = SPAN if y.zero < 0 else -SPAN  # x86's least integer, which a zero point < 0 wraps
                    whole = np.where(np.abs(whole) < SPAN, whole, overflow)
            return np.asarray(np.clip(whole, -SPAN, SPAN), I64)

        return formula

    def _formula(self, op: ops.Op, grids: Sequence[Grid], y: Grid) -> Formula:
        """Return the formula of an op by the device's kernels, for operands on ``grids`` and a result on ``y``."""
        kernels, eight, logistic = self.device.kernels, y.high == 127, isinstance(op, ops.Sigmoid)
        xnnpack = kernels == "xnnpack" and eight
        single = [np.float32(grid.scale) for grid in grids]
        match op:
            case ops.Add() | ops.Sub():
                return tflite_kernels.weighted_sum(grids, y, 1 if isinstance(op, ops.Add) else -1, kernels)
            case ops.Affine():
                return self._affine_formula(op, grids[0], y)
            case ops.Mul() if xnnpack and 2**-16 <= single[0] * single[1] / np.float32(y.scale) < 2**8:
                factor = single[0] * single[1] / np.float32(y.scale)
                return lambda a, b: np.rint((a * b).astype(np.float32) * factor)
            case ops.Mul():
                both = grids[0].scale * grids[1].scale / y.scale
                ratio = both if kernels == "tflm" else float(single[0] * single[1] / np.float32(y.scale))
                return lambda a, b: scaled_twice(a * b, ratio)
            case ops.Power() if is_square(op):
                square = self._formula(ops.Mul(), [grids[0]] * 2, y)
                return lambda a: square(a, a)
            case Requantize():
                return _requantized(grids[0], y, kernels)
            case ops.Maximum():
                one, other = (_requantized(grid, y, kernels) for grid in grids)
                return lambda a, b: np.maximum(one(a), other(b))
            case ops.Abs():
                return tflite_kernels.size_of(grids[0].scale, y.scale, kernels == "tflm")
            case ops.Softmax():
                return self._softmax(op, grids[0], eight)
            case ops.Power() if eight:
                return tflite_kernels.inverse_root(grids[0].scale, y.scale, y.high - y.zero)
            case ops.Exp() | ops.Log() | ops.Power():
                function, x = _function(op, y), grids[0]
                return tflite_kernels.by_table8(function, x, y) if eight else by_lines16(function, x.scale, y.scale)
            case ops.Relu():
                ratio = grids[0].scale / y.scale if kernels == "tflm" else float(single[0] / np.float32(y.scale))
                return lambda a: scaled_twice(a, ratio)
            case ops.Sigmoid() | ops.Tanh() if not eight:
                return lambda a: tflite_kernels.by_table16(logistic, a, grids[0].scale)
            case ops.Sigmoid() | ops.Tanh() if kernels == "tflm":
                return lambda a: tflite_kernels.fixed_point8(logistic, a, grids[0].scale)
            case ops.Sigmoid() | ops.Tanh():
                return lambda a: tflite_kernels.by_floats8(logistic, a, grids[0].scale, xnnpack)
        raise AssertionError(op)

    def _softmax(self, op: ops.Softmax, x: Grid, eight: bool) -> Formula:
        """Return the formula of softmax along the op's axis, in 8 bits if ``eight``, or else in 16 bits."""
        kernels = self.device.kernels
        if eight:
            along = tflite_kernels.softmax8(x.scale, to_floats=kernels in OPTIMISED)
        else:
            along = tflite_kernels.softmax16(x.scale, np.float32 if kernels == "tflm" else np.float64)
        return lambda a: np.moveaxis(along(np.moveaxis(a, op.axis, -1)), -1, op.axis)

    def _affine_formula(self, op: ops.Affine, x: Grid, y: Grid) -> Formula:
        """Return the formula of s - x, s x or x + s, for which TFLite takes s as a second operand."""
        number, format = op.shift or op.scale, format_of_bits(8 if y.high == 127 else 16)
        grid = number_grid(np.asarray(number), format)
        constant = integers_of(np.full((1,), number), grid)
        if op.shift:
            sign, grids = (-1, [grid, x]) if op.scale == -1 else (1, [x, grid])
            total = tflite_kernels.weighted_sum(grids, y, sign, self.device.kernels)
            return (lambda a: total(constant, a)) if sign < 0 else (lambda a: total(a, constant))
        product = self._formula(ops.Mul(), [x, grid], y)
        return lambda a: product(a, constant)

    def _product(self, node: Node, args: Sequence[ops.Array], x: Grid, y: Grid) -> Formula:  # type: ignore[override]
        """Return the formula of a product or convolution; kernels differ in how they round sums times factors."""
        op, kernels, single = node.op, self.device.kernels, np.float32
        assert isinstance(op, ops.Linear | ops.Conv)
        matrix, scales = matrix_integers(args[1], self.device.weights.per)
        bias = bias_integers(args[2] if len(args) > 2 else np.zeros(len(matrix)), x, scales)
        shape = (-1, 1, 1) if isinstance(op, ops.Conv) else (-1,)
        wide, factors = y.high > 127, [x.scale * float(scale) / y.scale for scale in scales]
        if kernels == "tflm" and len(scales) == 1 and isinstance(op, ops.Linear):
            factors = [float(single(x.scale) * scales[0]) / y.scale]
        by_factors: Formula = scaled_once if kernels == "litert-reference" or wide else scaled_up
        if wide and (kernels == "tflm" or isinstance(op, ops.Conv)):
            by_factors = tflite_kernels.scaled_short
        elif kernels == "tflm" or (isinstance(op, ops.Conv) and kernels == "litert-reference"):
            by_factors = scaled_twice
        by_row = single(x.scale) * scales / single(y.scale)

        def formula(a: Integers, *_: Integers) -> Integers:
            sums = op.eval(a.astype(np.float64), matrix.astype(np.float64))[0].astype(I64) + bias.reshape(shape)
            rows = np.moveaxis(sums, -3, -1) if isinstance(op, ops.Conv) else sums
            if kernels == "xnnpack" and not wide:
                found = np.rint(rows.astype(single) * by_row)
            else:
                found = by_factors(rows, *factors)
            return np.moveaxis(found, -1, -3) if isinstance(op, ops.Conv) else found

        return formula


def _requantized(x: Grid, y: Grid, kernels: str) -> Formula:
    """Return the formula of a QUANTIZE. XNNPACK uses a factor of 8 bits between grids of 8 bits."""
    ratio, between_bytes = x.scale / y.scale, x.high == y.high == 127
    if x == y:
        return lambda a: a
    if kernels == "xnnpack" and between_bytes and 2**-8 <= ratio <= 2**7:
        factor = int(np.rint(np.float32(256) * (np.float32(x.scale) / np.float32(y.scale))))
        return lambda a: np.clip(shifted(a * factor, 8), *_ends(y).values())

    def scaled(a: Integers) -> Integers:
        alone = scaled_twice(a, ratio)
        return by_blocks(scaled_up(a, ratio), alone) if kernels in OPTIMISED and between_bytes else alone

    return lambda a: np.clip(scaled(a), *_ends(y).values())


def _function(op: ops.Op, y: Grid) -> Callable[[ops.Array], ops.Array]:
    """Return an op's function in float32 for TFLite's tables: an end of grid ``y`` where a log or root is undefined."""
    if isinstance(op, ops.Exp):
        return single(np.exp)
    end = np.float32(y.scale) * np.float32(y.low - y.zero if isinstance(op, ops.Log) else y.high)
    exact = single(np.log) if isinstance(op, ops.Log) else lambda x: np.float32(1) / np.sqrt(x)
    return lambda x: np.where(x <= 0, end, exact(np.where(x <= 0, np.float32(1), x)))


def in_float32(op: ops.Op, operands: Sequence[ops.Array]) -> ops.Array:
    """Return an op's result as runtimes compute it in float32: sums in order, functions exact to the last bit."""
    (x, *_) = operands
    match op:
        case ops.Sum():
            found = np.take(np.add.accumulate(x, axis=op.axis), -1, axis=op.axis)
        case ops.Power(exponent=-1.0):
            found = np.float32(1) / x
        case ops.Power(exponent=-0.5):
            found = np.float32(1) / np.sqrt(x)
        case ops.Power(exponent=0.5):
            found = np.sqrt(x)
        case ops.Pointwise():
            (found,) = op.eval(x.astype(np.float64))
        case _:
            (found,) = op.eval(*operands)
    return np.asarray(found, np.float32)


def bias_integers(bias: ops.Array, x: Grid, scales: ops.Array) -> Integers:
    """Return a bias as integers in the unit of a product's sums: the scale of x times the scale of the matrix."""
    units = (np.float32(x.scale) * scales).astype(np.float64)
    return np.rint(np.asarray(bias, np.float32).astype(np.float64) / units).astype(I64)
