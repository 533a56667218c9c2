"""The loops of a step: a line for each op on elements, a copy, or a sum over an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from lstmc.ir import Node, Ref
from lstmc.ops import Largest, Max, Softmax, Sum
from lstmc_caffe.fused.arithmetic import ELEMENT, number
from lstmc_caffe.fused.memory import Names, Place
from lstmc_caffe.fused.values import HERE, J, Values
from lstmc_caffe.fused.work import Loop, Sink, Store, plain

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
