"""ONNX operators on elements, with parameters, over several elements, on 8-bit integers; and LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import product
from typing import Any

import numpy as np

from lstmc.importers.frontends import onnx_values as values
from lstmc.importers.frontends.layers import shared_operations
from lstmc.importers.frontends.onnx_values import CHECK, TYPES, Handler, Node, Onnx, weight, weight_or_none
from lstmc.importers.frontends.shape_ops import Operand, Pair, Pooled, Sizes, constant, same_padding
from lstmc.importers.ir.ops import function
from lstmc.importers.ir.recur import Cell, Extra, Kind
from lstmc.importers.ir.values import Size, Weight, axis_in, fixed, listed, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops import Array, Op
from lstmc.ops.frameworks import Elementwise, Foreign, functions_of


def _function(foreign: Foreign, row: Elementwise) -> Handler:
    return lambda t, x, *, node: t.apply(row.function, x, *([*map(node.get, foreign.settings)] or row.numbers))


def _together(kind: str) -> Handler:
    return lambda t, x, *xs: reduce(partial(t.binary, kind), xs, x)


def _div(t: Onnx, x: Operand, y: Operand) -> Operand:
    """Return the quotient, truncated if an operand has integers."""
    whole = any("int" in t.kind(one) for one in (x, y))
    return t.divided(x, y, "trunc")[0] if whole else t.binary("div", x, y)


def _pow(t: Onnx, x: Operand, exponent: Operand) -> Operand:
    known = constant(exponent)
    if known is None or known.size != 1:
        raise Refused("exponent", "computed, or several", "it must be one number", "write it as exp and log")
    return t.apply("power", x, float(known.reshape(-1)[0]))


def _bound(operand: Operand | None, number: float | None, name: str) -> Operand | None:
    """Return a bound: an operand from version 11 on, an attribute before; None if there is no bound."""
    if isinstance(operand, str):
        return operand
    number = number if operand is None else values.single(operand, name)
    return None if number is None or abs(number) >= 3e38 else np.asarray(float(number))


def _stored(x: Operand) -> Operand:
    return weight(x, "an operand") if isinstance(x, np.ndarray) else x


def matmul(t: Onnx, x: Operand, y: Operand) -> Operand:
    return t.matmul(_stored(x), _stored(y))


def _gemm(
    t: Onnx, a: Operand, b: Operand, c: Operand | None = None, *,
    alpha: float, beta: float, transA: int, transB: int,
) -> Operand:  # fmt: skip
    """Return alpha A B + beta C, as a linear layer if B and C are stored."""
    x = t.transpose(a, (1, 0)) if transA else a
    if isinstance(b, str) or isinstance(c, str):
        w = t.turned(_stored(b)) if transB else _stored(b)
        y = t.affine(t.matmul(x, w), alpha, 0.0)
        return y if c is None else t.binary("add", y, t.affine(c, beta, 0.0))
    w = weight(b, "B", 2)
    w = w if transB else w.transposed()
    bias = weight_or_none(c, "C")
    w = w if alpha == 1 else _scaled(w, alpha)
    if bias is not None and bias.shape != (w.shape[0],):
        if bias.shape[-1:] != (w.shape[0],) or int(np.prod(bias.shape)) != w.shape[0]:
            raise Refused("C", f"of shape {list(bias.shape)}", "it must be one number an output", "use MatMul and Add")
        bias = bias.reshaped(w.shape[0])
    return t.linear(x, w, bias if bias is None or beta == 1 else _scaled(bias, beta))


def _scaled(w: Weight, factor: float) -> Weight:
    return w.derived(w.shape, f"{factor} * {w.recipe}", lambda: factor * w.make())


def _conv(t: Onnx, x: Operand, kernel: Operand, bias: Operand | None = None, *, node: Node) -> Operand:
    w, b = weight(kernel, "W"), weight_or_none(bias, "B")
    return t.conv(x, w, b, *_windows(t, node, x, w.shape[2:]), node.get("group", 1))


def _conv_transpose(t: Onnx, x: Operand, kernel: Operand, bias: Operand | None = None, *, node: Node) -> Operand:
    """Return a transposed convolution. Raises :class:`Refused` for an output shape or automatic padding."""
    w, b = weight(kernel, "W"), weight_or_none(bias, "B")
    stride, pads, dilation = _windows(t, node, x, w.shape[2:])
    shape, beyond = node.attributes.get("output_shape"), node.integers("output_padding", len(stride), 0)
    if shape is not None or node.get("auto_pad") not in ("NOTSET", "VALID"):
        raise Refused("output_shape, auto_pad", str(shape), "only pads are read", "give pads instead")
    pads = [(before, after - more) for (before, after), more in zip(pads, beyond, strict=True)]
    return t.conv_transpose(x, w, b, stride, pads, dilation, node.get("group", 1))


# Modes of Resize in which integer factors repeat each element that often
REPEATS = {
    ("asymmetric", "floor"),
    ("tf_half_pixel_for_nn", "floor"),
    *product(("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"), ("round_prefer_floor", "round_prefer_ceil")),
}


def _resize(t: Onnx, x: Operand, *, node: Node) -> Operand:
    """Repeat elements by integer factors. Raises :class:`Refused` for all that is not such a repetition."""
    shape = t.shape(x)
    first = node.op == "Upsample" or node.opset < 11  # there Resize has no regions of interest
    scales, new_sizes = constant(node.operand(1 if first else 2)), constant(node.operand(3))
    scales = np.asarray(node.attributes["scales"]) if "scales" in node.attributes else scales
    if (policy := node.get("keep_aspect_ratio_policy", "stretch")) != "stretch" or node.attributes.get("axes"):
        raise Refused("keep_aspect_ratio_policy, axes", policy, "each axis has its own size here", "give all scales")
    if node.get("mode") != "nearest":
        raise Refused("mode", node.get("mode"), "only nearest is written", "use nearest, or ConvTranspose")
    rule = node.get("coordinate_transformation_mode"), node.get("nearest_mode")
    if not first and rule not in REPEATS:
        why = "its result is not each element a number of times"
        raise Refused("coordinate_transformation_mode, nearest_mode", ", ".join(rule), why, "use asymmetric, floor")
    if scales is None or not scales.size:
        if new_sizes is None:
            raise Refused("scales, sizes", "computed", "they must be known here", values.GIVE)
        scales = np.asarray([float(new) / fixed(old, "a size") for new, old in zip(new_sizes, shape, strict=False)])
    if scales.shape != (len(shape),):
        raise Refused("scales, sizes", str(scales.tolist()), f"{len(shape)} numbers are expected", CHECK)
    return t.resized(x, dict(enumerate(map(float, scales))))


def _windows(t: Onnx, node: Node, x: Operand, kernel: Sizes) -> tuple[list[int], list[Pair], list[int]]:
    """Return strides, paddings (before, after) and dilations. Raises :class:`Refused` if they do not fit x."""
    rank, shape = len(kernel), t.shape(x)
    if rank not in (1, 2) or len(shape) != rank + 2 or min(kernel) < 1:
        why = f"windows over one and two axes are known, of an operand with two more: found {list(shape)}"
        raise Refused("kernel_shape", str(list(kernel)), why, "use Conv1d or 2d")
    stride, dilation = node.integers("strides", rank, 1), node.integers("dilations", rank, 1)
    if min(*stride, *dilation, node.get("group", 1)) < 1:
        raise Refused("strides, dilations, group", f"{stride}, {dilation}", "positive numbers are expected", CHECK)
    padding = node.integers("pads", 2 * rank, 0)
    if min(padding) < 0:
        raise Refused("pads", str(padding), "numbers of 0 or more are expected", CHECK)
    pads = list(zip(padding[:rank], padding[rank:], strict=True))
    auto = node.get("auto_pad")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [same_padding(*window) for window in zip(shape[2:], kernel, stride, dilation, strict=True)]
        pads = pads if auto == "SAME_UPPER" else [pair[::-1] for pair in pads]
    return stride, pads, dilation


def _pool(
    kind: Pooled, t: Onnx, x: Operand, *, node: Node, kernel_shape: list[int], ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Operand:  # fmt: skip
    """Return a pooling. Raises :class:`Refused` for dilation, and if the places of maxima are read."""
    stride, pads, dilation = _windows(t, node, x, kernel_shape)
    if any(d != 1 for d in dilation) or node.results > 1:
        setting, why = f"{node.get('dilations')}, {node.results}", "Caffe's pooling has no dilation, and no indices"
        raise Refused("dilations, outputs", setting, why, "pool without")
    return t.pool(kind, x, kernel_shape, stride, pads, bool(ceil_mode), bool(count_include_pad))


def _global_pool(kind: Pooled) -> Handler:
    return lambda t, x: t.reduce(kind, x, range(2, t.rank(x)), keep=True)


def _batch_norm(t: Onnx, x: Operand, a: Any, b: Any, mean: Any, var: Any, *, node: Node, epsilon: float) -> Operand:
    if node.results > 1 or node.get("training_mode"):
        raise Refused("training_mode", "1", "the mean of a batch is not known", "export the model for use")
    return t.batch_norm(x, [weight(one, f"operand {at}") for at, one in enumerate((a, b, mean, var), 1)], epsilon)


def _layer_norm(
    t: Onnx, x: Operand, scale: Any = None, shift: Any = None, *, node: Node, axis: int, epsilon: float
) -> Operand:
    if node.results > 1:
        raise Refused("outputs", str(node.results), "the mean cannot be an output here", "export the model without it")
    a, b = (weight_or_none(one, f"operand {at}") for at, one in enumerate((scale, shift), 1))
    return t.layer_norm(x, epsilon, a, b, range(axis_in(axis, t.rank(x)), t.rank(x)))


def _softmax(t: Onnx, x: Operand, *, axis: int, node: Node, log: bool = False) -> Operand:
    """Return a softmax or its logarithm; before version 13 the axes from ``axis`` on are one."""
    shape = t.shape(x)
    axis = axis_in(axis, len(shape))
    if node.opset >= 13 or axis == len(shape) - 1:
        return t.softmax(x, axis, log)
    flat = t.reshape(x, resolved((*shape[:axis], -1), shape))
    return t.reshape(t.softmax(flat, -1, log), shape)


def _instance_norm(t: Onnx, x: Operand, scale: Operand, shift: Operand, *, epsilon: float) -> Operand:
    a, b = weight(scale, "scale", 1), weight(shift, "B", 1)
    return t.group_norm(x, a.shape[0], epsilon, a, b)


def _group_norm(t: Onnx, x: Operand, scale: Operand, shift: Operand, *, epsilon: float, num_groups: int) -> Operand:
    """Return a group normalization; before version 21 scale and shift have one number for each group."""
    channels = t.size(x, 1, "channels")

    def of_channels(w: Weight) -> Weight:
        if w.shape[0] == channels:
            return w
        return w.derived((channels,), f"{w.recipe} of each group", lambda: np.repeat(w.make(), channels // num_groups))

    a, b = (of_channels(weight(one, f"operand {at}", 1)) for at, one in enumerate((scale, shift), 1))
    return t.group_norm(x, num_groups, epsilon, a, b)


HANDLERS: dict[str, Handler] = {
    "Identity": lambda t, x: x,
    "Cast": lambda t, x, *, to: t.converted(x, TYPES.get(to, "float")),
    **{foreign.name: _function(foreign, row) for foreign, row in functions_of("onnx") if row.operator},
    "Gelu": lambda t, x, *, approximate: t.apply("gelu" if approximate == "none" else "gelu_tanh", x),
    "PRelu": Onnx.prelu, "Pow": _pow, "Div": _div, "MatMul": matmul, "Gemm": _gemm,
    "Clip": lambda t, x, low=None, high=None, *, min=None, max=None: t.clip(
        x, _bound(low, min, "min"), _bound(high, max, "max")
    ),
    **{name: _together(name.lower()) for name in ("Add", "Sub", "Mul", "Max", "Min")},
    "Sum": _together("add"),
    "Mean": lambda t, *xs: t.affine(_together("add")(t, *xs), 1 / len(xs), 0.0),
    **{name: method for name, _, method in shared_operations("onnx")},
    "Einsum": lambda t, *xs, equation: t.einsum(equation, [*map(_stored, xs)]),
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Resize": _resize, "Upsample": _resize,
    "MaxPool": partial(_pool, "max"), "AveragePool": partial(_pool, "mean"),
    "GlobalAveragePool": _global_pool("mean"), "GlobalMaxPool": _global_pool("max"),
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm, "GroupNormalization": _group_norm,
    "Softmax": _softmax, "LogSoftmax": partial(_softmax, log=True),
}  # fmt: skip


ROUNDED = (
    "The source rounds to 8 bits what it computes while it runs; the imported model computes in float32. Its outputs"
    " are close to the source's, and not the same."
)


def _note_rounding(t: Onnx) -> None:
    if ROUNDED not in t.builder.notes:
        t.builder.notes.append(ROUNDED)


def _dynamic(t: Onnx, x: Operand) -> list[Operand]:
    """Return x itself, the scale 1 and the zero point 0, by which the following nodes dequantize."""
    _note_rounding(t)
    return [t.value(x), np.asarray(1.0, np.float32), np.asarray(0)]


def _floats(w: Weight, zero: Weight | None, scale: Weight | None, axes: Sequence[int]) -> Weight:
    """Return the weight (w - zero) * scale. ``zero`` and ``scale`` are numbers, arrays along ``axes`` of w, or None."""

    def spread(term: Weight) -> Array:
        """Return a zero point or scale in a shape that broadcasts to w."""
        array = term.make().astype(np.float32)
        if array.size == 1:
            return array.reshape(())
        return array.reshape([w.shape[at] if at in axes[: array.ndim] else 1 for at in range(len(w.shape))])

    def make() -> Array:
        array = w.make().astype(np.float32) - (0 if zero is None else spread(zero))
        return array if scale is None else array * spread(scale)

    sources = tuple(name for part in (w, zero, scale) if part is not None for name in part.sources)
    return Weight(w.shape, tuple(dict.fromkeys(sources)), f"{w.recipe} as float32", make)


def _integers(
    product: Handler, axis: int, t: Onnx, x: Operand, w: Operand, zero: Any = None, w_zero: Any = None, *, node: Node
) -> Operand:
    """Return the product of DynamicQuantizeLinear's result with stored integers, in floats."""
    known = constant(zero)
    if not isinstance(x, str) or (zero is not None and (known is None or np.any(known))):
        why = "integers that DynamicQuantizeLinear did not make"
        raise Refused("a_zero_point", "another", why, "import it before it was quantized")
    floats = _floats(weight(w, "B"), weight_or_none(w_zero, "b_zero_point"), None, (axis,))
    made: Operand = product(t, x, floats, None, node=node)
    return made


def _lstm(t: Onnx, *, node: Node) -> list[Operand | None]:
    """Return DynamicQuantizeLSTM as an LSTM with float weights. W [directions, inputs, 4 H] and R [directions, H, 4 H]
    are stored in integers, with scales and zero points."""
    _note_rounding(t)
    scales = [weight_or_none(node.operand(place), f"operand {place}") for place in range(8, 12)]
    weights = []
    for place, scale, zero in ((1, scales[0], scales[1]), (2, scales[2], scales[3])):
        axes = (0,) if scale is None or len(scale.shape) < 2 else (0, 2)
        weights.append(_floats(weight(node.operand(place), "WR"[place - 1], 3), zero, scale, axes).transposed(0, 2, 1))
    operands = [node.operands[0], *weights, *node.operands[3:8]]
    return recurrent(t, node=replace(node, op="LSTM", operands=operands))


def _dequantized(t: Onnx, x: Operand, scale: Operand, zero: Operand | None = None, *, axis: int = 1) -> Operand:
    by, less = values.along(scale, 1, t.shape(x), axis), values.along(zero, 2, t.shape(x), axis)
    assert by is not None
    return t.binary("mul", x if less is None else t.binary("sub", x, less), by)


def _quantized(
    t: Onnx, x: Operand, scale: Operand, zero: Operand | None = None, *, axis: int = 1, output_dtype: int = 0
) -> Operand:
    """Return x / scale + zero, clipped to the integer type's range, but not rounded."""
    shape, given = t.shape(x), constant(zero)
    by, more = values.along(scale, 1, shape, axis), values.along(zero, 2, shape, axis)
    assert by is not None
    kind = np.dtype(TYPES.get(output_dtype or 2, "float")) if given is None else given.dtype
    if kind.kind not in "iu":
        why = "integers of 8 bits or more are read"
        raise Refused("output_dtype", str(output_dtype or 2), why, "import it before it was quantized")
    _note_rounding(t)
    y = t.binary("mul", x, 1 / by)
    y = y if more is None else t.binary("add", y, more)
    return t.apply("clip", y, float(np.iinfo(kind).min), float(np.iinfo(kind).max))


def _linear_integers(
    product: Handler, axis: int, t: Onnx, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any,
    y_scale: Any, y_zero: Any, b: Any = None, *, node: Node,
) -> Operand:  # fmt: skip
    """Return the product of dequantized operands in floats, quantized without rounding."""
    scale, bias = weight(w_scale, "w_scale"), weight_or_none(b, "B")
    floats = _floats(weight(w, "w"), weight_or_none(w_zero, "w_zero_point"), scale, (axis,))
    if bias is not None:
        step = constant(x_scale)
        own, both = bias, scale.make() * (1 if step is None else step)
        bias = own.derived(own.shape, f"{own.recipe} as float32", lambda: own.make() * both.reshape(-1))
    y = product(t, _dequantized(t, x, x_scale, x_zero), floats, bias, node=node)
    return _quantized(t, y, y_scale, y_zero)


def _product(t: Onnx, x: Operand, w: Operand, bias: None, *, node: Node) -> Operand:
    return t.matmul(x, w)


HANDLERS |= {
    "DynamicQuantizeLinear": _dynamic, "DequantizeLinear": _dequantized, "QuantizeLinear": _quantized,
    "QLinearConv": partial(_linear_integers, _conv, 0), "QLinearMatMul": partial(_linear_integers, _product, 1),
    "MatMulInteger": partial(_integers, _product, 1), "ConvInteger": partial(_integers, _conv, 0),
    "DynamicQuantizeLSTM": _lstm,
}  # fmt: skip


# Functions by ONNX's names (in any case), with the defaults of alpha and beta.
_FUNCTIONS = {
    foreign.name.lower(): (row.function, [*foreign.settings.values()])
    for foreign, row in functions_of("onnx")
    if row.cell
}
_KINDS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "LSTM": ("lstm", ("sigmoid", "tanh", "tanh")),
    "GRU": ("gru", ("sigmoid", "tanh")),
    "RNN": ("rnn", ("tanh",)),
}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def recurrent(t: Onnx, *, node: Node) -> list[Operand | None]:
    """Return Y [T, directions, N, H], then the last states [directions, N, H]. With layout 1, N is the first axis."""
    kind, _ = _KINDS[node.op]
    direction = node.get("direction")
    if direction not in _DIRECTIONS:
        raise Refused("direction", str(direction), "there are forward, reverse and bidirectional", "use one of them")
    directions = _DIRECTIONS[direction]
    functions = list(_activations(node, len(directions)))
    w, r = weight(node.operand(1), "W", 3), weight(node.operand(2), "R", 3)
    layout = node.get("layout")
    x = t.value(node.needed(0), "X")
    x = t.transpose(x, (1, 0, 2)) if layout else x
    lengths = _lengths(node.operand(4), t.shape(x)[0])
    extras: dict[Extra, Operand] = {} if lengths is None else {"lengths": lengths}
    units = node.get("hidden_size", r.shape[-1])
    if r.shape[-1] != units or {w.shape[0], r.shape[0]} != {len(directions)}:
        raise Refused("hidden_size, direction", f"{units}, {direction}", f"R is {list(r.shape)}", "check the model")
    hint = node.label.split(" ")[0].strip("/").replace("/", "_")
    if kind == "gru" and not node.get("linear_before_reset"):
        t.builder.notes.append(
            f"{node.label} resets before the recurrent product, as linear_before_reset = 0 says. Some exporters write 0"
            " where the framework meant 1: compare with the source's own numbers."
        )
    ys, last = [], []
    for lane, back in enumerate(directions):
        cell = _cell(node, kind, functions[lane])
        first = _initial(t, node, cell, lane, layout)
        y, *states = t.recur(
            "onnx", cell, x, [w.at(lane), r.at(lane), *_biases(node, cell, lane)],
            first, hint + ("_reverse" if back else ""),
            _peepholes(node, cell, lane), extras, back,
        )  # fmt: skip
        if first and lengths is not None and not np.all(constant(lengths)):  # ONNX Runtime: without steps zeros
            states = [t.binary("mul", state, t.unsqueeze(t.apply("step", lengths), [1])) for state in states]
        ys.append(t.unsqueeze(y, [1]))
        last.append([t.unsqueeze(state, [0]) for state in states])
    results = [t.concat(ys, 1), *(t.concat(states, 0) for states in zip(*last, strict=True))]
    if layout:
        orders = ((2, 0, 1, 3), *((1, 0, 2),) * len(cell.states))
        results = [t.transpose(value, order) for value, order in zip(results, orders, strict=True)]
    return [*results]


def _activations(node: Node, directions: int) -> Iterator[Sequence[Op]]:
    """Yield the functions of each direction, with coefficients from the attributes in order."""
    _, usual = _KINDS[node.op]
    named = any(attribute.name == "activations" for attribute in node.proto.attribute)
    names = (named and node.get("activations")) or usual * directions  # ONNX's default for RNN has both directions
    if len(names) != len(usual) * directions:
        raise Refused("activations", f"{len(names)} of them", f"expected {len(usual) * directions}", "check the model")
    alphas, betas = iter(node.get("activation_alpha", ())), iter(node.get("activation_beta", ()))
    functions = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            why = "it jumps, which no layer of Caffe does" if name == "ThresholdedRelu" else "it is not known"
            raise Refused("activations", name, why, f"use one of {', '.join(_FUNCTIONS)}")
        word, defaults = _FUNCTIONS[name.lower()]
        numbers = [next(given, default) for given, default in zip((alphas, betas), defaults, strict=False)]
        if None in numbers:
            raise Refused("activation_alpha, activation_beta", "none", f"{name} has no defaults", "give both")
        functions.append(function(word, *(float(n) for n in numbers if n is not None)))
    for lane in range(directions):
        yield functions[lane * len(usual) : (lane + 1) * len(usual)]


def _cell(node: Node, kind: Kind, functions: Sequence[Op]) -> Cell:
    """Return the cell of a node with these activation functions."""
    usual, clip = Cell(kind), node.attributes.get("clip")
    gate, new, out, *_ = (*([usual.gate] if kind == "rnn" else []), *functions, usual.out)
    peepholes, coupled = kind == "lstm" and node.operand(7) is not None, kind == "lstm" and node.get("input_forget")
    after, limit = kind == "gru" and node.get("linear_before_reset"), float(clip) if clip else None
    return Cell(
        kind, gate, new, out, bias=node.operand(3) is not None, reset_after=bool(after), peepholes=peepholes,
        coupled=bool(coupled), clip=limit,
    )  # fmt: skip


def _biases(node: Node, cell: Cell, lane: int) -> tuple[Weight | None, Weight | None]:
    """Return the input bias and the recurrent bias of one direction; None for both without a bias."""
    if not cell.bias:
        return None, None
    whole = _of_direction(weight(node.operand(3), "B", 2), "B", lane)
    half = whole.shape[0] // 2
    return whole.cut(0, half), whole.cut(half, 2 * half)


def _peepholes(node: Node, cell: Cell, lane: int) -> dict[str, Weight]:
    """Return the peephole weights of one direction by role, such as ``p_i``. The file has them in the order i, o, f."""
    if not cell.peepholes:
        return {}
    whole = _of_direction(weight(node.operand(7), "P", 2), "P", lane)
    size = whole.shape[0] // 3
    peepholes = {f"p_{gate}": whole.cut(at * size, (at + 1) * size) for at, gate in enumerate("iof")}
    return {role: part for role, part in peepholes.items() if role.removeprefix("p_") in cell.gates}


def _initial(t: Onnx, node: Node, cell: Cell, lane: int, layout: int) -> dict[str, Operand]:
    """Return the first value of each state in one direction; a state that starts from zeros is left out."""
    initial: dict[str, Operand] = {}
    for state, place in zip(cell.states, (5, 6), strict=False):
        value = node.operand(place)
        if value is None or ((array := constant(value)) is not None and not array.any()):
            continue
        if isinstance(value, str):
            initial[state] = t.select(value, 1 if layout else 0, lane)
        else:
            start = weight(value, f"initial_{state}", 3)
            start = start.transposed(1, 0, 2) if layout else start
            initial[state] = _of_direction(start, f"initial_{state}", lane)
    return initial


def _of_direction(stored: Weight, name: str, lane: int) -> Weight:
    if lane >= stored.shape[0]:
        raise Refused(name, f"of shape {list(stored.shape)}", "it has no part for each direction", CHECK)
    return stored.at(lane)


def _lengths(operand: Operand | None, steps: Size) -> Operand | None:
    """Return the operand ``sequence_lens``; None if all sequences are known to have all steps."""
    array = constant(operand)
    if array is not None and np.all(array == steps):
        return None
    numbers = [] if array is None else values.fixed_numbers(operand, "sequence_lens")
    if numbers and not 0 <= min(numbers) <= max(numbers) <= fixed(steps, "the number of steps"):
        raise Refused("sequence_lens", str(numbers[:8]), f"there are {steps} steps", "check the model")
    return operand


def _reverse_sequence(t: Onnx, x: Operand, lengths: Operand, *, time_axis: int, batch_axis: int) -> Operand:
    """Return x with the first elements of each sequence reversed."""
    shape, counts = t.shape(x), t.shape(lengths)
    if sorted((time_axis, batch_axis)) != [0, 1] or len(shape) < 2:
        actual = f"{time_axis}, {batch_axis} of {listed(shape)}"
        raise Refused("time_axis, batch_axis", actual, "they must be 0 and 1, or 1 and 0", "transpose the operand")
    if counts != (shape[batch_axis],):
        raise Refused("sequence_lens", listed(counts), f"{shape[batch_axis]} lengths are expected", CHECK)
    return t.reversed(x, time_axis, _lengths(lengths, shape[time_axis]), batch_axis)


RECURRENT: dict[str, Handler] = {**dict.fromkeys(_KINDS, recurrent), "ReverseSequence": _reverse_sequence}
