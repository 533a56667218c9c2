"""The matrix product, convolution and pooling, as ONNX's operators."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from lstmc.ops import Array, AvePool, Conv, Linear, MaxPool, Op
from lstmc.types import TensorType
from lstmc_onnx.writer import Call, Writer


def linear(w: Writer, call: Call) -> None:
    """Gemm, whose matrix is [out, in] as ours; MatMul with the transposed one where x has other axes than two."""
    op, (x, matrix, *bias), result = call.op, call.args, call.results[0]
    assert isinstance(op, Linear)
    if op.axis < call.types[0].rank - 1:
        flat = w.shape((*call.given[0][: op.axis], call.types[1].shape[1]))
        (x,) = w.add("Reshape", (x, flat), f"{result}/flat")
    if op.axis == 1:
        w.add("Gemm", (x, matrix, *bias), call.results, transB=1)
        return
    (turned,) = w.add("Transpose", (matrix,), f"{result}/{matrix.rpartition('/')[2]}", perm=[1, 0])
    (y,) = w.add("MatMul", (x, turned), f"{result}/product" if bias else call.results)
    if bias:
        w.add("Add", (y, *bias), call.results)


def conv(w: Writer, call: Call) -> None:
    op = call.op
    assert isinstance(op, Conv)
    attributes = {"strides": op.stride, "pads": (*op.pad, *op.pad), "dilations": op.dilation, "group": op.group}
    _images(w, call, "Conv", call.results, kernel_shape=call.types[1].shape[2:], **attributes)


def max_pool(w: Writer, call: Call) -> None:
    _images(w, call, "MaxPool", call.results, **_windows(call))


def ave_pool(w: Writer, call: Call) -> None:
    """ONNX divides by the size of a window; the core by its places in the image with its own padding."""
    share = _share(call)
    if np.all(share == 1):
        _images(w, call, "AveragePool", call.results, count_include_pad=1, **_windows(call))
        return
    (y,) = _images(w, call, "AveragePool", f"{call.results[0]}/windows", count_include_pad=1, **_windows(call))
    w.add("Mul", (y, w.constant(share, f"{call.results[0]}/share")), call.results)


def written_alike(op: Op, one: TensorType, other: TensorType) -> bool:
    """Whether an op is written alike for operands and results of two types: the padding of pools is in numbers."""
    return not isinstance(op, MaxPool | AvePool) or one.shape[-2:] == other.shape[-2:]


def _windows(call: Call) -> dict[str, Any]:
    """Padding so that the last window ends with it: how their number is rounded is then the same everywhere."""
    op = call.op
    assert isinstance(op, MaxPool | AvePool)
    sizes = zip(call.types[0].shape[-2:], call.made[0].shape[-2:], op.size, op.stride, op.pad, strict=True)
    ends = [max(0, (count - 1) * s + k - n - p) for n, count, k, s, p in sizes]
    return {"kernel_shape": op.size, "strides": op.stride, "pads": (*op.pad, *ends)}


def _share(call: Call) -> Array:
    """By how much the mean over a window's places is more than its sum over the window's size: [rows, columns]."""
    op = call.op
    assert isinstance(op, AvePool)
    shares = []
    for n, count, k, s, p in zip(
        call.types[0].shape[-2:], call.made[0].shape[-2:], op.size, op.stride, op.pad, strict=True
    ):
        starts = np.arange(count) * s - p
        shares.append(k / (np.minimum(starts + k, n + p) - starts))
    return np.multiply.outer(*shares).astype(np.float32)


def _images(w: Writer, call: Call, kind: str, results: Any, **attributes: Any) -> tuple[str, ...]:
    """An operator on [N, C, H, W], for x with any axes before the last three."""
    if call.types[0].rank == 4:
        return w.add(kind, call.args, results, **attributes)
    lead = call.types[0].shape[:-3]
    images = w.shape((prod(lead) if lead == call.given[0][:-3] else "", *call.given[0][-3:]))
    (rows,) = w.add("Reshape", (call.args[0], images), f"{call.results[0]}/images")
    (made,) = w.add(kind, (rows, *call.args[1:]), f"{call.results[0]}/of_images", **attributes)
    return w.add("Reshape", (made, w.shape(call.shapes[0])), results)


FORMS = {Linear: linear, Conv: conv, MaxPool: max_pool, AvePool: ave_pool}
