"""PyTorch operators that read or write elements by their places, or run along an axis: gather, scatter, sort, fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from string import ascii_lowercase
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.scattering import one_hot, scattered_rows, taken
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.frontends.torch_elements import NotAvailable, Torch
from lstmc.importers.ir.ops import Expand
from lstmc.importers.ir.values import Weight, axis_in, broadcast, number
from lstmc.importers.refusal import Refused

Handler = Callable[..., Any]
MOST_SORTED = 64  # the most elements to sort: each step searches for the largest


def _letters(rank: int, axis: int) -> tuple[str, str]:
    """Return letters for the axes, and the same letters with z for one axis."""
    own = ascii_lowercase[:rank]
    return own, f"{own[:axis]}z{own[axis + 1 :]}"


def _gather(t: Torch, x: Operand, axis: int, places: Operand, sparse: bool = False) -> str:
    axis = axis_in(axis, t.rank(x))
    wanted = t.shape(places)
    for place, size in enumerate(wanted):
        if place != axis and size != t.shape(x)[place]:
            x = t.cut(x, place, 0, t.size(places, place))
    step = t.builder.producer(places) if isinstance(places, str) else None
    if step is not None and isinstance(step.op, Expand) and wanted[axis] == t.shape(step.inputs[0])[axis]:
        places = step.inputs[0]  # the same places for all elements of its axes of one
    hot = one_hot(t, places, t.size(x, axis), -1, False)
    own, other = _letters(len(wanted), axis)
    return t.expand(t.product(f"{own}z", other, own, hot, x), wanted)


def _index(t: Torch, x: Operand, places: Sequence[Any]) -> Operand:
    """Index by places of one axis or several adjacent axes, known or computed."""
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
    found: list[Any] = []
    for one in places:
        array = None if one is None else constant(one)
        found += np.nonzero(array) if array is not None and array.dtype == bool else [one]
    return found


def _scatter(t: Torch, x: Operand, axis: int, places: Operand, source: Any, *, add: bool = False) -> str:
    """Write elements, or add them, at places along an axis."""
    axis, shape = axis_in(axis, t.rank(x)), t.shape(x)
    wanted = t.shape(places)
    if any(a != b for i, (a, b) in enumerate(zip(shape, wanted, strict=True)) if i != axis):
        raise Refused(
            "index", f"of {[*wanted]}", f"it must have all of {[*shape]} but along the axis", "write whole rows"
        )
    hot, (own, other) = one_hot(t, places, t.size(x, axis), -1, False), _letters(len(shape), axis)
    if not isinstance(source, int | float):
        for place, size in enumerate(wanted):
            source = source if t.shape(source)[place] == size else t.cut(source, place, 0, size)
        put = t.product(f"{own}z", own, other, hot, source)
    order = [*range(len(shape) - 1)]
    order.insert(axis, len(shape) - 1)
    hits = t.transpose(t.reduce("sum", hot, [axis], keep=False), order)
    if isinstance(source, int | float):
        put = t.affine(hits if add else t.apply("step", hits), float(source), 0.0)
    kept = x if add else t.binary("mul", x, t.negated(t.apply("step", hits)))
    return t.binary("add", kept, put)


def _index_put(t: Torch, x: Operand, places: Sequence[Any], values: Operand, add: bool = False) -> str:
    """Write values where a mask is 1, or at known places of one axis."""
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
        raise Refused(
            "indices", f"of {len(axes)} axes", "only known places of one axis are written", "use slices, or where"
        )
    axis = axes[0]
    y = t.expand(values, (*shape[:axis], *known.shape, *shape[axis + 1 :]))
    y = t.reshape(y, (*shape[:axis], known.size, *shape[axis + 1 :]))
    return scattered_rows(t, x, axis, known.reshape(-1), y, "add" if add else "none")


def _sorted(t: Torch, x: Operand, count: int, axis: int, largest: bool) -> list[str]:
    """Return the largest elements of an axis, in order, and their places: each is searched among the remaining
    elements."""
    if not t.shape(x):
        return [t.value(x), t.value(np.zeros(()))]
    axis = axis_in(axis, t.rank(x))
    size = t.size(x, axis)
    if count > MOST_SORTED:
        raise Refused("k", str(count), f"at most {MOST_SORTED} elements are sorted", "give back the scores")
    sign = 1.0 if largest else -1.0
    left, values, places = t.affine(x, sign, 0.0), list[str](), list[str]()
    span = (1,) * (t.rank(x) - axis - 1)
    for found in range(count):
        values.append(t.reduce("max", left, [axis], keep=True))
        places.append(t.argmax(left, axis, keep=True))
        if found < count - 1:
            hit = t.compare("eq", places[-1], np.arange(float(size)).reshape(-1, *span))
            left = t.where(hit, np.asarray(-np.inf), left)
    return [t.affine(t.concat(values, axis), sign, 0.0), t.concat(places, axis)]


def _of_order(rank: Callable[[int], int]) -> Handler:
    """Return a handler of one element in the sorted order of an axis, and its place."""

    def handle(t: Torch, x: Operand, *more: Any) -> list[str]:
        *given, axis, keep = more
        size = t.size(x, axis)
        found = _sorted(t, x, given[0] if given else rank(size), axis, False)
        ends = [t.cut(one, axis, t.size(one, axis) - 1, t.size(one, axis)) for one in found]
        return ends if keep else [t.squeeze(one, [axis]) for one in ends]

    return handle


def _log_add(t: Layers, x: str, before: str) -> str:
    """ln(exp(x) + exp(before)), computed from the larger one and their difference."""
    most = t.binary("max", before, x)
    less = t.binary("sub", t.binary("min", before, x), most)
    return t.binary("add", most, t.apply("log", t.affine(t.apply("exp", less), 1.0, 1.0)))


def _along(first: float, step: Callable[[Layers, str, str], str]) -> Handler:
    """Return a handler that runs along an axis: its state, at first this number, is what was computed so far."""
    return lambda t, x, axis, *, dtype=None: t.running(x, axis, lambda *state: (step(*state),) * 2, first=first)


def _with_places(handler: Handler) -> Handler:
    return lambda t, x, axis: [handler(t, x, axis), NotAvailable]


def _windows(t: Torch, x: Operand, kernel: Any, dilation: Any, pad: Any, stride: Any) -> str:
    """Return the windows of an image [N, C, H, W] as columns [N, C kh kw, L], by a convolution that moves elements."""
    n, _, *_ = t.shape(x)
    channels = t.size(x, 1)
    y = t.conv(x, _moving(kernel, channels), None, stride, [(p, p) for p in pad], dilation, channels)
    rows, columns = t.size(y, 2), t.size(y, 3)
    return t.reshape(y, (n, channels * kernel[0] * kernel[1], rows * columns))


def _folded(t: Torch, x: Operand, size: Any, kernel: Any, dilation: Any, pad: Any, stride: Any) -> str:
    """Add windows [N, C kh kw, L] at their places in an image [N, C, H, W]."""
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
    """Windows of an axis, with their elements in a new last axis."""
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


def _resizings(t: Torch, x: Operand, rank: int, sizes: Any, scales: Any) -> Iterator[tuple[int, int, int, float]]:
    """Yield each of the last axes that are resized, its old and its new size, and their ratio."""
    for place, axis in enumerate(range(t.rank(x) - rank, t.rank(x))):
        old = t.size(x, axis)
        new = int(old * scales[place]) if sizes is None else sizes[place]
        yield axis, old, new, 1 / scales[place] if sizes is None else old / new


def _linear_resize(rank: int) -> Handler:
    """Return a handler of linear interpolation along the last axes."""

    def handle(t: Torch, x: Operand, sizes: Any, corners: bool, scales: Any) -> str:
        y = t.value(x)
        for axis, old, new, ratio in _resizings(t, x, rank, sizes, scales):
            at = np.arange(new) * ((old - 1) / max(new - 1, 1)) if corners else (np.arange(new) + 0.5) * ratio - 0.5
            at = np.maximum(at, 0)
            low = np.minimum(np.floor(at).astype(int), old - 1)
            part, matrix = at - low, np.zeros((new, old))
            matrix[np.arange(new), low] += 1 - part
            matrix[np.arange(new), np.minimum(low + 1, old - 1)] += part
            weight = number(matrix, "a matrix that interpolates")
            if new != old or ratio != 1:
                y = t.along_last(y, axis, partial(t.linear, w=weight))
        return y

    return handle


def _nearest(t: Torch, x: Operand, sizes: Any, scales: Any) -> str:
    """Resize to the nearest element."""
    y = t.value(x)
    for axis, old, new, ratio in _resizings(t, x, len(scales if sizes is None else sizes), sizes, scales):
        at = np.minimum(np.floor(np.arange(new, dtype=np.float32) * np.float32(ratio)).astype(int), old - 1)
        whole = new % old == 0 and np.array_equal(at, np.repeat(np.arange(old), new // old))
        y = t.enlarged(y, axis, new // old) if whole else t.pick(y, axis, at.tolist())
    return y


def _any(t: Torch, x: Operand, axis: Any = None, keep: bool = False) -> str:
    axes = range(t.rank(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    return t.reduce("max", x, axes, keep) if t.is_mask() else t.any_of(x, axes, keep)


def _prod(t: Torch, x: Operand, axis: int | None = None, keep: bool = False, *, dtype: Any = None) -> str:
    return t.multiplied(x, range(t.rank(x)) if axis is None else [axis], keep)


HANDLERS: dict[str, Handler] = {
    "aten.gather.default": lambda t, x, axis, places, *, sparse_grad: _gather(t, x, axis, places),
    "aten.index.Tensor": _index,
    "aten.index_select.default": lambda t, x, axis, at: taken(t, x, axis_in(axis, t.rank(x)), at),
    **{f"aten.scatter.{kind}": _scatter for kind in ("value", "src")},
    "aten.scatter_add.default": lambda t, x, axis, at, source: _scatter(t, x, axis, at, source, add=True),
    "aten.index_put.default": _index_put,
    "aten.topk.default": lambda t, x, count, axis, largest, ordered: _sorted(t, x, count, axis, largest),
    "aten.sort.default": lambda t, x, axis, descending: _sorted(t, x, t.size(x, axis), axis, descending),
    "aten.median.dim": _of_order(lambda size: (size + 1) // 2),
    "aten.kthvalue.default": _of_order(lambda size: size),
    "aten.cumprod.default": _along(1.0, lambda t, x, before: t.binary("mul", before, x)),
    "aten.logcumsumexp.default": _along(-1e9, _log_add),
    "aten.cummax.default": _with_places(_along(-1e9, lambda t, x, before: t.binary("max", before, x))),
    "aten.cummin.default": _with_places(_along(1e9, lambda t, x, before: t.binary("min", before, x))),
    "aten.im2col.default": _windows,
    "aten.col2im.default": _folded,
    "aten.unfold.default": _unfold,
    "aten.upsample_linear1d.vec": _linear_resize(1),
    "aten.upsample_bilinear2d.vec": _linear_resize(2),
    **{f"aten.upsample_nearest{rank}d.vec": _nearest for rank in (1, 2)},
    **{f"aten.any.{kind}": _any for kind in ("default", "dim", "dims")},
    "aten.prod.default": lambda t, x, *, dtype: _prod(t, x),
    "aten.prod.dim_int": _prod,
}
