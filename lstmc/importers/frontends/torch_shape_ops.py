"""PyTorch operators that move elements, read or write them by their places, or run along an axis, as reductions do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.scattering import chosen_elements, in_order, one_hot, scattered_rows, taken, written
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.frontends.torch_elements import Handler, NotAvailable, Torch
from lstmc.importers.ir.values import OpenSize, Weight, axis_in, bounded, broadcast, fixed, in_pieces, number, resolved
from lstmc.importers.refusal import Refused

LAST = 2**63 - 1  # the end of a slice without an end


def _ordered(t: Torch, x: Operand, axes: Sequence[int]) -> Operand:
    """Return x with its axes in this order; a parameter is transposed without a step of the net."""
    return x.transposed(*axes) if isinstance(x, Weight) else t.transpose(x, axes)


def _transpose(t: Torch, x: Operand, a: int, b: int) -> Operand:
    axes = list(range(t.rank(x)))
    axes[a], axes[b] = axes[b], axes[a]
    return _ordered(t, x, axes)


def _view(t: Torch, x: Operand, shape: Sequence[int]) -> str:
    return t.reshape(x, resolved(shape, t.shape(x), products=True))


def _flatten(t: Torch, x: Operand, start: int, end: int) -> str:
    shape = t.shape(x)
    first, last = axis_in(start, len(shape)), axis_in(end, len(shape))
    return t.reshape(x, resolved((*shape[:first], -1, *shape[last + 1 :]), shape, products=True))


def _unflatten(t: Torch, x: Operand, axis: int, sizes: Sequence[int]) -> str:
    shape = t.shape(x)
    place = axis_in(axis, len(shape))
    return t.reshape(x, resolved((*shape[:place], *sizes, *shape[place + 1 :]), shape))


def _moved(t: Torch, x: Operand, source: int, to: int) -> str:
    axes = [*range(t.rank(x))]
    axes.insert(axis_in(to, len(axes)), axes.pop(axis_in(source, len(axes))))
    return t.transpose(x, axes)


def _slice(t: Torch, x: Operand, axis: int, start: int | None, stop: int | None, step: int = 1) -> Operand:
    """Return a slice of an axis; an array without elements if the slice is empty."""
    shape = t.shape(x)
    size = shape[axis_in(axis, len(shape))]
    if isinstance(size, OpenSize) and not start and stop in (None, size, LAST) and step == 1:
        return t.value(x)
    if not isinstance(size, OpenSize) and not range(size)[start:stop:step]:
        shape = (*shape[: axis_in(axis, len(shape))], 0, *shape[axis_in(axis, len(shape)) + 1 :])
        return np.zeros([fixed(one, "a size") for one in shape])  # of no elements
    return t.slice(x, axis, slice(start, stop, step))


def _split(t: Torch, x: Operand, sizes: int | Sequence[int], axis: int) -> list[str]:
    size = t.size(x, axis)
    if isinstance(sizes, int):
        sizes = [min(sizes, size - at) for at in range(0, size, sizes)]
    return t.split(x, sizes, axis)


def _squeeze(t: Torch, x: Operand, axes: int | Sequence[int] | None = None) -> str:
    """Return x without the given axes that have one element; for None, without all axes of one element."""
    if axes is None:
        return t.squeeze(x, None)
    shape = t.shape(x)
    candidates = [axes] if isinstance(axes, int) else axes
    return t.squeeze(x, [axis for axis in candidates if shape[axis] == 1])


def _cat(t: Torch, xs: Sequence[Operand], axis: int) -> Operand:
    """Return values joined. Empty ones are left out, and zeros of one element are repeated to open sizes."""
    kept = [x for x in xs if 0 not in t.shape(x)]
    if len(kept) < 2:
        return kept[0] if kept else xs[0]
    place = axis_in(axis, t.rank(kept[0]))
    sizes = [(*s[:place], 1, *s[place + 1 :]) for s in map(t.shape, kept)]
    whole = reduce(broadcast, sizes)
    wide = [(*whole[:place], t.shape(x)[place], *whole[place + 1 :]) for x in kept]
    return t.concat([t.expand(x, s) if isinstance(x, np.ndarray) else x for x, s in zip(kept, wide, strict=True)], axis)


def _expand(t: Torch, x: Operand, shape: Sequence[int], *, implicit: bool) -> Operand:
    """Return x broadcast to a shape, in which -1 keeps the size of x."""
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
    """Return x with the elements of some axes moved round. Raises :class:`Refused` without axes."""
    if not axes:
        raise Refused("dims", "none", "elements would go from row to row", "give dims")
    y = t.value(x)
    for shift, axis in zip(shifts, axes, strict=True):
        size = t.size(y, axis)
        y = t.pick(y, axis, [(place - shift) % size for place in range(size)])
    return y


def _best(kind: Literal["max", "min"]) -> Handler:
    place = _arg_max(1.0 if kind == "max" else -1.0)
    return lambda t, x, axis, keep=False: [t.reduce(kind, x, [axis], keep), place(t, x, axis, keep)]


def _arg_max(sign: float) -> Handler:
    return lambda t, x, axis=None, keep=False: t.argmax(x, axis, keep, sign=sign)


def _var(t: Torch, x: Operand, axes: Any, less: float, keep: bool) -> str:
    """Return the variance of n elements by the divisor n - ``less``. Raises :class:`Refused` unless it is positive."""
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


def _reduce(kind: Any, t: Torch, x: Operand, axes: Any = None, keep: bool = False, *, dtype: Any = None) -> str:
    return t.reduce(kind, x, axes or range(t.rank(x)), keep)


def _full(t: Torch, sizes: Sequence[int], value: float, **options: Any) -> Operand:
    """Return an array of one number. Zeros have one element along an open axis, which is repeated where necessary."""
    shape = [1 if isinstance(size, OpenSize) else fixed(size, "a size") for size in sizes]
    bounded(shape)
    array = np.full(shape, value)
    return array if not value or array.shape == tuple(sizes) else t.expand(array, sizes)


def _range(t: Torch, *bounds: Any, **options: Any) -> Operand:
    known = [fixed(one, "a bound") for one in bounds]
    start, stop, step = (0, *known, 1) if len(known) == 1 else (*known, 1)[:3]
    bounded([abs((stop - start) / step)])
    return np.arange(start, stop, step, dtype=float)


def _constant(value: float | None, shaped: bool, t: Torch, x: Operand, *more: Any, **options: Any) -> Operand:
    """Return an array of ``value`` (None: of an argument) in the shape of x or, if ``shaped``, of an argument."""
    sizes, *rest = more if shaped else (t.shape(x), *more)
    return _full(t, sizes, rest[0] if value is None else value)


def _cast(t: Torch, x: Any, *more: Any, dtype: Any = None, **options: Any) -> Any:
    """Return ``x.to(...)`` in the new type, if a type is among the arguments."""
    names = [str(one) for one in (dtype, *more) if str(one).startswith("torch.")]
    return t.cast(x, names[0].removeprefix("torch."), str(t.node.args[0].meta["val"].dtype)) if names else x


def _pad(t: Torch, x: Operand, pads: Sequence[int], mode: str, value: float | None) -> str:
    """Return x with its last axes padded; the pairs of ``pads`` begin with the last axis."""
    pairs = zip(pads[::2], pads[1::2], strict=True)
    return t.padded(x, {-1 - number: pair for number, pair in enumerate(pairs)}, mode, value or 0.0)


def _norm(t: Torch, x: Operand, order: float, axes: Sequence[int] | None, keep: bool, *, dtype: Any) -> str:
    if order not in (1, 2):
        raise Refused("ord", str(order), "only norms of order 1 and 2 are written", "use one of these")
    return t.norm(x, int(order), axes or range(t.rank(x)), keep)


def _index(t: Torch, x: Operand, places: Sequence[Any]) -> Operand:
    """Return the elements at places, known or computed, along axes. Raises :class:`Refused` for a computed mask."""
    indexed = [axis for axis, one in enumerate(places) if one is not None]
    arrays = [constant(places[axis]) for axis in indexed]
    shape = t.shape(x)
    if any(array is not None and array.dtype == bool for array in arrays):
        return _index(t, x, _places_of_masks(places))
    masks = (one for one, array in zip(t.node.args[1], places, strict=False) if isinstance(array, str))
    if any("bool" in str(one.meta["val"].dtype) for one in masks):
        raise Refused("indices", "a mask computed by the model", "how many elements it takes is not known", "use where")
    if len(indexed) == 1:
        return taken(t, x, indexed[0], places[indexed[0]])
    if indexed != [*range(indexed[0], indexed[-1] + 1)]:
        first = [axis for axis in range(len(shape)) if axis not in indexed]
        y = t.transpose(x, [*indexed, *first])
        return _index(t, y, [places[axis] for axis in indexed])
    lead, count = indexed[0], len(indexed)
    if all(array is not None for array in arrays):
        sizes = [t.size(x, axis) for axis in indexed]
        wrapped = [np.asarray(array) % size for array, size in zip(arrays, sizes, strict=True)]
        flat: Any = np.ravel_multi_index(tuple(np.broadcast_arrays(*wrapped)), sizes)
        y = t.reshape(x, (*shape[:lead], int(np.prod(sizes)), *shape[lead + count :]))
        return taken(t, y, lead, flat)
    rows, column = arrays[0], places[indexed[-1]]
    own = count == 2 and lead == 0 and isinstance(column, str)
    if not own or rows is None or not np.array_equal(np.ravel(rows), np.arange(t.size(x, 0))):
        why = "places computed by the model are read along one axis, or one for each element of the first axis"
        raise Refused("indices", f"of {count} axes", why, "use gather")
    hot = one_hot(t, t.reshape(column, (shape[0],)), t.size(x, 1), -1)
    rest = ascii_lowercase[: len(shape) - 2]
    result = t.product("yz", f"yz{rest}", f"y{rest}", hot, x)
    return t.reshape(result, (*broadcast(rows.shape, t.shape(column)), *shape[2:]))


def _places_of_masks(places: Sequence[Any]) -> list[Any]:
    """Return the places of an index with each known mask replaced by the indices at which it is true."""
    found: list[Any] = []
    for one in places:
        array = None if one is None else constant(one)
        found += np.nonzero(array) if array is not None and array.dtype == bool else [one]
    return found


def _index_put(t: Torch, x: Operand, places: Sequence[Any], values: Operand, add: bool = False) -> str:
    """Return x with ``values`` where a mask is 1, or at known places of an axis. Raises :class:`Refused` otherwise."""
    shape = t.shape(x)
    axes = [axis for axis, one in enumerate(places) if one is not None]
    first = t.node.args[1][axes[0]]
    if len(axes) == 1 and "bool" in str(first.meta["val"].dtype) and np.prod(t.shape(values)) == 1 and not add:
        mask = places[axes[0]]
        mask = t.reshape(mask, (*t.shape(mask), *(1,) * (len(shape) - axes[0] - t.rank(mask))))
        return t.where(mask, t.reshape(values, (1,) * len(shape)), x)
    places = _places_of_masks(places)
    axes = [axis for axis, one in enumerate(places) if one is not None]
    known = constant(places[axes[0]])
    if len(axes) != 1 or known is None:
        why = "only known places of one axis are written"
        raise Refused("indices", f"of {len(axes)} axes", why, "use slices, or where")
    axis = axes[0]
    y = t.expand(values, (*shape[:axis], *known.shape, *shape[axis + 1 :]))
    y = t.reshape(y, (*shape[:axis], known.size, *shape[axis + 1 :]))
    return scattered_rows(t, x, axis, known.reshape(-1), y, "add" if add else "none")


def _kth(t: Torch, x: Operand, k: int, axis: int, keep: bool) -> list[str]:
    """Return the k-th smallest element of an axis, and its place."""
    ends = [t.cut(one, axis, k - 1, k) for one in in_order(t, x, k, axis, False)]
    return ends if keep else [t.squeeze(one, [axis]) for one in ends]


def _log_add(t: Layers, x: str, before: str) -> str:
    """Return ln(exp(x) + exp(before)), computed from the larger of the two and their difference."""
    most = t.binary("max", before, x)
    less = t.binary("sub", t.binary("min", before, x), most)
    return t.binary("add", most, t.apply("log", t.affine(t.apply("exp", less), 1.0, 1.0)))


def _along(first: float, step: Callable[[Layers, str, str], str]) -> Handler:
    """Return the handler of a loop along an axis: ``step`` makes a result of an element and the result so far."""
    return lambda t, x, axis, *, dtype=None: t.running(x, axis, lambda *state: (step(*state),) * 2, first=first)


def _with_places(handler: Handler) -> Handler:
    """Return the handler of a function whose second result, places, is not computed."""
    return lambda t, x, axis: [handler(t, x, axis), NotAvailable]


def _windows(t: Torch, x: Operand, kernel: Any, dilation: Any, pad: Any, stride: Any) -> str:
    """Return windows of an image [N, C, H, W] as columns [N, C kh kw, L]: a convolution that picks elements."""
    n, _, *_ = t.shape(x)
    channels = t.size(x, 1)
    y = t.conv(x, _moving(kernel, channels), None, stride, [(p, p) for p in pad], dilation, channels)
    rows, columns = t.size(y, 2), t.size(y, 3)
    return t.reshape(y, (n, channels * kernel[0] * kernel[1], rows * columns))


def _folded(t: Torch, x: Operand, size: Any, kernel: Any, dilation: Any, pad: Any, stride: Any) -> str:
    """Return windows [N, C kh kw, L] added up in an image [N, C, H, W]: a transposed convolution by 0 and 1."""
    n, rows, _ = t.shape(x)
    spans = zip(size, kernel, dilation, pad, stride, strict=True)
    counts = [(one + 2 * p - d * (k - 1) - 1) // s + 1 for one, k, d, p, s in spans]
    channels = t.size(x, 1) // (kernel[0] * kernel[1])
    maps = t.reshape(x, (n, rows, *counts))
    used = [(c - 1) * s + d * (k - 1) + 1 for c, s, d, k in zip(counts, stride, dilation, kernel, strict=True)]
    pads = [(p, p - (one + 2 * p - reach)) for p, one, reach in zip(pad, size, used, strict=True)]
    return t.conv_transpose(maps, _moving(kernel, channels), None, stride, pads, dilation, channels)


def _moving(kernel: Sequence[int], channels: int) -> Weight:
    """Return the kernels [C kh kw, 1, kh, kw], each of which picks one element."""
    ones = np.eye(kernel[0] * kernel[1]).reshape(-1, 1, *kernel)
    return number(np.tile(ones, (channels, 1, 1, 1)), "ones that move elements")


def _unfold(t: Torch, x: Operand, axis: int, size: int, step: int) -> str:
    """Return the windows of an axis, with their elements along a new last axis: a convolution with the identity."""
    rank = t.rank(x)
    axis = axis_in(axis, rank)
    others = [a for a in range(rank) if a != axis]
    y = t.transpose(x, [*others, axis])
    lead, length = t.shape(y)[:-1], t.size(y, -1)
    flat = t.reshape(y, (int(np.prod(lead, dtype=object)), 1, length)) if lead else t.unsqueeze(y, [0, 1])
    eye = number(np.eye(size).reshape(size, 1, size), "ones that move elements")
    y = t.conv(flat, eye, None, [step], [(0, 0)], [1], 1)
    y = t.reshape(y, (*lead, size, t.size(y, -1)))
    order = [*range(len(lead))]
    order.insert(axis, rank)
    return t.transpose(y, [*order, rank - 1])


def _resizings(t: Torch, x: Operand, sizes: Any, scales: Any) -> Iterator[tuple[int, int, int, float]]:
    """Yield each axis that is resized, its old and new size, and how many old elements make a new one."""
    rank = t.rank(x)
    for place, axis in enumerate(range(rank - len(scales if sizes is None else sizes), rank)):
        old = t.size(x, axis)
        new = int(old * scales[place]) if sizes is None else sizes[place]
        yield axis, old, new, 1 / scales[place] if sizes is None else old / new


def _linear_resize(t: Torch, x: Operand, sizes: Any, corners: bool, scales: Any) -> str:
    """Interpolate along the last axes by a matrix for each, which maps the ends to the ends if ``corners``."""
    y = t.value(x)
    for axis, old, new, ratio in _resizings(t, x, sizes, scales):
        at = np.arange(new) * ((old - 1) / max(new - 1, 1)) if corners else (np.arange(new) + 0.5) * ratio - 0.5
        at = np.maximum(at, 0)
        low = np.minimum(np.floor(at).astype(int), old - 1)
        part, matrix = at - low, np.zeros((new, old))
        matrix[np.arange(new), low] += 1 - part
        matrix[np.arange(new), np.minimum(low + 1, old - 1)] += part
        if new != old or ratio != 1:
            y = t.along_last(y, axis, partial(t.linear, w=number(matrix, "a matrix that interpolates")))
    return y


def _nearest(t: Torch, x: Operand, sizes: Any, scales: Any) -> str:
    """Return x with its last axes resized: each new element is the nearest old one, repeated or picked."""
    y = t.value(x)
    for axis, old, new, ratio in _resizings(t, x, sizes, scales):
        at = np.minimum(np.floor(np.arange(new, dtype=np.float32) * np.float32(ratio)).astype(int), old - 1)
        whole = new % old == 0 and np.array_equal(at, np.repeat(np.arange(old), new // old))
        y = t.enlarged(y, axis, new // old) if whole else t.pick(y, axis, at.tolist())
    return y


def _any(t: Torch, x: Operand, axis: Any = None, keep: bool = False) -> str:
    axes = range(t.rank(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    return t.reduce("max", x, axes, keep) if t.is_mask() else t.any_of(x, axes, keep)


def _prod(t: Torch, x: Operand, axis: int | None = None, keep: bool = False, *, dtype: Any = None) -> str:
    return t.multiplied(x, range(t.rank(x)) if axis is None else [axis], keep)


_FILLED = (("zeros", 0.0), ("ones", 1.0), ("full", None), ("empty", 0.0))
_UNCHANGED = "contiguous clone detach alias lift_fresh_copy detach_ _assert_tensor_metadata"
UNCHANGED = tuple(f"aten.{name}.default" for name in _UNCHANGED.split())
HANDLERS: dict[str, Handler] = {
    "getitem": lambda t, x, at: x[at],
    "aten.transpose.int": _transpose, "aten.movedim.int": _moved, "aten.unflatten.int": _unflatten,
    "aten.flatten.using_ints": _flatten, "aten.slice.Tensor": _slice, "aten.cat.default": _cat,
    "aten.expand.default": _expand, "aten.roll.default": _roll, "aten.repeat_interleave.self_int": _repeat_each,
    "aten.mT.default": lambda t, x: _transpose(t, x, -2, -1),
    **{f"aten.{name}.default": lambda t, x: _ordered(t, x, range(t.rank(x))[::-1]) for name in ("t", "numpy_T")},
    "aten.permute.default": lambda t, x, axes: t.transpose(x, axes),
    **{f"aten.{name}.default": _view for name in ("view", "reshape", "_unsafe_view")},
    "aten.unsqueeze.default": lambda t, x, axis: t.unsqueeze(x, [axis]),
    **{f"aten.squeeze.{kind}": _squeeze for kind in ("dim", "dims", "default")},
    "aten.narrow.default": lambda t, x, axis, start, size: _slice(t, x, axis, start, start + size),
    "aten.flip.default": lambda t, x, axes: reduce(t.flip, axes, t.value(x)),
    "aten.chunk.default": lambda t, x, count, axis: _split(t, x, -(-t.size(x, axis) // count), axis),
    **dict.fromkeys(("aten.split.Tensor", "aten.split_with_sizes.default"), _split),
    "aten.unbind.int": lambda t, x, axis: [t.select(x, axis, at) for at in range(in_pieces(t.size(x, axis)))],
    "aten.stack.default": lambda t, xs, axis: t.stack(xs, axis),
    "aten.expand_as.default": lambda t, x, like: t.expand(x, t.shape(like)),
    **{f"aten.{name}.default": _repeat for name in ("repeat", "tile")},
    "aten.pixel_shuffle.default": lambda t, x, by: t.depth_to_space(x, by, depth_first=False),
    "aten.cumsum.default": lambda t, x, axis, dtype: t.cumulated(x, axis),
    **{f"aten.arange.{kind}": _range for kind in ("default", "start", "start_step")},
    "aten.argmax.default": _arg_max(1.0), "aten.argmin.default": _arg_max(-1.0),
    "aten.max.dim": _best("max"), "aten.min.dim": _best("min"),
    **{f"aten.{a}{kind}.default": partial(_reduce, kind) for kind in ("max", "min") for a in ("a", "")},
    **{f"aten.var.{kind}": handler for kind, handler in _VAR.items()},
    **{f"aten.std.{kind}": _root(handler) for kind, handler in _VAR.items()},
    "aten.var_mean.correction": lambda t, x, axes, *, correction, keepdim: [
        _corrected(t, x, axes, correction=correction, keepdim=keepdim), _reduce("mean", t, x, axes, keepdim),
    ],
    "aten.logsumexp.default": Torch.log_sum_exp, "aten.linalg_vector_norm.default": _norm,
    **{f"aten.mean.{kind}": partial(_reduce, "mean") for kind in ("dim", "default")},
    **{f"aten.sum.{kind}": partial(_reduce, "sum") for kind in ("dim_IntList", "default")},
    "aten.softmax.int": lambda t, x, axis, dtype: t.softmax(x, axis),
    "aten.log_softmax.int": lambda t, x, axis, dtype: t.softmax(x, axis, log=True),
    **{f"aten.{name}_like.default": partial(_constant, n, False) for name, n in _FILLED},
    **{f"aten.new_{name}.default": partial(_constant, n, True) for name, n in _FILLED},
    **{f"aten.{n}": lambda t, shape, **_: _full(t, shape, 0.0) for n in ("empty.memory_format", "zeros.default")},
    "aten.ones.default": lambda t, shape, **options: _full(t, shape, 1.0),
    "aten.full.default": _full, "aten.pad.default": _pad,
    "aten.index.Tensor": _index, "aten.index_put.default": _index_put, "aten.kthvalue.default": _kth,
    "aten.im2col.default": _windows, "aten.col2im.default": _folded, "aten.unfold.default": _unfold,
    "aten.constant_pad_nd.default": lambda t, x, pads, value: _pad(t, x, pads, "constant", value),
    **dict.fromkeys(UNCHANGED, lambda t, x, *_, **__: x),
    **{f"aten.{name}": _cast for name in ("_to_copy.default", "to.dtype", "to.device")},
    "aten.gather.default": lambda t, x, axis, places, *, sparse_grad: chosen_elements(t, x, places, axis, False),
    "aten.index_select.default": lambda t, x, axis, at: taken(t, x, axis_in(axis, t.rank(x)), at),
    **{f"aten.scatter.{kind}": partial(written, wraps=False) for kind in ("value", "src")},
    "aten.scatter_add.default": partial(written, add=True, wraps=False),
    "aten.topk.default": lambda t, x, count, axis, largest, ordered: in_order(t, x, count, axis, largest),
    "aten.sort.default": lambda t, x, axis, descending: in_order(t, x, t.size(x, axis), axis, descending),
    "aten.median.dim": lambda t, x, axis, keep: _kth(t, x, (t.size(x, axis) + 1) // 2, axis, keep),
    "aten.cumprod.default": _along(1.0, lambda t, x, before: t.binary("mul", before, x)),
    "aten.logcumsumexp.default": _along(-1e9, _log_add),
    "aten.cummax.default": _with_places(_along(-1e9, lambda t, x, before: t.binary("max", before, x))),
    "aten.cummin.default": _with_places(_along(1e9, lambda t, x, before: t.binary("min", before, x))),
    **dict.fromkeys(("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec"), _linear_resize),
    **{f"aten.upsample_nearest{rank}d.vec": _nearest for rank in (1, 2)},
    **{f"aten.any.{kind}": _any for kind in ("default", "dim", "dims")},
    **{f"aten.prod.{kind}": _prod for kind in ("default", "dim_int")},
}  # fmt: skip
