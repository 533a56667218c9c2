"""PyTorch operators with parameters: products, convolutions, normalizations, recurrent layers and cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Operand, Pooled, same_padding
from lstmc.importers.frontends.torch_elements import Handler, NotAvailable, Packed, Torch, weight_or_none
from lstmc.importers.ir.recur import Cell, Extra, Kind
from lstmc.importers.ir.values import Weight
from lstmc.importers.refusal import Refused
from lstmc.ops import Array, Op, Relu, Tanh


def _linear(t: Torch, x: Operand, w: Operand, b: Operand | None) -> str:
    """Return x @ w.T + b: a linear layer if w and b are stored, else a product of values."""
    w = t.folded[w]() if isinstance(w, str) and w in t.folded else w
    b = t.folded[b]() if isinstance(b, str) and b in t.folded else b
    if isinstance(w, Weight) and not isinstance(b, str):
        return t.linear(x, w, weight_or_none(t, b, "bias"))
    y = t.matmul(x, t.transpose(w, (1, 0)))  # w and b may be parts of a parameter, which are values here
    return y if b is None else t.binary("add", y, b)


def _addmm(t: Torch, b: Operand, x: Operand, w: Operand, *, beta: float, alpha: float) -> str:
    if isinstance(w, Weight) and isinstance(b, Weight) and beta == alpha == 1:
        return t.linear(x, w.transposed(), b)
    product = t.affine(t.matmul(x, w), alpha, 0.0)
    return t.binary("add", product, t.affine(b, beta, 0.0))


def _attention(
    t: Torch, q: Operand, k: Operand, v: Operand, mask: Any, dropout: float, causal: bool, *,
    scale: float | None, enable_gqa: bool,
) -> str:  # fmt: skip
    """Return softmax(q k' / sqrt(width) + mask) v. A boolean mask hides the scores where it is false."""
    if enable_gqa:
        heads = t.size(q, -3) // t.size(k, -3)
        k, v = (t.enlarged(x, t.rank(x) - 3, heads) for x in (k, v))
    width = t.size(q, -1, "the width")
    scores = t.matmul(q, t.turned(k))
    scores = t.affine(scores, width**-0.5 if scale is None else scale, 0.0)
    if causal:
        rows, columns = (t.size(scores, axis, "a length") for axis in (-2, -1))
        mask = np.tri(rows, columns, dtype=bool)
    if isinstance(mask, np.ndarray) and mask.dtype == bool:
        mask = np.where(mask, 0.0, -np.inf)
    if isinstance(mask, str) and t.is_mask(3):
        scores, mask = t.where(mask, scores, np.asarray(-np.inf)), None
    if mask is not None:
        scores = t.binary("add", scores, mask)
    return t.matmul(t.softmax(scores, -1), v)


def _each(setting: Any, rank: int) -> list[int]:
    values = [setting] if isinstance(setting, int) else list(setting)
    return [values[min(axis, len(values) - 1)] for axis in range(rank)]


def _conv(t: Torch, x: Operand, w: Operand, b: Operand | None, stride: Any, pad: Any, dilation: Any, group: int) -> str:
    """Return a convolution; the padding is numbers, ``valid`` or ``same``."""
    weight = t.weight(w, "weight")
    rank = len(weight.shape) - 2
    steps, spread = _each(stride, rank), _each(dilation, rank)
    if isinstance(pad, str):
        windows = zip(weight.shape[2:], spread, strict=True)
        pads = [(0, 0) if pad == "valid" else same_padding(0, kernel, 1, d) for kernel, d in windows]
    else:
        pads = [(p, p) for p in _each(pad, rank)]
    return t.conv(x, weight, weight_or_none(t, b, "bias"), steps, pads, spread, group)


def _conv_transpose(
    t: Torch, x: Operand, w: Operand, b: Operand | None, stride: Any, pad: Any, beyond: Any, group: int, dilation: Any
) -> str:
    weight, bias = t.weight(w, "weight"), weight_or_none(t, b, "bias")
    rank = len(weight.shape) - 2
    pads = [(p, p - more) for p, more in zip(_each(pad, rank), _each(beyond, rank), strict=True)]
    return t.conv_transpose(x, weight, bias, _each(stride, rank), pads, _each(dilation, rank), group)


def _batch_norm(
    t: Torch, x: Operand, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *more: Any
) -> str:
    """Write a batch normalization by stored statistics. Raises :class:`Refused` for the batch's own statistics."""
    if training or mean is None:
        raise Refused("training", "True", "the mean of the batch is not known", "export the module after .eval()")
    statistics = [weight_or_none(t, one, "batch normalization") for one in (w, b, mean, var)]
    return t.batch_norm(x, statistics, eps)


def _layer_norm(t: Torch, x: Operand, shape: Sequence[int], w: Any, b: Any, eps: float, *more: Any) -> str:
    axes = range(-len(shape), 0)
    return t.layer_norm(x, eps, weight_or_none(t, w, "weight"), weight_or_none(t, b, "bias"), axes)


def _group_norm(t: Torch, x: Operand, groups: int, w: Any, b: Any, eps: float, *more: Any) -> str:
    return t.group_norm(x, groups, eps, weight_or_none(t, w, "weight"), weight_or_none(t, b, "bias"))


def _instance_norm(
    t: Torch, x: Operand, w: Any, b: Any, mean: Any, var: Any, own: bool, momentum: float, eps: float, *more: Any
) -> str:
    statistics = [weight_or_none(t, one, "instance normalization") for one in (w, b, mean, var)]
    if not own:
        return t.batch_norm(x, statistics, eps)
    return t.group_norm(x, t.size(x, 1, "channels"), eps, statistics[0], statistics[1])


def _rms_norm(t: Torch, x: Operand, shape: Sequence[int], w: Any, eps: float | None) -> str:
    return t.rms_norm(x, float(np.finfo(np.float32).eps) if eps is None else eps, w, range(-len(shape), 0))


def _weight_norm(t: Torch, v: Operand, g: Operand, axis: int) -> Weight:
    """Return the weight g v / |v|; the norm is over all axes of v except ``axis``."""
    direction, size = t.weight(v, "v"), t.weight(g, "g")

    def make() -> Array:
        array = direction.make()
        others = tuple(a for a in range(array.ndim) if a != axis)
        scaled: Array = size.make() * array / np.sqrt((array.astype(np.float64) ** 2).sum(others, keepdims=True))
        return scaled

    recipe = f"{direction.recipe} with the norms {size.recipe}"
    return Weight(direction.shape, (*direction.sources, *size.sources), recipe, make)


def _pool(kind: Pooled, rank: int, t: Torch, x: Operand, size: Any, stride: Any, pad: Any, *more: Any) -> str:
    """Return a pooling; ``more`` is dilation and ceil of a maximum, or ceil, counted and a divisor of a mean."""
    dilation, ceil, counted, divisor = (*more, True, None) if kind == "max" else (1, *more, None)[:4]
    if set(_each(dilation, rank)) != {1}:
        raise Refused("dilation", str(dilation), "Caffe's pooling has no dilation", "pool without it")
    if divisor is not None:
        raise Refused("divisor_override", str(divisor), "a mean has its own divisor", "leave it out")
    windows, around = _each(size, rank), [(p, p) for p in _each(pad, rank)]
    return t.pool(kind, x, windows, _each(stride, rank) if stride else windows, around, ceil, counted)


def _adaptive(kind: Pooled, rank: int, t: Torch, x: Operand, size: Any) -> Any:
    """Return a pooling of n elements to ``count``: window i goes from floor(i n / count) to ceil((i + 1) n / count)."""
    y, lead = t.value(x), t.rank(x) - rank
    for axis, count in enumerate([size] * rank if isinstance(size, int) else size, lead):
        n = t.size(y, axis, "an image's size")
        if count is not None and count != n:
            windows = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
            y = t.concat([t.reduce(kind, t.cut(y, axis, *window), [axis], keep=True) for window in windows], axis)
    return [y, NotAvailable] if kind == "max" else y  # the second result of PyTorch has the places of the maxima


_MODES: dict[str, tuple[Kind, Op]] = {
    "lstm": ("lstm", Tanh()), "gru": ("gru", Tanh()), "rnn_tanh": ("rnn", Tanh()), "rnn_relu": ("rnn", Relu()),
}  # fmt: skip


# One direction of a layer: its cell, activation, and weights in PyTorch's order.
Lane = tuple[Kind, Op, Sequence[Weight]]


def stacked(
    t: Layers, x: str, lanes: Sequence[Lane], both: bool, hint: str,
    init: Callable[[int], Mapping[str, Operand]] = lambda lane: {}, extras: Mapping[Extra, Operand] = {},
    dropout: float = 0.0,
) -> tuple[str, dict[str, list[str]]]:  # fmt: skip
    """Add layers of one direction or ``both`` over x [T, N, D]. Return the outputs, and of each state its last value in
    each lane, which is one direction of one layer. ``init`` returns the initial states of a lane."""
    last: dict[str, list[str]] = {}
    outputs: list[str] = []
    for at, (kind, new, weights) in enumerate(lanes):
        layer, back = divmod(at, 1 + both)
        name = f"{hint}_l{layer}{'_reverse' * back}" if len(lanes) > 1 else hint
        bias, projection = len(weights) > 3, len(weights) % 2 == 1
        cell = Cell(kind, new=new, bias=bias, reset_after=kind == "gru", projection=projection)
        parts = (*weights[:2], *(weights[2:4] if bias else (None, None)))
        more = {"W_p": weights[-1]} if projection else {}
        y, *ends = t.recur("torch", cell, x, parts, init(at), name, more, extras, bool(back))
        outputs.append(y)
        for state, end in zip(cell.states, ends, strict=True):
            last.setdefault(state, []).append(end)
        if len(outputs) == 1 + both:
            x, outputs = t.concat(outputs, 2), []
            x = t.dropout(x, dropout) if at + 1 < len(lanes) else x
    return x, last


def _recurrent(
    mode: str, t: Torch, x: Operand, states: Any, params: Sequence[Operand], bias: bool, count: int, dropout: float,
    training: bool, both: bool, batch_first: bool, extras: Mapping[Extra, Operand] = {},
) -> list[str]:  # fmt: skip
    """Return outputs and last states. ``states`` [lanes, N, H] are the first; a lane is one direction of a layer."""
    kind, new = _MODES[mode]
    weights = [t.weight(one, "a weight") for one in params]
    lanes, given = count * (2 if both else 1), states if isinstance(states, list) else [states]
    if lanes < 1 or len(weights) % lanes or len(given) != 1 + (kind == "lstm"):
        found = f"{len(weights)} weights and {len(given)} states of {count} layers"
        raise Refused("params, hx, num_layers", found, "they do not fit", "check the program")
    each = len(weights) // lanes
    made = [(kind, new, weights[at : at + each]) for at in range(0, len(weights), each)]

    def init(lane: int) -> dict[str, Operand]:
        firsts = {state: _first(t, value, lane) for state, value in zip("hc", given, strict=False)}
        return {state: first for state, first in firsts.items() if first is not None}

    y = t.transpose(x, (1, 0, 2)) if batch_first else t.value(x)
    y, last = stacked(t, y, made, both, t.hint, init, extras, dropout)
    y = t.transpose(y, (1, 0, 2)) if batch_first else y
    return [y, *(t.concat([t.unsqueeze(end, [0]) for end in ends], 0) for ends in last.values())]


def _first(t: Torch, value: Operand, lane: int) -> Operand | None:
    """Return a lane's initial state; None for zeros, which are the default."""
    if isinstance(value, np.ndarray):
        return value[lane] if value[lane].any() else None
    return value.at(lane) if isinstance(value, Weight) else t.select(value, 0, lane)


def _one_step(mode: str, t: Torch, x: Operand, states: Any, *parameters: Any) -> Any:
    """Return the next states of a cell, h or [h, c], by a recurrent layer over a sequence of one step."""
    kind, new = _MODES[mode]
    weights = [t.weight(one, "a weight") for one in parameters if one is not None]
    initial = dict(zip("hc", states if isinstance(states, list) else [states], strict=False))
    init = {s: v for s, v in initial.items() if not (isinstance(v, np.ndarray) and not v.any())}
    hint = weights[0].sources[0].rpartition(".")[0] or t.hint
    _, last = stacked(t, t.unsqueeze(x, [0]), [(kind, new, weights)], False, hint, lambda _: init)
    return [end for (end,) in last.values()] if kind == "lstm" else last["h"][0]


def _pack(t: Torch, x: Operand, batch_first: bool) -> Packed:
    return Packed(t.transpose(x, (1, 0, *range(2, t.rank(x)))) if batch_first else x)


def _pad(t: Torch, data: Packed, lengths: Operand, value: float, batch_first: bool) -> Operand:
    """Return packed data as a padded sequence, with ``value`` past the end of each sequence."""
    x, rank = t.value(data.x), t.rank(data.x)
    if value or not data.zeros:
        steps = np.arange(float(t.size(x, 0, "the number of steps")))[:, None]
        there = t.unsqueeze(t.compare("gt", lengths, steps), [*range(2, rank)])
        x = t.where(there, x, np.asarray(value)) if value else t.binary("mul", x, there)
    return t.transpose(x, (1, 0, *range(2, rank))) if batch_first else x


def _of_packed(
    t: Torch, mode: str, data: Packed, lengths: Operand, states: Any, weights: Any, bias: bool, count: int,
    dropout: float, both: bool,
) -> list[Any]:  # fmt: skip
    """Return the packed outputs of a recurrent layer over packed ``data``, and its last states."""
    extras: dict[Extra, Operand] = {"lengths": lengths}
    y, *last = _recurrent(mode, t, data.x, states, weights, bias, count, dropout, False, both, False, extras)
    return [Packed(y, zeros=True), *last]


OF_PACKED: dict[str, Handler] = {
    "lstmc.pack.default": _pack,
    "lstmc.pad.default": _pad,
    "lstmc.recurrent.default": _of_packed,
}
HANDLERS: dict[str, Handler] = {
    **OF_PACKED, "aten.linear.default": _linear, "aten.addmm.default": _addmm,
    **{f"aten.{name}.default": Torch.matmul for name in ("matmul", "mm", "bmm", "mv", "dot")},
    "aten.einsum.default": lambda t, equation, xs, **_: t.einsum(equation, xs),
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.embedding.default": lambda t, w, x, *_: t.embed(x, t.weight(w, "weight")),
    **{f"aten.conv{rank}d.{kind}": _conv for rank in (1, 2) for kind in ("default", "padding")},
    "aten.conv_transpose1d.default": _conv_transpose, "aten.conv_transpose2d.input": _conv_transpose,
    "aten._weight_norm.default": _weight_norm,
    "aten._weight_norm_interface.default": lambda t, v, g, axis: [_weight_norm(t, v, g, axis), NotAvailable],
    "aten.group_norm.default": _group_norm, "aten.instance_norm.default": _instance_norm,
    "aten.layer_norm.default": _layer_norm, "aten.rms_norm.default": _rms_norm, "aten.batch_norm.default": _batch_norm,
    "aten._native_batch_norm_legit_functional.default": _batch_norm,  # in training: refused
    "aten._native_batch_norm_legit_no_training.default": lambda t, x, w, b, mean, var, momentum, eps: [
        _batch_norm(t, x, w, b, mean, var, False, momentum, eps), NotAvailable, NotAvailable,
    ],
    **{f"aten.max_pool{rank}d.default": partial(_pool, "max", rank) for rank in (1, 2)},
    **{f"aten.avg_pool{rank}d.default": partial(_pool, "mean", rank) for rank in (1, 2)},
    **{f"aten.adaptive_avg_pool{rank}d.default": partial(_adaptive, "mean", rank) for rank in (1, 2)},
    **{f"aten.adaptive_max_pool{rank}d.default": partial(_adaptive, "max", rank) for rank in (1, 2)},
    **{f"aten.{n}.default": lambda t, x, ratio, training: t.dropout(x, ratio) for n in ("dropout", "feature_dropout")},
    **{f"aten.{mode}.input": partial(_recurrent, mode) for mode in _MODES},
    **{f"aten.{mode}_cell.default": partial(_one_step, mode) for mode in _MODES},
}  # fmt: skip
