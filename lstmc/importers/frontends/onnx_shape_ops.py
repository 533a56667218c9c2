"""ONNX operators that move, gather, replace or mark elements, or reduce axes; spectra as products with constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast, get_args

import numpy as np

from lstmc.importers.frontends import onnx_values as values
from lstmc.importers.frontends import scattering
from lstmc.importers.frontends.layers import Layers, waves
from lstmc.importers.frontends.onnx_values import CHECK, Handler, Node, Onnx, fixed_numbers, single, weight
from lstmc.importers.frontends.scattering import Combined, taken
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.ir.ops import Reduced
from lstmc.importers.ir.values import axis_in, broadcast, fixed, listed, number, open_sizes, resolved
from lstmc.importers.refusal import PIN, Refused
from lstmc.ops import Array


def _given(operand: Operand | None, attribute: Any, name: str) -> Any:
    """Return constant integers: newer versions of an operator have them as an operand, older ones as an attribute."""
    return attribute if operand is None else fixed_numbers(operand, name)


def _reshape(t: Onnx, x: Operand, new: Operand, *, allowzero: int = 0) -> Operand:
    """Return x in the new shape, in which 0 stands for the old size of the axis unless ``allowzero`` is set."""
    old, shape = t.shape(x), values.sizes(new, "shape")
    if any(size == 0 for size in shape[len(old) :]) and not allowzero:
        raise Refused("shape", str(shape), f"a size of 0 stands for that of an axis of {listed(old)}", CHECK)
    return t.reshape(x, resolved([old[i] if s == 0 and not allowzero else s for i, s in enumerate(shape)], old))


def _flatten(t: Onnx, x: Operand, *, axis: int) -> Operand:
    """Return x as a matrix: the axes before ``axis`` joined, and the axes from ``axis`` on."""
    shape = t.shape(x)
    lead = resolved((-1,), shape[:axis]) if axis else (1,)
    return t.reshape(x, resolved((*lead, -1), shape))


def _split(
    t: Onnx, x: Operand, sizes: Operand | None = None, *,
    axis: int, node: Node, split: list[int] | None = None, num_outputs: int | None = None,
) -> list[Operand]:  # fmt: skip
    """Return pieces of x: of given sizes, or as equal as possible. A piece without elements is an array."""
    lengths = _given(sizes, split, "split")
    if lengths is None:
        size, count = t.size(x, axis), node.results if num_outputs is None else num_outputs
        if count < 1:
            raise Refused("results", str(count), "one at least is expected", CHECK)
        each = -(-size // count)
        lengths = [min(each, size - at) for at in range(0, size, each)]
    if 0 not in lengths:
        return [*t.split(x, lengths, axis)]
    parts, shape = iter(t.split(x, [length for length in lengths if length], axis)), [*t.shape(x)]
    shape[axis] = 0
    return [next(parts) if length else np.zeros(shape, np.float32) for length in lengths]


def _concat(t: Onnx, *xs: Operand, axis: int) -> Operand:
    """Return joined values, without the empty arrays that a split may give."""
    return t.concat([x for x in xs if isinstance(x, str) or 0 not in x.shape] or xs, axis)


def _slice(t: Onnx, x: Operand, *, node: Node) -> Operand:
    """Return the parts that a Slice takes, one axis after the other; an axis that is taken whole is left out."""
    y = t.value(x)
    for axis, part in values.slices(node, [*map(constant, node.operands[1:])]):
        if part == slice(0, 2**63 - 1, 1) or (part.start == 0 and part.step == 1 and (part.stop or 0) > 2**31):
            continue
        y = t.slice(y, axis, part)
    return y


def _gather(t: Onnx, table: Operand, at: Operand, *, axis: int) -> Operand:
    """Return the rows of a table at indices: an embedding, one row, or a selection of rows."""
    if isinstance(at, str) and not (axis or isinstance(table, str)):
        return t.embed(at, weight(table, "the first operand"))
    if not isinstance(at, str) and not t.shape(at):
        return t.select(table, axis, fixed_numbers(at, "indices")[0])
    if not isinstance(at, str):
        fixed_numbers(at, "indices")
    return taken(t, table, axis_in(axis, t.rank(table)), at)


def _pad(
    t: Onnx, x: Operand, sides: Operand | None = None, fill: Any = None, places: Any = None, *,
    mode: str, pads: list[int] | None = None, value: float | None = None,
) -> Operand:  # fmt: skip
    """Return x with padding on some axes; ``pads`` has all paddings before, then all paddings after."""
    numbers = fixed_numbers(sides, "pads") if pads is None else pads
    axes, half = _given(places, range(t.rank(x)), "axes"), len(numbers) // 2
    if len(numbers) != 2 * len(axes):
        raise Refused("pads", str([*numbers]), f"{2 * len(axes)} numbers are expected", CHECK)
    pairs = dict(zip(axes, zip(numbers[:half], numbers[half:], strict=True), strict=True))
    return t.padded(x, pairs, mode, float(single(fill, "constant_value") or value or 0))


def _over_axes(
    method: Callable[..., Operand], t: Onnx, x: Operand, operand: Operand | None = None, *,
    axes: list[int] | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0,
) -> Operand:  # fmt: skip
    """Return what ``method`` makes of x, the axes (by default all), and whether the axes stay."""
    places = _given(operand, axes, "axes") or ([] if noop_with_empty_axes else range(t.rank(x)))
    return method(t, x, places, bool(keepdims))


REDUCED: tuple[Reduced, ...] = ("mean", "sum", "max", "min")


def _reduce(kind: Reduced) -> Handler:
    return partial(_over_axes, lambda t, x, axes, keep: t.reduce(kind, x, axes, keep))


def _norm(order: int, root: bool) -> Handler:
    return partial(_over_axes, lambda t, x, axes, keep: t.norm(x, order, axes, keep, root))


def _dropout(t: Onnx, x: Operand, share: Operand | None = None, *, ratio: float = 0.5) -> list[Operand | None]:
    return [t.dropout(x, float(ratio if share is None else single(share, "ratio"))), None]


def _shape(t: Onnx, x: Operand, *, start: int = 0, end: int | None = None) -> Operand:
    """Return the shape as an array, of objects if it has open sizes."""
    shape = t.shape(x)[start:end]
    return np.array(shape, object if open_sizes(shape) else np.int64)


def _size(t: Onnx, x: Operand) -> Operand:
    return np.asarray(np.prod([fixed(size, "a size") for size in t.shape(x)], dtype=np.int64))


def _trilu(t: Onnx, x: Operand, k: Operand | None = None, *, upper: int = 1) -> Operand:
    rows, columns = (t.size(x, axis) for axis in (-2, -1))
    diagonal = 0 if k is None else int(single(k, "k"))
    kept = 1.0 - np.tri(rows, columns, diagonal - 1) if upper else np.tri(rows, columns, diagonal)
    return t.binary("mul", x, kept)


def _arg_max(sign: float, t: Onnx, x: Operand, *, axis: int, keepdims: int, select_last_index: int = 0) -> Operand:
    return t.argmax(x, axis, bool(keepdims), bool(select_last_index), sign)


def _top_k(
    t: Onnx, x: Operand, count: Operand | None = None, *, axis: int, k: int | None = None, largest: int = 1
) -> list[str]:
    counts = _given(count, [k], "k")
    if len(counts) != 1 or counts[0] is None:
        raise Refused("k", str(counts), "it must be one number", "give back the scores")
    return scattering.in_order(t, x, counts[0], axis, bool(largest))


def _indices(x: Operand) -> Array:
    """Return constant indices as an array. Raises :class:`Refused` for computed indices."""
    found = constant(x)
    if found is None:
        mend = "use constant indices, or Gather and GatherElements along one axis"
        raise Refused("indices", "computed from the inputs", "they must be known here", mend)
    if found.dtype == object:
        raise Refused("indices", "a size without a number", "they must be known here", PIN)
    return found


def _how(reduction: str | None) -> Combined:
    how = reduction or "none"
    if how not in get_args(Combined):
        raise Refused("reduction", str(how), f"there are {', '.join(get_args(Combined))}", CHECK)
    return cast(Combined, how)


def _check_rank(indices: Array, rank: int) -> None:
    if indices.ndim != rank:
        raise Refused("indices", f"of {indices.ndim} axes", f"{rank} axes are expected", CHECK)


def _scatter_nd(t: Onnx, x: Operand, at: Operand, updates: Operand, *, reduction: str | None = None) -> Operand:
    indices = _indices(at)
    if not indices.ndim or indices.shape[-1] > t.rank(x):
        raise Refused("indices", str(list(indices.shape)), "the last axis counts the axes of the operand", CHECK)
    return scattering.scattered(t, x, indices, updates, _how(reduction))


def _scatter_elements(
    t: Onnx, x: Operand, at: Operand, updates: Operand, *, axis: int = 0, reduction: str | None = None
) -> Operand:
    """Return x with each update at its index, constant or computed, along an axis."""
    if isinstance(at, str) and reduction in (None, "none", "add"):
        return scattering.written(t, x, axis, at, updates, add=reduction == "add")
    _check_rank(indices := _indices(at), t.rank(x))
    return scattering.scattered_elements(t, x, indices, updates, axis, _how(reduction))


def _gather_nd(t: Onnx, x: Operand, at: Operand, *, batch_dims: int = 0) -> Operand:
    """Return the elements of x at constant indices; indices of the batch axes are added in front."""
    indices, batch = _indices(at), batch_dims
    if not 0 <= batch < min(indices.ndim, t.rank(x)):
        raise Refused("batch_dims", str(batch), f"of indices {list(indices.shape)}", CHECK)
    grid: Any = np.indices(indices.shape[:batch])
    lead: Any = np.moveaxis(grid, 0, -1) if batch else np.zeros(0)
    lead = lead.reshape(*indices.shape[:batch], *(1,) * (indices.ndim - 1 - batch), batch)
    lead = np.broadcast_to(lead, (*indices.shape[:-1], batch))
    return scattering.gathered(t, x, np.concatenate([lead, indices], -1).astype(int))


def _gather_elements(t: Onnx, x: Operand, at: Operand, *, axis: int) -> Operand:
    """Return the element of x at each index, constant or computed, along an axis."""
    if isinstance(at, str):
        return scattering.chosen_elements(t, x, at, axis)
    _check_rank(found := _indices(at), t.rank(x))
    return scattering.elements(t, x, found, axis)


def _one_hot(t: Onnx, x: Operand, depth: Operand, values: Operand, *, axis: int) -> Operand:
    """Return ``on`` at the index and ``off`` elsewhere, along a new axis."""
    count, known = single(depth, "depth"), constant(values)
    if known is None or known.size != 2:
        raise Refused("values", "computed, or not two", "they must be two numbers here", CHECK)
    off, on = map(float, known.reshape(-1))
    return t.affine(scattering.one_hot(t, x, int(count), axis), on - off, off)


def _compress(t: Onnx, x: Operand, condition: Operand, *, axis: int | None = None) -> Operand:
    """Return the rows of an axis where a constant condition holds."""
    keep = constant(condition)
    if keep is None:
        raise Refused("condition", "computed from the inputs", "how many are kept must be known here", "use a mask")
    if axis is None:
        x, axis = t.reshape(x, resolved((-1,), t.shape(x))), 0
    return t.pick(x, axis, np.flatnonzero(keep).tolist())


def _space_to_depth(t: Onnx, x: Operand, *, blocksize: int, mode: str = "DCR") -> Operand:
    n, c, h, w = t.shape(x)
    rows, columns = fixed(h, "a size") // blocksize, fixed(w, "a size") // blocksize
    order = (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    y = t.transpose(t.reshape(x, (n, c, rows, blocksize, columns, blocksize)), order)
    return t.reshape(y, (n, fixed(c, "channels") * blocksize**2, rows, columns))


def transformed(layers: Layers, x: Operand, length: int | None, axis: int, inverse: bool, onesided: bool) -> str:
    """Return the discrete Fourier transform of x [..., n, ..., 1 or 2], real or complex, as [..., 2], by one product.
    ``length`` cuts or pads the axis, and ``onesided`` keeps the first half of the result."""
    rank, parts = layers.rank(x), layers.size(x, -1)
    axis, size = axis_in(axis, rank), layers.size(x, axis)
    count = size if length is None else length
    bins = count // 2 + 1 if onesided else count
    if inverse and onesided:
        raise Refused("inverse, onesided", "both", "the half that is left out is not made up here", "use all of it")
    if size > count:
        x = layers.cut(x, axis, 0, count)
    cosines, sines = waves(bins, min(size, count), count, 1 / count if inverse else 1.0)
    sines = sines if inverse else -sines
    blocks = [[cosines, -sines], [sines, cosines]] if parts == 2 else [[cosines], [sines]]
    matrix = np.stack([np.stack(row, -1) for row in blocks], 1).reshape(2 * bins, -1)
    order = [*(a for a in range(rank - 1) if a != axis), axis, rank - 1]
    moved = layers.transpose(x, order)
    lead = layers.shape(moved)[:-2]
    flat = layers.reshape(moved, (*lead, matrix.shape[1]))
    y = layers.linear(flat, number(matrix, "cosines and sines of a Fourier transform"))
    return layers.transpose(layers.reshape(y, (*lead, bins, 2)), np.argsort(order).tolist())


def _dft(
    t: Onnx, x: Operand, count: Any = None, place: Any = None, *, node: Node, inverse: int, onesided: int, axis: int = 1
) -> Operand:
    length, given = single(count, "dft_length"), single(place, "axis")
    along = axis if node.opset < 20 else -2 if given is None else int(given)
    own = None if length is None else int(length)
    return transformed(t, x, own, along, bool(inverse), bool(onesided))


def _stft(t: Onnx, x: Operand, step: Operand, window: Any = None, size: Any = None, *, onesided: int) -> Operand:
    """Return the transform of windows of a real signal [N, L] or [N, L, 1]: a convolution with cosines and sines."""
    by, length, shape = int(single(step, "frame_step")), single(size, "frame_length"), t.shape(x)
    if len(shape) == 3 and shape[2] != 1:
        raise Refused("signal", f"{shape[2]} parts", "only real signals are read", "transform the two parts by DFT")
    if length is None and window is None:
        raise Refused("window, frame_length", "none", "one of them is required", CHECK)
    shaped = None if window is None else weight(window, "window", 1)
    count = shaped.shape[0] if shaped is not None else int(length)
    bins = count // 2 + 1 if onesided else count
    cosines, sines = waves(bins, count, count)
    matrix = np.concatenate([cosines, -sines])
    weights = number(matrix[:, None], "cosines and sines of a Fourier transform")
    if shaped is not None:
        own = shaped
        recipe = f"cosines and sines of a Fourier transform, with the window {own.recipe}"
        weights = own.derived(weights.shape, recipe, lambda: (matrix * own.make())[:, None])
    y = t.conv(t.reshape(x, (shape[0], 1, shape[1])), weights, None, (by,), ((0, 0),), (1,), 1)
    n, _, frames = t.shape(y)
    return t.transpose(t.reshape(y, (n, 2, bins, frames)), (0, 3, 2, 1))


HANDLERS: dict[str, Handler] = {
    "Transpose": lambda t, x, *, perm=None: t.transpose(x, perm or [*range(t.rank(x))][::-1]),
    "Squeeze": lambda t, x, given=None, *, axes=None: t.squeeze(x, _given(given, axes, "axes")),
    "Unsqueeze": lambda t, x, given=None, *, axes=None: t.unsqueeze(x, _given(given, axes, "axes") or ()),
    "Reshape": _reshape, "Flatten": _flatten, "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather,
    "DepthToSpace": lambda t, x, *, blocksize, mode="DCR": t.depth_to_space(x, blocksize, mode == "DCR"),
    "CumSum": lambda t, x, axis, *, exclusive, reverse: t.cumulated(
        x, int(single(axis, "axis")), not exclusive, bool(reverse)
    ),
    "Pad": _pad, "Trilu": _trilu, "TopK": _top_k, "Dropout": _dropout, "Shape": _shape, "Size": _size,
    "ArgMax": partial(_arg_max, 1.0),
    "ArgMin": partial(_arg_max, -1.0),
    **{f"Reduce{kind.title()}": _reduce(kind) for kind in REDUCED},
    "ReduceProd": partial(_over_axes, Onnx.multiplied),
    "ReduceLogSum": partial(_over_axes, lambda t, x, axes, keep: t.apply("log", t.reduce("sum", x, axes, keep))),
    "ReduceLogSumExp": partial(_over_axes, Onnx.log_sum_exp),
    "ReduceL1": _norm(1, root=False),
    "ReduceL2": _norm(2, root=True),
    "ReduceSumSquare": _norm(2, root=False),
    "Expand": lambda t, x, new: t.expand(x, broadcast(t.shape(x), tuple(values.sizes(new, "shape")))),
    "Tile": lambda t, x, repeats: t.tile(x, fixed_numbers(repeats, "repeats")),
    "ScatterND": _scatter_nd, "ScatterElements": _scatter_elements, "Scatter": _scatter_elements,
    "GatherND": _gather_nd, "GatherElements": _gather_elements, "OneHot": _one_hot, "Compress": _compress,
    "SpaceToDepth": _space_to_depth, "DFT": _dft, "STFT": _stft,
}  # fmt: skip
