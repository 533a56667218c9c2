"""The loops of a step as C++: one line for each elementwise op, copy or sum, with the indices of each operand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.resources import files
from math import prod
from typing import Any

from lstmc import ops
from lstmc.ir import Graph, Node, Ref
from lstmc.loops.index import Index, counter, covering, moved, offset_of
from lstmc.loops.memory import Loop, Place, Places, Sink, Store, Value, sum_lines
from lstmc.ops.pointwise import covered_axes
from lstmc.text import Names, quoted

Expression = Callable[..., str]  # from an op and the elements of its operands


def number(value: float) -> str:
    """Return a float as C++ writes it, exact to the bit."""
    return f"{float(value)!r}f"


@dataclass(frozen=True)
class Language:
    """How a language like C computes elements. ``number`` writes a number; ``header`` defines functions with names of
    ops; ``calls`` are expressions for an element ``{0}``; ``power`` writes a power, except products of up to ``most``
    factors."""

    number: Callable[[float], str]
    header: str
    calls: Mapping[str, str]
    most: int
    power: Callable[[float, str], str]

    def expressions(self) -> dict[type[ops.Op], Expression]:
        """Return for each op on elements a function that writes its expression in the language."""
        calls, number = {name: text.format for name, text in self.calls.items()}, self.number
        names = {*re.findall(r"^static (?:inline )?float (\w+)\(float x\)", self.header, re.MULTILINE)}
        named = [op for op in ops.CORE if issubclass(op, ops.Pointwise) and op.name in names]
        return {
            **dict.fromkeys(named, lambda op, x: f"{op.name}({x})"),
            ops.Tanh: lambda op, x: f"tanh_({x})",
            ops.Relu: lambda op, x: calls["relu"](x),
            ops.LeakyRelu: lambda op, x: f"({x} > 0.0f ? {x} : {number(op.slope)} * {x})",
            ops.Positive: lambda op, x: f"({x} > 0.0f ? 1.0f : 0.0f)",
            ops.Elu: lambda op, x: f"({x} > 0.0f ? {x} : {number(op.alpha)} * {calls['expm1'](x)})",
            ops.Abs: lambda op, x: calls["abs"](x),
            ops.Exp: lambda op, x: f"exp_({x})",
            ops.Log: lambda op, x: calls["log"](x),
            ops.Sin: lambda op, x: calls["sin"](x),
            ops.Cos: lambda op, x: calls["cos"](x),
            ops.Power: self._power,
            ops.Round: lambda op, x: calls["round"](x),
            ops.Affine: lambda op, x: f"{number(op.scale)} * {x}" + (f" + {number(op.shift)}" if op.shift else ""),
            ops.StopGradient: lambda op, x: x,
            ops.Add: lambda op, x, y: f"{x} + {y}",
            ops.Sub: lambda op, x, y: f"{x} - {y}",
            ops.Mul: lambda op, x, y: f"{x} * {y}",
            ops.Maximum: lambda op, x, y: f"({x} > {y} || {x} != {x} ? {x} : {y})",
        }

    def _power(self, op: Any, x: str) -> str:
        """Return a power of ``x``: a square root, a product or its inverse if possible, else a call."""
        factors = {count: " * ".join([x] * count) for count in range(1, self.most + 1)}
        text = ({0.5: self.calls["sqrt"].format(x)} | factors).get(abs(op.exponent), "")
        return self.power(op.exponent, x) if not text else text if op.exponent > 0 else f"1.0f / ({text})"


CPP = Language(
    number,
    files("lstmc.loops").joinpath("elements.h").read_text(encoding="utf-8"),
    {
        **{name: f"std::{name}({{0}})" for name in ("expm1", "log", "sin", "cos", "sqrt")},
        "relu": "({0} > 0.0f ? {0} : {0} != {0} ? {0} : 0.0f)",
        "abs": "std::fabs({0})",
        "round": "std::nearbyint({0})",
    },
    4,
    lambda exponent, x: f"std::pow({x}, {number(exponent)})",
)
ELEMENT = CPP.expressions()
ARITHMETIC = (ops.Add, ops.Sub, ops.Mul, ops.Affine, ops.StopGradient)
CHEAP = (*ARITHMETIC, ops.Positive)  # recomputed instead of kept
MOVES = tuple(op for op in ops.CORE if op.moves and op.operands == ("x",) and op is not ops.Unstack)
LIGHT: tuple[type[ops.Op], ...] = (*ELEMENT, *MOVES, ops.Sum)  # cheaper in a loop than as a sequence in memory


class Values:
    """The values of a graph; ``sources`` are the places in memory of the values known before the graph runs."""

    def __init__(self, graph: Graph, sources: Places, moves: tuple[type[ops.Op], ...] = MOVES) -> None:
        self.graph, self.sources, self._moves = graph, sources, moves

    def moves(self, node: Node) -> bool:
        """Return whether a node only moves elements of its one operand."""
        return isinstance(node.op, self._moves) and len(self.graph.args(node.name)) == 1

    def origin(self, ref: Ref, index: Index | None = None) -> tuple[Ref, Index]:
        """Return the value from whose memory a value's elements come by moves alone, and the index of an element there.
        A source and a computed value are their own origin."""
        index = counter(self.graph.type(ref).size) if index is None else index
        node = self.graph.node(ref.node)
        if ref in self.sources or not self.moves(node):
            return ref, index
        (operand,) = self.graph.args(node.name)
        return self.origin(operand, moved(node.op, ref.out, self.graph.type(operand).shape, index))

    def constant(self, ref: Ref) -> float | None:
        op = self.graph.node(ref.node).op
        return op.value if isinstance(op, ops.Full) else None

    def reads(self, node: Node) -> list[tuple[Ref, Index]]:
        """Return for each operand of a node its origin, and the index there that an element of the result reads."""
        large = node.types[0].shape
        origins = []
        for ref in self.graph.args(node.name):
            small = self.graph.type(ref).shape
            index = None
            if isinstance(node.op, ops.Binary) and small != large:
                axes = covered_axes(small, large)
                assert axes is not None
                index = covering(small, large, axes)
            origins.append(self.origin(ref, index))
        return origins

    def computed(self, ref: Ref) -> bool:
        """Return whether a value is neither a source nor a constant, so that a node must compute it."""
        return ref not in self.sources and self.constant(ref) is None


MOST = "float most = -__builtin_inff();"


class LoopCode:
    """Writes the lines of loops. ``memory`` has the places of computed values, ``stores`` further places to which they
    are written, ``within`` the names of nodes that are computed inside the sum that reads them."""

    language, expressions = CPP, ELEMENT

    def __init__(
        self, values: Values, memory: Places, stores: Mapping[Ref, Sequence[Sink]], within: Set[str], names: Names
    ) -> None:
        self.values, self._memory, self._stores, self._within, self._unique = values, memory, stores, within, names
        self._names: dict[str, str] = {}

    def _name(self, node: Node) -> str:
        if node.name not in self._names:
            self._names[node.name] = self._unique.unique(node.name)
        return self._names[node.name]

    def _pointer(self, loop: Loop, place: Place, written: bool) -> str:
        """Return the name of a loop's pointer to a place. A loop without such a pointer gets one."""
        for name, (pointed, _) in loop.pointers.items():
            if pointed == place:
                loop.pointers[name] = pointed, written or loop.pointers[name][1]
                return name
        name = f"p{len(loop.pointers)}"
        loop.pointers[name] = place, written
        return name

    def _element(self, loop: Loop, place: Place, index: Index, written: bool = False) -> str:
        """Return the placeholder of an element of an array in a line of a loop that reads or writes it."""
        offset = offset_of(index, loop.count)
        if offset is not None:  # another pointer, so that adjacent pieces of an array have the same index
            place, index = place.moved(offset), counter(loop.count)
        return loop.element(self._pointer(loop, place, written), index)

    def expression(self, node: Node, reads: Sequence[str]) -> str:
        return self.expressions[type(node.op)](node.op, *reads)

    def constant(self, loop: Loop, node: Node | None, slot: int, ref: Ref, index: Index) -> str | None:
        """Return the number of an operand that is a constant, as text; None if it is no constant."""
        value = self.values.constant(ref)
        return None if value is None else self.language.number(value)

    def _read(self, loop: Loop, node: Node | None, slot: int, ref: Ref, index: Index, local: bool = False) -> str:
        """Return the operand ``slot`` of a node: a number, a variable of the same turn (``local``), or an element."""
        if (constant := self.constant(loop, node, slot, ref, index)) is not None:
            return constant
        if local:
            return self._name(self.values.graph.node(ref.node))
        place = self.values.sources[ref] if ref in self.values.sources else self._memory[ref]
        return self._element(loop, place, index)

    def loop(self, nodes: Sequence[Node]) -> Loop:
        """Return one loop that computes elementwise nodes of one size, and writes their results to ``stores``."""
        size = nodes[0].types[0].size
        own = counter(size)
        loop = Loop(size, size, arithmetic=all(isinstance(node.op, ARITHMETIC) for node in nodes))
        inside = {node.name for node in nodes}
        for node in nodes:
            slots = enumerate(self.values.reads(node))
            reads = [self._read(loop, node, i, ref, at, ref.node in inside and at == own) for i, (ref, at) in slots]
            value = self.expression(node, reads)
            loop.lines.append(Value(self._name(node), value, self.comment(node)))
            stored = self._stores.get(Ref(node.name), [])  # a value that is added twice counts twice
            sinks = [sink for i, sink in enumerate(stored) if sink.add or sink not in stored[:i]]
            to = ", ".join(f"{'+' if sink.add else ''}{sink.place.array.name}" for sink in sinks)
            loop.comments.append(self.comment(node) + (f" -> {to}" if to else ""))
            for sink in sinks:
                loop.lines.append(self._written(loop, sink, own, self._name(node)))
        return loop

    def copy(self, sink: Sink, index: Index) -> Loop:
        """Return a loop that copies a value in memory to a sink, at ``index``."""
        base, source = self.values.origin(sink.ref)
        size = self.values.graph.type(sink.ref).size
        loop = Loop(size, size, arithmetic=True)
        value = self._read(loop, sink.node, sink.slot, base, source)
        loop.lines.append(self._written(loop, sink, index, value))
        name = self.values.graph.value_name(sink.ref)
        loop.comments.append(quoted(f"{sink.place.array.name} {'+=' if sink.add else '='} {name}", "comment"))
        return loop

    def _written(self, loop: Loop, sink: Sink, index: Index, value: str) -> Store:
        return Store(self._element(loop, sink.place, index, True), value, sink.add, not sink.place.array.rows)

    def comment(self, node: Node) -> str:
        args = ", ".join(self.values.graph.value_name(ref) for ref in self.values.graph.args(node.name))
        return quoted(f"{node.name} = {node.op.name}({args})", "comment")

    def _operand(self, loop: Loop, node: Node) -> str:
        """Return the expression of an element that a reduction reads: from memory, or computed in the same loop."""
        ((base, index),) = self.values.reads(node)
        return self._computed(loop, base) if base.node in self._within else self._read(loop, node, 0, base, index)

    def _computed(self, loop: Loop, ref: Ref) -> str:
        """Return the expression of an element that the loop of a reduction computes instead of reading it."""
        node = self.values.graph.node(ref.node)
        loop.arithmetic = loop.arithmetic and isinstance(node.op, ARITHMETIC)
        loop.comments.append(self.comment(node))
        reads = []
        for slot, (base, index) in enumerate(self.values.reads(node)):
            inside = base.node in self._within
            reads.append(f"({self._computed(loop, base)})" if inside else self._read(loop, node, slot, base, index))
        return self.expression(node, reads)

    def reduction(self, node: Node) -> Loop:
        """Return the loop of a sum, a maximum or a softmax over an axis. The loop runs over the operand's elements."""
        op = node.op
        assert isinstance(op, ops.Sum | ops.Max | ops.Largest | ops.Softmax)
        (ref,) = self.values.graph.args(node.name)
        shape = self.values.graph.type(ref).shape
        length, inner = shape[op.axis], prod(shape[op.axis + 1 :])
        size = prod(shape[: op.axis]) * inner
        loop = Loop(size, size * length, independent=False, axis=(length, inner), arithmetic=isinstance(op, ops.Sum))
        x = self._operand(loop, node)
        result = None if isinstance(op, ops.Sum | ops.Max) else counter(size * length)
        y = loop.element(self._pointer(loop, self._memory[Ref(node.name)], True), result)
        loop.comments.append(self.comment(node))
        each = f"for (int k = 0; k < {length}; ++k)"
        larger = f"{x} > most || {x} != {x} ? {x} : most"
        match op:
            case ops.Sum():
                loop.summed = (x, y)
                loop.lines += sum_lines(length, x, y)
            case ops.Max():
                loop.lines += [MOST, f"{each} most = {larger};", f"{y} = most;"]
            case ops.Largest():  # the first of equal numbers, or of NaN, as in the interpreter
                condition = f"if ({x} > most || ({x} != {x} && most == most))"
                loop.lines += [MOST, "int first = 0;", f"{each} {condition} {{ most = {x}; first = k; }}"]
                loop.lines += [f"{each} {y} = k == first ? 1.0f : 0.0f;"]
            case ops.Softmax():
                loop.lines += [MOST, "float sum = 0.0f;", f"{each} most = {larger};"]
                loop.lines += [f"{each} sum += {y} = exp_({x} - most);", f"{each} {y} /= sum;"]
        return loop
