"""A parameter that is a layer's matrix as it is and another's transposed: one blob, where both layers can have it."""

from __future__ import annotations

from dataclasses import replace

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight
from lstmc.ops import Arg, Linear, Transpose
from lstmc.passes import Refs, in_bodies, rewrite


def with_transposes_apart(graph: Graph) -> Graph:
    """Transposed parameters that are matrices of products and values too are transposed twice: once for each.

    A product has the parameter's own blob; a value is made of that by layers.
    """
    graph = rewrite(graph, _with_values_apart)
    matrices: dict[Ref, bool] = {}  # a transposed parameter, and whether all that reads it has it as a matrix
    for node in graph:
        for slot, ref in enumerate(graph.args(node.name)):
            if _is_transposed(graph, ref):
                matrices[ref] = matrices.get(ref, True) and _is_matrix(node, slot)
    matrices |= dict.fromkeys((o.ref for o in graph.outputs if o.ref in matrices), False)
    mixed = {
        ref
        for node in graph
        for slot, ref in enumerate(graph.args(node.name))
        if not matrices.get(ref, True) and _is_matrix(node, slot)
    }
    if not mixed:
        return graph
    rebuild, copies = Rebuild(graph), dict[Ref, Ref]()

    def as_matrix(ref: Ref) -> Ref:
        if ref not in copies:
            node, names = graph.node(ref.node), (f"{ref.node}/matrix",)
            (copies[ref],) = rebuild.builder.add(node.op, *rebuild.args(node), names=names, loc=node.loc)
        return copies[ref]

    for node in graph:
        args = [
            as_matrix(ref) if ref in mixed and _is_matrix(node, slot) else rebuild.new[ref]
            for slot, ref in enumerate(graph.args(node.name))
        ]
        rebuild.copy(node, args)
    return rebuild.finish()


def _is_matrix(node: Node, slot: int) -> bool:
    if isinstance(node.op, Scan):
        return node.op.role(slot) == "weight" and all(_is_matrix_only(body, slot) for body in node.op.bodies)
    return isinstance(node.op, Linear) and slot == 1


def _with_values_apart(b: Builder, node: Node, args: Refs) -> Refs | None:
    """A scan that has such a parameter as matrix and value has it twice: as a weight, and as a value."""
    if not isinstance(node.op, Scan):
        return None
    scan = node.op
    slots = {
        slot
        for slot, ref in enumerate(args)
        if scan.role(slot) == "weight" and _is_transposed(b, ref) and _is_matrix_and_value(scan, slot)
    }
    if not slots:
        return None
    operands = [ref for slot, ref in enumerate(args) for _ in range(1 + (slot in slots))]
    return b.add(in_bodies(scan, lambda body: _twice(body, slots)), *operands, names=node.names, loc=node.loc)


def _is_matrix_and_value(scan: Scan, slot: int) -> bool:
    reads = [
        isinstance(node.op, Linear) and at == 1
        for body in scan.bodies
        for node in body
        for at, ref in enumerate(body.args(node.name))
        if ref.node == body.body_args()[slot].name
    ]
    return any(reads) and not all(_is_matrix_only(body, slot) for body in scan.bodies)


def _twice(body: Graph, slots: set[int]) -> Graph:
    names = {body.body_args()[slot].name for slot in slots}
    rebuild, values = Rebuild(body), dict[Ref, Ref]()
    for node in body:
        args = [
            rebuild.new[ref] if isinstance(node.op, Linear) and at == 1 else values.get(ref, rebuild.new[ref])
            for at, ref in enumerate(body.args(node.name))
        ]
        rebuild.copy(node, args)
        if node.name in names:
            assert isinstance(node.op, Arg)
            value = replace(node.op, role="static")
            (values[Ref(node.name)],) = rebuild.builder.add(value, names=(f"{node.name}/value",), loc=node.loc)
    return rebuild.builder.finish([(o.name, values.get(o.ref, rebuild.new[o.ref])) for o in body.outputs])


def with_transposes_in_bodies(graph: Graph) -> Graph:
    """Transposed parameters that a scan's products have as matrices are transposed in its body.

    There the rule for linear finds what they are the transpose of: outside of it they would be blobs of their own.
    """

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        slots = [slot for slot, ref in enumerate(args) if node.op.role(slot) == "weight" and _is_transposed(b, ref)]
        tied = {slot for slot in slots if all(_is_matrix_only(body, slot) for body in node.op.bodies)}
        if not tied:
            return None
        scan = in_bodies(node.op, lambda body: _with_transposes(body, tied))
        operands = [b.args(ref.node)[0] if slot in tied else ref for slot, ref in enumerate(args)]
        return b.add(scan, *operands, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _is_transposed(b: Graph | Builder, ref: Ref) -> bool:
    return isinstance(b.node(ref.node).op, Transpose) and b.type(ref).rank == 2 and is_weight(b, ref)


def _is_matrix_only(body: Graph, slot: int) -> bool:
    """Return whether an argument of a body is the matrix of products, and nothing else."""
    argument = Ref(body.body_args()[slot].name)
    reads = [
        isinstance(node.op, Linear) and at == 1
        for node in body
        for at, ref in enumerate(body.args(node.name))
        if ref == argument
    ]
    return all(reads) and argument not in [output.ref for output in body.outputs]


def _with_transposes(body: Graph, slots: set[int]) -> Graph:
    names = {body.body_args()[slot].name for slot in slots}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name not in names:
            return None
        assert isinstance(node.op, Arg)
        (argument,) = b.add(replace(node.op, shape=node.op.shape[::-1]), names=node.names, loc=node.loc)
        return b.add(Transpose(0), argument, names=(f"{node.name}/transposed",), loc=node.loc)

    return rewrite(body, visit)
