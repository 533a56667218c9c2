"""PyTorch operators that move elements, or reduce them along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Literal

import numpy as np

from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.frontends.torch_elements import Torch
from lstmc.importers.ir.values import OpenSize, Weight, axis_in, bounded, broadcast, fixed, in_pieces, resolved
from lstmc.importers.refusal import Refused

Handler = Callable[..., Any]
LAST = 2**63 - 1  # the end of a slice without an end


def _transpose(t: Torch, x: Operand, a: int, b: int) -> Operand:
    axes = list(range(t.rank(x)))
    axes[a], axes[b] = axes[b], axes[a]
    if isinstance(x, Weight):
        return x.transposed(*axes)
    return t.transpose(x, axes)


def _view(t: Torch, x: Operand, shape: Sequence[int]) -> str:
    return t.reshape(x, resolved(shape, t.shape(x), products=True))


def _flatten(t: Torch, x: Operand, start: int, end: int) -> str:
    shape = t.shape(x)
    first, last = axis_in(start, len(shape)), axis_in(end, len(shape))
    return t.reshape(x, resolved((*shape[:first], -1, *shape[last + 1 :]), shape, products=True))


def _slice(t: Torch, x: Operand, axis: int, start: int | None, stop: int | None, step: int = 1) -> Operand:
    shape = t.shape(x)
    size = shape[axis_in(axis, len(shape))]
    if isinstance(size, OpenSize) and not start and stop in (None, size, LAST) and step == 1:
        return t.value(x)
    if not isinstance(size, OpenSize) and not range(size)[start:stop:step]:
        shape = (*shape[: axis_in(axis, len(shape))], 0, *shape[axis_in(axis, len(shape)) + 1 :])
        return np.zeros([fixed(one, "a size") for one in shape])  # of no elements
    return t.slice(x, axis, slice(start, stop, step))


def _flip(t: Torch, x: Operand, axes: Sequence[int]) -> str:
    y = t.value(x)
    for axis in axes:
        y = t.flip(y, axis)
    return y


def _split(t: Torch, x: Operand, sizes: int | Sequence[int], axis: int) -> list[str]:
    size = t.size(x, axis)
    if isinstance(sizes, int):
        sizes = [min(sizes, size - at) for at in range(0, size, sizes)]
    return t.split(x, sizes, axis)


def _squeeze(t: Torch, x: Operand, axes: int | Sequence[int] | None = None) -> str:
    if axes is None:
        return t.squeeze(x, None)
    shape = t.shape(x)
    candidates = [axes] if isinstance(axes, int) else axes
    return t.squeeze(x, [axis for axis in candidates if shape[axis] == 1])


def _cat(t: Torch, xs: Sequence[Operand], axis: int) -> Operand:
    """Join values; values without elements are left out, and zeros of one element are repeated to open sizes."""
    kept = [x for x in xs if 0 not in t.shape(x)]
    if len(kept) < 2:
        return kept[0] if kept else xs[0]
    place = axis_in(axis, t.rank(kept[0]))
    sizes = [(*s[:place], 1, *s[place + 1 :]) for s in map(t.shape, kept)]
    whole = reduce(broadcast, sizes)
    wide = [(*whole[:place], t.shape(x)[place], *whole[place + 1 :]) for x in kept]
    return t.concat([t.expand(x, s) if isinstance(x, np.ndarray) else x for x, s in zip(kept, wide, strict=True)], axis)


def _expand(t: Torch, x: Operand, shape: Sequence[int], *, implicit: bool) -> Operand:
    old = t.shape(x)
    target = [old[i - len(shape) + len(old)] if s == -1 else s for i, s in enumerate(shape)]
    if isinstance(x, np.ndarray):
        bounded(target)
        return np.broadcast_to(x, target)
    return t.expand(x, target)


def _repeat(t: Torch, x: Operand, counts: Sequence[int]) -> Operand:
    if isinstance(x, np.ndarray):
        bounded([*x.shape, *counts])
        return np.tile(x, counts)
    missing = t.rank(x) - len(counts)  # tile, unlike repeat, takes fewer counts than there are axes
    return t.tile(x, [*(1,) * missing, *counts])


def _repeat_each(t: Torch, x: Operand, count: int, axis: int | None, *, output_size: Any) -> str:
    if axis is None:
        x, axis = t.reshape(x, resolved((-1,), t.shape(x))), 0
    return t.enlarged(x, axis_in(axis, t.rank(x)), count)


def _roll(t: Torch, x: Operand, shifts: Sequence[int], axes: Sequence[int]) -> str:
    if not axes:
        raise Refused("dims", "none", "elements would go from row to row", "give dims")
    y = t.value(x)
    for shift, axis in zip(shifts, axes, strict=True):
        size = t.size(y, axis)
        y = t.pick(y, axis, [(place - shift) % size for place in range(size)])
    return y


def _best(kind: Literal["max", "min"]) -> Handler:
    """Return a handler of the extreme along an axis, and its index."""
    place = _place(1.0 if kind == "max" else -1.0)
    return lambda t, x, axis, keep=False: [t.reduce(kind, x, [axis], keep), place(t, x, axis, keep)]


def _place(sign: float) -> Handler:
    """Return a handler of the index of the largest element of an axis or of all; with a sign of -1 the smallest."""
    return lambda t, x, axis=None, keep=False: t.argmax(x, axis, keep, sign=sign)


def _var(t: Torch, x: Operand, axes: Any, less: float, keep: bool) -> str:
    """The variance along axes, of n elements divided by n - ``less``."""
    shape = t.shape(x)
    places = axes or range(len(shape))
    n = math.prod(fixed(shape[axis], "a size") for axis in places)
    if n <= less:
        raise Refused("correction", f"{less:g}", f"the variance of {n} elements has no value", "use correction=0")
    away = t.binary("sub", x, t.reduce("mean", x, places, keep=True))
    y = t.reduce("mean", t.apply("power", away, 2.0), places, keep)
    return t.affine(y, n / (n - less), 0.0)


def _corrected(t: Torch, x: Operand, axes: Any, *, correction: float | None, keepdim: bool) -> str:
    return _var(t, x, axes, 1 if correction is None else correction, keepdim)


_VAR: dict[str, Handler] = {
    "default": lambda t, x, unbiased: _var(t, x, None, unbiased, False),
    "dim": _var,
    "correction": _corrected,
}


def _root(handler: Handler) -> Handler:
    return lambda t, *xs, **options: t.apply("power", handler(t, *xs, **options), 0.5)


def _var_mean(t: Torch, x: Operand, axes: Any, *, correction: float | None, keepdim: bool) -> list[str]:
    variance = _corrected(t, x, axes, correction=correction, keepdim=keepdim)
    return [variance, _reduce("mean")(t, x, axes, keepdim)]


def _reduce(kind: Any) -> Handler:
    def handle(t: Torch, x: Operand, axes: Any = None, keep: bool = False, *, dtype: Any = None) -> str:
        return t.reduce(kind, x, axes or range(t.rank(x)), keep)

    return handle


def _full(t: Torch, sizes: Sequence[int], value: float, **options: Any) -> Operand:
    """Return a constant array; zeros have one element along an open axis, and are repeated where that matters."""
    shape = [1 if isinstance(size, OpenSize) else fixed(size, "a size") for size in sizes]
    bounded(shape)
    array = np.full(shape, value)
    return array if not value or array.shape == tuple(sizes) else t.expand(array, sizes)


def _range(t: Torch, *bounds: Any, **options: Any) -> Operand:
    known = [fixed(one, "a bound") for one in bounds]
    start, stop, step = (0, *known, 1) if len(known) == 1 else (*known, 1)[:3]
    bounded([abs((stop - start) / step)])
    return np.arange(start, stop, step, dtype=float)


def _constant(value: float | None = None, shaped: bool = False) -> Handler:
    """Return a handler of a constant array, of a fixed ``value`` or the next argument, in x's shape or a given one."""

    def handle(t: Torch, x: Operand, *more: Any, **options: Any) -> Operand:
        sizes, *rest = more if shaped else (t.shape(x), *more)
        return _full(t, sizes, rest[0] if value is None else value)

    return handle


def _cast(t: Torch, x: Any, *more: Any, dtype: Any = None, **options: Any) -> Any:
    """``x.to(...)`` with the type, if there is one."""
    names = [str(one) for one in (dtype, *more) if str(one).startswith("torch.")]
    return t.cast(x, names[0].removeprefix("torch."), str(t.node.args[0].meta["val"].dtype)) if names else x


def _pad(t: Torch, x: Operand, pads: Sequence[int], mode: str, value: float | None) -> str:
    """Pad the last axes; the pairs of ``pads`` begin with the last axis."""
    pairs = zip(pads[::2], pads[1::2], strict=True)
    return t.padded(x, {-1 - number: pair for number, pair in enumerate(pairs)}, mode, value or 0.0)


def _norm(t: Torch, x: Operand, order: float, axes: Sequence[int] | None, keep: bool, *, dtype: Any) -> str:
    """The norm of order 1 or 2 along axes."""
    if order not in (1, 2):
        raise Refused("ord", str(order), "only norms of order 1 and 2 are written", "use one of these")
    return t.norm(x, int(order), axes or range(t.rank(x)), keep)


UNCHANGED = tuple(
    f"aten.{name}"
    for name in (
        *("contiguous.default", "clone.default", "detach.default", "alias.default"),
        *("lift_fresh_copy.default", "detach_.default", "_assert_tensor_metadata.default"),
    )
)
HANDLERS: dict[str, Handler] = {
    "getitem": lambda t, x, at: x[at],
    "aten.transpose.int": _transpose,
    "aten.mT.default": lambda t, x: _transpose(t, x, -2, -1),
    **{f"aten.{name}.default": lambda t, x: _transpose(t, x, 0, 1) for name in ("t", "numpy_T")},
    "aten.permute.default": lambda t, x, axes: t.transpose(x, axes),
    "aten.movedim.int": lambda t, x, a, b: t.transpose(x, _moved(t.rank(x), a, b)),
    **{f"aten.{name}.default": _view for name in ("view", "reshape", "_unsafe_view")},
    "aten.flatten.using_ints": _flatten,
    "aten.unflatten.int": lambda t, x, axis, sizes: _unflatten(t, x, axis, sizes),
    "aten.unsqueeze.default": lambda t, x, axis: t.unsqueeze(x, [axis]),
    **{f"aten.squeeze.{kind}": _squeeze for kind in ("dim", "dims", "default")},
    "aten.slice.Tensor": _slice,
    "aten.narrow.default": lambda t, x, axis, start, size: _slice(t, x, axis, start, start + size),
    "aten.flip.default": _flip,
    "aten.chunk.default": lambda t, x, count, axis: _split(t, x, -(-t.size(x, axis) // count), axis),
    **dict.fromkeys(("aten.split.Tensor", "aten.split_with_sizes.default"), _split),
    "aten.unbind.int": lambda t, x, axis: [t.select(x, axis, at) for at in range(in_pieces(t.size(x, axis)))],
    "aten.cat.default": _cat,
    "aten.stack.default": lambda t, xs, axis: t.stack(xs, axis),
    "aten.expand.default": _expand,
    "aten.expand_as.default": lambda t, x, like: t.expand(x, t.shape(like)),
    **{f"aten.{name}.default": _repeat for name in ("repeat", "tile")},
    "aten.repeat_interleave.self_int": _repeat_each,
    "aten.roll.default": _roll,
    "aten.pixel_shuffle.default": lambda t, x, by: t.depth_to_space(x, by, depth_first=False),
    "aten.cumsum.default": lambda t, x, axis, dtype: t.cumulated(x, axis),
    **{f"aten.arange.{kind}": _range for kind in ("default", "start", "start_step")},
    "aten.argmax.default": _place(1.0),
    "aten.argmin.default": _place(-1.0),
    "aten.max.dim": _best("max"),
    "aten.min.dim": _best("min"),
    **{f"aten.{a}{kind}.default": _reduce(kind) for kind in ("max", "min") for a in ("a", "")},
    **{f"aten.var.{kind}": handler for kind, handler in _VAR.items()},
    **{f"aten.std.{kind}": _root(handler) for kind, handler in _VAR.items()},
    "aten.var_mean.correction": _var_mean,
    "aten.logsumexp.default": Torch.log_sum_exp,
    **{f"aten.mean.{kind}": _reduce("mean") for kind in ("dim", "default")},
    **{f"aten.sum.{kind}": _reduce("sum") for kind in ("dim_IntList", "default")},
    "aten.linalg_vector_norm.default": _norm,
    "aten.softmax.int": lambda t, x, axis, dtype: t.softmax(x, axis),
    "aten.log_softmax.int": lambda t, x, axis, dtype: t.softmax(x, axis, log=True),
    **{f"aten.{name}_like.default": _constant(n) for name, n in (("zeros", 0.0), ("ones", 1.0), ("full", None))},
    **{f"aten.new_{name}.default": _constant(n, True) for name, n in (("zeros", 0.0), ("ones", 1.0), ("full", None))},
    **{f"aten.{n}": lambda t, shape, **_: _full(t, shape, 0.0) for n in ("empty.memory_format", "zeros.default")},
    "aten.ones.default": lambda t, shape, **options: _full(t, shape, 1.0),
    "aten.full.default": _full,
    "aten.empty_like.default": _constant(0.0),
    "aten.new_empty.default": _constant(0.0, True),
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": lambda t, x, pads, value: _pad(t, x, pads, "constant", value),
    **dict.fromkeys(UNCHANGED, lambda t, x, *_, **__: x),
    **{f"aten.{name}": _cast for name in ("_to_copy.default", "to.dtype", "to.device")},
}


def _moved(rank: int, source: int, to: int) -> list[int]:
    axes = list(range(rank))
    axes.insert(axis_in(to, rank), axes.pop(axis_in(source, rank)))
    return axes


def _unflatten(t: Torch, x: Operand, axis: int, sizes: Sequence[int]) -> str:
    shape = t.shape(x)
    place = axis_in(axis, len(shape))
    return t.reshape(x, resolved((*shape[:place], *sizes, *shape[place + 1 :]), shape))
