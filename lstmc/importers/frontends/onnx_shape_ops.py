"""ONNX operators that move elements or reduce axes, in all versions of the operator set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from lstmc.importers.frontends.onnx_values import (
    CHECK,
    Node,
    Onnx,
    constant,
    fixed_numbers,
    single,
    sizes,
    slices,
    triangle,
    weight,
)
from lstmc.importers.frontends.scattering import chosen
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.values import axis_in, broadcast, fixed, listed, open_sizes, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops import Dropout

Handler = Callable[[Onnx, Node], Operand | list[Operand | None]]


def _transpose(t: Onnx, node: Node) -> Operand:
    rank = len(t.shape(node.needed(0)))
    return t.transpose(node.needed(0), node.get("perm", list(reversed(range(rank)))))


def _axes(node: Node) -> list[int] | None:
    return node.get("axes") if node.operand(1) is None else fixed_numbers(node.operand(1), "axes")


def _reshape(t: Onnx, node: Node) -> Operand:
    old = t.shape(node.needed(0))
    shape = sizes(node.operand(1), "shape")
    zero = node.get("allowzero")
    if any(size == 0 for size in shape[len(old) :]) and not zero:
        raise Refused("shape", str(shape), f"a size of 0 stands for that of an axis of {listed(old)}", CHECK)
    return t.reshape(node.needed(0), resolved([old[i] if s == 0 and not zero else s for i, s in enumerate(shape)], old))


def _flatten(t: Onnx, node: Node) -> Operand:
    shape = t.shape(node.needed(0))
    axis = node.get("axis")
    lead = resolved((-1,), shape[:axis]) if axis else (1,)
    return t.reshape(node.needed(0), resolved((*lead, -1), shape))


def _split(t: Onnx, node: Node) -> list[Operand | None]:
    x, axis = node.needed(0), node.get("axis")
    lengths = node.get("split") if node.operand(1) is None else fixed_numbers(node.operand(1), "split")
    if lengths is None:
        size = t.size(x, axis)
        count = node.get("num_outputs", node.results)
        if count < 1:
            raise Refused("results", str(count), "one at least is expected", CHECK)
        each = -(-size // count)
        lengths = [min(each, size - at) for at in range(0, size, each)]
    if 0 not in lengths:
        return [*t.split(x, lengths, axis)]
    parts, shape = iter(t.split(x, [length for length in lengths if length], axis)), [*t.shape(x)]
    shape[axis] = 0
    return [next(parts) if length else np.zeros(shape, np.float32) for length in lengths]


def _concat(t: Onnx, node: Node) -> Operand:
    """Join values; those without elements, as a split may give, are left out."""
    parts = [*map(node.needed, range(len(node.operands)))]
    full = [part for part in parts if isinstance(part, str) or 0 not in part.shape]
    return t.concat(full or parts, node.attributes["axis"])


def _slice(t: Onnx, node: Node) -> Operand:
    x = t.value(node.needed(0))
    for axis, part in slices(node, [constant(operand) for operand in node.operands[1:]]):
        if part == slice(0, 2**63 - 1, 1) or (part.start == 0 and part.step == 1 and (part.stop or 0) > 2**31):
            continue
        x = t.slice(x, axis, part)
    return x


def _gather(t: Onnx, node: Node) -> Operand:
    table, at, axis = node.needed(0), node.needed(1), node.get("axis")
    if isinstance(at, str):
        if axis or isinstance(table, str):
            return chosen(t, table, at, axis)
        return t.embed(at, weight(table, "the first operand"))
    places = fixed_numbers(at, "indices")
    shape = constant(at)
    assert shape is not None
    if shape.ndim == 0:
        return t.select(table, axis, places[0])
    table_shape = t.shape(table)
    axis = axis_in(axis, len(table_shape))
    return t.reshape(t.pick(table, axis, places), (*table_shape[:axis], *shape.shape, *table_shape[axis + 1 :]))


def _pad(t: Onnx, node: Node) -> Operand:
    fill = float(single(node.operand(2), "constant_value") or node.get("value") or 0)
    pads = fixed_numbers(node.operand(1), "pads") if node.opset >= 11 else node.attributes["pads"]
    rank = len(t.shape(node.needed(0)))
    axes = fixed_numbers(node.operand(3), "axes") if node.operand(3) is not None else range(rank)
    half = len(pads) // 2
    if len(pads) != 2 * len(axes):
        raise Refused("pads", str([*pads]), f"{2 * len(axes)} numbers are expected", CHECK)
    sides = dict(zip(axes, zip(pads[:half], pads[half:], strict=True), strict=True))
    return t.padded(node.needed(0), sides, node.get("mode"), fill)


def _reduce(kind: Literal["sum", "mean", "max", "min"]) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        axes = _axes(node)
        if not axes and node.get("noop_with_empty_axes"):
            return node.needed(0)
        every = range(len(t.shape(node.needed(0))))
        return t.reduce(kind, node.needed(0), axes or every, bool(node.get("keepdims")))

    return handle


def _dropout(t: Onnx, node: Node) -> list[Operand | None]:
    ratio = float(node.get("ratio", 0.5) if node.operand(1) is None else single(node.operand(1), "ratio"))
    x = t.value(node.needed(0))
    if 0 < ratio < 1:
        x = t.one(Dropout(ratio), x)
    return [x, None]


def _shape(t: Onnx, node: Node) -> Operand:
    shape = t.shape(node.needed(0))
    shape = shape[node.get("start") : node.get("end")]
    return np.array(shape, object if open_sizes(shape) else np.int64)


def _size(t: Onnx, node: Node) -> Operand:
    shape = t.shape(node.needed(0))
    return np.asarray(np.prod([fixed(size, "a size") for size in shape], dtype=np.int64))


def _expand(t: Onnx, node: Node) -> Operand:
    x, shape = node.needed(0), tuple(sizes(node.operand(1), "shape"))
    return t.expand(x, broadcast(t.shape(x), shape))


def _norm(order: int, root: bool) -> Handler:
    """Return a handler of the sum of magnitudes or of squares along axes, or its root."""

    def handle(t: Onnx, node: Node) -> Operand:
        x = node.needed(0)
        axes = _axes(node) or range(len(t.shape(x)))
        return t.norm(x, order, axes, bool(node.get("keepdims")), root)

    return handle


def _cum_sum(t: Onnx, node: Node) -> Operand:
    axis = single(node.needed(1), "axis")
    return t.cumulated(node.needed(0), int(axis), not node.get("exclusive"), bool(node.get("reverse")))


def _trilu(t: Onnx, node: Node) -> Operand:
    x = node.needed(0)
    rows, columns = (t.size(x, axis) for axis in (-2, -1))
    diagonal = None if node.operand(1) is None else fixed_numbers(node.operand(1), "k")
    kept = triangle(node, (rows, columns), None if diagonal is None else np.asarray(diagonal))
    return t.binary("mul", x, kept.astype(np.float32))


def _arg_max(sign: float) -> Handler:
    """Return a handler of ArgMax; with a sign of -1 of ArgMin."""

    def handle(t: Onnx, node: Node) -> Operand:
        keep, last = bool(node.get("keepdims")), bool(node.get("select_last_index"))
        return t.argmax(t.affine(node.needed(0), sign, 0.0), node.get("axis"), keep, last)

    return handle


def _top_k(t: Onnx, node: Node) -> list[Operand | None]:
    """TopK for k = 1: the largest element of an axis and its index."""
    x, sign = node.needed(0), 1.0 if node.get("largest", 1) else -1.0
    count = [node.get("k")] if node.operand(1) is None else fixed_numbers(node.operand(1), "k")
    if count != [1]:
        raise Refused("k", str(count), "only the largest element is computed", "take the scores as the output")
    axis = node.get("axis")
    best = t.reduce("max" if sign > 0 else "min", x, [axis], keep=True)
    return [best, t.argmax(t.affine(x, sign, 0.0), axis, keep=True)]


HANDLERS: dict[str, Handler] = {
    "Transpose": _transpose,
    "Squeeze": lambda t, node: t.squeeze(node.needed(0), _axes(node)),
    "Unsqueeze": lambda t, node: t.unsqueeze(node.needed(0), _axes(node) or ()),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "DepthToSpace": lambda t, node: t.depth_to_space(
        node.needed(0), node.attributes["blocksize"], node.get("mode", "DCR") == "DCR"
    ),
    "CumSum": _cum_sum,
    "Trilu": _trilu,
    "ArgMax": _arg_max(1.0),
    "ArgMin": _arg_max(-1.0),
    "TopK": _top_k,
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"),
    "ReduceL1": _norm(1, root=False),
    "ReduceL2": _norm(2, root=True),
    "ReduceSumSquare": _norm(2, root=False),
    "Dropout": _dropout,
    "Shape": _shape,
    "Expand": _expand,
    "Tile": lambda t, node: t.tile(node.needed(0), fixed_numbers(node.operand(1), "repeats")),
    "Size": _size,
}
