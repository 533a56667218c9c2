"""The end of an LSTM's step, found in a body of Caffe ops by its equations, whatever its nodes are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lstmc.ir import Graph, Ref
from lstmc_caffe import ops as caffe

CAFFE_ORDER = "ifog"


@dataclass(frozen=True)
class GateTail:
    """c = sigmoid(f) c_prev + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c): its values, and the one value that the
    gates are the quarters of, in ``order``. Without the first product, ``c_prev`` is None. ``cont`` is the indicator
    that c_prev is multiplied by, where one is known: a sequence outside of the scan."""

    c: Ref
    h: Ref
    c_prev: Ref | None
    gates: Ref
    order: str
    cont: Ref | None = None


@dataclass(frozen=True)
class _Gate:
    """A function of the part of ``source`` that starts at ``start`` of its last axis."""

    source: Ref
    start: int
    function: type


def gate_tails(body: Graph) -> Iterator[GateTail]:
    """Every gate tail of a body, in order."""
    for node in body:
        for o, tanh_c in _pairs(body, Ref(node.name), "PROD"):
            tanh = body.node(tanh_c.node)
            if isinstance(tanh.op, caffe.TanHLayer):
                (c,) = body.args(tanh.name)
                tail = _cell(body, c, Ref(node.name), _gate(body, o))
                if tail is not None:
                    yield tail
                    break


def _pairs(body: Graph, ref: Ref, operation: str) -> list[tuple[Ref, Ref]]:
    """The two operands of an Eltwise of this kind, in both orders; nothing if ``ref`` is something else."""
    node = body.node(ref.node)
    plain = isinstance(node.op, caffe.Eltwise) and node.op.operation == operation and set(node.op.coeff) <= {1.0}
    args = body.args(node.name) if plain else ()
    return [(args[0], args[1]), (args[1], args[0])] if len(args) == 2 else []


def _gate(body: Graph, ref: Ref) -> _Gate | None:
    """What a gate is a function of, through slices before and after the function."""
    whole = 4 * body.type(ref).shape[-1]
    start, function = 0, None
    while function is None or body.type(ref).shape[-1] != whole:
        node = body.node(ref.node)
        if isinstance(node.op, caffe.SliceLayer) and node.op.axis == body.type(ref).rank - 1:
            start += sum(node.op.sizes[: ref.out])
        elif function is None and isinstance(node.op, caffe.SigmoidLayer | caffe.TanHLayer):
            function = type(node.op)
        else:
            return None
        (ref,) = body.args(node.name)
    return _Gate(ref, start, function)


def _cell(body: Graph, c: Ref, h: Ref, o: _Gate | None) -> GateTail | None:
    if o is None or o.function is not caffe.SigmoidLayer:
        return None
    sums: list[tuple[Ref, Ref | None]] = [*_pairs(body, c, "SUM"), (c, None)]
    for new, kept in sums:
        for i, g in _pairs(body, new, "PROD"):
            forgetting: list[tuple[Ref | None, Ref | None]] = [(None, None)]
            if kept is not None:
                forgetting = [*_pairs(body, kept, "PROD")]
            for f, c_prev in forgetting:
                gates = {"i": _gate(body, i), "o": o, "g": _gate(body, g)}
                if f is not None:
                    gates["f"] = _gate(body, f)
                order = _order(gates, body.type(c).shape[-1])
                if order is not None:
                    return GateTail(c, h, c_prev, o.source, order)
    return None


def _order(gates: dict[str, _Gate | None], size: int) -> str | None:
    """The gates in the order they are packed in, if they are one each, of the right functions, of one value."""
    order = ["f"] * 4  # a first step without f has the other three where they are
    for name, gate in gates.items():
        wanted = caffe.TanHLayer if name == "g" else caffe.SigmoidLayer
        if gate is None or gate.function is not wanted or gate.source != gates["o"].source or gate.start % size:  # type: ignore[union-attr]
            return None
        order[gate.start // size] = name
    return "".join(order) if sorted(order) == sorted(CAFFE_ORDER) else None
