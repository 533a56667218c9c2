"""The lowering of each core op to ONNX's operators: lstmc's tables, and tables of packages by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from math import prod
from typing import Any

import numpy as np

from lstmc import ops
from lstmc.backend.discover import all_lowerings, lowering_in
from lstmc.ops import Op
from lstmc.ops.frameworks import ops_of
from lstmc.types import known
from lstmc_onnx.ops import GRU, LSTM, RNN, Recurrent
from lstmc_onnx.writer import Call, Writer, onnx

# Ops that are a single operator; its attributes are fields of the op.
OPERATORS: Mapping[type[Op], tuple[str, Mapping[str, str]]] = {
    **{
        op: (foreign.name, dict(zip(foreign.settings, (field.name for field in fields(op)), strict=True)))
        for op, foreign in ops_of("onnx")
    },
    ops.Add: ("Add", {}),
    ops.Sub: ("Sub", {}),
    ops.Mul: ("Mul", {}),
    ops.Maximum: ("Max", {}),
    ops.Concat: ("Concat", {"axis": "axis"}),
    ops.Softmax: ("Softmax", {"axis": "axis"}),
    ops.Dropout: ("Identity", {}),
    ops.StopGradient: ("Identity", {}),
    ops.Precomputed: ("Identity", {}),
}


def operator(w: Writer, call: Call) -> None:
    kind, fields = OPERATORS[type(call.op)]
    w.add(kind, call.args, call.results, **{name: getattr(call.op, field) for name, field in fields.items()})


def power(w: Writer, call: Call[ops.Power]) -> None:
    w.add("Pow", (*call.args, w.scalar(call.op.exponent)), call.results)


def affine(w: Writer, call: Call[ops.Affine]) -> None:
    op, x = call.op, call.args[0]
    if op.shift == 0:
        w.add("Mul", (x, w.scalar(op.scale)), call.results)
        return
    if op.scale == -1:
        w.add("Sub", (w.scalar(op.shift), x), call.results)
        return
    if op.scale != 1:
        (x,) = w.add("Mul", (x, w.scalar(op.scale)), f"{call.results[0]}/scaled")
    w.add("Add", (x, w.scalar(op.shift)), call.results)


def positive(w: Writer, call: Call) -> None:
    (above,) = w.add("Greater", (*call.args, w.scalar(0.0)), f"{call.results[0]}/above")
    w.add("Cast", (above,), call.results, to=onnx().TensorProto.FLOAT)


AXES_OF_MAX_ARE_AN_INPUT = 18  # from this opset on


def full(w: Writer, call: Call[ops.Full]) -> None:
    value = onnx().numpy_helper.from_array(np.array([call.op.value], np.float32))
    w.add("ConstantOfShape", (w.filled(call.result_types[0].shape),), call.results, value=value)


def split(w: Writer, call: Call[ops.Split]) -> None:
    if len(call.results) == 1:
        w.add("Identity", call.args, call.results)
        return
    sizes = w.numbers(call.op.sizes, "sizes_" + "_".join(map(str, call.op.sizes)))
    w.add("Split", (*call.args, sizes), call.results, axis=call.op.axis)


def reshape(w: Writer, call: Call) -> None:
    """Use Squeeze or Unsqueeze, which need no sizes, if only axes of 1 change."""
    before, after = call.types[0].shape, call.result_types[0].shape
    for kind, longer, shorter in (("Squeeze", before, after), ("Unsqueeze", after, before)):
        axes = ones_left_out(longer, shorter)
        if axes:
            w.add(kind, (*call.args, w.numbers(axes, "axis_" + "_".join(map(str, axes)))), call.results)
            return
    w.add("Reshape", (*call.args, w.shape(call.result_types[0].shape)), call.results)


def ones_left_out(longer: Sequence[int], shorter: Sequence[int]) -> list[int] | None:
    """Return the axes of 1 without which ``longer`` is ``shorter``; None if the shapes differ otherwise."""
    axes, left = [], list(shorter)
    for axis, size in enumerate(longer):
        if left and size == left[0]:
            left.pop(0)
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return None if left else axes


def tile(w: Writer, call: Call[ops.Tile]) -> None:
    repeats = [call.op.tiles if axis == call.op.axis else 1 for axis in range(call.types[0].rank)]
    w.add("Tile", (*call.args, w.numbers(repeats, "repeats_" + "x".join(map(str, repeats)))), call.results)


def transpose(w: Writer, call: Call[ops.Transpose]) -> None:
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
    (integers,) = w.add("Cast", (ids,), f"{ids}/whole", to=onnx().TensorProto.INT64)
    w.add("Gather", (matrix, integers), call.results, axis=0)


def total(w: Writer, call: Call[ops.Sum]) -> None:
    w.add("ReduceSum", (*call.args, w.numbers([call.op.axis], f"axis_{call.op.axis}")), call.results, keepdims=0)


def largest(w: Writer, call: Call[ops.Max]) -> None:
    axes = [call.op.axis]
    if w.shared.opset < AXES_OF_MAX_ARE_AN_INPUT:
        w.add("ReduceMax", call.args, call.results, axes=axes, keepdims=0)
    else:
        w.add("ReduceMax", (*call.args, w.numbers(axes, f"axis_{axes[0]}")), call.results, keepdims=0)


def first_largest(w: Writer, call: Call[ops.Largest]) -> None:
    op, (x,) = call.op, call.args
    shape = known(call.types[0].shape)
    (index,) = w.add("ArgMax", (x,), f"{call.results[0]}/index", axis=op.axis, keepdims=1)
    indices = np.arange(shape[op.axis]).reshape(-1, *[1] * (len(shape) - 1 - op.axis))
    (is_largest,) = w.add("Equal", (index, w.constant(indices, "places")), f"{call.results[0]}/here")
    w.add("Cast", (is_largest,), call.results, to=onnx().TensorProto.FLOAT)


def linear(w: Writer, call: Call[ops.Linear]) -> None:
    """Gemm, whose matrix is [out, in] as ours; MatMul with the transposed one where x has other axes than two."""
    op, (x, matrix, *bias), result = call.op, call.args, call.results[0]
    if op.axis < call.types[0].rank - 1:
        flat = w.shape((*call.types[0].shape[: op.axis], call.types[1].shape[1]))
        (x,) = w.add("Reshape", (x, flat), f"{result}/flat")
    if op.axis == 1:
        w.add("Gemm", (x, matrix, *bias), call.results, transB=1)
        return
    (turned,) = w.add("Transpose", (matrix,), f"{result}/{matrix.rpartition('/')[2]}", perm=[1, 0])
    (y,) = w.add("MatMul", (x, turned), f"{result}/product" if bias else call.results)
    if bias:
        w.add("Add", (y, *bias), call.results)


def conv(w: Writer, call: Call[ops.Conv]) -> None:
    op = call.op
    attributes = {"strides": op.stride, "pads": (*op.pad, *op.pad), "dilations": op.dilation, "group": op.group}
    _images(w, call, "Conv", call.results, kernel_shape=call.types[1].shape[2:], **attributes)


def max_pool(w: Writer, call: Call[ops.MaxPool]) -> None:
    _images(w, call, "MaxPool", call.results, **_windows(call))


def ave_pool(w: Writer, call: Call[ops.AvePool]) -> None:
    """ONNX divides by the size of a window; the core by the window's places in the padded image."""
    share = (prod(call.op.size) / call.op.covered(known(call.types[0].shape[-2:]))).astype(np.float32)
    if np.all(share == 1):
        _images(w, call, "AveragePool", call.results, count_include_pad=1, **_windows(call))
        return
    (y,) = _images(w, call, "AveragePool", f"{call.results[0]}/windows", count_include_pad=1, **_windows(call))
    w.add("Mul", (y, w.constant(share, f"{call.results[0]}/share")), call.results)


def _windows(call: Call[ops.MaxPool | ops.AvePool]) -> dict[str, Any]:
    """Return a window's attributes, padded to whole windows: no runtime then rounds their number."""
    op, image = call.op, known(call.types[0].shape[-2:])
    return {"kernel_shape": op.size, "strides": op.stride, "pads": (*op.pad, *op.ends(image))}


def _images(w: Writer, call: Call, kind: str, results: Any, **attributes: Any) -> tuple[str, ...]:
    """Return an operator on [N, C, H, W], for x with any axes before the last three."""
    if call.types[0].rank == 4:
        return w.add(kind, call.args, results, **attributes)
    images = w.shape((prod(call.types[0].shape[:-3]), *call.types[0].shape[-3:]))
    (rows,) = w.add("Reshape", (call.args[0], images), f"{call.results[0]}/images")
    (images_out,) = w.add(kind, (rows, *call.args[1:]), f"{call.results[0]}/of_images", **attributes)
    return w.add("Reshape", (images_out, w.shape(call.result_types[0].shape)), results)


ROLES = ("x", "W", "R", "B", "lengths", "h_0", "c_0", "P")


def recurrent(w: Writer, call: Call[Recurrent]) -> None:
    op = call.op
    operands = dict(zip(op.roles(), call.args, strict=True))
    if "lengths" in operands:
        (operands["lengths"],) = w.add(
            "Cast", (operands["lengths"],), f"{operands['lengths']}/whole", to=onnx().TensorProto.INT32
        )
    inputs = [operands.get(role, "") for role in ROLES]
    while not inputs[-1]:
        inputs.pop()
    attributes: dict[str, Any] = {"hidden_size": call.types[2].shape[-1], "direction": op.direction}
    attributes["activations"] = list(op.activations)
    if op.clip:
        attributes["clip"] = op.clip
    if op.alpha:
        attributes["activation_alpha"] = list(op.alpha)
    if op.beta:
        attributes["activation_beta"] = list(op.beta)
    title = call.results[0].rpartition("/")[0]
    w.add(type(op).__name__, inputs, call.results, title, **attributes, **op.attributes())


GROUP = "lstmc_onnx.lowerings"  # an entry point of a package names a table from ops to lowerings
Lowering = Callable[[Writer, Call[Any]], None]
LOWERINGS: Mapping[type[Op], Lowering] = {
    **dict.fromkeys(OPERATORS, operator),
    ops.Power: power,
    ops.Affine: affine,
    ops.Positive: positive,
    ops.Full: full,
    ops.Split: split,
    ops.Reshape: reshape,
    ops.Tile: tile,
    ops.Transpose: transpose,
    ops.Unstack: unstack,
    ops.Stack: stack,
    ops.Embed: embed,
    ops.Sum: total,
    ops.Max: largest,
    ops.Largest: first_largest,
    ops.Linear: linear,
    ops.Conv: conv,
    ops.MaxPool: max_pool,
    ops.AvePool: ave_pool,
    **dict.fromkeys((LSTM, GRU, RNN), recurrent),
}


@cache
def lowerings() -> Mapping[type[Op], Lowering]:
    """Return all lowerings, lstmc's and those of packages."""
    return all_lowerings(LOWERINGS, GROUP, "ONNX")


def lowering_of(op: Op) -> Lowering:
    """Return the lowering of an op. Raises :class:`BackendError` if there is none."""
    return lowering_in(lowerings(), op, GROUP, "ONNX")
