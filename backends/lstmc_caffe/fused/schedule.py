"""From a graph of one row to what runs each step: products of all rows, and loops over the elements of one size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref
from lstmc.ops import Arg, Binary, Concat, Full, Linear, Softmax, Sum, Transpose
from lstmc.ops.binary import covered_axes
from lstmc_caffe.fused.arithmetic import ELEMENT, MOVES, added, covering, moved, number
from lstmc_caffe.fused.memory import Array, Names, Place
from lstmc_caffe.fused.work import Loop, Product, Sink, Store, Work, plain

WIDEST = 32  # columns of a panel, at most: see functions.h
J = "j"  # the index of a loop over elements
HERE = re.compile(r"j(?: \+ (\d+))?")


def check_ops(body: Graph) -> None:
    """Raise :class:`BackendError` for an op that has no code."""
    known = (*ELEMENT, *MOVES, Arg, Concat, Full, Linear, Softmax, Sum)
    for node in body:
        if type(node.op) not in known:
            raise BackendError(f"there is no code for {node.op.name} in a loop", loc=node.loc)


@dataclass
class _Group:
    """Nodes of one loop, or one node of another kind."""

    size: int = 0  # of a loop of elements; 0 for everything else
    nodes: list[Node] = field(default_factory=list)


class Schedule:
    """What is run each step for some ``sinks``, given where ``sources`` are. ``made`` gains buffers."""

    def __init__(self, graph: Graph, sources: dict[Ref, Place], made: list[Array], names: Names) -> None:
        self.graph, self.sources, self.made, self.unique = graph, sources, made, names
        self.groups: list[_Group] = []
        self.group_of: dict[str, int] = {}
        self.stores: dict[Ref, list[Sink]] = {}
        self.copies: list[tuple[int, Sink, str]] = []  # the group after which, the sink, the index where it goes
        self.memory: dict[Ref, Place] = {}
        self.names: dict[str, str] = {}
        self.panels: dict[tuple[Array, bool], Array] = {}
        self.over_time: set[Ref] = set()  # what is kept of every step for a product over all steps
        self.read: set[Ref] = set()  # what is read during a step, or kept for a product over all steps

    # where values come from --------------------------------------------------------------------------------------

    def origin(self, ref: Ref, index: str = J) -> tuple[Ref, str]:
        """The value that a value only moves elements of, and where its element ``index`` is there."""
        node = self.graph.node(ref.node)
        if ref in self.sources or not isinstance(node.op, MOVES):
            return ref, index
        (operand,) = self.graph.args(node.name)
        return self.origin(operand, moved(node.op, ref.out, self.graph.type(operand).shape, index))

    def constant(self, ref: Ref) -> float | None:
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
        return ref not in self.sources and self.constant(ref) is None

    # what runs in which order ------------------------------------------------------------------------------------

    def place_nodes(self, roots: Iterable[Ref]) -> None:
        """Every node that the roots need and that computes something, in loops and products."""
        needed: set[str] = set()
        stack = [ref for ref in roots if ref not in self.sources]
        while stack:
            ref = stack.pop()
            if ref.node in needed or ref in self.sources:
                continue
            needed.add(ref.node)
            stack += [arg for arg in self.graph.args(ref.node) if arg not in self.sources]
        for node in self.graph:
            if node.name in needed and not isinstance(node.op, (*MOVES, Full)):
                self.read.update(self.origin(arg)[0] for arg in self.graph.args(node.name))
                if isinstance(node.op, Arg):
                    raise AssertionError(node.name)
                self._place(node)

    def _after(self, ref: Ref) -> int:
        """The last group that a value needs to be done."""
        base, _ = self.origin(ref)
        return self.group_of.get(base.node, -1) if self.computed(base) else -1

    def _place(self, node: Node) -> None:
        if type(node.op) in ELEMENT:
            size = node.types[0].size
            start = 0
            for base, index in self.element_reads(node):
                if self.computed(base):
                    at = self.group_of[base.node]
                    together = index == J and type(self.graph.node(base.node).op) in ELEMENT
                    start = max(start, at if together and self.groups[at].size == size else at + 1)
            for at in range(start, len(self.groups)):
                if self.groups[at].size == size:
                    self.groups[at].nodes.append(node)
                    self.group_of[node.name] = at
                    return
            self._new(_Group(size, [node]), node)
        elif isinstance(node.op, Concat):
            # no group of its own: its pieces are written where they belong, after the last of them it is there
            self.group_of[node.name] = max((self._after(ref) for ref in self.graph.args(node.name)), default=-1)
        else:
            self._new(_Group(0, [node]), node)

    def _new(self, group: _Group, node: Node) -> None:
        self.groups.append(group)
        self.group_of[node.name] = len(self.groups) - 1

    # where values are --------------------------------------------------------------------------------------------

    def buffer(self, name: str, size: int, time: bool, rows: bool = True) -> Place:
        unique = self.unique.unique(name)
        self.made.append(Array("buffer", len(self.made), unique, size, rows, time))
        return Place(self.made[-1])

    def in_memory(self, ref: Ref, time: bool = False) -> Place:
        """Where a computed value is, or a source; it gets a buffer if it has none."""
        time = time or ref in self.over_time
        if ref in self.sources:
            return self.sources[ref]
        if ref in self.memory and (self.memory[ref].array.time or not time):
            return self.memory[ref]
        for sink in self.stores.get(ref, ()):
            if not sink.add and sink.place.array.rows and (sink.place.array.time or not time):
                self.memory[ref] = sink.place
                return sink.place
        place = self.buffer(self.graph.value_name(ref), self.graph.type(ref).size, time)
        self.memory[ref] = place
        if type(self.graph.node(ref.node).op) in ELEMENT or self._is_concat(ref):  # others are written there at once
            self._store(Sink(ref, place))
        return place

    def _store(self, sink: Sink, at: str = J) -> None:
        """Write a value somewhere: with the loop that computes it, or by a loop of its own."""
        base, index = self.origin(sink.ref)
        node = self.graph.node(base.node)
        # where the index is j but the sizes differ, it is the first of several pieces
        whole = index == J and self.graph.type(base).size == self.graph.type(sink.ref).size
        if self.computed(base) and isinstance(node.op, Concat) and at == J and whole:
            self.stores.setdefault(base, []).append(sink)
            self._pieces(node, sink)
            return
        if self.computed(base) and whole and HERE.fullmatch(at) and type(node.op) in ELEMENT:
            offset = int(HERE.fullmatch(at)[1] or 0)  # type: ignore[index]
            moved_sink = Sink(base, sink.place.moved(offset), sink.add)
            self.stores.setdefault(base, []).append(moved_sink)
            return
        if self.computed(base) and whole and at == J and not isinstance(node.op, Concat):
            alone = sink.place.array.rows and sink.place.array.size == self.graph.type(base).size
            if base not in self.memory and not sink.add and alone:
                self.memory[base] = sink.place
                self.stores.setdefault(base, []).append(sink)
                return
        if self.computed(base):
            self.in_memory(base)
        self.copies.append((self._after(sink.ref), sink, at))

    def _pieces(self, node: Node, sink: Sink) -> None:
        assert isinstance(node.op, Concat)
        shape, axis, start = node.types[0].shape, node.op.axis, 0
        inner = prod(shape[axis + 1 :])
        for ref in self.graph.args(node.name):
            size = self.graph.type(ref).shape[axis] * inner
            if prod(shape[:axis]) == 1:
                at = added(J, start)
            else:
                at = f"j / {size} * {shape[axis] * inner} + {start} + j % {size}"
            self._store(Sink(ref, sink.place, sink.add), at)
            start += size

    def rows_in_memory(self, ref: Ref, width: int, time: bool = False) -> Place:
        """Where the rows of a matrix are that a product reads: one after the other, ``width`` floats each."""
        base, index = self.origin(ref)
        size = self.graph.type(ref).size
        here = HERE.fullmatch(index)
        if here is not None and self.constant(base) is None:
            place = self.in_memory(base, time).moved(int(here[1] or 0))
            whole = place.array.size == size
            if (size == width or whole) and (not time or (place.array.time and place.array.rows)):
                return place
        place = self.buffer(self.graph.value_name(ref), size, time)
        self._store(Sink(ref, place))
        return place

    # the C++ ------------------------------------------------------------------------------------------------------

    def work(
        self, sinks: list[Sink], outers: Iterable[tuple[Ref, int, Ref | None, int]]
    ) -> tuple[list[Work], list[tuple[Place, Place | None]]]:
        """Everything of a step, and where the operands of products over all steps are."""
        outers = list(outers)
        kept_refs = [ref for a, _, b, _ in outers for ref in (a, b) if ref is not None]
        roots = [sink.ref for sink in sinks] + kept_refs
        self.place_nodes(roots)
        self.over_time.update(self.origin(ref)[0] for ref in kept_refs)
        for sink in sinks:
            self._store(sink)
        self.read.update(self.over_time)
        kept = [
            (self.rows_in_memory(a, m, True), None if b is None else self.rows_in_memory(b, n, True))
            for a, m, b, n in outers
        ]
        products = {}
        for at, group in enumerate(self.groups):
            for node in group.nodes:
                if group.size:
                    for base, index in self.element_reads(node):
                        if self.computed(base) and (
                            self.group_of[base.node] != at or index != J or self._is_concat(base)
                        ):
                            self.in_memory(base)
                elif isinstance(node.op, Linear):
                    products[node.name] = self._product(node)
                else:
                    base, _ = self.origin(self.graph.args(node.name)[0])
                    if self.computed(base):
                        self.in_memory(base)
                    self.in_memory(Ref(node.name))
        found: list[Work] = list(self._copies(-1))
        for at, group in enumerate(self.groups):
            if group.size:
                found.append(self._loop(group))
            else:
                found += [products[n.name] if n.name in products else self._reduction(n) for n in group.nodes]
            found += self._copies(at)
        return found, kept

    def _is_concat(self, ref: Ref) -> bool:
        return isinstance(self.graph.node(ref.node).op, Concat)

    def _name(self, node: Node) -> str:
        if node.name not in self.names:
            self.names[node.name] = self.unique.unique(node.name)
        return self.names[node.name]

    def _pointer(self, loop: Loop, place: Place, written: bool) -> str:
        for name, (known, _) in loop.pointers.items():
            if known == place:
                loop.pointers[name] = known, written or loop.pointers[name][1]
                return name
        name = f"p{len(loop.pointers)}"
        loop.pointers[name] = place, written
        return name

    def _read(self, loop: Loop, ref: Ref, index: str, local: bool) -> str:
        value = self.constant(ref)
        if ref not in self.sources and value is not None:
            return number(value)
        if local:
            return self._name(self.graph.node(ref.node))
        place = self.sources[ref] if ref in self.sources else self.memory[ref]
        here = HERE.fullmatch(index)
        if here is not None:
            return f"{self._pointer(loop, place.moved(int(here[1] or 0)), False)}[j]"
        return f"{self._pointer(loop, place, False)}[{index}]"

    def _loop(self, group: _Group) -> Loop:
        loop = Loop(group.size)
        inside = {node.name for node in group.nodes}
        for node in group.nodes:
            reads = [
                self._read(loop, base, index, base.node in inside and index == J and base not in self.sources)
                for base, index in self.element_reads(node)
            ]
            value = ELEMENT[type(node.op)](node.op, *reads)
            loop.lines.append(f"const float {self._name(node)} = {value};  // {self._comment(node)}")
            stored = self.stores.get(Ref(node.name), [])  # what is added twice counts twice
            sinks = [sink for i, sink in enumerate(stored) if sink.add or sink not in stored[:i]]
            to = ", ".join(f"{'+' if sink.add else ''}{sink.place.array.name}" for sink in sinks)
            loop.comments.append(self._comment(node) + (f" -> {to}" if to else ""))
            for sink in sinks:
                loop.lines.append(self._written(loop, sink, sink.place, J, self._name(node)))
        return loop

    def _copies(self, at: int) -> Iterator[Loop]:
        for after, sink, index in self.copies:
            if after != at:
                continue
            base, source = self.origin(sink.ref)
            loop = Loop(self.graph.type(sink.ref).size)
            value = self._read(loop, base, source, False)
            here = HERE.fullmatch(index)
            place = sink.place.moved(int(here[1] or 0)) if here else sink.place
            loop.lines.append(self._written(loop, sink, place, J if here else index, value))
            loop.comments.append(
                plain(f"{sink.place.array.name} {'+=' if sink.add else '='} {self.graph.value_name(sink.ref)}")
            )
            yield loop

    def _written(self, loop: Loop, sink: Sink, place: Place, index: str, value: str) -> Store:
        return Store(f"{self._pointer(loop, place, True)}[{index}]", value, sink.add, not place.array.rows)

    def _comment(self, node: Node) -> str:
        args = ", ".join(self.graph.value_name(ref) for ref in self.graph.args(node.name))
        return plain(f"{node.name} = {node.op.name}({args})")

    def _reduction(self, node: Node) -> Loop:
        op = node.op
        assert isinstance(op, Sum | Softmax)
        (ref,) = self.graph.args(node.name)
        shape = self.graph.type(ref).shape
        length, inner = shape[op.axis], prod(shape[op.axis + 1 :])
        loop = Loop(prod(shape[: op.axis]) * inner, independent=False)
        at = f"begin + k * {inner}" if inner != 1 else "begin + k"
        base, index = self.origin(ref, at)
        x = self._read(loop, base, index, False)
        y = self._pointer(loop, self.memory[Ref(node.name)], True)
        first = "j" if inner == 1 and length == 1 else f"j / {inner} * {length * inner} + j % {inner}"
        loop.comments.append(self._comment(node))
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
            case Softmax():
                loop.lines += ["float most = -__builtin_inff(), sum = 0.0f;", f"{each} most = {larger};"]
                loop.lines += [f"{each} sum += {y}[{at}] = exp_({x} - most);", f"{each} {y}[{at}] /= sum;"]
        return loop

    def _product(self, node: Node) -> Product:
        assert isinstance(node.op, Linear)
        x, w, *b = self.graph.args(node.name)
        outs = node.types[0].shape[-1]
        ins = self.graph.type(w).shape[1]
        transposed = True
        while w not in self.sources and isinstance(self.graph.node(w.node).op, Transpose):
            (w,), transposed = self.graph.args(w.node), not transposed
        base, index = self.origin(w)
        if base not in self.sources or index != J or self.sources[base].array.rows or self.sources[base].array.time:
            raise BackendError(
                "there is no code for a product with a matrix that is computed in the loop", loc=node.loc
            )
        bias = None
        if b:
            origin, index = self.origin(b[0])
            if origin not in self.sources or index != J or self.sources[origin].array.rows:
                raise BackendError("there is no code for a bias that is computed in the loop", loc=node.loc)
            bias = self.sources[origin]
        lead = node.types[0].size // outs
        w_place = self.sources[base]
        when, x_place, y_place = self._when(Ref(node.name), x, ins)
        panels = self._panels(w_place.array, transposed, outs, ins)
        comment = self._comment(node)
        return Product(x_place, w_place, y_place, outs, ins, lead, transposed, bias, panels, when, comment)

    def _when(self, y: Ref, x: Ref, ins: int) -> tuple[Literal["before", "step", "after"], Place, Place]:
        """Before the loop where x is known for all steps by then, after it where no step reads y; and their places."""
        known = self.memory.get(y)
        copied = any(self.origin(sink.ref)[0] == y for _, sink, _ in self.copies)
        last = known is not None and known.array.kind in ("top", "bottom_diff") and known.array.time
        last = last and y not in self.read and not copied
        x_place = self.rows_in_memory(x, ins, time=last)
        if last and x_place.array.time and len(self.stores.get(y, ())) == 1:
            return "after", x_place, self.in_memory(y)
        given = x_place.array.time and x_place.array.kind in ("bottom", "top_diff")
        y_place = self.in_memory(y, time=given and known is None)
        return ("before" if given and y_place.array.time else "step"), x_place, y_place

    def _panels(self, w: Array, transposed: bool, outs: int, ins: int) -> Array:
        """Where a matrix is packed, once for all products with it."""
        if (w, transposed) not in self.panels:
            place = self.buffer(f"{w.name}_panels", -(-outs // WIDEST) * WIDEST * ins, time=False, rows=False)
            self.panels[w, transposed] = place.array
        return self.panels[w, transposed]
