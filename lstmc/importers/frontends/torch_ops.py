"""PyTorch's operators on tensors: arithmetic, activations, and what moves elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstmc.importers.describe.shapes import axis_in, fixed, resolved
from lstmc.importers.frontends.layers import Operand
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.frontends.torch_values import Torch
from lstmc.importers.weight import Weight
from lstmc.ops import Array

Handler = Callable[..., Any]


def _function(name: str, *numbers: float) -> Handler:
    return lambda t, x, *more, **options: t.layers.apply(name, x, *numbers)


def _numbers(name: str, *defaults: float) -> Handler:
    """A function whose numbers are its next arguments."""
    return lambda t, x, *given, **options: t.layers.apply(name, x, *given, *defaults[len(given) :])


def _operand(x: Any) -> Operand:
    return np.asarray(float(x)) if isinstance(x, int | float) else x


def _binary(kind: str) -> Handler:
    def handle(t: Torch, x: Any, y: Any, *, alpha: float = 1, rounding_mode: str | None = None) -> str:
        if rounding_mode is not None:
            raise Refused("rounding_mode", rounding_mode, "Caffe has no rounding", "divide without it")
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            raise Refused("operands", "two constants", "nothing is computed", "fold it in the source")
        if alpha != 1:
            y = y * alpha if isinstance(y, int | float) else t.layers.affine(y, alpha, 0.0)
        return t.layers.binary(kind, _operand(x), _operand(y))

    return handle


def _clamp(t: Torch, x: Operand, low: float | None = None, high: float | None = None) -> str:
    if low is not None and high is not None:
        return t.layers.apply("clip", x, float(low), float(high))
    bound, kind = (low, "max") if low is not None else (high, "min")
    assert bound is not None
    return t.layers.binary(kind, x, np.asarray(float(bound)))


def _elu(t: Torch, x: Operand, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> str:
    if input_scale != 1:
        raise Refused("input_scale", str(input_scale), "ELU has none here", "scale the input itself")
    return t.layers.apply("elu", x, alpha) if scale == 1 else t.layers.apply("selu", x, alpha, scale)


def _softplus(t: Torch, x: Operand, beta: float = 1, threshold: float = 20) -> str:
    y = t.layers.apply("softplus", t.layers.affine(x, beta, 0.0))
    return t.layers.affine(y, 1 / beta, 0.0)


def _transpose(t: Torch, x: Operand, a: int, b: int) -> Operand:
    axes = list(range(len(t.layers.shape(x))))
    axes[a], axes[b] = axes[b], axes[a]
    if isinstance(x, Weight):
        return x.transposed(*axes)
    return t.layers.transpose(x, axes)


def _view(t: Torch, x: Operand, shape: Sequence[int]) -> str:
    return t.layers.reshape(x, resolved(shape, t.layers.shape(x)))


def _flatten(t: Torch, x: Operand, start: int = 0, end: int = -1) -> str:
    shape = t.layers.shape(x)
    first, last = axis_in(start, len(shape)), axis_in(end, len(shape))
    return t.layers.reshape(x, resolved((*shape[:first], -1, *shape[last + 1 :]), shape))


def _slice(
    t: Torch, x: Operand, axis: int = 0, start: int | None = None, stop: int | None = None, step: int = 1
) -> str:
    size = fixed(t.layers.shape(x)[axis], f"axis {axis}")
    places = range(size)[slice(start, stop, step)]
    if step == 1:
        return t.layers.cut(x, axis, places.start, places.stop)
    return t.layers.concat([t.layers.cut(x, axis, at, at + 1) for at in places], axis)


def _flip(t: Torch, x: Operand, axes: Sequence[int]) -> str:
    y = t.layers.value(x)
    for axis in axes:
        y = t.layers.flip(y, axis)
    return y


def _chunk(t: Torch, x: Operand, count: int, axis: int = 0) -> list[str]:
    size = fixed(t.layers.shape(x)[axis], f"axis {axis}")
    return _split(t, x, -(-size // count), axis)


def _split(t: Torch, x: Operand, sizes: int | Sequence[int], axis: int = 0) -> list[str]:
    size = fixed(t.layers.shape(x)[axis], f"axis {axis}")
    if isinstance(sizes, int):
        sizes = [min(sizes, size - at) for at in range(0, size, sizes)]
    return t.layers.split(x, sizes, axis)


def _unbind(t: Torch, x: Operand, axis: int = 0) -> list[str]:
    return [t.layers.select(x, axis, at) for at in range(fixed(t.layers.shape(x)[axis], f"axis {axis}"))]


def _stack(t: Torch, xs: Sequence[Operand], axis: int = 0) -> str:
    place = axis_in(axis, len(t.layers.shape(xs[0])) + 1)
    return t.layers.concat([t.layers.unsqueeze(x, [place]) for x in xs], place)


def _squeeze(t: Torch, x: Operand, axes: int | Sequence[int] | None = None) -> str:
    if axes is None:
        return t.layers.squeeze(x, None)
    shape = t.layers.shape(x)
    wanted = [axes] if isinstance(axes, int) else axes
    return t.layers.squeeze(x, [axis for axis in wanted if shape[axis] == 1])


def _expand(t: Torch, x: Operand, shape: Sequence[int], implicit: bool = False) -> Operand:
    if isinstance(x, np.ndarray):
        return np.broadcast_to(x, shape)
    old = t.layers.shape(x)
    if [s for s, n in zip(shape[len(shape) - len(old) :], old, strict=True) if s not in (-1, n)] or len(shape) > len(
        old
    ):
        raise Refused(
            "shape", str(list(shape)), "Caffe does not repeat elements", "leave it to the arithmetic after it"
        )
    return x


def _reduce(kind: Any) -> Handler:
    def handle(t: Torch, x: Operand, axes: Any = None, keep: bool = False, *, dtype: Any = None) -> str:
        given = list(range(len(t.layers.shape(x)))) if axes is None else [axes] if isinstance(axes, int) else axes
        return t.layers.reduce(kind, x, given, keep)

    return handle


def _constant(value: float) -> Handler:
    def handle(t: Torch, shape: Any, *more: Any, **options: Any) -> Array:
        sizes = shape if isinstance(shape, list) else t.layers.shape(shape)
        return np.full([fixed(size, "a size") for size in sizes], value)

    return handle


def _same(t: Torch, x: Any, *more: Any, **options: Any) -> Any:
    return x


def _pad(t: Torch, x: Operand, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> str:
    if mode not in ("constant", "reflect", "replicate") or (mode == "constant" and value):
        raise Refused("mode", f"{mode} of {value}", "only zeros, mirrors and edges are written", "pad with zeros")
    padded = {"constant": t.layers.pad, "reflect": t.layers.mirror, "replicate": t.layers.repeat_edges}[mode]
    y, rank = t.layers.value(x), len(t.layers.shape(x))
    for number in range(len(pads) // 2):
        before, after = pads[2 * number : 2 * number + 2]
        if before < 0 or after < 0:
            raise Refused("pad", str(list(pads)), "a negative padding cuts", "slice instead")
        if before or after:
            y = padded(y, rank - 1 - number, before, after)
    return y


def _norm(t: Torch, x: Operand, order: float = 2, axes: Sequence[int] | None = None, keep: bool = False) -> str:
    """The root of the sum of squares along axes, or the sum of magnitudes."""
    if order not in (1, 2):
        raise Refused("ord", str(order), "only norms of order 1 and 2 are written", "use one of these")
    every = list(range(len(t.layers.shape(x)))) if axes is None else list(axes)
    parts = t.layers.apply("abs", x) if order == 1 else t.layers.apply("power", x, 2.0)
    total = t.layers.reduce("sum", parts, every, keep)
    return total if order == 1 else t.layers.apply("power", total, 0.5)


HANDLERS: dict[str, Handler] = {
    "getitem": lambda t, x, at: x[at],
    **{f"aten.{name}.default": _function(name) for name in ("relu", "tanh", "sigmoid", "abs", "exp", "log", "silu")},
    "aten.neg.default": _function("affine", -1.0, 0.0),
    "aten.sqrt.default": _function("power", 0.5),
    "aten.rsqrt.default": _function("power", -0.5),
    "aten.reciprocal.default": _function("power", -1.0),
    "aten.square.default": _function("power", 2.0),
    "aten.selu.default": _function("selu", 1.6732632423543772, 1.0507009873554805),
    "aten.hardsigmoid.default": _function("hard_sigmoid", 1 / 6, 0.5),
    "aten.relu6.default": _function("clip", 0.0, 6.0),
    "aten.hardtanh.default": _numbers("clip", -1.0, 1.0),
    "aten.hardswish.default": lambda t, x: t.layers.binary("mul", x, t.layers.apply("hard_sigmoid", x, 1 / 6, 0.5)),
    "aten.log_sigmoid.default": lambda t, x: t.layers.affine(_softplus(t, t.layers.affine(x, -1.0, 0.0)), -1.0, 0.0),
    "aten.leaky_relu.default": _numbers("leaky_relu", 0.01),
    "aten.pow.Tensor_Scalar": lambda t, x, e: t.layers.apply("power", x, float(e)),
    "aten.elu.default": _elu,
    "aten.celu.default": lambda t, x, alpha=1.0: _celu(t, x, alpha),
    "aten.softplus.default": _softplus,
    "aten.clamp.default": _clamp,
    "aten.clamp_min.default": lambda t, x, low: _clamp(t, x, low),
    "aten.clamp_max.default": lambda t, x, high: _clamp(t, x, None, high),
    **{f"aten.{n}.{k}": _binary(n) for n in ("add", "sub", "mul", "div") for k in ("Tensor", "Scalar")},
    "aten.div.Tensor_mode": _binary("div"),
    "aten.rsub.Scalar": lambda t, x, y: _binary("sub")(t, y, x),
    "aten.maximum.default": _binary("max"),
    "aten.minimum.default": _binary("min"),
    "aten.transpose.int": _transpose,
    "aten.t.default": lambda t, x: _transpose(t, x, 0, 1),
    "aten.numpy_T.default": lambda t, x: _transpose(t, x, 0, 1),
    "aten.permute.default": lambda t, x, axes: t.layers.transpose(x, axes),
    "aten.movedim.int": lambda t, x, a, b: t.layers.transpose(x, _moved(len(t.layers.shape(x)), a, b)),
    **{f"aten.{name}.default": _view for name in ("view", "reshape", "_unsafe_view")},
    "aten.flatten.using_ints": _flatten,
    "aten.unflatten.int": lambda t, x, axis, sizes: _unflatten(t, x, axis, sizes),
    "aten.unsqueeze.default": lambda t, x, axis: t.layers.unsqueeze(x, [axis]),
    "aten.squeeze.dim": _squeeze,
    "aten.squeeze.dims": _squeeze,
    "aten.squeeze.default": _squeeze,
    "aten.select.int": lambda t, x, axis, at: t.layers.select(x, axis, at),
    "aten.slice.Tensor": _slice,
    "aten.narrow.default": lambda t, x, axis, start, size: _slice(t, x, axis, start, start + size),
    "aten.flip.default": _flip,
    "aten.chunk.default": _chunk,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.unbind.int": _unbind,
    "aten.cat.default": lambda t, xs, axis=0: t.layers.concat(xs, axis),
    "aten.stack.default": _stack,
    "aten.expand.default": _expand,
    "aten.mean.dim": _reduce("mean"),
    "aten.mean.default": _reduce("mean"),
    "aten.sum.dim_IntList": _reduce("sum"),
    "aten.sum.default": _reduce("sum"),
    "aten.linalg_vector_norm.default": _norm,
    "aten.softmax.int": lambda t, x, axis, dtype=None: t.layers.softmax(x, axis),
    "aten.log_softmax.int": lambda t, x, axis, dtype=None: t.layers.softmax(x, axis, log=True),
    **{f"aten.{name}.default": _constant(0.0) for name in ("zeros", "zeros_like", "new_zeros")},
    "aten.ones.default": _constant(1.0),
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": lambda t, x, pads, value=0: _pad(t, x, pads, "constant", value),
    **{
        f"aten.{name}": _same
        for name in (
            *("contiguous.default", "clone.default", "detach.default", "alias.default", "_to_copy.default"),
            *("to.dtype", "to.device", "lift_fresh_copy.default", "detach_.default", "_assert_tensor_metadata.default"),
        )
    },
}


def _celu(t: Torch, x: Operand, alpha: float) -> str:
    """x where positive, else alpha (exp(x / alpha) - 1): an ELU of x / alpha, alpha times as large."""
    return t.layers.affine(t.layers.apply("elu", t.layers.affine(x, 1 / alpha, 0.0), 1.0), alpha, 0.0)


def _moved(rank: int, source: int, to: int) -> list[int]:
    axes = list(range(rank))
    axes.insert(axis_in(to, rank), axes.pop(axis_in(source, rank)))
    return axes


def _unflatten(t: Torch, x: Operand, axis: int, sizes: Sequence[int]) -> str:
    shape = t.layers.shape(x)
    place = axis_in(axis, len(shape))
    return t.layers.reshape(x, resolved((*shape[:place], *sizes, *shape[place + 1 :]), shape))


def weight_or_none(t: Torch, x: Any, what: str) -> Weight | None:
    return None if x is None else t.weight(x, what)
