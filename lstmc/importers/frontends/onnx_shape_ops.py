"""ONNX operators that move elements or reduce axes, in all versions of the operator set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmc.importers.frontends.onnx_values import (
    CHECK,
    Handler,
    Node,
    Onnx,
    fixed_numbers,
    single,
    sizes,
    slices,
    triangle,
    weight,
)
from lstmc.importers.frontends.scattering import taken
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.ir.ops import Reduced
from lstmc.importers.ir.values import axis_in, broadcast, fixed, listed, open_sizes, resolved
from lstmc.importers.refusal import Refused


def _given(operand: Operand | None, attribute: Any, what: str) -> Any:
    """Return constant integers, which are an operand in newer versions and an attribute in older ones."""
    return attribute if operand is None else fixed_numbers(operand, what)


def _reshape(t: Onnx, x: Operand, new: Operand, *, allowzero: int = 0) -> Operand:
    old, shape = t.shape(x), sizes(new, "shape")
    if any(size == 0 for size in shape[len(old) :]) and not allowzero:
        raise Refused("shape", str(shape), f"a size of 0 stands for that of an axis of {listed(old)}", CHECK)
    return t.reshape(x, resolved([old[i] if s == 0 and not allowzero else s for i, s in enumerate(shape)], old))


def _flatten(t: Onnx, x: Operand, *, axis: int) -> Operand:
    shape = t.shape(x)
    lead = resolved((-1,), shape[:axis]) if axis else (1,)
    return t.reshape(x, resolved((*lead, -1), shape))


def _split(
    t: Onnx, x: Operand, sizes: Operand | None = None, *,
    axis: int, node: Node, split: list[int] | None = None, num_outputs: int | None = None,
) -> list[Operand]:  # fmt: skip
    lengths = _given(sizes, split, "split")
    if lengths is None:
        size, count = t.size(x, axis), node.results if num_outputs is None else num_outputs
        if count < 1:
            raise Refused("results", str(count), "one at least is expected", CHECK)
        each = -(-size // count)
        lengths = [min(each, size - at) for at in range(0, size, each)]
    if 0 not in lengths:
        return [*t.split(x, lengths, axis)]
    parts, shape = iter(t.split(x, [length for length in lengths if length], axis)), [*t.shape(x)]
    shape[axis] = 0
    return [next(parts) if length else np.zeros(shape, np.float32) for length in lengths]


def _concat(t: Onnx, *xs: Operand, axis: int) -> Operand:
    """Join values; those without elements, as a split may give, are left out."""
    return t.concat([x for x in xs if isinstance(x, str) or 0 not in x.shape] or xs, axis)


def _slice(t: Onnx, x: Operand, *, node: Node) -> Operand:
    y = t.value(x)
    for axis, part in slices(node, [*map(constant, node.operands[1:])]):
        if part == slice(0, 2**63 - 1, 1) or (part.start == 0 and part.step == 1 and (part.stop or 0) > 2**31):
            continue
        y = t.slice(y, axis, part)
    return y


def _gather(t: Onnx, table: Operand, at: Operand, *, axis: int) -> Operand:
    if isinstance(at, str) and not (axis or isinstance(table, str)):
        return t.embed(at, weight(table, "the first operand"))
    if not isinstance(at, str) and not t.shape(at):
        return t.select(table, axis, fixed_numbers(at, "indices")[0])
    if not isinstance(at, str):
        fixed_numbers(at, "indices")
    return taken(t, table, axis_in(axis, t.rank(table)), at)


def _pad(
    t: Onnx, x: Operand, sides: Operand | None = None, fill: Any = None, places: Any = None, *,
    mode: str, pads: list[int] | None = None, value: float | None = None,
) -> Operand:  # fmt: skip
    numbers = fixed_numbers(sides, "pads") if pads is None else pads
    axes, half = _given(places, range(t.rank(x)), "axes"), len(numbers) // 2
    if len(numbers) != 2 * len(axes):
        raise Refused("pads", str([*numbers]), f"{2 * len(axes)} numbers are expected", CHECK)
    pairs = dict(zip(axes, zip(numbers[:half], numbers[half:], strict=True), strict=True))
    return t.padded(x, pairs, mode, float(single(fill, "constant_value") or value or 0))


def _over_axes(method: Callable[..., Operand]) -> Handler:
    """Return a handler of a method that takes x, axes, all of them by default, and whether these stay."""

    def handle(
        t: Onnx, x: Operand, operand: Operand | None = None, *,
        axes: list[int] | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0,
    ) -> Operand:  # fmt: skip
        places = _given(operand, axes, "axes") or ([] if noop_with_empty_axes else range(t.rank(x)))
        return method(t, x, places, bool(keepdims))

    return handle


REDUCED: tuple[Reduced, ...] = ("mean", "sum", "max", "min")


def _reduce(kind: Reduced) -> Handler:
    return _over_axes(lambda t, x, axes, keep: t.reduce(kind, x, axes, keep))


def _norm(order: int, root: bool) -> Handler:
    return _over_axes(lambda t, x, axes, keep: t.norm(x, order, axes, keep, root))


def _dropout(t: Onnx, x: Operand, share: Operand | None = None, *, ratio: float = 0.5) -> list[Operand | None]:
    return [t.dropout(x, float(ratio if share is None else single(share, "ratio"))), None]


def _shape(t: Onnx, x: Operand, *, start: int = 0, end: int | None = None) -> Operand:
    shape = t.shape(x)[start:end]
    return np.array(shape, object if open_sizes(shape) else np.int64)


def _size(t: Onnx, x: Operand) -> Operand:
    return np.asarray(np.prod([fixed(size, "a size") for size in t.shape(x)], dtype=np.int64))


def _trilu(t: Onnx, x: Operand, k: Operand | None = None, *, node: Node) -> Operand:
    rows, columns = (t.size(x, axis) for axis in (-2, -1))
    kept = triangle(node, (rows, columns), None if k is None else np.asarray(fixed_numbers(k, "k")))
    return t.binary("mul", x, kept.astype(np.float32))


def _arg_max(sign: float) -> Handler:
    """Return a handler of ArgMax; with a sign of -1 of ArgMin."""
    return lambda t, x, *, axis, keepdims, select_last_index=0: t.argmax(
        x, axis, bool(keepdims), bool(select_last_index), sign
    )


def _top_k(
    t: Onnx, x: Operand, count: Operand | None = None, *, axis: int, k: int | None = None, largest: int = 1
) -> list[Operand]:
    """TopK for k = 1: the largest element of an axis and its index."""
    if (counts := _given(count, [k], "k")) != [1]:
        raise Refused("k", str(counts), "only the largest element is computed", "take the scores as the output")
    best = t.reduce("max" if largest else "min", x, [axis], keep=True)
    return [best, t.argmax(x, axis, keep=True, sign=1.0 if largest else -1.0)]


HANDLERS: dict[str, Handler] = {
    "Transpose": lambda t, x, *, perm=None: t.transpose(x, perm or [*range(t.rank(x))][::-1]),
    "Squeeze": lambda t, x, given=None, *, axes=None: t.squeeze(x, _given(given, axes, "axes")),
    "Unsqueeze": lambda t, x, given=None, *, axes=None: t.unsqueeze(x, _given(given, axes, "axes") or ()),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "DepthToSpace": lambda t, x, *, blocksize, mode="DCR": t.depth_to_space(x, blocksize, mode == "DCR"),
    "CumSum": lambda t, x, axis, *, exclusive, reverse: t.cumulated(
        x, int(single(axis, "axis")), not exclusive, bool(reverse)
    ),
    "Trilu": _trilu,
    "ArgMax": _arg_max(1.0),
    "ArgMin": _arg_max(-1.0),
    "TopK": _top_k,
    **{f"Reduce{kind.title()}": _reduce(kind) for kind in REDUCED},
    "ReduceProd": _over_axes(Onnx.multiplied),
    "ReduceLogSum": _over_axes(lambda t, x, axes, keep: t.apply("log", t.reduce("sum", x, axes, keep))),
    "ReduceLogSumExp": _over_axes(Onnx.log_sum_exp),
    "ReduceL1": _norm(1, root=False),
    "ReduceL2": _norm(2, root=True),
    "ReduceSumSquare": _norm(2, root=False),
    "Dropout": _dropout,
    "Shape": _shape,
    "Expand": lambda t, x, new: t.expand(x, broadcast(t.shape(x), tuple(sizes(new, "shape")))),
    "Tile": lambda t, x, repeats: t.tile(x, fixed_numbers(repeats, "repeats")),
    "Size": _size,
}
