"""Ops that move elements, cut and join arrays, or reduce an axis, as ONNX's operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstmc.ops import Concat, Embed, Full, Largest, Max, Reshape, Softmax, Split, Stack, Sum, Tile, Transpose, Unstack
from lstmc_onnx.packages import onnx
from lstmc_onnx.writer import Call, Writer

Size = tuple[int | str, int]  # as it is open, and as it was compiled
AXES_OF_MAX_ARE_AN_INPUT = 18  # from this opset on


def full(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Full)
    value = onnx().numpy_helper.from_array(np.array([call.op.value], np.float32))
    w.add("ConstantOfShape", (w.shape(call.shapes[0], filled=True),), call.results, value=value)


def split(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Split)
    if len(call.results) == 1:
        w.add("Identity", call.args, call.results)
        return
    sizes = w.numbers(call.op.sizes, "sizes_" + "_".join(map(str, call.op.sizes)))
    w.add("Split", (*call.args, sizes), call.results, axis=call.op.axis)


def concat(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Concat)
    w.add("Concat", call.args, call.results, axis=call.op.axis)


def reshape(w: Writer, call: Call) -> None:
    """Where only axes of 1 come or go, by an operator that needs no sizes."""
    before, after = (
        [*zip(s, t.shape, strict=True)] for s, t in ((call.given[0], call.types[0]), (call.shapes[0], call.made[0]))
    )
    for kind, longer, shorter in (("Squeeze", before, after), ("Unsqueeze", after, before)):
        axes = ones_left_out(longer, shorter)
        if axes:
            w.add(kind, (*call.args, w.numbers(axes, "axis_" + "_".join(map(str, axes)))), call.results)
            return
    w.add("Reshape", (*call.args, w.shape(call.shapes[0])), call.results)


def ones_left_out(longer: Sequence[Size], shorter: Sequence[Size]) -> list[int] | None:
    """The axes of 1 without which a shape is another one; None if it is not so."""
    axes, left = [], list(shorter)
    for axis, size in enumerate(longer):
        if left and size == left[0]:
            left.pop(0)
        elif size == (1, 1):
            axes.append(axis)
        else:
            return None
    return None if left else axes


def tile(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Tile)
    repeats = [call.op.tiles if axis == call.op.axis else 1 for axis in range(call.types[0].rank)]
    w.add("Tile", (*call.args, w.numbers(repeats, "repeats_" + "x".join(map(str, repeats)))), call.results)


def transpose(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Transpose)
    order = list(range(call.types[0].rank))
    at = call.op.axis
    order[at], order[at + 1] = order[at + 1], order[at]
    w.add("Transpose", call.args, call.results, perm=order)


def unstack(w: Writer, call: Call) -> None:
    for step, result in enumerate(call.results):
        w.add("Gather", (*call.args, w.constant(np.int64(step), f"step_{step}")), (result,), axis=0)


def stack(w: Writer, call: Call) -> None:
    axes = w.numbers([0], "axis_0")
    rows = [w.add("Unsqueeze", (x, axes), f"{x}/row")[0] for x in call.args]
    w.add("Concat", rows, call.results, axis=0)


def embed(w: Writer, call: Call) -> None:
    ids, matrix = call.args
    (whole,) = w.add("Cast", (ids,), f"{ids}/whole", to=onnx().TensorProto.INT64)
    w.add("Gather", (matrix, whole), call.results, axis=0)


def total(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Sum)
    w.add("ReduceSum", (*call.args, w.numbers([call.op.axis], f"axis_{call.op.axis}")), call.results, keepdims=0)


def largest(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Max)
    axes = [call.op.axis]
    if w.shared.opset < AXES_OF_MAX_ARE_AN_INPUT:
        w.add("ReduceMax", call.args, call.results, axes=axes, keepdims=0)
    else:
        w.add("ReduceMax", (*call.args, w.numbers(axes, f"axis_{axes[0]}")), call.results, keepdims=0)


def first_largest(w: Writer, call: Call) -> None:
    op, (x,) = call.op, call.args
    assert isinstance(op, Largest)
    shape = call.types[0].shape
    (index,) = w.add("ArgMax", (x,), f"{call.results[0]}/index", axis=op.axis, keepdims=1)
    places = np.arange(shape[op.axis]).reshape(-1, *[1] * (len(shape) - 1 - op.axis))
    (here,) = w.add("Equal", (index, w.constant(places, "places")), f"{call.results[0]}/here")
    w.add("Cast", (here,), call.results, to=onnx().TensorProto.FLOAT)


def softmax(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Softmax)
    w.add("Softmax", call.args, call.results, axis=call.op.axis)


FORMS = {
    Full: full,
    Split: split,
    Concat: concat,
    Reshape: reshape,
    Tile: tile,
    Transpose: transpose,
    Unstack: unstack,
    Stack: stack,
    Embed: embed,
    Sum: total,
    Max: largest,
    Largest: first_largest,
    Softmax: softmax,
}
