"""PyTorch operators that read or write elements by their places, or run along an axis: gather, scatter, sort, fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np

from lstmc.importers.frontends.scattering import chosen, one_hot
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.frontends.torch_elements import NotAvailable, Torch
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.ops import BINARY, Expand, function
from lstmc.importers.ir.values import Weight, axis_in, broadcast, number
from lstmc.importers.refusal import Refused
from lstmc.ops import Add, Array, Exp, Log, Mul, Op, Sub

Handler = Callable[..., Any]
MOST_SORTED = 64  # elements that are sorted, each by a search for the largest one
MOST_MOVED = 2**22  # elements of a matrix of 0 and 1 that moves elements


def _numbers(x: Operand) -> Array | None:
    return x.make() if isinstance(x, Weight) else None if isinstance(x, str) else np.asarray(x)


def _one_hot(t: Torch, places: Operand, count: int, wraps: bool = False) -> Operand:
    """Return 1 at each place on a new last axis, else 0; computed places count from behind only with ``wraps``."""
    known = _numbers(places)
    if known is not None:
        return np.equal(known[..., None] % count, np.arange(count)).astype(np.float64)
    return one_hot(t, places, count, -1, wraps)


def _letters(rank: int, axis: int) -> tuple[str, str]:
    """Return letters of the axes, and the same with z at one of them."""
    own = ascii_lowercase[:rank]
    return own, f"{own[:axis]}z{own[axis + 1 :]}"


def _gather(t: Torch, x: Operand, axis: int, places: Operand, sparse: bool = False) -> str:
    axis = axis_in(axis, len(t.shape(x)))
    wanted = t.shape(places)
    for place, size in enumerate(wanted):
        if place != axis and size != t.shape(x)[place]:
            x = t.cut(x, place, 0, t.size(places, place))
    step = t.builder.producer(places) if isinstance(places, str) else None
    if step is not None and isinstance(step.op, Expand) and wanted[axis] == t.shape(step.inputs[0])[axis]:
        places = step.inputs[0]  # the same places for all elements of its axes of one
    hot = _one_hot(t, places, t.size(x, axis))
    own, other = _letters(len(wanted), axis)
    return t.expand(t.product(f"{own}z", other, own, hot, x), wanted)


def _index(t: Torch, x: Operand, places: Sequence[Any]) -> Operand:
    """Index by places of one axis or several, known or computed, where these are axes one after the other."""
    indexed = [axis for axis, one in enumerate(places) if one is not None]
    arrays = [_numbers(places[axis]) for axis in indexed]
    shape = t.shape(x)
    if any(array is not None and array.dtype == bool for array in arrays):
        return _index(t, x, _places_of_masks(places))
    masks = (one for one, array in zip(t.node.args[1], places, strict=False) if isinstance(array, str))
    if any("bool" in str(one.meta["val"].dtype) for one in masks):
        raise Refused("indices", "a mask computed by the model", "how many elements it takes is not known", "use where")
    if len(indexed) == 1:
        return _index_one(t, x, indexed[0], places[indexed[0]])
    if indexed != [*range(indexed[0], indexed[-1] + 1)]:
        first = [axis for axis in range(len(shape)) if axis not in indexed]
        y = t.transpose(x, [*indexed, *first])
        return _index(t, y, [places[axis] for axis in indexed])
    lead, count = indexed[0], len(indexed)
    if all(array is not None for array in arrays):
        sizes = [t.size(x, axis) for axis in indexed]
        wrapped = [np.asarray(array) % size for array, size in zip(arrays, sizes, strict=True)]
        flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*wrapped)), sizes)
        y = t.reshape(x, (*shape[:lead], int(np.prod(sizes)), *shape[lead + count :]))
        return _index_one(t, y, lead, flat)
    rows, column = arrays[0], places[indexed[-1]]
    own = count == 2 and lead == 0 and isinstance(column, str)
    if not own or rows is None or not np.array_equal(np.ravel(rows), np.arange(t.size(x, 0))):
        why = "places computed by the model are read along one axis, or one for each element of the first axis"
        raise Refused("indices", f"of {count} axes", why, "use gather")
    hot = _one_hot(t, t.reshape(column, (shape[0],)), t.size(x, 1), True)
    rest = ascii_lowercase[: len(shape) - 2]
    result = t.product("yz", f"yz{rest}", f"y{rest}", hot, x)
    return t.reshape(result, (*broadcast(rows.shape, t.shape(column)), *shape[2:]))


def _places_of_masks(places: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for one in places:
        array = None if one is None else _numbers(one)
        found += np.nonzero(array) if array is not None and array.dtype == bool else [one]
    return found


def _index_one(t: Torch, x: Operand, axis: int, places: Any) -> Operand:
    shape, known = t.shape(x), _numbers(places)
    if known is not None:
        picked = t.pick(x, axis, [int(n) for n in known.reshape(-1)])
        return t.reshape(picked, (*shape[:axis], *known.shape, *shape[axis + 1 :]))
    return chosen(t, x, places, axis)


def _scatter(t: Torch, x: Operand, axis: int, places: Operand, source: Any, *, add: bool = False) -> str:
    """Write elements, or add them, at places along an axis."""
    axis, shape = axis_in(axis, len(t.shape(x))), t.shape(x)
    wanted = t.shape(places)
    if any(a != b for i, (a, b) in enumerate(zip(shape, wanted, strict=True)) if i != axis):
        raise Refused(
            "index", f"of {[*wanted]}", f"it must have all of {[*shape]} but along the axis", "write whole rows"
        )
    hot, (own, other) = _one_hot(t, places, t.size(x, axis)), _letters(len(shape), axis)
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
        wide = (1,) * (len(shape) - axes[0] - len(t.shape(mask)))
        mask = mask if isinstance(mask, np.ndarray) else t.value(mask)
        mask = (
            mask.reshape(*mask.shape, *wide)
            if isinstance(mask, np.ndarray)
            else t.reshape(mask, (*t.shape(mask), *wide))
        )
        return t.where(mask, t.reshape(values, (1,) * len(shape)), x)
    places = _places_of_masks(places)
    axes = [axis for axis, one in enumerate(places) if one is not None]
    known = _numbers(places[axes[0]])
    if len(axes) != 1 or known is None:
        raise Refused(
            "indices", f"of {len(axes)} axes", "only known places of one axis are written", "use slices, or where"
        )
    axis, size, flat = axes[0], t.size(x, axes[0]), known.reshape(-1)
    if flat.size * size > MOST_MOVED:
        raise Refused("indices", f"{flat.size} of {size}", "they would be moved by a matrix as large", "use slices")
    matrix = np.equal(np.arange(size)[:, None], flat % size).astype(float)
    if not add:  # the last one that is written stays
        matrix *= [place not in flat[at + 1 :] for at, place in enumerate(flat)]
    y = t.expand(values, (*shape[:axis], *known.shape, *shape[axis + 1 :]))
    y = t.reshape(y, (*shape[:axis], flat.size, *shape[axis + 1 :]))
    moved = t.along_last(y, axis, lambda v: t.linear(v, number(matrix, "a matrix that moves elements")))
    if not add:
        kept = 1.0 - matrix.max(1)
        x = t.binary("mul", x, kept.reshape(-1, *(1,) * (len(shape) - axis - 1)))
    return t.binary("add", x, moved)


def _sorted(t: Torch, x: Operand, count: int, axis: int, largest: bool) -> list[str]:
    """Return the largest elements of an axis, in order, and their places: each found among those that are left."""
    if not t.shape(x):
        return [t.value(x), t.value(np.zeros(()))]
    axis = axis_in(axis, len(t.shape(x)))
    size = t.size(x, axis)
    if count > MOST_SORTED:
        raise Refused("k", str(count), f"at most {MOST_SORTED} elements are sorted", "give back the scores")
    sign = 1.0 if largest else -1.0
    left, values, places = t.affine(x, sign, 0.0), list[str](), list[str]()
    span = (1,) * (len(t.shape(x)) - axis - 1)
    for found in range(count):
        values.append(t.reduce("max", left, [axis], keep=True))
        places.append(t.argmax(left, axis, keep=True))
        if found < count - 1:
            hit = t.compare("eq", places[-1], np.arange(float(size)).reshape(-1, *span))
            left = t.where(hit, np.asarray(-np.inf), left)
    return [t.affine(t.concat(values, axis), sign, 0.0), t.concat(places, axis)]


def _top_k(t: Torch, x: Operand, count: int, axis: int, largest: bool, ordered: bool) -> list[str]:
    return _sorted(t, x, count, axis, largest)


def _sort(t: Torch, x: Operand, axis: int, descending: bool) -> list[str]:
    return _sorted(t, x, t.size(x, axis), axis, descending)


def _of_order(rank: Callable[[int], int]) -> Handler:
    """Return a handler of one element in the order of an axis, and its place."""

    def handle(t: Torch, x: Operand, *more: Any) -> list[str]:
        *given, axis, keep = more
        size = t.size(x, axis)
        found = _sorted(t, x, given[0] if given else rank(size), axis, False)
        ends = [t.cut(one, axis, t.size(one, axis) - 1, t.size(one, axis)) for one in found]
        return ends if keep else [t.squeeze(one, [axis]) for one in ends]

    return handle


def _along(kind: Literal["cumprod", "logcumsumexp", "cummax", "cummin"]) -> Handler:
    """Return a handler that runs along an axis: a loop whose state is what was computed so far."""
    first = {"cumprod": 1.0, "logcumsumexp": -1e9, "cummax": -1e9, "cummin": 1e9}[kind]

    def step(body: NetBuilder, x: str, before: str, origin: str) -> str:
        def one(op: Op, *xs: str) -> str:
            return body.one(op, *xs, hint="value", origin=origin)

        if kind != "logcumsumexp":
            return one({"cumprod": Mul(), "cummax": BINARY["max"], "cummin": BINARY["min"]}[kind], before, x)
        most = one(BINARY["max"], before, x)
        less = one(Sub(), one(BINARY["min"], before, x), most)
        return one(Add(), most, one(Log(), one(function("affine", 1.0, 1.0), one(Exp(), less))))

    def handle(t: Torch, x: Operand, axis: int, *, dtype: Any = None) -> str:
        order = [axis_in(axis, len(t.shape(x)))]
        order += [a for a in range(len(t.shape(x))) if a != order[0]]
        sequence = t.transpose(x, order)
        length, *rest = t.shape(sequence)
        sequence = sequence if rest else t.unsqueeze(sequence, [1])
        shape = t.shape(sequence)[1:]
        builder, body = t.builder, NetBuilder("step", t.builder.origin)
        now, before = body.input("x", shape), body.input("so_far", shape)
        following = step(body, now, before, t.origin)
        body.outputs = {"so_far": following, "y_0": following}
        begin = t.expand(np.full((1,) * len(shape), first), shape)
        net, title = body.finish(every_input=True), builder.scan_name(t.hint)
        y, _ = builder.loop(title, net, [sequence], {"so_far": begin}, (), length, t.origin)
        y = y if rest else t.squeeze(y, [1])
        return t.transpose(y, np.argsort(order).tolist())

    return handle


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
    """Return the kernels [C kh kw, 1, kh, kw] of which each takes one element."""
    ones = np.eye(kernel[0] * kernel[1]).reshape(-1, 1, *kernel)
    return number(np.tile(ones, (channels, 1, 1, 1)), "ones that move elements")


def _unfold(t: Torch, x: Operand, axis: int, size: int, step: int) -> str:
    """Windows of an axis, with their elements in a new last axis."""
    rank = len(t.shape(x))
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


def _linear_resize(rank: int) -> Handler:
    """Return a handler of linear interpolation along the last axes."""

    def handle(t: Torch, x: Operand, sizes: Any, corners: bool, scales: Any) -> str:
        y = t.value(x)
        for place in range(rank):
            axis = len(t.shape(y)) - rank + place
            old = t.size(y, axis)
            new = int(old * scales[place]) if sizes is None else sizes[place]
            ratio = 1 / scales[place] if sizes is None else old / new
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
    y, rank = t.value(x), len(sizes if sizes is not None else scales)
    for place in range(rank):
        axis = len(t.shape(y)) - rank + place
        old = t.size(y, axis)
        new = int(old * scales[place]) if sizes is None else sizes[place]
        ratio = np.float32(1 / scales[place]) if sizes is None else np.float32(old) / np.float32(new)
        at = np.minimum(np.floor(np.arange(new, dtype=np.float32) * ratio).astype(int), old - 1)
        whole = new % old == 0 and np.array_equal(at, np.repeat(np.arange(old), new // old))
        y = t.enlarged(y, axis, new // old) if whole else t.pick(y, axis, at.tolist())
    return y


def _any(t: Torch, x: Operand, axis: Any = None, keep: bool = False) -> str:
    hit = x if t.is_mask() else t.apply("step", t.apply("abs", x))
    axes = range(len(t.shape(x))) if axis is None else [axis] if isinstance(axis, int) else axis
    return t.reduce("max", hit, axes, keep)


def _prod(t: Torch, x: Operand, axis: int | None = None, keep: bool = False, *, dtype: Any = None) -> str:
    if axis is None:
        x, axis = t.reshape(x, (int(np.prod(t.shape(x))),)), 0
    parts = t.split(x, [1] * t.size(x, axis), axis)
    y = parts[0]
    for part in parts[1:]:
        y = t.binary("mul", y, part)
    return y if keep else t.squeeze(y, [axis])


HANDLERS: dict[str, Handler] = {
    "aten.gather.default": lambda t, x, axis, places, *, sparse_grad: _gather(t, x, axis, places),
    "aten.index.Tensor": _index,
    "aten.index_select.default": lambda t, x, axis, at: _index_one(t, x, axis_in(axis, len(t.shape(x))), at),
    "aten.scatter.value": _scatter,
    "aten.scatter.src": _scatter,
    "aten.scatter_add.default": lambda t, x, axis, at, source: _scatter(t, x, axis, at, source, add=True),
    "aten.index_put.default": _index_put,
    "aten.topk.default": _top_k,
    "aten.sort.default": _sort,
    "aten.median.dim": _of_order(lambda size: (size + 1) // 2),
    "aten.kthvalue.default": _of_order(lambda size: size),
    "aten.cumprod.default": _along("cumprod"),
    "aten.logcumsumexp.default": _along("logcumsumexp"),
    "aten.cummax.default": _with_places(_along("cummax")),
    "aten.cummin.default": _with_places(_along("cummin")),
    "aten.im2col.default": _windows,
    "aten.col2im.default": _folded,
    "aten.unfold.default": _unfold,
    "aten.upsample_linear1d.vec": _linear_resize(1),
    "aten.upsample_bilinear2d.vec": _linear_resize(2),
    "aten.upsample_nearest1d.vec": _nearest,
    "aten.upsample_nearest2d.vec": _nearest,
    "aten.any.default": _any,
    "aten.any.dim": _any,
    "aten.any.dims": _any,
    "aten.prod.default": lambda t, x, *, dtype: _prod(t, x),
    "aten.prod.dim_int": _prod,
}
