"""ONNX operators on each element, with parameters, or over several elements; those in integers of 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np

from lstmc.importers.frontends import onnx_recurrent
from lstmc.importers.frontends.layers import shared_operations
from lstmc.importers.frontends.onnx_values import CHECK, TYPES, Node, Onnx, constant, single, weight, weight_or_none
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.frontends.windows import same_padding
from lstmc.importers.ir.values import Weight, axis_in, fixed, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops import Array
from lstmc.ops.frameworks import Elementwise, Foreign, functions_of

Handler = Callable[[Onnx, Node], Operand | list[Operand | None]]


def _function(foreign: Foreign, row: Elementwise) -> Handler:
    """Return a handler of a function, whose settings are attributes."""

    def handle(t: Onnx, node: Node) -> Operand:
        numbers = [*map(node.get, foreign.settings)] or row.numbers
        return t.apply(row.function, node.needed(0), *numbers)

    return handle


def _together(kind: str, t: Onnx, node: Node) -> Operand:
    y = node.needed(0)
    for place in range(1, len(node.operands)):
        y = t.binary(kind, y, node.needed(place))
    return y


def _binary(kind: str) -> Handler:
    return lambda t, node: _together(kind, t, node)


def _div(t: Onnx, node: Node) -> Operand:
    x, y = node.needed(0), node.needed(1)
    whole = any("int" in t.kind(one) for one in (x, y))
    return t.divided(x, y, "trunc")[0] if whole else t.binary("div", x, y)


def _pow(t: Onnx, node: Node) -> Operand:
    exponent = constant(node.operand(1))
    if exponent is None or exponent.size != 1:
        raise Refused("exponent", "computed, or several", "it must be one number", "write it as exp and log")
    return t.apply("power", node.needed(0), float(exponent.reshape(-1)[0]))


def _bound(node: Node, place: int, name: str) -> Operand | None:
    """Return a bound, which is an operand from version 11 on, an attribute before; None for one that limits nothing."""
    operand = node.operand(place)
    if isinstance(operand, str):
        return operand
    number = node.attributes.get(name) if operand is None else single(operand, name)
    return None if number is None or abs(number) >= 3e38 else np.asarray(float(number))


def _gelu(t: Onnx, node: Node) -> Operand:
    exact = node.get("approximate") == "none"
    return t.apply("gelu" if exact else "gelu_tanh", node.needed(0))


def _shared(count: int, method: Callable[..., str]) -> Handler:
    return lambda t, node: method(t, *map(node.needed, range(count)))


def _stored(x: Operand) -> Operand:
    """Return an array of numbers as a parameter."""
    return weight(x, "an operand") if isinstance(x, np.ndarray) else x


def _einsum(t: Onnx, node: Node) -> Operand:
    return t.einsum(node.get("equation"), [_stored(node.needed(at)) for at in range(len(node.operands))])


def _gemm(t: Onnx, node: Node) -> Operand:
    x = t.transpose(node.needed(0), (1, 0)) if node.get("transA") else node.needed(0)
    if isinstance(node.needed(1), str) or isinstance(node.operand(2), str):
        return _computed_gemm(t, node, x)
    w = weight(node.operand(1), "B", 2)
    w = w if node.get("transB") else w.transposed()
    bias = weight_or_none(node.operand(2), "C")
    alpha, beta = node.get("alpha"), node.get("beta")
    w = w if alpha == 1 else _scaled(w, alpha)
    if bias is not None and bias.shape != (w.shape[0],):
        if bias.shape[-1:] != (w.shape[0],) or int(np.prod(bias.shape)) != w.shape[0]:
            raise Refused("C", f"of shape {list(bias.shape)}", "it must be one number an output", "use MatMul and Add")
        bias = bias.reshaped(w.shape[0])
    return t.linear(x, w, bias if bias is None or beta == 1 else _scaled(bias, beta))


def _computed_gemm(t: Onnx, node: Node, x: Operand) -> Operand:
    """Gemm of two computed matrices, or with a computed addend."""
    w = _stored(node.needed(1))
    if node.get("transB"):
        w = w.transposed() if isinstance(w, Weight) else t.transpose(w, (1, 0))
    y = t.affine(t.matmul(x, w), node.get("alpha"), 0.0)
    addend = node.operand(2)
    if addend is None:
        return y
    return t.binary("add", y, t.affine(addend, node.get("beta"), 0.0))


def _scaled(w: Weight, factor: float) -> Weight:
    return w.derived(w.shape, f"{factor} * {w.recipe}", lambda: factor * w.make())


def _conv(t: Onnx, node: Node) -> Operand:
    x, w, b = node.needed(0), weight(node.operand(1), "W"), weight_or_none(node.operand(2), "B")
    stride, pads, dilation = _windows(t, node, x, w.shape[2:])
    return t.conv(x, w, b, stride, pads, dilation, node.get("group", 1))


def _conv_transpose(t: Onnx, node: Node) -> Operand:
    x, w, b = node.needed(0), weight(node.operand(1), "W"), weight_or_none(node.operand(2), "B")
    stride, pads, dilation = _windows(t, node, x, w.shape[2:])
    shape, beyond = node.attributes.get("output_shape"), node.integers("output_padding", len(stride), 0)
    if shape is not None or node.get("auto_pad") not in ("NOTSET", "VALID"):
        raise Refused("output_shape, auto_pad", str(shape), "only pads are read", "give pads instead")
    pads = [(before, after - more) for (before, after), more in zip(pads, beyond, strict=True)]
    return t.conv_transpose(x, w, b, stride, pads, dilation, node.get("group", 1))


# How Resize finds the nearest element where the factors are integers and the result has each element that often
REPEATS = {
    ("asymmetric", "floor"),
    ("tf_half_pixel_for_nn", "floor"),
    *product(("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"), ("round_prefer_floor", "round_prefer_ceil")),
}


def _resize(t: Onnx, node: Node) -> Operand:
    """Resize by integer factors, to the nearest element."""
    x = node.needed(0)
    shape = t.shape(x)
    scales, new_sizes = constant(node.operand(1 if node.op == "Upsample" else 2)), constant(node.operand(3))
    scales = np.asarray(node.attributes["scales"]) if "scales" in node.attributes else scales
    if (policy := node.get("keep_aspect_ratio_policy", "stretch")) != "stretch" or node.attributes.get("axes"):
        raise Refused("keep_aspect_ratio_policy, axes", policy, "each axis has its own size here", "give all scales")
    if node.get("mode") != "nearest":
        raise Refused("mode", node.get("mode"), "only nearest is written", "use nearest, or ConvTranspose")
    rule = node.get("coordinate_transformation_mode"), node.get("nearest_mode")
    if node.op == "Resize" and node.opset > 10 and rule not in REPEATS:
        why = "its result is not each element a number of times"
        raise Refused("coordinate_transformation_mode, nearest_mode", ", ".join(rule), why, "use asymmetric, floor")
    if scales is None or not scales.size:
        if new_sizes is None:
            raise Refused("scales, sizes", "computed", "they must be known here", "give the sizes of the inputs")
        scales = np.asarray([float(new) / fixed(old, "a size") for new, old in zip(new_sizes, shape, strict=False)])
    if scales.shape != (len(shape),):
        raise Refused("scales, sizes", str(scales.tolist()), f"{len(shape)} numbers are expected", CHECK)
    return t.resized(x, dict(enumerate(map(float, scales))))


def _windows(
    t: Onnx, node: Node, x: Operand, kernel: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Return strides, paddings (before, after) and dilations along each axis."""
    rank, shape = len(kernel), t.shape(x)
    if rank not in (1, 2) or len(shape) != rank + 2 or min(kernel) < 1:
        why = f"windows over one and two axes are known, of an operand with two more: found {list(shape)}"
        raise Refused("kernel_shape", str(list(kernel)), why, "use Conv1d or 2d")
    stride, dilation = node.integers("strides", rank, 1), node.integers("dilations", rank, 1)
    if min(*stride, *dilation, node.get("group", 1)) < 1:
        raise Refused("strides, dilations, group", f"{stride}, {dilation}", "positive numbers are expected", CHECK)
    padding = node.integers("pads", 2 * rank, 0)
    pads = list(zip(padding[:rank], padding[rank:], strict=True))
    auto = node.get("auto_pad")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [same_padding(*window) for window in zip(shape[2:], kernel, stride, dilation, strict=True)]
        pads = pads if auto == "SAME_UPPER" else [pair[::-1] for pair in pads]
    return stride, pads, dilation


def _pool(kind: Literal["max", "mean"]) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        x, kernel = node.needed(0), node.attributes["kernel_shape"]
        stride, pads, dilation = _windows(t, node, x, kernel)
        if any(d != 1 for d in dilation) or node.results > 1:
            setting = f"{node.get('dilations')}, {node.results}"
            raise Refused(
                "dilations, outputs", setting, "Caffe's pooling has no dilation, and no indices", "pool without"
            )
        ceil, counted = bool(node.get("ceil_mode")), bool(node.get("count_include_pad"))
        return t.pool(kind, x, kernel, stride, pads, ceil, counted)

    return handle


def _global_pool(kind: Literal["max", "mean"]) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        x = node.needed(0)
        return t.reduce(kind, x, range(2, len(t.shape(x))), keep=True)

    return handle


def _batch_norm(t: Onnx, node: Node) -> Operand:
    if node.results > 1 or node.get("training_mode"):
        raise Refused("training_mode", "1", "the mean of a batch is not known", "export the model for use")
    statistics = [weight(node.operand(place), f"operand {place}") for place in (1, 2, 3, 4)]
    return t.batch_norm(node.needed(0), statistics, node.get("epsilon"))


def _layer_norm(t: Onnx, node: Node) -> Operand:
    rank = len(t.shape(node.needed(0)))
    if node.results > 1:
        raise Refused("outputs", str(node.results), "the mean is not one here", "export the model without it")
    axes = range(axis_in(node.get("axis"), rank), rank)
    parameters = [weight_or_none(node.operand(place), f"operand {place}") for place in (1, 2)]
    return t.layer_norm(node.needed(0), node.get("epsilon"), parameters[0], parameters[1], axes)


def _softmax(log: bool) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        x = node.needed(0)
        shape = t.shape(x)
        axis = axis_in(node.get("axis"), len(shape))
        if node.opset >= 13 or axis == len(shape) - 1:
            return t.softmax(x, axis, log)
        flat = t.reshape(x, resolved((*shape[:axis], -1), shape))  # before 13: over all axes from this one on
        return t.reshape(t.softmax(flat, -1, log), shape)

    return handle


def _instance_norm(t: Onnx, node: Node) -> Operand:
    scale, shift = weight(node.operand(1), "scale", 1), weight(node.operand(2), "B", 1)
    return t.group_norm(node.needed(0), scale.shape[0], node.get("epsilon"), scale, shift)


def _group_norm(t: Onnx, node: Node) -> Operand:
    groups = node.attributes["num_groups"]
    parameters = [weight(node.operand(place), f"operand {place}", 1) for place in (1, 2)]
    channels = t.size(node.needed(0), 1, "channels")
    if parameters[0].shape[0] != channels:  # before version 21 one for a group
        parameters = [
            w.derived((channels,), f"{w.recipe} of each group", _repeated(w, channels // groups)) for w in parameters
        ]
    return t.group_norm(node.needed(0), groups, node.get("epsilon"), parameters[0], parameters[1])


def _repeated(w: Weight, times: int) -> Callable[[], Array]:
    return lambda: np.repeat(w.make(), times)


HANDLERS: dict[str, Handler] = {
    "Identity": lambda t, node: node.needed(0),
    "Cast": lambda t, node: t.converted(node.needed(0), TYPES.get(node.attributes["to"], "float")),
    **{foreign.name: _function(foreign, row) for foreign, row in functions_of("onnx") if row.operator},
    "Gelu": _gelu,
    "PRelu": lambda t, node: t.prelu(node.needed(0), node.needed(1)),
    "Clip": lambda t, node: t.clip(node.needed(0), _bound(node, 1, "min"), _bound(node, 2, "max")),
    "Pow": _pow,
    "Add": _binary("add"),
    "Sum": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _div,
    "Max": _binary("max"),
    "Min": _binary("min"),
    "Mean": lambda t, node: t.affine(_together("add", t, node), 1 / len(node.operands), 0.0),
    **{name: _shared(count, method) for name, count, method in shared_operations("onnx")},
    "MatMul": lambda t, node: t.matmul(_stored(node.needed(0)), _stored(node.needed(1))),
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Resize": _resize,
    "Upsample": _resize,
    "MaxPool": _pool("max"),
    "AveragePool": _pool("mean"),
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("max"),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "Softmax": _softmax(log=False),
    "LogSoftmax": _softmax(log=True),
}


ROUNDED = (
    "The source rounds to 8 bits what it computes while it runs; the imported model computes in float32. Its outputs"
    " are close to the source's, and not the same."
)


def _note(t: Onnx) -> None:
    if ROUNDED not in t.builder.notes:
        t.builder.notes.append(ROUNDED)


def _dynamic(t: Onnx, node: Node) -> list[Operand | None]:
    """Return x itself with a scale of 1 and a zero point of 0, by which following nodes multiply."""
    _note(t)
    return [t.value(node.needed(0)), np.asarray(1.0, np.float32), np.asarray(0)]


def _floats(w: Weight, zero: Weight | None, scale: Weight | None, axes: Sequence[int]) -> Weight:
    """Return (w - zero) * scale; both are numbers, or arrays along some axes of w."""

    def spread(term: Weight) -> Array:
        array = term.make().astype(np.float32)
        if array.size == 1:
            return array.reshape(())
        return array.reshape([w.shape[at] if at in axes[: array.ndim] else 1 for at in range(len(w.shape))])

    def make() -> Array:
        array = w.make().astype(np.float32) - (0 if zero is None else spread(zero))
        return array if scale is None else array * spread(scale)

    sources = tuple(name for part in (w, zero, scale) if part is not None for name in part.sources)
    return Weight(w.shape, tuple(dict.fromkeys(sources)), f"{w.recipe} as float32", make)


def _integers(t: Onnx, node: Node, axis: int) -> Node:
    """Return the node with its weights as floats; its other operand must be a result of DynamicQuantizeLinear."""
    zero = constant(node.operand(2))
    if not isinstance(node.needed(0), str) or (node.operand(2) is not None and (zero is None or np.any(zero))):
        why = "integers that DynamicQuantizeLinear did not make"
        raise Refused("a_zero_point", "another", why, "import it before it was quantized")
    w = _floats(weight(node.operand(1), "B"), weight_or_none(node.operand(3), "b_zero_point"), None, (axis,))
    return replace(node, operands=[node.needed(0), w, None])


def _lstm(t: Onnx, node: Node) -> list[Operand | None]:
    """DynamicQuantizeLSTM: W [directions, inputs, 4 H] and R [directions, H, 4 H], with scales and zero points."""
    _note(t)
    scales = [weight_or_none(node.operand(place), f"operand {place}") for place in range(8, 12)]
    weights = []
    for place, scale, zero in ((1, scales[0], scales[1]), (2, scales[2], scales[3])):
        axes = (0,) if scale is None or len(scale.shape) < 2 else (0, 2)
        weights.append(_floats(weight(node.operand(place), "WR"[place - 1], 3), zero, scale, axes).transposed(0, 2, 1))
    operands = [node.operands[0], *weights, *node.operands[3:8]]
    return onnx_recurrent.recurrent(t, replace(node, op="LSTM", operands=operands))


def _along(t: Onnx, x: Operand, node: Node, place: int) -> Array | None:
    """Return a scale or a zero point, one or one for each place of an axis of x, in the shape that x's axes take."""
    found = constant(node.operand(place))
    if node.operand(place) is not None and found is None:
        raise Refused(f"operand {place}", "computed", "it must be known here", "import it before it was quantized")
    if found is None or found.size == 1:
        return None if found is None else found.reshape(()).astype(np.float64)
    shape = t.shape(x)
    axis = axis_in(node.get("axis", 1), len(shape))
    if found.shape != shape[axis : axis + 1]:
        raise Refused(f"operand {place}", str(list(found.shape)), "one number for each place is read", CHECK)
    return found.astype(np.float64).reshape([-1 if at == axis else 1 for at in range(len(shape))])


def _dequantized(t: Onnx, node: Node) -> Operand:
    """(x - zero) * scale of a computed x, as rows of a stored table are."""
    x = node.needed(0)
    scale, zero = _along(t, x, node, 1), _along(t, x, node, 2)
    if scale is None:
        raise Refused("x_scale", "left out", "it is required", CHECK)
    return t.binary("mul", x if zero is None else t.binary("sub", x, zero), scale)


def _quantized(t: Onnx, node: Node) -> Operand:
    """x / scale + zero within the integers of its type, which are not rounded to."""
    x = node.needed(0)
    scale, zero = _along(t, x, node, 1), _along(t, x, node, 2)
    if scale is None:
        raise Refused("y_scale", "left out", "it is required", CHECK)
    given = constant(node.operand(2))
    code = node.get("output_dtype") or 2
    kind = np.dtype(TYPES.get(code, "float")) if given is None else given.dtype
    if kind.kind not in "iu":
        why = "integers of 8 bits or more are read"
        raise Refused("output_dtype", str(code), why, "import it before it was quantized")
    _note(t)
    y = t.binary("mul", x, 1 / scale)
    y = y if zero is None else t.binary("add", y, zero)
    return t.apply("clip", y, float(np.iinfo(kind).min), float(np.iinfo(kind).max))


def _linear_integers(name: Literal["Conv", "MatMul"]) -> Handler:
    """Return a handler of QLinearConv or QLinearMatMul: of numbers with scales and zero points, as numbers."""
    axis = 0 if name == "Conv" else 1

    def handle(t: Onnx, node: Node) -> Operand:
        x = _dequantized(t, replace(node, operands=node.operands[:3]))
        scale, bias = weight(node.operand(4), "w_scale"), weight_or_none(node.operand(8), "B")
        w = _floats(weight(node.operand(3), "w"), weight_or_none(node.operand(5), "w_zero_point"), scale, (axis,))
        if bias is not None:
            step = constant(node.operand(1))
            own, both = bias, scale.make() * (1 if step is None else step)
            bias = own.derived(own.shape, f"{own.recipe} as float32", lambda: own.make() * both.reshape(-1))
        y = HANDLERS[name](t, replace(node, op=name, operands=[x, w, bias]))
        assert not isinstance(y, list)
        return _quantized(t, replace(node, operands=[y, *node.operands[6:8]]))

    return handle


HANDLERS |= {
    "DynamicQuantizeLinear": _dynamic,
    "DequantizeLinear": _dequantized,
    "QuantizeLinear": _quantized,
    "QLinearConv": _linear_integers("Conv"),
    "QLinearMatMul": _linear_integers("MatMul"),
    "MatMulInteger": lambda t, node: HANDLERS["MatMul"](t, _integers(t, node, 1)),
    "ConvInteger": lambda t, node: HANDLERS["Conv"](t, _integers(t, node, 0)),
    "DynamicQuantizeLSTM": _lstm,
}
