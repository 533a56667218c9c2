"""Keras layers whose results depend on the masks of several operands: attention and merges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import numpy as np

from lstmc.importers.frontends.keras_calls import Call, Handler
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import LARGE, Operand
from lstmc.importers.refusal import Refused


def _attention(layers: Layers, call: Call) -> list[str]:
    """softmax(scale q k') v, of query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    if call.config.get("score_mode", "dot") != "dot":
        raise Refused("score_mode", str(call.config["score_mode"]), "only dot products are read", "use them")
    scores = layers.matmul(q, layers.turned(k))
    return _attended(layers, call, layers.binary("mul", scores, call.weights[0]) if call.weights else scores, v)


def _additive_attention(layers: Layers, call: Call) -> list[str]:
    """softmax(sum(scale tanh(q + k))) v, of query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    each = layers.apply("tanh", layers.binary("add", layers.unsqueeze(q, [-2]), layers.unsqueeze(k, [-3])))
    scaled = layers.binary("mul", each, call.weights[0]) if call.weights else each
    return _attended(layers, call, layers.reduce("sum", scaled, [-1], keep=False), v)


def _attended(layers: Layers, call: Call, scores: str, v: str) -> list[str]:
    """Return the rows of v weighed by the scores [N, T, S] that are not masked, and the weights."""
    seen, (of_q, of_v) = _past(layers, call, scores), call.masks[:2]
    weights = softmax_of(layers, scores, _both(layers, seen, of_v and layers.turned(of_v)))
    y = layers.matmul(weights, v)
    return [y if of_q is None else layers.binary("mul", y, of_q), weights]


def softmax_of(layers: Layers, scores: str, seen: Operand | None, axis: int = -1) -> str:
    """Return the softmax of scores along an axis, over the scores that are not masked; if all are masked, their
    mean."""
    return layers.softmax(scores if seen is None else layers.where(seen, scores, np.asarray(-LARGE)), axis)


def _past(layers: Layers, call: Call, scores: str) -> Operand | None:
    """Return the mask [1, T, S] of the steps up to each step, if a step may see no later step."""
    if not call.causal:
        return None
    rows, columns = (layers.size(scores, axis, "the number of steps") for axis in (-2, -1))
    return np.tri(rows, columns)[None]


def _both(layers: Layers, *masks: Operand | None) -> Operand | None:
    """Return the mask of the elements that all masks keep."""
    given = [mask for mask in masks if mask is not None]
    return reduce(partial(layers.binary, "mul"), given) if given else None


def _multi_head(layers: Layers, call: Call) -> list[str]:
    """Multi-head attention: softmax(q k' / sqrt(width)) v of each head, of query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    rank = layers.rank(q)
    unsupported = {key: call.config.get(key) for key in ("use_gate", "sliding_window", "output_shape")}
    if any(unsupported.values()) or len(call.xs) > 3 or rank != 3:
        raise Refused(", ".join(unsupported), "given", "only heads along one axis of time are read", "leave them out")
    size, left = call.config["key_dim"], list(call.weights)
    heads, biased = call.config["num_heads"], bool(call.config.get("use_bias", True))

    def projected(x: str) -> str:
        kernel, bias = left.pop(0), [left.pop(0)] if biased else []
        width = kernel.shape[0]
        flat = [one.reshaped(int(np.prod(one.shape))) for one in bias]
        y = layers.linear(x, kernel.reshaped(width, int(np.prod(kernel.shape[1:]))).transposed(), *flat)
        n, time = layers.shape(x)[:2]
        return layers.transpose(layers.reshape(y, (n, time, heads, kernel.shape[2])), (0, 2, 1, 3))

    of_q, of_k, of_v = projected(q), projected(k), projected(v)
    scores = layers.affine(layers.matmul(of_q, layers.turned(of_k)), size**-0.5, 0.0)
    of_rows, *of_columns = call.masks
    columns = [mask and layers.turned(mask) for mask in of_columns]
    mask = _both(layers, of_rows, *columns, call.seen, _past(layers, call, scores))
    mask = mask if mask is None else layers.unsqueeze(mask, [1])
    weights = softmax_of(layers, scores, mask)
    if mask is not None and call.config.get("dropout"):  # in Keras a step without steps to see then gives zeros
        weights = layers.binary("mul", weights, mask)
    seen = layers.transpose(layers.matmul(weights, of_v), (0, 2, 1, 3))
    kernel, *bias = left
    width = kernel.shape[0] * kernel.shape[1]
    y = layers.reshape(seen, (*layers.shape(seen)[:2], width))
    return [layers.linear(y, kernel.reshaped(width, kernel.shape[2]).transposed(), *bias), weights]


def _merge(kind: str) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        xs, masks = call.xs, {*call.masks}
        if kind in ("mul", "max", "min") and masks not in (set(), {None}) and call.version >= (3, 4):
            return [_masked_merge(layers, kind, xs, call.masks)]
        y = reduce(partial(layers.binary, "add" if kind == "mean" else kind), xs)
        return [layers.affine(y, 1 / len(xs), 0.0) if kind == "mean" else y]

    return handle


def _masked_merge(layers: Layers, kind: str, xs: Sequence[str], masks: Sequence[str | None]) -> str:
    """Merge without masked values (keras/src/layers/merging: Multiply, and ``_apply_merge_op_and_or_mask``)."""
    whole = None not in masks
    y, kept = xs[0], masks[0]
    if kind == "mul":
        parts = [x if m is None else layers.where(m, x, np.ones(1)) for x, m in zip(xs, masks, strict=True)]
        y = reduce(partial(layers.binary, "mul"), parts)
        return layers.binary("mul", y, reduce(partial(layers.binary, "max"), filter(None, masks))) if whole else y
    for x, mask in zip(xs[1:], masks[1:], strict=True):
        other = x if mask is None else layers.where(mask, x, y)
        y = layers.binary(kind, y if kept is None else layers.where(kept, y, other), other)
        kept = None if mask is None or kept is None else layers.binary("max", kept, mask)
    return y


ATTENTION = ("Attention", "AdditiveAttention", "MultiHeadAttention")
_MERGED = dict(Add="add", Subtract="sub", Multiply="mul", Average="mean", Maximum="max", Minimum="min")  # noqa: C408
MERGES = frozenset({*_MERGED, "Concatenate"})
HANDLERS: dict[str, Handler] = {
    "Attention": _attention,
    "AdditiveAttention": _additive_attention,
    "MultiHeadAttention": _multi_head,
    **{name: _merge(kind) for name, kind in _MERGED.items()},
}
