"""The arithmetic of a device in the interpreter: every value, weight and state rounded as the device stores it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import ceil, floor, log2

import numpy as np

from lstmc.ir import Graph, Node, Ref, is_weight
from lstmc.loops.low_precision import rounded_rows, to_format
from lstmc.numerics.device import BITS, Device, Format, Nearest
from lstmc.numerics.ranges import elements_of
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Arrays, Leaf, Linear, Op, Split

Range = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """The numbers that a value can have: ``scale`` times the integers from ``low`` to ``high``, less ``zero``."""

    scale: float
    low: int
    high: int
    zero: int = 0
    nearest: Nearest = "even"

    @classmethod
    def of(cls, limits: Range, format: Format, device: Device, symmetric: bool | None = None) -> Grid:
        """Return the grid of a value with these least and greatest numbers, on a device."""
        values, bits = device.values, BITS[format]
        symmetric = values.symmetric if symmetric is None else symmetric
        low, high = (limit * (1 + values.headroom) for limit in (min(limits[0], 0.0), max(limits[1], 0.0)))
        most = 2 ** (bits - 1) - 1
        if symmetric and values.unsigned and low >= 0:
            return cls._spaced(high / (2**bits - 1), 0, 2**bits - 1, device)
        if symmetric:
            return cls._spaced(max(-low, high) / most, -most - (1 if values.unsigned else 0), most, device)
        grid = cls._spaced((high - low) / (2**bits - 1), 0, 2**bits - 1, device)
        return replace(grid, zero=round(-low / grid.scale))

    @classmethod
    def _spaced(cls, scale: float, low: int, high: int, device: Device) -> Grid:
        scale = float(scale) or 1.0
        if device.values.power_of_two:
            scale = 2.0 ** ceil(log2(scale))
        return cls(scale, low, high, nearest=device.values.nearest)

    def rounded(self, array: Array) -> Array:
        integers = rounded(np.asarray(array, np.float64) / self.scale, self.nearest)
        integers += self.zero
        np.maximum(integers, self.low, out=integers)
        np.minimum(integers, self.high, out=integers)
        integers -= self.zero
        integers *= self.scale
        return integers.astype(array.dtype)

    def clipped(self, array: Array) -> int:
        """Return the number of elements that are outside of the grid by half a step or more."""
        least, most = ((end - self.zero + half) * self.scale for end, half in ((self.low, -0.5), (self.high, 0.5)))
        return int(np.count_nonzero((array < least) | (array > most)))


def rounded(array: Array, nearest: Nearest) -> Array:
    """Return the integers nearest to numbers."""
    if nearest == "even":
        integers = np.rint(array)
    elif nearest == "up":
        integers = np.floor(array + 0.5)
    else:
        integers = np.copysign(np.floor(np.abs(array) + 0.5), array)
    return np.asarray(integers)


def layer_type(op: Op) -> str:
    """Return the name of an op's layers in a device's description: ``InnerProduct``, ``Eltwise SUM``, ``Sigmoid``."""
    operation = getattr(op, "operation", "")
    return f"{getattr(op, 'layer_type', op.name)} {operation}".strip()


def _has(types: Collection[str] | None, op: Op) -> bool:
    kind = layer_type(op)
    return types is None or kind in types or kind.partition(" ")[0] in types


@dataclass(frozen=True)
class _Structure:
    """A graph: its values, the source of each piece or view, the readers of each, and the constant nodes."""

    refs: tuple[Ref, ...]
    sources: Mapping[Ref, Ref]
    readers: Mapping[Ref, Sequence[Node]]
    fixed: frozenset[str]


@lru_cache(maxsize=4)
def _structure(graph: Graph) -> _Structure:
    refs = tuple(Ref(node.name, out) for node in graph for out in range(len(node.types)))
    readers: dict[Ref, list[Node]] = {ref: [] for ref in refs}
    for node in graph:
        for ref in dict.fromkeys(graph.args(node.name)):
            readers[ref].append(node)
    return _Structure(refs, {ref: source_of(graph, ref) for ref in refs}, readers, constants(graph))


def weight_slot(graph: Graph, node: Node, fixed: Collection[str]) -> int | None:
    """Return the operand that is the matrix of a product, if it is computed from parameters alone."""
    names = node.op.operands
    if "w" not in names or names.index("w") == 0:
        return None
    args = graph.args(node.name)
    return names.index("w") if args[names.index("w")].node in fixed else None


class DeviceRounding:
    """The numbers of a device, for the graph of a net of one step. See :class:`~lstmc.interp.Rounding`.

    ``ranges`` has the least and the greatest of each value, ``states`` the values before and after a step. Values in
    ``exact``, and the weights of products called in ``exact_weights``, are kept as they are. With ``counts``,
    ``clipped`` counts the elements that were outside of the range of their value, and ``accumulated`` has the largest
    sum of each product of integers.
    """

    def __init__(
        self,
        device: Device,
        graph: Graph,
        ranges: Mapping[Ref, Range],
        states: Collection[Ref] = (),
        exact: Collection[Ref] = (),
        exact_weights: Collection[str] = (),
        counts: bool = False,
    ) -> None:
        self.device, self._graph, self._exact = device, graph, frozenset(exact)
        self._exact_weights, self._counts = frozenset(exact_weights), counts
        self._structure = _structure(graph)
        self._fixed = self._structure.fixed
        if device.weights.computed:
            leaves = (node.name for node in graph if isinstance(node.op, Leaf) or is_weight(graph, Ref(node.name)))
            self._fixed = self._fixed.intersection(leaves)
        self._states = {self._structure.sources[ref] for ref in states}
        self._of_written_types = {node.name for node in graph if _has(device.values.written, node.op)} - self._fixed
        self._written = set(self._of_written_types)
        if device.values.once:
            readers = self._structure.readers
            read = {
                ref.node for ref in self._structure.refs if any(_has(device.values.read, n.op) for n in readers[ref])
            }
            self._written |= read - self._fixed
        self._written -= {ref.node for ref in self._structure.refs if self._is_folded(ref)}
        self._read = {node.name for node in graph if _has(device.values.read, node.op)} - self._fixed
        self._formats = {ref: self._format(ref) for ref in self._structure.refs}
        grids = ((ref, self._grid(ref, ranges)) for ref in self._structure.refs)
        self._grids = {ref: grid for ref, grid in grids if grid is not None}
        self._weights: dict[tuple[str, int], Array] = {}
        self._sizes: dict[str, Array] = {}
        self.clipped: dict[Ref, int] = {}
        self.accumulated: dict[str, float] = {}

    def format_of(self, ref: Ref) -> Format:
        """Return the format of a value, wherever it is rounded."""
        return self._formats[ref]

    def _format(self, ref: Ref) -> Format:
        source = self._structure.sources[ref]
        if source in self._exact:
            return "float"
        if self.device.state is not None and source in self._states:
            return self.device.state.format
        return self.device.values.format

    def grid(self, ref: Ref) -> Grid | None:
        """Return the integers that a value is stored in, if it is."""
        return self._grids.get(ref)

    @property
    def sites(self) -> list[Ref]:
        """The values that are rounded, each once: not the pieces and views of another."""
        sources = self._structure.sources
        rounded = dict.fromkeys(sources[ref] for ref in sources if self._rounds(ref))
        return [ref for ref in rounded if ref.node not in self._fixed and self.format_of(ref) != "float"]

    def _is_folded(self, ref: Ref) -> bool:
        """Return whether a value is only read by a layer that becomes a part of the one that computes it."""
        readers = self._structure.readers[ref]
        return bool(self.device.values.folded) and len(readers) == 1 and _has(self.device.values.folded, readers[0].op)

    def _rounds(self, ref: Ref) -> bool:
        return ref.node in self._written or any(node.name in self._read for node in self._structure.readers[ref])

    def _grid(self, ref: Ref, ranges: Mapping[Ref, Range]) -> Grid | None:
        source = self._structure.sources[ref]
        format = self.format_of(ref)
        limits = ranges.get(self._joined(source))
        if format not in BITS or limits is None:
            return None
        op = self._graph.node(source.node).op
        limits = next((limit for kind, limit in self.device.fixed.items() if kind == layer_type(op)), limits)
        readers = self._structure.readers[source]
        for kind, most in self.device.clamp.items():
            if readers and all(layer_type(node.op) == kind for node in readers):
                limits = max(limits[0], -most), min(limits[1], most)
        return Grid.of(limits, format, self.device)

    def _joined(self, ref: Ref) -> Ref:
        """Return the sum whose range a product has, where that is a rule of the device; else the value itself."""
        rule = self.device.multipliers
        readers = self._structure.readers[ref]
        if rule is None or not rule.joined or len(readers) != 1 or not _has(rule.sums, readers[0].op):
            return ref
        terms = self._graph.args(readers[0].name)
        products = all(
            _has(rule.products, self._graph.node(term.node).op) and len(self._structure.readers[term]) == 1
            for term in terms
        )
        return Ref(readers[0].name) if products else ref

    def _stored(self, ref: Ref, array: Array) -> Array:
        format = self.format_of(ref)
        if format == "float":
            return array
        if format not in BITS:
            return to_format(array, format)
        grid = self._grids.get(ref)
        if grid is None:
            return array
        if self._counts:
            self.clipped[ref] = self.clipped.get(ref, 0) + grid.clipped(array)
        return grid.rounded(array)

    def operands(self, graph: Graph, node: Node, args: Sequence[Array]) -> Sequence[Array]:
        if node.name in self._fixed:
            return args
        refs, matrix = graph.args(node.name), weight_slot(graph, node, self._fixed)
        read = node.name in self._read
        numbers = []
        for slot, (ref, array) in enumerate(zip(refs, args, strict=True)):
            if matrix is not None and slot >= matrix and ref.node in self._fixed:
                if slot != matrix or node.name not in self._exact_weights:
                    as_value = self._is_value(node, args)
                    of_product = partial(self._matrix, node) if slot == matrix else self._bias
                    array = self._cached(node, slot, array, self._constant if as_value else of_product)
            elif ref.node in self._fixed and (read or node.name in self._of_written_types):
                array = self._cached(node, slot, array, self._constant)
            elif read and self.device.values.dynamic and isinstance(node.op, Linear):
                array = rounded_rows(array, node.op.axis, self.format_of(ref))
            elif read:
                array = self._stored(ref, array)
            numbers.append(array)
        return numbers

    def _cached(self, node: Node, slot: int, array: Array, stored: Callable[[Array], Array]) -> Array:
        key = (node.name, slot)
        if key not in self._weights:
            self._weights[key] = stored(np.asarray(array, np.float32).astype(array.dtype))  # as a net has them
        return self._weights[key]

    def _matrix(self, node: Node, array: Array) -> Array:
        format = self.device.weights.format
        if format == "float":
            return array
        if format not in BITS:
            return to_format(array, format)
        integers, steps = self.integers(array, node)
        return (integers * steps).astype(array.dtype)

    def integers(self, array: Array, node: Node | None = None) -> tuple[Array, Array]:
        """Return the integers of a matrix of weights, and the distances of two numbers in its rows, or in all of it.

        ``node`` is its product, for devices whose matrices are in pieces.
        """
        steps, most = self._steps(array, node), 2 ** (BITS[self.device.weights.format] - 1) - 1
        return np.clip(np.rint(array / steps), -most, most), steps

    def _steps(self, array: Array, node: Node | None = None) -> Array:
        most = 2 ** (BITS[self.device.weights.format] - 1) - 1
        rows = np.abs(array.astype(np.float64)).max(axis=tuple(range(1, array.ndim)), keepdims=True) / most
        pieces = [rows]
        readers = self._structure.readers[Ref(node.name)] if node is not None else ()
        if self.device.weights.per == "row":
            pieces = list(np.split(rows, len(rows)))
        elif self.device.weights.per == "slice" and len(readers) == 1 and isinstance(readers[0].op, Split):
            ends = np.cumsum(readers[0].op.sizes)
            pieces = np.split(rows, ends[:-1]) if ends[-1] == len(rows) else pieces
        steps = np.concatenate([np.full_like(piece, piece.max()) for piece in pieces])
        if self.device.values.power_of_two:
            steps = 2.0 ** np.ceil(np.log2(np.where(steps > 0, steps, 1.0)))
        return np.where(steps > 0, steps, 1.0)

    def _bias(self, array: Array) -> Array:
        """Return a bias as it is stored: integers have 32 bits for it, floating point the format of weights."""
        format = self.device.weights.format
        stays = format in BITS or format == "float" or not self.device.weights.biases
        return array if stays else to_format(array, format)

    def _constant(self, array: Array) -> Array:
        format = self.device.values.format
        if format == "float":
            return array
        if format not in BITS:
            return to_format(array, format)
        return Grid.of((float(array.min()), float(array.max())), format, self.device).rounded(array)

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays) -> Arrays:
        if node.name in self._fixed:
            return results
        if self._counts:
            self._accumulate(node, args)
        if node.name not in self._written:
            return results
        results = self._multiplied(node, args, results)
        return tuple(self._stored(Ref(node.name, out), array) for out, array in enumerate(results))

    def _is_value(self, node: Node, args: Sequence[Array]) -> bool:
        """Return whether the matrix of a product is stored as a value is."""
        return isinstance(node.op, Linear) and args[0].ndim >= self.device.weights.value_axes

    def _accumulate(self, node: Node, args: Sequence[Array]) -> None:
        """Note the largest sum that a product of integers may reach on its way, in units of its accumulator."""
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
        """Return the result of a layer that scales integers by a short number and a shift."""
        rule = self.device.multipliers
        result = self._grids.get(Ref(node.name))
        grids = [self._grids.get(ref) for ref in self._graph.args(node.name)]
        if rule is None or result is None or not all(grids):
            return results
        scales = [grid.scale for grid in grids if grid is not None]
        if _has(rule.sums, node.op):
            factors = [short(scale / result.scale, rule.bits) for scale in scales]
            terms = [
                np.floor(np.asarray(array, np.float64) / scale * factor + 0.5) * result.scale
                for array, scale, factor in zip(args, scales, factors, strict=True)
            ]
            return tuple(array.astype(args[0].dtype) for array in node.op.eval(*terms))
        if _has(rule.products, node.op):
            scale = float(np.prod(scales))
            integers = np.asarray(results[0], np.float64) / scale * short(scale / result.scale, rule.bits)
            return ((np.floor(integers + 0.5) * result.scale).astype(results[0].dtype),)
        return results


def short(factor: float, bits: int) -> float:
    """Return a factor as a number of ``bits`` and a shift: 1/255 in 7 bits is 64 / 2**14."""
    shift = bits - 1 - floor(log2(factor))
    whole = min(floor(factor * 2.0**shift + 0.5), 2**bits - 1)
    return float(whole / 2.0**shift)


def source_of(graph: Graph, ref: Ref) -> Ref:
    """Return the value that a value is a piece or a view of; its numbers are those of that one."""
    while True:
        ref = elements_of(graph, ref)
        if not isinstance(graph.node(ref.node).op, Split):
            return ref
        (ref,) = graph.args(ref.node)
