"""ONNX operators that gather, replace or mark elements, and spectra as products with constant matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmc.importers.frontends import scattering
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.onnx_values import CHECK, Handler, Node, Onnx, single, weight
from lstmc.importers.frontends.scattering import Combined
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.ir.values import axis_in, fixed, number, resolved
from lstmc.importers.refusal import PIN, Refused
from lstmc.ops import Array

_COMBINED: dict[str, Combined] = {"none": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _indices(x: Operand) -> Array:
    """Return constant indices. Raises :class:`Refused` for computed indices."""
    found = constant(x)
    if found is None:
        mend = "use constant indices, or Gather and GatherElements along one axis"
        raise Refused("indices", "computed from the inputs", "they must be known here", mend)
    if found.dtype == object:
        raise Refused("indices", "a size without a number", "they must be known here", PIN)
    return found


def _how(reduction: str | None) -> Combined:
    how = reduction or "none"
    if how not in _COMBINED:
        raise Refused("reduction", str(how), f"there are {', '.join(_COMBINED)}", CHECK)
    return _COMBINED[how]


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
    _check_rank(indices := _indices(at), t.rank(x))
    return scattering.scattered_elements(t, x, indices, updates, axis, _how(reduction))


def _gather_nd(t: Onnx, x: Operand, at: Operand, *, batch_dims: int = 0) -> Operand:
    indices, batch = _indices(at), batch_dims
    if not 0 <= batch < min(indices.ndim, t.rank(x)):
        raise Refused("batch_dims", str(batch), f"of indices {list(indices.shape)}", CHECK)
    grid: Any = np.indices(indices.shape[:batch])
    lead: Any = np.moveaxis(grid, 0, -1) if batch else np.zeros(0)
    lead = lead.reshape(*indices.shape[:batch], *(1,) * (indices.ndim - 1 - batch), batch)
    lead = np.broadcast_to(lead, (*indices.shape[:-1], batch))
    return scattering.gathered(t, x, np.concatenate([lead, indices], -1).astype(int))


def _gather_elements(t: Onnx, x: Operand, at: Operand, *, axis: int) -> Operand:
    if isinstance(at, str):
        return scattering.chosen_elements(t, x, at, axis)
    _check_rank(found := _indices(at), t.rank(x))
    return scattering.elements(t, x, found, axis)


def _one_hot(t: Onnx, x: Operand, depth: Operand, values: Operand, *, axis: int) -> Operand:
    count, known = single(depth, "depth"), constant(values)
    if known is None or known.size != 2:
        raise Refused("values", "computed, or not two", "they must be two numbers here", CHECK)
    off, on = map(float, known.reshape(-1))
    return t.affine(scattering.one_hot(t, x, int(count), axis), on - off, off)


def _compress(t: Onnx, x: Operand, condition: Operand, *, axis: int | None = None) -> Operand:
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


def _spectrum(count: int, bins: int, inverse: bool) -> tuple[Array, Array]:
    """Return cosines and sines [bins, count] by which a transform multiplies."""
    angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(count)) / count
    sign = 1.0 if inverse else -1.0
    scale = 1 / count if inverse else 1.0
    return scale * np.cos(angles), sign * scale * np.sin(angles)


def transformed(layers: Layers, x: Operand, length: int | None, axis: int, inverse: bool, onesided: bool) -> str:
    """Return the discrete Fourier transform of x [..., n, ..., 1 or 2], real or complex, along an axis: a product."""
    rank, parts = layers.rank(x), layers.size(x, -1)
    axis, size = axis_in(axis, rank), layers.size(x, axis)
    count = size if length is None else length
    bins = count // 2 + 1 if onesided else count
    if inverse and onesided:
        raise Refused("inverse, onesided", "both", "the half that is left out is not made up here", "use all of it")
    if size > count:
        x = layers.cut(x, axis, 0, count)
    cosines, sines = (m[:, : min(size, count)] for m in _spectrum(count, bins, inverse))
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
    """Windows of a real signal [N, L] or [N, L, 1], multiplied by cosines and sines: a convolution."""
    by, length, shape = int(single(step, "frame_step")), single(size, "frame_length"), t.shape(x)
    if len(shape) == 3 and shape[2] != 1:
        raise Refused("signal", f"{shape[2]} parts", "only real signals are read", "transform the two parts by DFT")
    if length is None and window is None:
        raise Refused("window, frame_length", "none", "one of them is required", CHECK)
    shaped = None if window is None else weight(window, "window", 1)
    count = shaped.shape[0] if shaped is not None else int(length)
    bins = count // 2 + 1 if onesided else count
    matrix = np.concatenate(_spectrum(count, bins, False))
    weights = number(matrix[:, None], "cosines and sines of a Fourier transform")
    if shaped is not None:
        own = shaped
        recipe = f"cosines and sines of a Fourier transform, with the window {own.recipe}"
        weights = own.derived(weights.shape, recipe, lambda: (matrix * own.make())[:, None])
    y = t.conv(t.reshape(x, (shape[0], 1, shape[1])), weights, None, (by,), ((0, 0),), (1,), 1)
    n, _, frames = t.shape(y)
    return t.transpose(t.reshape(y, (n, 2, bins, frames)), (0, 3, 2, 1))


HANDLERS: dict[str, Handler] = {
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "Compress": _compress,
    "SpaceToDepth": _space_to_depth,
    "DFT": _dft,
    "STFT": _stft,
}
