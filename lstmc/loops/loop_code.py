"""The loops of a step as C++: one line for each elementwise op, copy or sum, with the indices of each operand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from lstmc.ir import Graph, Node, Ref
from lstmc.loops.memory import Loop, Names, Place, Sink, Store, plain
from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Binary,
    Cos,
    Elu,
    Exp,
    Full,
    Largest,
    LeakyRelu,
    Log,
    Max,
    Maximum,
    Mul,
    Op,
    Positive,
    Power,
    Relu,
    Reshape,
    Round,
    Sigmoid,
    Sin,
    Softmax,
    Softplus,
    Split,
    StopGradient,
    Sub,
    Sum,
    Tanh,
    Tile,
    Transpose,
)
from lstmc.ops.binary import covered_axes

Shape = tuple[int, ...]


def number(value: float) -> str:
    """A float as C++ writes it, to the bit."""
    return f"{value!r}f" if "e" in repr(value) or "." in repr(value) else f"{value!r}.0f"


def _power(op: Any, x: str) -> str:
    exponent = op.exponent
    if exponent == 0.5:
        return f"std::sqrt({x})"
    if exponent == int(exponent) and 1 <= abs(exponent) <= 4:
        product = " * ".join([x] * int(abs(exponent)))
        return product if exponent > 0 else f"1.0f / ({product})"
    return f"std::pow({x}, {number(exponent)})"


# of an op and its operands' elements
ELEMENT: dict[type[Op], Callable[..., str]] = {
    Sigmoid: lambda op, x: f"sigmoid({x})",
    Tanh: lambda op, x: f"tanh_({x})",
    Relu: lambda op, x: f"({x} > 0.0f ? {x} : {x} != {x} ? {x} : 0.0f)",
    LeakyRelu: lambda op, x: f"({x} > 0.0f ? {x} : {number(op.slope)} * {x})",
    Positive: lambda op, x: f"({x} > 0.0f ? 1.0f : 0.0f)",
    Softplus: lambda op, x: f"softplus({x})",
    Elu: lambda op, x: f"({x} > 0.0f ? {x} : {number(op.alpha)} * std::expm1({x}))",
    Abs: lambda op, x: f"std::fabs({x})",
    Exp: lambda op, x: f"exp_({x})",
    Log: lambda op, x: f"std::log({x})",
    Sin: lambda op, x: f"std::sin({x})",
    Cos: lambda op, x: f"std::cos({x})",
    Power: _power,
    Round: lambda op, x: f"std::nearbyint({x})",
    Affine: lambda op, x: f"{number(op.scale)} * {x} + {number(op.shift)}" if op.shift else f"{number(op.scale)} * {x}",
    StopGradient: lambda op, x: x,
    Add: lambda op, x, y: f"{x} + {y}",
    Sub: lambda op, x, y: f"{x} - {y}",
    Mul: lambda op, x, y: f"{x} * {y}",
    Maximum: lambda op, x, y: f"({x} > {y} || {x} != {x} ? {x} : {y})",
}
CHEAP = (Add, Sub, Mul, Affine, Positive, StopGradient)  # computed again rather than kept
MOVES = (Reshape, Split, Tile, Transpose)
LIGHT: tuple[type[Op], ...] = (*ELEMENT, *MOVES, Sum)  # cheaper in a loop than as a sequence in memory


def moved(op: Op, out: int, shape: Shape, index: str) -> str:
    """Where in the operand, of ``shape``, the element ``index`` of a result is, both in row-major order."""
    match op:
        case Reshape():
            return index
        case Split(axis, sizes):
            before, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
            start, size = sum(sizes[:out]) * inner, sizes[out] * inner
            if before == 1:
                return added(index, start)
            return f"({index}) / {size} * {shape[axis] * inner} + {start} + ({index}) % {size}"
        case Tile(axis, tiles):
            inner = prod(shape[axis:])
            if inner == 1 and prod(shape) == 1:
                return "0"
            if prod(shape[:axis]) == 1:
                return f"({index}) % {inner}"
            return f"({index}) / {inner * tiles} * {inner} + ({index}) % {inner}"
        case Transpose(axis):
            inner, (rows, columns) = prod(shape[axis + 2 :]), shape[axis : axis + 2]
            if 1 in (rows, columns):
                return index
            whole = rows * columns * inner
            return (
                f"({index}) / {whole} * {whole} + ({index}) / {inner} % {rows} * {columns * inner}"
                f" + ({index}) / {rows * inner} % {columns} * {inner} + ({index}) % {inner}"
            )
    raise AssertionError(op)


def added(index: str, offset: int) -> str:
    """``j + 12``: an index moved on."""
    if not offset:
        return index
    name, plus, before = index.rpartition(" + ")
    if plus and before.isdecimal() and " " not in name:
        return f"{name} + {int(before) + offset}"
    if index.isdecimal():
        return str(int(index) + offset)
    return f"{index} + {offset}"


def covering(small: Shape, large: Shape, axes: tuple[int, int], index: str) -> str:
    """Where in the operand of ``small`` shape the element is that goes with element ``index`` of ``large``."""
    start, stop = axes
    size, inner = prod(large[start:stop]), prod(large[stop:])
    if size == 1:
        return "0"
    at = index if inner == 1 else f"({index}) / {inner}"
    return at if prod(large[:start]) == 1 else f"({at}) % {size}"


J = "j"  # the index of a loop over elements
# an index that moves no element but by a fixed number of places
HERE = re.compile(r"j(?: \+ (\d+))?")


class Values:
    """The values of a graph, of which ``sources`` are known before it runs."""

    def __init__(self, graph: Graph, sources: dict[Ref, Place]) -> None:
        self.graph, self.sources = graph, sources

    def origin(self, ref: Ref, index: str = J) -> tuple[Ref, str]:
        """The value that a value only moves elements of, and where its element ``index`` is there."""
        node = self.graph.node(ref.node)
        if ref in self.sources or not isinstance(node.op, MOVES):
            return ref, index
        (operand,) = self.graph.args(node.name)
        return self.origin(operand, moved(node.op, ref.out, self.graph.type(operand).shape, index))

    def constant(self, ref: Ref) -> float | None:
        """The number that every element of a value is; None where that is not known."""
        op = self.graph.node(ref.node).op
        return op.value if isinstance(op, Full) else None

    def element_reads(self, node: Node) -> list[tuple[Ref, str]]:
        """For each operand of an op on elements: the value it comes from, and which of its elements goes with j."""
        large = node.types[0].shape
        found = []
        for ref in self.graph.args(node.name):
            small = self.graph.type(ref).shape
            index = J
            if isinstance(node.op, Binary) and small != large:
                axes = covered_axes(small, large)
                assert axes is not None
                index = covering(small, large, axes, J)
            found.append(self.origin(ref, index))
        return found

    def computed(self, ref: Ref) -> bool:
        """Whether a node of the graph has to run for it."""
        return ref not in self.sources and self.constant(ref) is None


MOST = "float most = -__builtin_inff();"


class LoopCode:
    """Makes loops, given where computed values are (``memory``), and where else they are to be written (``stores``)."""

    def __init__(
        self, values: Values, memory: Mapping[Ref, Place], stores: Mapping[Ref, Sequence[Sink]], names: Names
    ) -> None:
        self.values, self._memory, self._stores, self._unique = values, memory, stores, names
        self._names: dict[str, str] = {}

    def _name(self, node: Node) -> str:
        if node.name not in self._names:
            self._names[node.name] = self._unique.unique(node.name)
        return self._names[node.name]

    def _pointer(self, loop: Loop, place: Place, written: bool) -> str:
        for name, (known, _) in loop.pointers.items():
            if known == place:
                loop.pointers[name] = known, written or loop.pointers[name][1]
                return name
        name = f"p{len(loop.pointers)}"
        loop.pointers[name] = place, written
        return name

    def _read(self, loop: Loop, ref: Ref, index: str, local: bool) -> str:
        value = self.values.constant(ref)
        if ref not in self.values.sources and value is not None:
            return number(value)
        if local:
            return self._name(self.values.graph.node(ref.node))
        place = self.values.sources[ref] if ref in self.values.sources else self._memory[ref]
        here = HERE.fullmatch(index)
        if here is not None:
            return f"{self._pointer(loop, place.moved(int(here[1] or 0)), False)}[j]"
        return f"{self._pointer(loop, place, False)}[{index}]"

    def loop(self, nodes: Sequence[Node]) -> Loop:
        """Of nodes of one size, each an op on elements."""
        loop = Loop(nodes[0].types[0].size)
        inside = {node.name for node in nodes}
        for node in nodes:
            reads = [
                self._read(loop, base, index, base.node in inside and index == J and base not in self.values.sources)
                for base, index in self.values.element_reads(node)
            ]
            value = ELEMENT[type(node.op)](node.op, *reads)
            loop.lines.append(f"const float {self._name(node)} = {value};  // {self.comment(node)}")
            stored = self._stores.get(Ref(node.name), [])  # what is added twice counts twice
            sinks = [sink for i, sink in enumerate(stored) if sink.add or sink not in stored[:i]]
            to = ", ".join(f"{'+' if sink.add else ''}{sink.place.array.name}" for sink in sinks)
            loop.comments.append(self.comment(node) + (f" -> {to}" if to else ""))
            for sink in sinks:
                loop.lines.append(self._written(loop, sink, sink.place, J, self._name(node)))
        return loop

    def copy(self, sink: Sink, index: str) -> Loop:
        """Of a value that is elsewhere in memory, to where the element ``index`` is of a sink."""
        base, source = self.values.origin(sink.ref)
        loop = Loop(self.values.graph.type(sink.ref).size)
        value = self._read(loop, base, source, False)
        here = HERE.fullmatch(index)
        place = sink.place.moved(int(here[1] or 0)) if here else sink.place
        loop.lines.append(self._written(loop, sink, place, J if here else index, value))
        name = self.values.graph.value_name(sink.ref)
        loop.comments.append(plain(f"{sink.place.array.name} {'+=' if sink.add else '='} {name}"))
        return loop

    def _written(self, loop: Loop, sink: Sink, place: Place, index: str, value: str) -> Store:
        return Store(f"{self._pointer(loop, place, True)}[{index}]", value, sink.add, not place.array.rows)

    def comment(self, node: Node) -> str:
        """What a node is, as people read it."""
        args = ", ".join(self.values.graph.value_name(ref) for ref in self.values.graph.args(node.name))
        return plain(f"{node.name} = {node.op.name}({args})")

    def reduction(self, node: Node) -> Loop:
        """Of a sum, a maximum or a softmax over an axis."""
        op = node.op
        assert isinstance(op, Sum | Max | Largest | Softmax)
        (ref,) = self.values.graph.args(node.name)
        shape = self.values.graph.type(ref).shape
        length, inner = shape[op.axis], prod(shape[op.axis + 1 :])
        loop = Loop(prod(shape[: op.axis]) * inner, independent=False)
        at = f"begin + k * {inner}" if inner != 1 else "begin + k"
        base, index = self.values.origin(ref, at)
        x = self._read(loop, base, index, False)
        y = self._pointer(loop, self._memory[Ref(node.name)], True)
        first = "j" if inner == 1 and length == 1 else f"j / {inner} * {length * inner} + j % {inner}"
        loop.comments.append(self.comment(node))
        loop.lines.append(f"const int begin = {first};")
        each = f"for (int k = 0; k < {length}; ++k)"
        larger = f"{x} > most || {x} != {x} ? {x} : most"
        match op:
            case Sum():
                loop.lines += [
                    "float sum = 0.0f;",
                    "#pragma omp simd reduction(+ : sum)",
                    f"{each} sum += {x};",
                    f"{y}[j] = sum;",
                ]
            case Max():
                loop.lines += [MOST, f"{each} most = {larger};", f"{y}[j] = most;"]
            case Largest():  # of several the first, as the interpreter has it; of no number too
                found = f"if ({x} > most || ({x} != {x} && most == most))"
                loop.lines += [MOST, "int first = 0;", f"{each} {found} {{ most = {x}; first = k; }}"]
                loop.lines += [f"{each} {y}[{at}] = k == first ? 1.0f : 0.0f;"]
            case Softmax():
                loop.lines += [MOST, "float sum = 0.0f;", f"{each} most = {larger};"]
                loop.lines += [f"{each} sum += {y}[{at}] = exp_({x} - most);", f"{each} {y}[{at}] /= sum;"]
        return loop
