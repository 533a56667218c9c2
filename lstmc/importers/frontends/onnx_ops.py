"""ONNX's operators that stand around recurrent layers, by name; each knows what changed between versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from lstmc.importers.describe.ops import Dropout
from lstmc.importers.describe.shapes import axis_in, fixed, resolved
from lstmc.importers.frontends.layers import Operand
from lstmc.importers.frontends.onnx_fold import slices
from lstmc.importers.frontends.onnx_values import Node, Onnx, fixed_numbers, known, sizes, weight, weight_or_none
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight

Handler = Callable[[Onnx, Node], Operand | list[Operand | None]]


def _function(name: str, *numbers: tuple[str, float] | float) -> Handler:
    """A function whose numbers are attributes, each with its default, or fixed."""

    def handle(t: Onnx, node: Node) -> Operand:
        given = [float(node.get(n[0], n[1])) if isinstance(n, tuple) else n for n in numbers]
        return t.layers.apply(name, node.needed(0), *given)

    return handle


def _binary(kind: str) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        y = node.needed(0)
        for place in range(1, len(node.operands)):
            y = t.layers.binary(kind, y, node.needed(place))
        return y

    return handle


def _pow(t: Onnx, node: Node) -> Operand:
    exponent = known(node.operand(1))
    if exponent is None or exponent.size != 1:
        raise Refused("exponent", "computed, or several", "it must be one number", "write it as exp and log")
    return t.layers.apply("power", node.needed(0), float(exponent.reshape(-1)[0]))


def _bound(node: Node, place: int, name: str) -> float | None:
    """A number that is an operand from version 11 on, an attribute before."""
    given = known(node.operand(place))
    told = node.attributes.get(name) if given is None else given.reshape(-1)[0]
    return None if told is None else float(told)


def _clip(t: Onnx, node: Node) -> Operand:
    low, high, x = _bound(node, 1, "min"), _bound(node, 2, "max"), node.needed(0)
    if low is not None and high is not None and max(abs(low), abs(high)) < 3e38:
        return t.layers.apply("clip", x, low, high)
    for bound, kind in ((low, "max"), (high, "min")):
        if bound is not None and abs(bound) < 3e38:
            x = t.layers.binary(kind, x, np.asarray(bound))
    return x


def _matmul(t: Onnx, node: Node) -> Operand:
    w = weight(node.operand(1), "the second operand")
    if len(w.shape) != 2:
        raise Refused("the second operand", f"of shape {list(w.shape)}", "it must be a matrix", "reshape it before")
    return t.layers.linear(node.needed(0), w.transposed())


def _gemm(t: Onnx, node: Node) -> Operand:
    if node.get("transA", 0):
        raise Refused("transA", "1", "the input would be transposed", "transpose it before")
    w = weight(node.operand(1), "B")
    w = w if node.get("transB", 0) else w.transposed()
    bias = weight_or_none(node.operand(2), "C")
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    w = w if alpha == 1 else _scaled(w, alpha)
    if bias is not None and bias.shape != (w.shape[0],):
        if bias.shape[-1:] != (w.shape[0],) or int(np.prod(bias.shape)) != w.shape[0]:
            raise Refused("C", f"of shape {list(bias.shape)}", "it must be one number an output", "use MatMul and Add")
        bias = bias.reshaped(w.shape[0])
    return t.layers.linear(node.needed(0), w, bias if bias is None or beta == 1 else _scaled(bias, beta))


def _scaled(w: Weight, factor: float) -> Weight:
    return w.derived(w.shape, f"{factor} * {w.recipe}", lambda: factor * w.make())


def _conv(t: Onnx, node: Node) -> Operand:
    x, w, b = node.needed(0), weight(node.operand(1), "W"), weight_or_none(node.operand(2), "B")
    rank = len(w.shape) - 2
    stride, pads, dilation = _windows(t, node, x, w.shape[2:])
    group = int(node.get("group", 1))
    if rank == 2:
        return t.layers.conv(x, w, b, (stride[0], stride[1]), (pads[0], pads[1]), (dilation[0], dilation[1]), group)
    if rank != 1:
        raise Refused("kernel_shape", str(list(w.shape[2:])), "only one and two axes are convolved", "use Conv1d or 2d")
    y = t.layers.conv(
        t.layers.unsqueeze(x, [2]), w.reshaped(*w.shape[:2], 1, w.shape[2]), b,
        (1, stride[0]), ((0, 0), pads[0]), (1, dilation[0]), group,
    )  # fmt: skip
    return t.layers.squeeze(y, [2])


def _windows(
    t: Onnx, node: Node, x: Operand, kernel: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Strides, paddings (before, after) and dilations along each axis."""
    rank = len(kernel)
    stride = [int(s) for s in node.get("strides", [1] * rank)]
    dilation = [int(d) for d in node.get("dilations", [1] * rank)]
    given = [int(p) for p in node.get("pads", [0] * 2 * rank)]
    pads = list(zip(given[:rank], given[rank:], strict=True))
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for size, k, s, d in zip(t.layers.shape(x)[2:], kernel, stride, dilation, strict=True):
            n = fixed(size, "an image's size")
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return stride, pads, dilation


def _pool(kind: Literal["max", "mean"]) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        x, kernel = node.needed(0), [int(k) for k in node.attributes["kernel_shape"]]
        stride, pads, dilation = _windows(t, node, x, kernel)
        if any(d != 1 for d in dilation) or node.results > 1:
            told = f"{node.get('dilations', 1)}, {node.results}"
            raise Refused("dilations, outputs", told, "Caffe's pooling has no dilation, and no indices", "pool without")
        ceil, counted = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
        if len(kernel) == 2:
            shape, step, around = (kernel[0], kernel[1]), (stride[0], stride[1]), (pads[0], pads[1])
            return t.layers.pool(kind, x, shape, step, around, ceil, counted)
        wide = t.layers.unsqueeze(x, [2])
        y = t.layers.pool(kind, wide, (1, kernel[0]), (1, stride[0]), ((0, 0), pads[0]), ceil, counted)
        return t.layers.squeeze(y, [2])

    return handle


def _global_max(t: Onnx, node: Node) -> Operand:
    shape = t.layers.shape(node.needed(0))
    size = tuple(fixed(s, "an image's size") for s in shape[2:])
    return t.layers.pool("max", node.needed(0), (size[0], size[1]), (1, 1), ((0, 0), (0, 0)))


def _batch_norm(t: Onnx, node: Node) -> Operand:
    if node.results > 1 or node.get("training_mode", 0):
        raise Refused("training_mode", "1", "the mean of a batch is not known", "export the model for use")
    told = [weight(node.operand(place), f"operand {place}") for place in (1, 2, 3, 4)]
    return t.layers.batch_norm(node.needed(0), told, float(node.get("epsilon", 1e-5)))


def _layer_norm(t: Onnx, node: Node) -> Operand:
    rank = len(t.layers.shape(node.needed(0)))
    if axis_in(int(node.get("axis", -1)), rank) != rank - 1 or node.results > 1:
        raise Refused("axis", str(node.get("axis", -1)), "more than the last axis", "normalize the last axis")
    told = [weight_or_none(node.operand(place), f"operand {place}") for place in (1, 2)]
    return t.layers.layer_norm(node.needed(0), float(node.get("epsilon", 1e-5)), told[0], told[1])


def _softmax(log: bool) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        x = node.needed(0)
        shape = t.layers.shape(x)
        axis = axis_in(int(node.get("axis", 1 if node.opset < 13 else -1)), len(shape))
        if node.opset >= 13 or axis == len(shape) - 1:
            return t.layers.softmax(x, axis, log)
        flat = t.layers.reshape(x, resolved((*shape[:axis], -1), shape))  # before 13: over all axes from this one on
        return t.layers.reshape(t.layers.softmax(flat, -1, log), shape)

    return handle


def _transpose(t: Onnx, node: Node) -> Operand:
    rank = len(t.layers.shape(node.needed(0)))
    return t.layers.transpose(node.needed(0), node.get("perm", list(reversed(range(rank)))))


def _axes(node: Node) -> list[int] | None:
    told = fixed_numbers(node.operand(1), "axes") if node.operand(1) is not None else node.get("axes", None)
    return None if told is None else [int(axis) for axis in told]


def _reshape(t: Onnx, node: Node) -> Operand:
    old = t.layers.shape(node.needed(0))
    told = sizes(node.operand(1), "shape")
    zero = node.get("allowzero", 0)
    return t.layers.reshape(
        node.needed(0), resolved([old[i] if s == 0 and not zero else s for i, s in enumerate(told)], old)
    )


def _flatten(t: Onnx, node: Node) -> Operand:
    shape = t.layers.shape(node.needed(0))
    axis = int(node.get("axis", 1))
    lead = resolved((-1,), shape[:axis]) if axis else (1,)
    return t.layers.reshape(node.needed(0), resolved((*lead, -1), shape))


def _split(t: Onnx, node: Node) -> list[Operand | None]:
    x, axis = node.needed(0), int(node.get("axis", 0))
    told = fixed_numbers(node.operand(1), "split") if node.operand(1) is not None else node.get("split", None)
    if told is None:
        size = fixed(t.layers.shape(x)[axis], f"axis {axis}")
        each = -(-size // int(node.get("num_outputs", node.results)))
        told = [min(each, size - at) for at in range(0, size, each)]
    return [*t.layers.split(x, [int(s) for s in told], axis)]


def _slice(t: Onnx, node: Node) -> Operand:
    x = t.layers.value(node.needed(0))
    for axis, part in slices(node, [known(operand) for operand in node.operands[1:]]):
        size = t.layers.shape(x)[axis]
        if part == slice(0, 2**63 - 1, 1) or (part.start == 0 and part.step == 1 and (part.stop or 0) > 2**31):
            continue
        places = range(fixed(size, f"axis {axis}"))[part]
        if part.step == 1:
            x = t.layers.cut(x, axis, places.start, places.stop)
        else:
            x = t.layers.concat([t.layers.cut(x, axis, at, at + 1) for at in places], axis)
    return x


def _gather(t: Onnx, node: Node) -> Operand:
    table, at, axis = node.needed(0), node.needed(1), int(node.get("axis", 0))
    if isinstance(at, str):
        if axis:
            raise Refused("axis", str(axis), "indices that are computed name rows", "gather along axis 0")
        return t.layers.embed(at, weight(table, "the first operand"))
    places = fixed_numbers(at, "indices")
    shape = known(at)
    assert shape is not None
    if shape.ndim == 0:
        return t.layers.select(table, axis, places[0])
    if shape.ndim != 1:
        raise Refused("indices", f"of shape {list(shape.shape)}", "only one row of them is written", "reshape after it")
    size = fixed(t.layers.shape(table)[axis], f"axis {axis}")
    return t.layers.concat([t.layers.cut(table, axis, p % size, p % size + 1) for p in places], axis)


def _pad(t: Onnx, node: Node) -> Operand:
    value = known(node.operand(2))
    fill = float(value.reshape(-1)[0]) if value is not None else float(node.get("value", 0.0))
    mode = node.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge") or (mode == "constant" and fill):
        raise Refused("mode", f"{mode} of {fill}", "only zeros, mirrors and edges are written", "pad with zeros")
    padded = {"constant": t.layers.pad, "reflect": t.layers.mirror, "edge": t.layers.repeat_edges}[mode]
    told = fixed_numbers(node.operand(1), "pads") if node.opset >= 11 else [int(p) for p in node.attributes["pads"]]
    rank = len(t.layers.shape(node.needed(0)))
    axes = fixed_numbers(node.operand(3), "axes") if node.operand(3) is not None else range(rank)
    y = t.layers.value(node.needed(0))
    for place, axis in enumerate(axes):
        before, after = told[place], told[place + len(told) // 2]
        if min(before, after) < 0:
            raise Refused("pads", str(told), "a negative padding cuts", "slice instead")
        if before or after:
            y = padded(y, axis_in(axis, rank), before, after)
    return y


def _reduce(kind: Literal["sum", "mean", "max", "min"]) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        axes = _axes(node)
        if not axes and node.get("noop_with_empty_axes", 0):
            return node.needed(0)
        every = range(len(t.layers.shape(node.needed(0))))
        return t.layers.reduce(kind, node.needed(0), axes or every, bool(node.get("keepdims", 1)))

    return handle


def _dropout(t: Onnx, node: Node) -> list[Operand | None]:
    given = known(node.operand(1))
    ratio = float(given.reshape(-1)[0]) if given is not None else float(node.get("ratio", 0.5))
    x = t.layers.value(node.needed(0))
    if 0 < ratio < 1:
        x = t.layers.builder.one(Dropout(ratio), x, hint=t.layers.hint, origin=t.layers.origin)
    return [x, None]


def _shape(t: Onnx, node: Node) -> Operand:
    shape = t.layers.shape(node.needed(0))
    shape = shape[int(node.get("start", 0)) : node.get("end", None)]
    whole = all(isinstance(size, int) for size in shape)
    return np.array(shape, np.int64 if whole else object)


def _size(t: Onnx, node: Node) -> Operand:
    shape = t.layers.shape(node.needed(0))
    return np.asarray(np.prod([fixed(size, "a size") for size in shape], dtype=np.int64))


def _expand(t: Onnx, node: Node) -> Operand:
    old, wanted = t.layers.shape(node.needed(0)), sizes(node.operand(1), "shape")
    if len(wanted) > len(old) or any(w not in (1, s) for w, s in zip(wanted[::-1], old[::-1], strict=False)):
        raise Refused("shape", str(wanted), "Caffe does not repeat elements", "let the arithmetic broadcast it")
    return node.needed(0)


def _tile(t: Onnx, node: Node) -> Operand:
    repeats, y = fixed_numbers(node.operand(1), "repeats"), t.layers.value(node.needed(0))
    if len(repeats) != len(t.layers.shape(y)) or min(repeats, default=1) < 1:
        told = f"{repeats} of a value of {len(t.layers.shape(y))} axes"
        raise Refused("repeats", told, "it must be a number from 1 on for each axis", "correct the graph")
    for axis, count in enumerate(repeats):
        y = t.layers.concat([y] * count, axis)
    return y


def _hard_swish(t: Onnx, node: Node) -> Operand:
    return t.layers.binary("mul", node.needed(0), t.layers.apply("hard_sigmoid", node.needed(0), 1 / 6, 0.5))


HANDLERS: dict[str, Handler] = {
    "Identity": lambda t, node: node.needed(0),
    "Cast": lambda t, node: node.needed(0),
    "Relu": _function("relu"),
    "Tanh": _function("tanh"),
    "Sigmoid": _function("sigmoid"),
    "Abs": _function("abs"),
    "Exp": _function("exp"),
    "Log": _function("log"),
    "Sqrt": _function("power", 0.5),
    "Reciprocal": _function("power", -1.0),
    "Neg": _function("affine", -1.0, 0.0),
    "Softsign": _function("softsign"),
    "Softplus": _function("softplus"),
    "Elu": _function("elu", ("alpha", 1.0)),
    "Selu": _function("selu", ("alpha", 1.6732632423543772), ("gamma", 1.0507009873554805)),
    "LeakyRelu": _function("leaky_relu", ("alpha", 0.01)),
    "HardSigmoid": _function("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _hard_swish,
    "Clip": _clip,
    "Pow": _pow,
    "Add": _binary("add"),
    "Sum": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _binary("div"),
    "Max": _binary("max"),
    "Min": _binary("min"),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "MaxPool": _pool("max"),
    "AveragePool": _pool("mean"),
    "GlobalAveragePool": lambda t, node: t.layers.reduce(
        "mean", node.needed(0), range(2, len(t.layers.shape(node.needed(0)))), keep=True
    ),
    "GlobalMaxPool": _global_max,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax(log=False),
    "LogSoftmax": _softmax(log=True),
    "Transpose": _transpose,
    "Squeeze": lambda t, node: t.layers.squeeze(node.needed(0), _axes(node)),
    "Unsqueeze": lambda t, node: t.layers.unsqueeze(node.needed(0), _axes(node) or ()),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Concat": lambda t, node: t.layers.concat([*map(node.needed, range(len(node.operands)))], node.attributes["axis"]),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"),
    "Dropout": _dropout,
    "Shape": _shape,
    "Expand": _expand,
    "Tile": _tile,
    "Size": _size,
}
