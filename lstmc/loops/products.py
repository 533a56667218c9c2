"""The products of a schedule: with weights that are packed first, of one step or of all steps at once."""

from __future__ import annotations

from typing import Literal

from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref
from lstmc.loops.index import counter
from lstmc.loops.loop_code import ELEMENT, MOVES
from lstmc.loops.memory import WIDEST, Array, Place, Product
from lstmc.loops.schedule import Schedule
from lstmc.ops import Arg, Concat, Conv, Full, Largest, Linear, Max, Softmax, Sum, Transpose
from lstmc.passes.precompute import LARGEST, matrix_elements


def check_ops(body: Graph) -> None:
    """Raise :class:`BackendError` for an op that has no code."""
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
    """A schedule whose calls are products with weights."""

    def call(self, node: Node) -> Product:
        """Return the product of a node."""
        assert isinstance(node.op, Linear)
        x, w, *b = self.graph.args(node.name)
        outs = node.types[0].shape[-1]
        ins = self.graph.type(w).shape[1]
        transposed = True
        while w not in self.sources and isinstance(self.graph.node(w.node).op, Transpose):
            (w,), transposed = self.graph.args(w.node), not transposed
        base, index = self.values.origin(w)
        size = self.graph.type(w).size
        if (
            base not in self.sources
            or index != counter(size)
            or self.sources[base].array.rows
            or self.sources[base].array.time
        ):
            raise BackendError(
                "there is no code for a product with a matrix that is computed in the loop",
                loc=node.loc,
                notes=("matmul(x, W.T) multiplies by one",),
            )
        bias = None
        if b:
            origin, index = self.values.origin(b[0])
            bias = self.sources[origin]
            assert index == counter(outs)  # rows.py adds other reshapes
            assert not bias.array.rows
            assert not bias.array.time
        lead = node.types[0].size // outs
        w_place = self.sources[base]
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
        """Return when a product runs, and its places. Before the loop if x is known for all steps by then; after the
        loop if no step reads y; otherwise in it."""
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
        """Return the place of a packed matrix; all products with the matrix share it."""
        if (w, transposed) not in self.panels:
            place = self.buffer(
                f"{w.name}_panels", -(-outs // WIDEST) * WIDEST * self.numbers.floats(ins), False, False
            )
            self.panels[w, transposed] = place.array
        return self.panels[w, transposed]
