"""The arithmetic of a device in the interpreter: every value, weight and state rounded as the device stores it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import floor, log2
from typing import Any

import numpy as np

from lstmc.ir import Graph, Node, Ref, is_weight
from lstmc.loops.low_precision import rounded_rows, to_format
from lstmc.numerics.device import BITS, Device, Format, Grid, Range
from lstmc.numerics.ranges import source_of
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Arrays, Concat, Leaf, LeakyRelu, Linear, Op, Split


def layer_type(op: Op) -> str:
    """Return the name of an op's layers in a device's description: ``InnerProduct``, ``Eltwise SUM``, ``LeakyReLU``."""
    name, operation = getattr(op, "layer_type", op.name), getattr(op, "operation", "")
    return f"{'Leaky' if name == 'ReLU' and isinstance(op, LeakyRelu) else ''}{name} {operation}".strip()


def _has(types: Collection[str] | None, op: Op) -> bool:
    """Return whether ``types`` has the type of an op's layers, with or without the operation; None has all types."""
    kind = layer_type(op)
    return types is None or kind in types or kind.partition(" ")[0] in types


@dataclass(frozen=True)
class _Structure:
    """A graph's values, the sources of pieces and views, all readers, the constant nodes, and which values are cut."""

    refs: tuple[Ref, ...]
    sources: Mapping[Ref, Ref]
    readers: Mapping[Ref, Sequence[Node]]
    fixed: frozenset[str]
    cut: frozenset[Ref]


@lru_cache(maxsize=4)
def _structure(graph: Graph, pieces: bool) -> _Structure:
    """Return the structure of a graph. With ``pieces``, the pieces that a Slice cuts are sources of their own."""
    refs = tuple(graph.refs())
    readers: dict[Ref, list[Node]] = {ref: [] for ref in refs}
    for node in graph:
        for ref in dict.fromkeys(graph.args(node.name)):
            readers[ref].append(node)
    sources = {ref: source_of(graph, ref, pieces) for ref in refs}
    cut = frozenset(sources[graph.args(node.name)[0]] for node in graph if isinstance(node.op, Split))
    return _Structure(refs, sources, readers, constants(graph), cut)


def weight_slot(graph: Graph, node: Node, fixed: Collection[str]) -> int | None:
    """Return the slot of a product's matrix that is computed from parameters alone; None for any other node."""
    names = node.op.operands
    if "w" not in names or names.index("w") == 0:
        return None
    args = graph.args(node.name)
    return names.index("w") if args[names.index("w")].node in fixed else None


class DeviceRounding:
    """The numbers of a device, for the graph of a net of one step. See :class:`~lstmc.interp.Rounding`. ``ranges`` has
    the least and the greatest number of each value, ``states`` the values before and after a step. Values in ``exact``,
    and the weights of products in ``exact_weights``, are not rounded. With ``counts``, ``clipped`` counts the elements
    outside of the range of their value, and ``accumulated`` has the largest sum of each product of integers."""

    def __init__(
        self, device: Device, graph: Graph, ranges: Mapping[Ref, Range], states: Collection[Ref] = (),
        exact: Collection[Ref] = (), exact_weights: Collection[str] = (), counts: bool = False,
    ) -> None:  # fmt: skip
        self.device, self._graph, self._exact = device, graph, frozenset(exact)
        self._exact_weights, self._counts = frozenset(exact_weights), counts
        self._structure = _structure(graph, device.values.pieces)
        self._fixed = self._structure.fixed  # constant nodes; with ``computed`` only those that are stored
        if device.weights.computed:
            leaves = (node.name for node in graph if isinstance(node.op, Leaf) or is_weight(graph, Ref(node.name)))
            self._fixed = self._fixed.intersection(leaves)
        self._states = {self._structure.sources[ref] for ref in states}
        # nodes: ``_written`` round their results, ``_read`` their operands, ``_chained`` are one layer with a reader
        floats = self._fixed.union(node.name for node in graph if self._reads_no_product(node))
        self._of_written_types = {node.name for node in graph if _has(device.values.written, node.op)} - floats
        self._written = set(self._of_written_types)
        self._read = {node.name for node in graph if _has(device.values.read, node.op)} - floats
        if device.values.once:
            self._written |= {ref.node for name in self._read for ref in graph.args(name)} - self._fixed
        self._written -= {ref.node for ref in self._structure.refs if self._in_silu(ref)}
        self._chained = {node.name for node in graph if self._is_chained(node)}
        self._written -= self._chained
        self._begun: dict[Ref, tuple[Ref, Array, Array, Array]] = {}  # chained layers' results, as _affine returns them
        self._formats = {ref: self._format(ref) for ref in self._structure.refs}
        self._in_fp16: Collection[str] = ()  # sums in fp16, known when all values have their grids
        grids = ((ref, self._grid(ref, ranges)) for ref in self._structure.refs)
        self._grids = {ref: grid for ref, grid in grids if grid is not None}
        self._sums = {node.name: grid for node in graph if (grid := self._sum_grid(node, ranges)) is not None}
        self._in_fp16 = {node.name for node in graph if self._is_in_fp16(node)}
        self._late = {ref for ref in self._structure.refs if self._is_late(ref)}  # rounded by their readers
        self._weights: dict[tuple[str, int], Array] = {}  # constant operands as stored, by node and slot
        self._sizes: dict[str, Array] = {}  # absolute values of the integers of each product's matrix
        self.clipped: dict[Ref, int] = {}
        self.accumulated: dict[str, float] = {}

    def format_of(self, ref: Ref) -> Format:
        """Return the format to which a value is rounded, by the layer that writes it or by the layers that read it."""
        return "fp16" if self._structure.sources[ref].node in self._in_fp16 else self._formats[ref]

    def _format(self, ref: Ref) -> Format:
        """Return the format of a value by the device's rules: of states, of other values, or floats if it is exact."""
        source = self._structure.sources[ref]
        if source in self._exact:
            return "float"
        if self.device.state is not None and source in self._states:
            return self.device.state.format
        return self.device.values.format

    def grid(self, ref: Ref) -> Grid | None:
        """Return the grid to which a value's own layer rounds it; None for floats and if only its readers round it."""
        return None if ref in self._late else self._grids.get(ref)

    def _is_in_fp16(self, node: Node) -> bool:
        """Return whether a sum is computed in fp16: the ratio of its terms' ranges is above the device's limit."""
        rule, grids = self.device.multipliers, [self._grids.get(ref) for ref in self._graph.args(node.name)]
        if rule is None or not _has(rule.sums, node.op) or len(grids) != 2:
            return False
        ranges = sorted(grid.scale * grid.high for grid in grids if grid is not None)
        return len(ranges) == 2 and ranges[1] > rule.fp16_above * ranges[0]

    def _is_late(self, ref: Ref) -> bool:
        """Return whether a value is rounded by the layers that read it, and not by the layer that writes it."""
        if ref.node in self._in_fp16:
            return True
        is_input = not self._graph.args(ref.node) and ref.node not in self._fixed
        return is_input and any(node.name in self._in_fp16 for node in self._structure.readers[ref])

    @property
    def sites(self) -> list[Ref]:
        """Return the values that are rounded, without pieces and views of other values."""
        sources = self._structure.sources
        rounded = dict.fromkeys(sources[ref] for ref in sources if self._rounds(ref))
        return [ref for ref in rounded if ref.node not in self._fixed and self.format_of(ref) != "float"]

    def _reads_no_product(self, node: Node) -> bool:
        """Return whether the device computes a layer in floats because its operand is not made by a product."""
        if layer_type(node.op) not in self.device.values.behind_product:
            return False
        source = self._graph.node(self._structure.sources[self._graph.args(node.name)[0]].node)
        return weight_slot(self._graph, source, self._structure.fixed) is None

    def _in_silu(self, ref: Ref) -> bool:
        """Return whether a value is a sigmoid that is one function with the product that reads it."""
        node, readers = self._graph.node(ref.node), self._structure.readers[ref]
        alone = self.device.values.silu and layer_type(node.op) == "Sigmoid" and len(readers) == 1
        return alone and {*self._graph.args(readers[0].name)} == {ref, *self._graph.args(node.name)}

    def _rounds(self, ref: Ref) -> bool:
        """Return whether the layer that writes a value rounds it, or a layer that reads it does."""
        readers = self._structure.readers[ref]
        return ref.node in self._written or any(n.name in self._read and not self._is_bias(n) for n in readers)

    def _grid(self, ref: Ref, ranges: Mapping[Ref, Range]) -> Grid | None:
        """Return the grid of a value, from the range of its source. Return None for floats, and without a range."""
        source = self._structure.sources[ref]
        if (layer := self._folded_into(source)) is not None:
            source = Ref(layer.name)
        format, limits = self._formats[ref], self._limits(source, ranges)
        if format not in BITS or limits is None:
            return None
        values, kind = self.device.values, layer_type(self._graph.node(source.node).op)
        is_cut = "Slice" in values.signed and source in self._structure.cut
        signed = kind in values.signed or (is_cut and kind not in self.device.fixed)
        return Grid.of(limits, format, self.device, signed=signed)

    def _sum_grid(self, node: Node, ranges: Mapping[Ref, Range]) -> Grid | None:
        """Return the grid of the sum in a layer (shift + scale * x) ** power; None without a power or a range."""
        if not _has(self.device.values.raised, node.op) or getattr(node.op, "power", 1) == 1:
            return None
        limits = self._limits(self._structure.sources[self._graph.args(node.name)[0]], ranges)
        if limits is None:
            return None
        low, high = sorted(map(float, _sum_and_power(node.op)[0].eval(np.array(limits))[0]))
        return Grid.of((low, high), self.device.values.format, self.device)

    def _folded_into(self, source: Ref) -> Node | None:
        """Return the only reader of a value if the device folds it into the layer that writes the value, else None."""
        readers = self._structure.readers[source]
        return readers[0] if len(readers) == 1 and _has(self.device.values.folded, readers[0].op) else None

    def _limits(self, source: Ref, ranges: Mapping[Ref, Range]) -> Range | None:
        """Return the calibrated range of a value, changed by the device's rules, or None without one."""
        limits = ranges.get(self._joined(source))
        if limits is None:
            return None
        limits = self.device.fixed.get(layer_type(self._graph.node(source.node).op), limits)
        readers = self._structure.readers[source]
        for kind, most in self.device.clamp.items():
            if readers and all(layer_type(node.op) == kind for node in readers):
                limits = max(limits[0], -most), min(limits[1], most)
        if self.device.values.pieces and len(readers) == 1 and isinstance(readers[0].op, Split):
            pieces = [Ref(readers[0].name, out) for out in range(len(readers[0].types))]
            cut = [limit for limit in (self._limits(piece, ranges) for piece in pieces) if limit is not None]
            limits = (min(low for low, _ in cut), max(high for _, high in cut)) if cut else limits
        return limits

    def _joined(self, ref: Ref) -> Ref:
        """Return the value whose range a value takes: by ``joined`` the sum or Concat that reads it, else itself."""
        rule = self.device.multipliers
        readers = self._structure.readers[ref]
        if rule is None or not rule.joined or len(readers) != 1:
            return ref
        (reader,) = readers
        parts = self._graph.args(reader.name)
        nodes = [self._graph.node(part.node) for part in parts]
        if _has(rule.sums, reader.op):
            alike = all(_has(rule.products, node.op) and not self._scales(node) for node in nodes)
        else:
            free = (self._graph.args(node.name) and layer_type(node.op) not in self.device.fixed for node in nodes)
            alike = isinstance(reader.op, Concat) and all(free)
        return Ref(reader.name) if alike and all(len(self._structure.readers[part]) == 1 for part in parts) else ref

    def _stored(self, ref: Ref, array: Array) -> Array:
        """Return an array as the device stores a value. With ``counts``, count the elements outside of its range."""
        format = self._formats[ref]
        if format not in BITS:
            return to_format(array, format)
        grid = self._grids.get(ref)
        if grid is None:
            return array
        if self._counts:
            layer = self._folded_into(ref)
            kept = array if layer is None else layer.op.eval(array)[0]
            self.clipped[ref] = self.clipped.get(ref, 0) + grid.clipped(kept)
        return grid.rounded(array)

    def operands(self, graph: Graph, node: Node, args: Sequence[Array]) -> Sequence[Array]:
        """Return the operands of a node as the device reads them: constants as it stores them, some values rounded."""
        if node.name in self._fixed:
            return args
        refs, matrix = graph.args(node.name), weight_slot(graph, node, self._fixed)
        read = node.name in self._read and not self._is_bias(node)
        numbers = []
        for slot, (ref, array) in enumerate(zip(refs, args, strict=True)):
            if matrix is not None and slot >= matrix and ref.node in self._fixed:
                if slot != matrix or node.name not in self._exact_weights:
                    as_value = isinstance(node.op, Linear) and args[0].ndim >= self.device.weights.value_axes
                    of_product = partial(self._matrix, node) if slot == matrix else self._bias
                    array = self._cached(node, slot, array, self._constant if as_value else of_product)
            elif ref.node in self._fixed and self._scales(node):
                pass
            elif ref.node in self._fixed and (read or node.name in self._of_written_types):
                array = self._cached(node, slot, array, self._constant)
            elif read and self.device.values.dynamic and isinstance(node.op, Linear):
                array = rounded_rows(array, node.op.axis, self.format_of(ref))
            elif node.name in self._in_fp16:
                array = to_format(array, "fp16")
            elif read or ref in self._late:
                array = self._stored(ref, array)
            numbers.append(array)
        return numbers

    def _is_bias(self, node: Node) -> bool:
        """Return whether a node adds a bias: a constant, to a product that nothing else reads, if ``biased``."""
        if not self.device.values.biased or layer_type(node.op) != "add":
            return False
        product, other = self._graph.args(node.name)
        is_product = weight_slot(self._graph, self._graph.node(product.node), self._fixed) is not None
        return is_product and other.node in self._fixed and len(self._structure.readers[product]) == 1

    def _cached(self, node: Node, slot: int, array: Array, stored: Callable[[Array], Array]) -> Array:
        """Return a constant operand of a node as ``stored`` returns it, computed once."""
        key = (node.name, slot)
        if key not in self._weights:
            self._weights[key] = stored(np.asarray(array, np.float32).astype(array.dtype))  # a net's files have float32
        return self._weights[key]

    def _matrix(self, node: Node, array: Array) -> Array:
        """Return the matrix of a product as the device stores it."""
        format = self.device.weights.format
        if format not in BITS:
            return to_format(array, format)
        integers, steps = self.integers(array, node)
        return (integers * steps).astype(array.dtype)

    def integers(self, array: Array, node: Node | None = None) -> tuple[Array, Array]:
        """Return the integers of a matrix, and the scale of each row. ``node`` is the matrix's product."""
        steps, most = self._steps(array, node), 2 ** (BITS[self.device.weights.format] - 1) - 1
        return np.clip(np.rint(array / steps), -most, most), steps

    def _steps(self, array: Array, node: Node | None = None) -> Array:
        """Return the scale of each row of a matrix: its own, one of a piece of the product's result, or one for all."""
        most = 2 ** (BITS[self.device.weights.format] - 1) - 1
        rows = np.abs(array.astype(np.float64)).max(axis=tuple(range(1, array.ndim)), keepdims=True) / most
        pieces = [rows]
        readers = self._structure.readers[Ref(node.name)] if node is not None else ()
        convolved = self.device.weights.per == "slice" and node is not None and not isinstance(node.op, Linear)
        if self.device.weights.per == "row" or convolved:
            pieces = list(np.split(rows, len(rows)))
        elif self.device.weights.per == "slice" and len(readers) == 1 and isinstance(readers[0].op, Split):
            ends = np.cumsum(readers[0].op.sizes)
            pieces = np.split(rows, ends[:-1]) if ends[-1] == len(rows) else pieces
        steps = np.concatenate([np.full_like(piece, piece.max()) for piece in pieces])
        if self.device.values.power_of_two:
            steps = 2.0 ** np.ceil(np.log2(np.where(steps > 0, steps, 1.0)))
        return np.where(steps > 0, steps, 1.0)

    def _bias(self, array: Array) -> Array:
        """Return a bias as it is stored: 32 bits for integers, the format of weights for floating point."""
        format = self.device.weights.format
        stays = format in BITS or not self.device.weights.biases
        return array if stays else to_format(array, format)

    def _constant(self, array: Array) -> Array:
        """Return a constant as the device stores it for a layer that reads it like a value, not as a weight."""
        format = self.device.weights.constants or self.device.values.format
        if format not in BITS:
            return to_format(array, format)
        return Grid.of((float(array.min()), float(array.max())), format, self.device).rounded(array)

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays) -> Arrays:
        """Return the results of a node as the device stores them."""
        if node.name in self._fixed:
            return results
        if self._counts:
            self._accumulate(node, args)
        if node.name in self._sums:
            total, power = _sum_and_power(node.op)
            with np.errstate(divide="ignore", invalid="ignore"):  # 1 / sqrt of a sum that is rounded to 0
                results = power.eval(self._sums[node.name].rounded(total.eval(*args)[0]))
        if node.name in self._in_fp16:
            return tuple(to_format(array, "fp16") for array in results)
        if node.name in self._chained:
            self._begun[Ref(node.name)] = self._affine(node, args)
        if node.name not in self._written or Ref(node.name) in self._late:
            return results
        results = self._multiplied(node, args, results)
        if (factor := self.device.factors.get(layer_type(node.op), 1.0)) != 1:
            results = tuple(array * np.asarray(factor, array.dtype) for array in results)
        return tuple(self._stored(Ref(node.name, out), array) for out, array in enumerate(results))

    def _accumulate(self, node: Node, args: Sequence[Array]) -> None:
        """Note the largest sum that a product of integers may reach while it is computed, in its integers' unit."""
        slot = weight_slot(self._graph, node, self._fixed)
        grid = self._grids.get(self._graph.args(node.name)[0]) if slot is not None else None
        if slot is None or grid is None or self.device.weights.format not in BITS:
            return
        if node.name not in self._sizes:
            self._sizes[node.name] = np.abs(args[slot] / self._steps(args[slot], node))
        operands = [np.abs(args[0]) / grid.scale + abs(grid.zero), self._sizes[node.name]]
        most = max(float(array.max()) for array in node.op.eval(*operands)) if slot == 1 else 0.0
        self.accumulated[node.name] = max(most, self.accumulated.get(node.name, 0.0))

    def _multiplied(self, node: Node, args: Sequence[Array], results: Arrays) -> Arrays:
        """Return the results of a layer that scales integers by a short number and a shift, or else ``results``."""
        rule = self.device.multipliers
        result, refs = self._grids.get(Ref(node.name)), self._graph.args(node.name)
        if rule is None or result is None or any(map(self._in_silu, refs)):
            return results
        if scales_by_constants := self._scales(node):
            source, *args = self._affine(node, args)
            refs = (source,)
        grids = [self._grids.get(ref) for ref in refs]
        if not all(grids):
            return results
        scales = [grid.scale for grid in grids if grid is not None]
        integers = [np.rint(np.asarray(array, np.float64) / scale) for array, scale in zip(args, scales, strict=False)]
        if scales_by_constants:
            _, one, zero = args
            factor, bias = short_affine(one - zero, zero, scales[0], result.scale, rule.bits)
            total: Array = integers[0] * factor + bias
        elif _has(rule.sums, node.op):
            factors = [short(scale / result.scale, rule.bits, 0) for scale in scales]
            total = node.op.eval(*(np.floor(x * factor + 0.5) for x, factor in zip(integers, factors, strict=True)))[0]
        elif _has(rule.products, node.op):
            total = node.op.eval(*integers)[0] * short(float(np.prod(scales)) / result.scale, rule.bits)
        else:
            return results
        return ((np.floor(total + 0.5) * result.scale).astype(results[0].dtype),)

    def _affine(self, node: Node, args: Sequence[Array]) -> tuple[Ref, Array, Array, Array]:
        """Return the operand of a layer that scales by constants, the operand's array, and the layer's results for 1
        and for 0. Chained layers count as one layer, with the operand of the first."""
        (ref, *_), (x, *constants) = self._graph.args(node.name), args
        source, x, one, zero = self._begun.get(ref, (ref, x, np.ones(x.shape), np.zeros(x.shape)))
        one, zero = (np.asarray(node.op.eval(each, *constants)[0]) for each in (one, zero))
        return source, x, one, zero

    def _is_chained(self, node: Node) -> bool:
        """Return whether a layer scales by constants and is computed together with the next layer, which scales too."""
        rule, readers = self.device.multipliers, self._structure.readers[Ref(node.name)]
        given = any(output.ref.node == node.name for output in self._graph.outputs)
        alone = rule is not None and rule.chained and len(readers) == 1 and not given
        return alone and self._scales(node) and self._scales(readers[0])

    def _scales(self, node: Node) -> bool:
        """Return whether a layer multiplies by constants, and may add some, by a short multiplier of the device."""
        rule, constants = self.device.multipliers, self._graph.args(node.name)[1:]
        return rule is not None and _has(rule.affine, node.op) and all(ref.node in self._fixed for ref in constants)


def _sum_and_power(op: Op) -> tuple[Op, Op]:
    layer: Any = op
    return replace(layer, power=1.0), replace(layer, scale=1.0, shift=0.0)


def short(factor: float, bits: int, least: int = -31) -> float:
    """Return a factor as a number of ``bits`` and a shift of ``least`` to 30: 1/255 in 7 bits is 64 / 2**14. A number
    whose bits are all ones is rounded up: 0.999 is 64 / 2**6."""
    shift = max(least, min(bits - 1 - floor(log2(factor)), 30))
    whole = floor(factor * 2.0**shift + 0.5)
    if whole >= 2**bits - 1 and shift > least:
        shift -= 1
        whole = floor(factor * 2.0**shift + 0.5)
    return float(whole / 2.0**shift)


def short_affine(factor: Array, bias: Array, scale: float, result: float, bits: int) -> tuple[Array, Array]:
    """Return factors of ``bits`` and biases of 16 bits, multiples of one power of two, that scale integers. ``scale``
    and ``result`` are the scales of the grids of the operand and of the result."""
    factor, bias, tiny = factor * scale / result, bias / result, 2.0**-30
    shifts = np.floor(np.log2((2**bits - 1) / np.maximum(np.abs(factor), tiny)))
    shifts = np.minimum(shifts, np.floor(np.log2((2**15 - 1) * 1.03 / np.maximum(np.abs(bias), tiny))))
    steps = 2.0 ** np.maximum(shifts, 0)
    return np.rint(factor * steps) / steps, np.rint(bias * steps) / steps
