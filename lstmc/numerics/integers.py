"""The arithmetic of a device with integers only: products with sums of 32 bits, multipliers of 31 bits and a shift,
tables. Every operation is exact, so that a program can compute the same to the bit. A value is an integer times the
scale of its grid, which is symmetric. Each op is a :class:`Kernel` on integers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import frexp, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc import ops
from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref
from lstmc.numerics.device import BITS, Device, Format, Grid, Range
from lstmc.numerics.rounding import DeviceRounding, layer_type

Integers = NDArray[np.int64]
SAME_NUMBERS = (ops.StopGradient, ops.Dropout, ops.Precomputed, ops.Max)  # in addition to ops that move elements
MULTIPLIER_BITS = 31
FRACTIONS = range(10, 5, -1)  # bits of a 16-bit number between two entries of a table
EXP_ZERO = 2**15 - 1  # the 16-bit number for 0 in softmax's table
EXP_UNITS = 2**12  # its entries between -1 and 0: the table ends at -16, where exp is 0 in 15 bits
EVERYTHING: Range = (-inf, inf)
# Functions, and the operand from which the result is within half a step of 8 bits of its asymptote.
SATURATES: Mapping[type[ops.Op], float] = {ops.Sigmoid: 6.24, ops.Tanh: 3.12}


@dataclass(frozen=True)
class Scaling:
    """A factor as a whole number of 31 bits and a shift; an integer times the factor is rounded to nearest, ties up."""

    multiplier: int
    shift: int

    @classmethod
    def of(cls, factor: float) -> Scaling:
        return cls.together([factor])[0]

    @classmethod
    def together(cls, factors: Sequence[float]) -> list[Scaling]:
        """Return several factors with one shift. Raises :class:`BackendError` for a factor of 2^30 or more."""
        largest = max(map(abs, factors))
        shift = min(62, MULTIPLIER_BITS - frexp(largest)[1]) if largest else 1
        if shift < 1:
            raise BackendError(f"a scale of {largest:g} is too large for integers of {MULTIPLIER_BITS} bits")
        most = 2**MULTIPLIER_BITS - 1
        return [cls(max(-most, min(round(factor * 2.0**shift), most)), shift) for factor in factors]

    @property
    def half(self) -> int:
        return 1 << (self.shift - 1)


def _clamped(array: Integers, most: int) -> Integers:
    return np.minimum(np.maximum(array, -most), most)


def shifted(array: Integers, by: Integers | int) -> Integers:
    """Return integers divided by 2^by, rounded to nearest, ties up."""
    return np.asarray((array + (np.asarray(1, np.int64) << (by - 1))) >> by)


def _scaled(array: Integers, scaling: Scaling, most: int) -> Integers:
    return _clamped(shifted(array * scaling.multiplier, scaling.shift), most)


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """An op on integers, with results from -``most`` to ``most``. ``constants`` are its constant operands by slot."""

    most: int
    constants: Mapping[int, Integers] = field(default_factory=dict)

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        """Return the integers of the results for integers of the operands."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Product(Kernel):
    """A product or a convolution with a constant matrix [rows, ...] and a bias; each row has a scaling."""

    op: ops.Linear | ops.Conv
    matrix: Integers
    bias: Integers | None
    scalings: Sequence[Scaling]

    def sum_bits(self, x: int) -> int:
        """Return how many bits, with the sign, a sum may need while it is computed, for integers up to ``x``."""
        sums = np.abs(self.matrix).reshape(len(self.matrix), -1).sum(axis=1) * x
        return int((sums if self.bias is None else sums + np.abs(self.bias)).max()).bit_length() + 1

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        sums = self.op.eval(operands[0].astype(np.float64), self.matrix.astype(np.float64))[0].astype(np.int64)
        rows = (-1, 1, 1) if isinstance(self.op, ops.Conv) else (-1,)
        columns = np.array([(each.multiplier, each.shift) for each in self.scalings], np.int64).T
        multipliers, shifts = (column.reshape(rows) for column in columns)
        sums = sums if self.bias is None else sums + self.bias.reshape(rows)
        return (_clamped(shifted(sums * multipliers, shifts), self.most),)


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightedSum(Kernel):
    """The sum of operands times multipliers and a constant (with the half that makes the shift round), then shifted."""

    multipliers: Sequence[int]
    constant: int
    shift: int

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        total = np.asarray(self.constant, np.int64)
        for operand, multiplier in zip(operands, self.multipliers, strict=True):
            total = total + operand * multiplier
        return (_clamped(total >> self.shift, self.most),)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaledResult(Kernel):
    """The product of two values, or the sum along an axis, times a factor."""

    op: ops.Op
    scaling: Scaling

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        (result,) = self.op.eval(*operands)
        return (_scaled(result.astype(np.int64), self.scaling, self.most),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Lookup(Kernel):
    """A function of one value by a table: with ``fraction`` 0 an entry for each integer from -2^7 on, otherwise for
    every 2^fraction-th integer from -2^15 on, with straight lines between the entries."""

    table: Integers
    fraction: int

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        (x,) = operands
        if self.fraction == 0:
            return (self.table[x + 128],)
        place, rest = (x + 32768) >> self.fraction, (x + 32768) & ((1 << self.fraction) - 1)
        low, high = self.table[place], self.table[place + 1]
        return (low + shifted((high - low) * rest, self.fraction),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalized(Kernel):
    """Softmax along an axis, by a table ``exponential`` of the differences from the maximum, scaled by ``scaling``.
    Each entry is multiplied by ``one`` divided by the sum of the entries (rounded down), and shifted."""

    axis: int
    scaling: Scaling
    exponential: Lookup
    one: int
    shift: int

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        (x,) = operands
        entries = EXP_ZERO + _scaled(x - x.max(axis=self.axis, keepdims=True), self.scaling, 2 * EXP_ZERO + 1)
        (parts,) = self.exponential(entries)
        factors = self.one // parts.sum(axis=self.axis, keepdims=True)
        return (_clamped(shifted(parts * factors, self.shift), self.most),)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaledOperands(Kernel):
    """Elements moved to other places, the largest along an axis, or the greater of two values. Each operand is first
    scaled by its scaling to the result's scale, which it has already if the scaling is None."""

    op: ops.Op
    scalings: Sequence[Scaling | None]

    def __call__(self, *operands: Integers) -> tuple[Integers, ...]:
        pairs = zip(operands, self.scalings, strict=True)
        moved = self.op.eval(*(x if s is None else _scaled(x, s, self.most) for x, s in pairs))
        return tuple(each.astype(np.int64) for each in moved)


def not_measured(value: str) -> BackendError:
    """Return the error that is raised if the ranges lack a value of the net."""
    notes = ["a net of another backend or target has other values: measure them with the same options"]
    return BackendError(f"no range of {value} was measured: expected the ranges of this very net", notes=notes)


class IntegerRounding(DeviceRounding):
    """A device with arithmetic of integers, for the graph of a net of one step. See :class:`DeviceRounding`. A group is
    a set of values with one grid: a value and its pieces, and a state before and after the step (``states`` maps the
    one to the other). An op without an integer form raises :class:`BackendError`, unless its values are ``exact``."""

    joins = False  # whether the parts of a join and the result have one grid

    def __init__(
        self, device: Device, graph: Graph, ranges: Mapping[Ref, Range], states: Mapping[Ref, Ref] = {},
        exact: Collection[Ref] = (), exact_weights: Collection[str] = (), counts: bool = False,
    ) -> None:  # fmt: skip
        self._group = _groups(graph, states, self.joins)
        self._group_ranges: dict[Ref, Range] = {}
        for ref, (low, high) in ranges.items():
            least, greatest = self._group_ranges.get(self._group[ref], (low, high))
            self._group_ranges[self._group[ref]] = min(low, least), max(high, greatest)
        for node in graph:
            if (limits := device.fixed.get(layer_type(node.op))) is not None:
                self._group_ranges[self._group[Ref(node.name)]] = limits
        domains = {node.name: node.op.values for node in graph if isinstance(node.op, ops.Input)}
        whole = [(name, each.high) for name, each in domains.items() if isinstance(each, ops.IntegerRange)]
        self._indices = {self._group[Ref(name)]: high for name, high in whole}  # group of indices -> the largest
        self._state_groups = {self._group[ref] for ref in states.values()}
        self._exact_groups = {self._group[ref] for ref in exact}
        self._members: dict[Ref, set[Ref]] = {group: set() for group in self._group.values()}
        for ref, group in self._group.items():
            self._members[group].add(ref)
        self._needed: dict[Ref, Range] = {}  # results of ``_needs`` by group
        self._kernels: dict[str, Kernel] = {}
        super().__init__(device, graph, ranges, [*states, *states.values()], exact, exact_weights, counts)

    def _format(self, ref: Ref) -> Format:
        """Return the format of a value's group: float if exact, wider for large indices and some devices' states."""
        group = self._group[ref]
        if group in self._exact_groups:
            return "float"
        if self._indices.get(group, 0) > 127:
            return "int16"
        if self.device.state is not None and group in self._state_groups:
            return self.device.state.format
        return self.device.values.format

    def _grid(self, ref: Ref, ranges: Mapping[Ref, Range]) -> Grid | None:
        """Return the grid of a value's group; None for a constant, a value in float, and a group without a range."""
        format, group = self.format_of(ref), self._group[ref]
        if format not in BITS or ref.node in self._fixed:
            return None
        if group in self._indices:
            most = 2 ** (BITS[format] - 1) - 1
            return Grid(1.0, -most, most, nearest=self.device.values.nearest)
        limits = self._limits_of(group)
        return None if limits is None else Grid.of(limits, format, self.device, symmetric=True)

    def _limits_of(self, group: Ref) -> Range | None:
        """Return the measured range of a group, None without one. The part in which all its readers saturate is cut
        off, down to a 64th of the range: XNNPACK refuses sums whose operands and result have very different scales."""
        if (limits := self._group_ranges.get(group)) is None:
            return None
        (low, high), (least, greatest) = self._needs(group), limits
        return max(least, min(low, least / 64)), min(greatest, max(high, greatest / 64))

    def _needs(self, group: Ref) -> Range:
        """Return the range outside of which the results of all readers of a group are constant in 8 bits."""
        if group in self._needed:
            return self._needed[group]
        self._needed[group], refs = EVERYTHING, self._members[group]  # ends recursion at a group computed from itself
        fed = any(isinstance(self._graph.node(ref.node).op, ops.Input) for ref in refs)
        if not fed and group not in self._exact_groups and refs.isdisjoint(out.ref for out in self._graph.outputs):
            read = [(ref, node) for ref in refs for node in self._structure.readers[ref]]
            wanted = [self._needs_of(node, ref) for ref, node in read if self._group[Ref(node.name)] != group]
            lows, highs = zip(*wanted or [EVERYTHING], strict=True)
            self._needed[group] = min(lows), max(highs)
        return self._needed[group]

    def _needs_of(self, node: Node, ref: Ref) -> Range:
        """Return the range of ``ref`` outside of which its sigmoid or tanh, or that of a sum with it, is constant."""
        result, kind = Ref(node.name), type(node.op)
        if self._format(result) != "int8":
            return EVERYTHING
        if kind in SATURATES:
            return -SATURATES[kind], SATURATES[kind]
        others = [self._group_ranges.get(self._group[arg]) for arg in self._graph.args(node.name) if arg != ref]
        if kind is not ops.Add or len(others) != 1 or others[0] is None:
            return EVERYTHING
        (low, high), (least, greatest) = self._needs(self._group[result]), others[0]
        return low - greatest, high - least

    def operands(self, graph: Graph, node: Node, args: Sequence[ops.Array]) -> Sequence[ops.Array]:
        return args if self._in_integers(node) else super().operands(graph, node, args)

    def results(self, graph: Graph, node: Node, args: Sequence[ops.Array], results: ops.Arrays) -> ops.Arrays:
        """Return a node's results in the device's integers, as real numbers."""
        if isinstance(node.op, ops.Leaf) or not self._in_integers(node):
            return super().results(graph, node, args, results)
        if self._counts:
            self._accumulate(node, args)
        kernel = self.kernel(node, args)
        integers = []
        for slot, (ref, array) in enumerate(zip(graph.args(node.name), args, strict=True)):
            grid = self._grids.get(ref)
            constant = kernel.constants.get(slot, np.asarray(0))
            integers.append(constant if grid is None else np.rint(array / grid.scale).astype(np.int64))
        rounded = []
        for out, (array, value) in enumerate(zip(results, kernel(*integers), strict=True)):
            ref, grid = Ref(node.name, out), self._grids[Ref(node.name, out)]
            if self._counts and self._needs(self._group[ref]) == EVERYTHING:
                self.clipped[ref] = self.clipped.get(ref, 0) + grid.clipped(array)
            rounded.append(np.asarray((value * grid.scale).reshape(array.shape), array.dtype))
        return tuple(rounded)

    def on_grids(self, values: Mapping[str, ops.Array]) -> dict[str, ops.Array]:
        """Return the arrays among ``values`` that are the graph's inputs and outputs, rounded to their grids."""
        inputs = (Ref(node.name) for node in self._graph if isinstance(node.op, ops.Input))
        refs = (*inputs, *(output.ref for output in self._graph.outputs))
        grids = {self._graph.value_name(ref): grid for ref in refs if (grid := self.grid(ref))}
        return {name: grid.rounded(values[name].astype(np.float64)) for name, grid in grids.items()}

    def _in_integers(self, node: Node) -> bool:
        """Return whether a node is computed in integers: it is neither constant nor ``exact``. Raises
        :class:`BackendError` for a value without a range."""
        if node.name in self._kernels:
            return True
        if node.name in self._fixed or node.name in self._exact_weights:
            return False
        refs = node.refs
        refs += [ref for ref in self._graph.args(node.name) if ref.node not in self._fixed]
        if any(self._group[ref] in self._exact_groups for ref in refs):
            return False
        missing = [ref for ref in refs if ref not in self._grids]
        if missing:
            raise not_measured(self._graph.value_name(missing[0]))
        return True

    def kernel(self, node: Node, args: Sequence[ops.Array]) -> Kernel:
        """Return the kernel of a node with these constant operands. Raises :class:`BackendError` if it has none."""
        if node.name not in self._kernels:
            self._in_integers(node)  # raises for a value without a range
            try:
                self._kernels[node.name] = self._new_kernel(node, args)
            except BackendError as error:
                raise error.located(node.loc) from None
        return self._kernels[node.name]

    def _operands(self, node: Node, args: Sequence[ops.Array]) -> tuple[list[Grid], dict[int, Integers]]:
        """Return the grids of a node's operands, and the integers of its constant operands by slot."""
        grids, constants = list[Grid](), dict[int, Integers]()
        for slot, (ref, array) in enumerate(zip(self._graph.args(node.name), args, strict=True)):
            grid = self._grids.get(ref)
            if grid is None:
                numbers = np.asarray(array, np.float32).astype(np.float64)
                limits = float(numbers.min()), float(numbers.max())
                grid = Grid.of(limits, self.device.values.format, self.device, symmetric=True)
                constants[slot] = np.rint(grid.rounded(numbers) / grid.scale).astype(np.int64)
            grids.append(grid)
        return grids, constants

    def _new_kernel(self, node: Node, args: Sequence[ops.Array]) -> Kernel:
        """Return the integer kernel of a node. Raises :class:`BackendError` for an op without an integer form."""
        op, result = node.op, self._grids[Ref(node.name)]
        if isinstance(op, ops.Linear | ops.Conv):
            return self._product(op, node, args, result)
        grids, constants = self._operands(node, args)
        scales = [grid.scale / result.scale for grid in grids]
        shared: dict[str, Any] = {"most": result.high, "constants": constants}
        match op:
            case ops.Add() | ops.Sub():
                one, two = Scaling.together([scales[0], scales[1] if isinstance(op, ops.Add) else -scales[1]])
                multipliers = one.multiplier, two.multiplier
                return WeightedSum(**shared, multipliers=multipliers, constant=one.half, shift=one.shift)
            case ops.Affine():
                factor = Scaling.of(scales[0] * op.scale)
                constant = factor.half + round(op.shift / result.scale * 2.0**factor.shift)
                if abs(constant) >= 2**62:
                    raise BackendError(f"affine adds {op.shift:g}, which is too much beside the range of its operand")
                return WeightedSum(**shared, multipliers=(factor.multiplier,), constant=constant, shift=factor.shift)
            case ops.Mul():
                return ScaledResult(**shared, op=op, scaling=Scaling.of(grids[0].scale * scales[1]))
            case ops.Sum():
                return ScaledResult(**shared, op=op, scaling=Scaling.of(scales[0]))
            case ops.Maximum():
                return ScaledOperands(**shared, op=op, scalings=[*map(Scaling.of, scales)])
            case ops.Softmax():
                largest = Grid(1 / EXP_ZERO, -EXP_ZERO, EXP_ZERO)
                units = replace(largest, scale=1 / EXP_UNITS)
                table = _table(lambda x: np.exp(x - EXP_ZERO / EXP_UNITS), units, largest)
                shift = 45 - frexp(1 / result.scale)[1]  # so that a factor has 31 bits
                scaling, unit = Scaling.of(grids[0].scale * EXP_UNITS), round(2.0**shift / result.scale)
                return Normalized(**shared, axis=op.axis, scaling=scaling, exponential=table, one=unit, shift=shift)
        if op.moves or isinstance(op, SAME_NUMBERS):
            scalings = [None if scale == 1 else Scaling.of(scale) for scale in scales]
            return ScaledOperands(**shared, op=op, scalings=scalings)
        if isinstance(op, ops.Pointwise):
            if isinstance(op, ops.Positive | ops.Round) and grids[0].high > 127:
                raise BackendError(f"{op.name} has steps, and so no integer form of 16 bits")
            return _table(op.f, grids[0], result)
        raise BackendError(f"{op.name} has no integer form: {self.device.name} cannot compute it")

    def _product(self, op: ops.Linear | ops.Conv, node: Node, args: Sequence[ops.Array], result: Grid) -> Product:
        """Return the kernel of a product or convolution, whose matrix and bias are integers."""
        x, *fixed = self._graph.args(node.name)
        if x.node in self._fixed or any(ref.node not in self._fixed for ref in fixed):
            raise BackendError(f"{op.name} has an integer form with a matrix and a bias of parameters alone")
        matrix, steps = self.integers(np.asarray(args[1], np.float32))
        units = np.broadcast_to(steps, (len(matrix), *steps.shape[1:])).ravel() * self._grids[x].scale
        bias = None
        if len(args) > 2:
            bias = np.rint(np.asarray(args[2], np.float32).astype(np.float64) / units).astype(np.int64)
        scalings = [Scaling.of(unit / result.scale) for unit in units.tolist()]
        return Product(most=result.high, op=op, matrix=matrix.astype(np.int64), bias=bias, scalings=scalings)


def _table(function: Callable[[ops.Array], ops.Array], x: Grid, y: Grid) -> Lookup:
    """Return the table of a function from the integers of x to the integers of y: for 8 bits an entry for each integer,
    for 16 bits the smallest table whose straight lines are off by at most 1, or else the largest."""
    least = -x.high - 1

    def at(integers: Integers) -> Integers:
        with np.errstate(all="ignore"):
            numbers = np.nan_to_num(function(integers * x.scale) / y.scale, nan=0.0)
        rounded: Integers = np.rint(np.clip(numbers, -y.high, y.high)).astype(np.int64)
        return rounded

    integers = np.arange(least, -least, dtype=np.int64)
    exact = at(integers)
    if x.high == 127:
        return Lookup(most=y.high, table=exact, fraction=0)
    for fraction in FRACTIONS:
        entries = np.arange(least, -least + 1, 1 << fraction, dtype=np.int64)
        lookup = Lookup(most=y.high, table=at(entries), fraction=fraction)
        if np.abs(lookup(integers)[0] - exact).max() <= 1:
            break
    return lookup


def _groups(graph: Graph, states: Mapping[Ref, Ref], joins: bool) -> dict[Ref, Ref]:
    """Return each value's group, named by one of its values: a value with its pieces, its views, and the joins that it
    is a part of (with ``joins``); a state before and after a step."""
    group = {ref: ref for ref in graph.refs()}

    def first(ref: Ref) -> Ref:
        while group[ref] != ref:
            ref = group[ref]
        return ref

    pairs = list(states.items())
    for node in graph:
        args = graph.args(node.name)
        if (joins or len(args) == 1) and (node.op.moves or isinstance(node.op, SAME_NUMBERS)):
            pairs += [(arg, ref) for arg in args for ref in node.refs]
    for one, other in pairs:
        group[first(other)] = first(one)
    return {ref: first(ref) for ref in group}
