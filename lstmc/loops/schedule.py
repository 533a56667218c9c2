"""Schedule a step: from the graph of one row to products of all rows, and loops over the elements of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref, topological_order
from lstmc.loops.index import Index, counter, offset_of, piece
from lstmc.loops.loop_code import ELEMENT, MOVES, LoopCode, Values
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.loops.memory import WIDEST, Array, Call, Loop, Place, Places, Product, Sink
from lstmc.ops import Arg, Concat, Conv, Full, Largest, Linear, Max, Op, Softmax, Stack, Sum, Transpose
from lstmc.passes.precompute import LARGEST, matrix_elements
from lstmc.text import Names

C = TypeVar("C", bound=Call)
JOINS = (Concat, Stack)


@dataclass
class _Group:
    """The nodes of one loop, or one node that is no loop."""

    size: int  # the number of elements of the loop; 0 for other nodes
    nodes: list[Node]


class Schedule(Generic[C]):
    """The schedule of a step: loops and calls that write ``sinks`` from ``sources``. New buffers are added to ``made``.
    ``moves`` are the ops whose results are elements of an operand, ``calls`` the ops that are no loop. With ``one_row``
    N is 1, so that a result may be any part of an array."""

    moves: ClassVar[tuple[type[Op], ...]] = MOVES
    calls: ClassVar[tuple[type[Op], ...]] = (Linear,)
    one_row: ClassVar[bool] = False

    def __init__(
        self, graph: Graph, sources: Places, made: list[Array], names: Names, numbers: ProductNumbers = FLOAT32
    ) -> None:
        self.graph, self.sources, self.made, self.unique, self.numbers = graph, sources, made, names, numbers
        self.groups: list[_Group] = []
        self.group_of: dict[str, int] = {}  # node -> the index of its group
        self.stores: dict[Ref, list[Sink]] = {}  # value -> the sinks into which it is written without a copy
        self.copies: list[tuple[int, Sink, Index]] = []  # after which group, the sink, the index in it
        self.memory: Places = {}  # of computed values
        self.values = Values(graph, sources, self.moves)
        self.within: set[str] = set()  # elementwise nodes that are computed inside the sum that reads them
        self.code = self.loop_code()
        self.panels: dict[tuple[Array, bool], Array] = {}  # matrix, whether transposed -> its packed copy
        self.old_reads: dict[str, set[str]] = {}  # value that overwrites a state -> the nodes that read the state
        self.over_time: set[Ref] = set()  # values kept for every step, for a product over all steps
        self.begun: set[Place] = set()  # places written before a product adds to them
        self.read: set[Ref] = set()  # values read during a step, or kept for a product over all steps

    def loop_code(self) -> LoopCode:
        return LoopCode(self.values, self.memory, self.stores, self.within, self.unique)

    def place_nodes(self, roots: Iterable[Ref], replaced: Mapping[Ref, Ref]) -> None:
        """Put each node that ``roots`` need into the group of a loop, or into a group of its own; constants, moves, and
        nodes computed inside a sum are in no group. ``replaced`` maps states to the values that overwrite them."""
        needed: set[str] = set()
        stack = [*roots]
        while stack:
            ref = stack.pop()
            if ref.node in needed or ref in self.sources:
                continue
            needed.add(ref.node)
            stack += self.graph.args(ref.node)
        readers: dict[str, list[Node]] = {}
        for node in self.graph:
            if node.name in needed and not self.values.moves(node):
                for ref in self.graph.args(node.name):
                    readers.setdefault(self.values.origin(ref)[0].node, []).append(node)
        stored = {self.values.origin(ref)[0].node for ref in roots}
        self._find_within(readers, needed, stored)
        for old, new in replaced.items():
            reading = [node.name for node in readers.get(old.node, ())]
            for at in range(len(reading)):
                while reading[at] in self.within:
                    reading[at] = readers[reading[at]][0].name
            self.old_reads.setdefault(self.values.origin(new)[0].node, set()).update(reading)
        nodes = [node for node in self.graph if node.name in needed and not isinstance(node.op, Full)]
        nodes = [node for node in nodes if not self.values.moves(node)]
        for node in self._in_few_passes(nodes):
            self.read.update(self.values.origin(arg)[0] for arg in self.graph.args(node.name))
            assert not isinstance(node.op, Arg), node.name
            if node.name not in self.within:
                self._place(node)
        self._delay(readers, stored)

    def _in_few_passes(self, nodes: list[Node]) -> list[Node]:
        """Return nodes in an order with few passes over elements that are summed, the largest loops first. A loop takes
        all elementwise nodes of a size and the sums over this number of elements. A node comes later if it waits for
        one of these sums, or for a node outside the loop that waits for the loop. The readers of a state precede the
        value that overwrites the state."""
        names = {node.name: node for node in nodes}
        before: dict[str, dict[str, bool]] = {}  # node -> nodes before it, and whether one loop may have both
        for node in nodes:
            own = before[node.name] = {}
            for base, index in self.values.reads(node):
                if base.node in names:
                    own[base.node] = own.get(base.node, True) and index == counter(self._count(node))
        for new, readers in self.old_reads.items():
            for reader in readers:
                if new != reader and {new, reader} <= before.keys() and not self._waits(before, reader, new):
                    before[new].setdefault(reader, True)
        position = {name: at for at, name in enumerate(topological_order(before))}
        keys: dict[str, list[tuple[int, bool]]] = {name: [] for name in position}
        sizes = {self._count(node) for node in nodes if isinstance(node.op, Sum)} - {1}
        for size in sorted(sizes, reverse=True):
            passes: dict[str, int] = {}
            inside = {name for name in position if self._count(names[name]) == size}
            for name in position:
                fused = {b for b, one in before[name].items() if one and name in inside}
                passes[name] = max((passes[b] + (b in inside and b not in fused) for b in before[name]), default=0)
                keys[name].append((passes[name], name in inside))
        return [names[name] for name in sorted(position, key=lambda name: (*keys[name], position[name]))]

    def _count(self, node: Node) -> int:
        """Return how many elements the loop of an elementwise node or a sum has; 0 for another node."""
        if isinstance(node.op, Sum):
            return self.graph.type(self.graph.args(node.name)[0]).size
        return node.types[0].size if type(node.op) in ELEMENT else 0

    @staticmethod
    def _waits(before: Mapping[str, Iterable[str]], name: str, other: str) -> bool:
        """Return whether node ``name`` must come after node ``other``, directly or through other nodes."""
        stack, seen = [name], {name}
        while stack:
            for each in before[stack.pop()]:
                if each == other:
                    return True
                if each not in seen:
                    seen.add(each)
                    stack.append(each)
        return False

    def _find_within(self, readers: dict[str, list[Node]], needed: set[str], roots: set[str]) -> None:
        """Find the elementwise nodes whose single reader reads them element by element, and is a sum or itself such a
        node: these are computed inside the sum and need no memory."""
        for node in reversed(list(self.graph)):
            if node.name not in needed or node.name in roots or type(node.op) not in ELEMENT:
                continue
            first, *others = readers.get(node.name, [node])
            into_sum = isinstance(first.op, Sum) or first.name in self.within
            whole = (Ref(node.name), counter(node.types[0].size))
            if into_sum and not others and whole in self.values.reads(first) and self.is_within(node, first):
                self.within.add(node.name)

    def is_within(self, node: Node, reader: Node) -> bool:
        """Return whether a node may be computed in its reader's loop, even if an element is computed several times."""
        return True

    def _delay(self, readers: dict[str, list[Node]], roots: set[str]) -> None:
        """Move each elementwise node into the first loop that reads its value, if that loop reads it element by
        element: then the value needs no array. ``roots`` are nodes whose values are stored. No node moves past a root
        of its size, because the root may overwrite a state that the node reads."""
        for at in reversed(range(len(self.groups))):
            group = self.groups[at]
            for node in reversed(group.nodes.copy() if group.size else []):
                reading = readers[node.name] if node.name not in roots else []
                to = min((self.group_of.get(each.name, at) for each in reading), default=at)
                own = [base for base, _ in self.values.reads(node) if self.group_of.get(base.node) == at]
                if to <= at or self.groups[to].size != group.size or len(own) > 1:
                    continue
                own_index = counter(group.size)
                firsts = [each for each in reading if self.group_of[each.name] == to]
                reads = [index for each in firsts for base, index in self.values.reads(each) if base.node == node.name]
                passed = {each.name for other in self.groups[at:to] if other.size == group.size for each in other.nodes}
                if all(index == own_index for index in reads) and roots.isdisjoint(passed):
                    group.nodes.remove(node)
                    self.groups[to].nodes.insert(0, node)
                    self.group_of[node.name] = to

    def _after(self, ref: Ref) -> int:
        """Return the index of the last group that must run before a value is available, or -1 if none must."""
        base, _ = self.values.origin(ref)
        return self.group_of.get(base.node, -1) if self.values.computed(base) else -1

    def _place(self, node: Node) -> None:
        """Put an elementwise node into the first loop of its size after its operands, another node into a new group."""
        if type(node.op) in ELEMENT:
            size = node.types[0].size
            start = 0
            for base, index in self.values.reads(node):
                if self.values.computed(base):
                    at = self.group_of[base.node]
                    together = index == counter(size) and type(self.graph.node(base.node).op) in ELEMENT
                    start = max(start, at if together and self.groups[at].size == size else at + 1)
            for reader in self.old_reads.get(node.name, ()):
                at = self.group_of.get(reader, -1)
                start = max(start, at if at >= 0 and self.groups[at].size == size else at + 1)
            for at in range(start, len(self.groups)):
                if self.groups[at].size == size:
                    self.groups[at].nodes.append(node)
                    self.group_of[node.name] = at
                    return
            self._new(_Group(size, [node]), node)
        elif isinstance(node.op, JOINS):
            # a join is no group: its pieces are written into their places, and the last piece completes it
            self.group_of[node.name] = max((self._after(ref) for ref in self.graph.args(node.name)), default=-1)
        else:
            self._new(_Group(0, [node]), node)

    def _new(self, group: _Group, node: Node) -> None:
        self.groups.append(group)
        self.group_of[node.name] = len(self.groups) - 1

    def buffer(self, name: str, size: int, time: bool, rows: bool = True) -> Place:
        unique = self.unique.unique(name)
        self.made.append(Array("buffer", len(self.made), unique, size, rows, time))
        return Place(self.made[-1])

    def in_memory(self, ref: Ref, time: bool = False) -> Place:
        """Return the place of a source or a computed value; ``time`` asks for a place with all steps. A value that has
        no place yet gets the place of a sink, or a buffer."""
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
        if type(self.graph.node(ref.node).op) in ELEMENT or self._is_concat(ref):  # loops write all its sinks
            self._store(Sink(ref, place))
        else:  # a call writes the value to one place, from which it is copied to its sinks
            size = self.graph.type(ref).size
            self.copies += [(self._after(ref), sink, counter(size)) for sink in self.stores.pop(ref, ())]
        return place

    def _store(self, sink: Sink, at: Index | None = None) -> None:
        """Write a value to a sink at the index ``at``: in the loop that computes the value, else by a copy."""
        base, index = self.values.origin(sink.ref)
        node, size = self.graph.node(base.node), self.graph.type(sink.ref).size
        at = counter(size) if at is None else at
        offset = offset_of(at, size)
        # if the counter is the index but the sizes differ, this is the first of several pieces
        whole = index == counter(size) and self.graph.type(base).size == size and self.values.computed(base)
        together = whole and (offset == 0 or (offset is not None and self.one_row))
        moved = Sink(base, sink.place.moved(offset or 0), sink.add)
        if together and isinstance(node.op, JOINS):
            self.stores.setdefault(base, []).append(moved)
            self._pieces(node, moved)
            return
        if whole and offset is not None and type(node.op) in ELEMENT:
            self.stores.setdefault(base, []).append(moved)
            return
        if together:
            alone = sink.place.array.rows and (self.one_row or sink.place.array.size == size)
            after = isinstance(node.op, Linear) and sink.place.array.time
            if base not in self.memory and alone and (after or not sink.add):
                self.memory[base] = moved.place
                self.stores.setdefault(base, []).append(sink)
                return
        if self.values.computed(base):
            self.in_memory(base)
        self.copies.append((self._after(sink.ref), sink, at))

    def _pieces(self, node: Node, sink: Sink) -> None:
        for slot, index in enumerate(self._places(node)):
            self._store(Sink(self.graph.args(node.name)[slot], sink.place, sink.add), index)

    def _places(self, node: Node) -> Iterator[Index]:
        """Yield, for each operand of a join, the index of its elements in the join."""
        axis, start = node.op.axis if isinstance(node.op, Concat) else 0, 0
        for ref in self.graph.args(node.name):
            size = self.graph.type(ref).shape[axis] if isinstance(node.op, Concat) else 1
            yield piece(node.types[0].shape, axis, start, size)
            start += size

    def rows_in_memory(self, ref: Ref, width: int, time: bool = False) -> Place:
        """Return the place of a matrix that a product reads, with contiguous rows of ``width`` floats. If the value is
        not stored so, it is copied to a buffer."""
        base, index = self.values.origin(ref)
        size = self.graph.type(ref).size
        offset = offset_of(index, size)
        if offset is not None and self.values.constant(base) is None:
            place = self.in_memory(base, time).moved(offset)
            whole = place.array.size == size
            if (size == width or whole) and place.array.rows and (place.array.time or not time):
                return place
        place = self.buffer(self.graph.value_name(ref), size, time)
        self._store(Sink(ref, place))
        return place

    def work(
        self, sinks: list[Sink], outers: Sequence[tuple[Ref, int, Ref | None, int]], replaced: Mapping[Ref, Ref] = {}
    ) -> tuple[list[C | Loop], list[tuple[Place, Place | None]]]:
        """Return the loops and calls of a step in their order, and the places of the operands of each product over all
        steps. ``outers`` has for each such product the operand ct, the width of its rows, the operand x or None, and
        its width. ``replaced`` maps states to the values that overwrite them in memory."""
        kept_refs = [ref for a, _, b, _ in outers for ref in (a, b) if ref is not None]
        self.begun.update(sink.place for sink in sinks if not sink.add)
        roots = [sink.ref for sink in sinks] + kept_refs
        self.place_nodes(roots, replaced)
        self.over_time.update(self.values.origin(ref)[0] for ref in kept_refs)
        of_sequences = [Ref(node.name) for group in self.groups for node in group.nodes if self._of_sequence(node)]
        for sink in [sink for sink in sinks if sink.ref in of_sequences]:
            self._store(sink)
        for ref in of_sequences:  # one buffer of all steps, even if pieces of it are stored elsewhere
            self.in_memory(ref, time=True)
        for sink in [sink for sink in sinks if sink.ref not in of_sequences]:
            self._store(sink)
        self.read.update(self.over_time)

        def rows(ref: Ref | None, width: int) -> Place | None:
            return None if ref is None else self.rows_in_memory(ref, width, True)

        kept = [(self.rows_in_memory(a, m, True), rows(b, n)) for a, m, b, n in outers]
        calls = self._calls()
        assert all(self.memory[Ref(name)] == call.y for name, call in calls.items()), "written elsewhere"
        works: list[C | Loop] = list(self._copies(-1))
        for at, group in enumerate(self.groups):
            if group.size:
                works += [self.code.loop(group.nodes)] if group.nodes else []
            else:
                works += [calls[n.name] if n.name in calls else self.code.reduction(n) for n in group.nodes]
            works += self._copies(at)
        return works, kept

    def _calls(self) -> dict[str, C]:
        """Return the calls by node name. A value that another group reads gets a place in memory."""
        calls: dict[str, C] = {}
        order = [*enumerate(self.groups)]
        for at, group in reversed(order) if self.one_row else order:  # a join gets its place before its operands
            for node in group.nodes:
                if group.size:
                    computed = [read for read in self.values.reads(node) if self.values.computed(read[0])]
                    for base, index in computed:
                        if self.group_of[base.node] != at or index != counter(group.size) or self._is_concat(base):
                            self.in_memory(base)
                elif isinstance(node.op, self.calls):
                    calls[node.name] = self.call(node)
                else:
                    for base in self._reads_of(node):
                        self.in_memory(base)
                    self.in_memory(Ref(node.name))
        return calls

    def _reads_of(self, node: Node) -> Iterator[Ref]:
        """Yield the computed values that a reduction reads from memory."""
        for base, _ in self.values.reads(node):
            if base.node in self.within:
                yield from self._reads_of(self.graph.node(base.node))
            elif self.values.computed(base):
                yield base

    def _copies(self, at: int) -> Iterator[Loop]:
        yield from (self.code.copy(sink, index) for after, sink, index in self.copies if after == at)

    def _is_concat(self, ref: Ref) -> bool:
        return isinstance(self.graph.node(ref.node).op, JOINS)

    def call(self, node: Node) -> C:
        """Return the work of a node that is no loop."""
        raise NotImplementedError

    def _of_sequence(self, node: Node) -> bool:
        """Return whether a node is a product whose input is a sequence that is known before the first step."""
        if not isinstance(node.op, Linear):
            return False
        x = self.graph.args(node.name)[0]
        base, index = self.values.origin(x)
        array = self.sources[base].array if base in self.sources else None
        in_time = array is not None and array.time and array.rows and array.kind in ("bottom", "top_diff")
        return in_time and offset_of(index, self.graph.type(x).size) is not None


def check_ops(body: Graph) -> None:
    """Raise :class:`BackendError` for an op without code in loops, such as a convolution that is too large."""
    allowed = (*ELEMENT, *MOVES, Arg, Concat, Full, Largest, Linear, Max, Softmax, Sum)
    for node in body:
        if type(node.op) not in allowed:
            reason = f"there is no code for {node.op.name} in a loop"
            if isinstance(node.op, Conv):
                size = matrix_elements(body.type(body.args(node.name)[0]).shape, node.types[0].shape)
                limit = f"its matrix would have {size:,} elements: expected at most {LARGEST:,}"
                reason += f", and as a product {limit}; use smaller images or fewer channels" if size > LARGEST else ""
            raise BackendError(reason, loc=node.loc)


class Products(Schedule[Product]):
    """A schedule whose calls are matrix products with weights."""

    def call(self, node: Node) -> Product:
        """Return the product of a node. Raise BackendError if its matrix is computed in the loop."""
        assert isinstance(node.op, Linear)
        x, w, *b = self.graph.args(node.name)
        outs = node.types[0].shape[-1]
        ins = self.graph.type(w).shape[1]
        transposed = True
        while w not in self.sources and isinstance(self.graph.node(w.node).op, Transpose):
            (w,), transposed = self.graph.args(w.node), not transposed
        base, index = self.values.origin(w)
        w_place = self.sources.get(base)
        if not w_place or index != counter(self.graph.type(w).size) or w_place.array.rows or w_place.array.time:
            reason = "there is no code for a product with a matrix that is computed in the loop"
            raise BackendError(reason, loc=node.loc, notes=("write matmul(x, W.T), which takes such a matrix",))
        bias = None
        if b:
            origin, index = self.values.origin(b[0])
            bias = self.sources[origin]
            assert index == counter(outs)  # rows.py adds any other bias as a sum
            assert not bias.array.rows
            assert not bias.array.time
        lead = node.types[0].size // outs
        when, x_place, y_place = self._when(Ref(node.name), x, ins)
        panels = self._panels(w_place.array, transposed, outs, ins)
        comment = self.code.comment(node)
        add = any(sink.add for sink in self.stores.get(Ref(node.name), ())) and y_place in self.begun
        assert when == "after" or not add, "added to before all steps are done"
        self.begun.add(y_place)
        return Product(
            x_place, w_place, y_place, outs, ins, lead, transposed, bias, panels, when, comment, self.numbers, add
        )

    def _when(self, y: Ref, x: Ref, ins: int) -> tuple[Literal["before", "step", "after"], Place, Place]:
        """Return when a product runs, and the places of x and y: before the loop if x is known for all steps by then,
        after the loop if no step reads y, and otherwise in each step."""
        place = self.memory.get(y)
        copied = any(self.values.origin(sink.ref)[0] == y for _, sink, _ in self.copies)
        last = place is not None and place.array.kind in ("top", "bottom_diff") and place.array.time
        last = last and y not in self.read and not copied
        x_place = self.rows_in_memory(x, ins, time=last)
        if last and x_place.array.time and len(self.stores.get(y, ())) == 1:
            return "after", x_place, self.in_memory(y)
        reads_sequence = x_place.array.time and x_place.array.kind in ("bottom", "top_diff")
        y_place = self.in_memory(y, time=reads_sequence and place is None)
        return ("before" if reads_sequence and y_place.array.time else "step"), x_place, y_place

    def _panels(self, w: Array, transposed: bool, outs: int, ins: int) -> Array:
        """Return the array of a packed matrix, which all products with this matrix share."""
        if (w, transposed) not in self.panels:
            size = -(-outs // WIDEST) * WIDEST * self.numbers.floats(ins)
            self.panels[w, transposed] = self.buffer(f"{w.name}_panels", size, False, False).array
        return self.panels[w, transposed]
