"""The arrays that a Keras layer's configuration asks for: how many, and of which sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lstmc.importers.frontends.keras_layers import HANDLERS
from lstmc.importers.frontends.keras_nested import inner_layers, nested
from lstmc.importers.frontends.keras_recurrent import CELLS, KINDS, PARTS
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight

# An array's sizes, None for one that the configuration leaves open; None for an array of which it says nothing.
Told = tuple[int | None, ...] | None
ALONE = frozenset({*HANDLERS, *CELLS} - {"TimeDistributed", "Bidirectional", "RNN"})  # around no other


def told_arrays(layer: Mapping[str, Any], by_gate: bool = False) -> list[Told] | None:
    """A layer's arrays in Keras's order; None of a layer around one that it cannot be around here.

    ``by_gate`` as Keras 1 stores LSTM and GRU: W, U and b of each gate.
    """
    kind, config = _name(layer), layer.get("config", {})
    if (model := nested(layer)) is not None:
        own = [told_arrays(one, by_gate) for one in inner_layers(model) or []]
        return None if None in own else [None for arrays in own for _ in arrays or ()]
    inside = _inside(kind, config)
    if inside is not None:
        found = [told_arrays(one, by_gate) if _name(one) in ALONE else None for one in inside]
        return None if None in found else [told for one in found for told in one or ()]
    units = config.get("units", config.get("output_dim"))
    bias = bool(config.get("use_bias", config.get("bias", True)))
    if kind in KINDS or kind in CELLS:
        parts = PARTS[KINDS[CELLS.get(kind, kind)]]
        if by_gate and parts > 1:
            return [(None, units), (units, units), (units,)] * parts
        wide = None if units is None else parts * units
        return [(None, wide), (units, wide), *([None] if bias else [])]  # a bias has one of three forms
    if kind in ("Dense", "TimeDistributedDense"):
        return [(None, units), *([(units,)] if bias else [])]
    if kind == "Embedding":
        return [(config.get("input_dim"), units)]
    if kind in ("Conv1D", "Conv2D"):
        rank, size, filters = int(kind[4]), config.get("kernel_size"), config.get("filters")
        sizes = tuple(size) if isinstance(size, list) else (size,) * rank
        return [(*sizes, None, filters), *([(filters,)] if bias else [])]
    if kind in ("BatchNormalization", "LayerNormalization", "GroupNormalization"):
        learnt = [None] * (bool(config.get("scale", True)) + bool(config.get("center", True)))
        return [*learnt, *([None, None] if kind == "BatchNormalization" else [])]
    if kind in ("PReLU", "RMSNormalization"):
        return [None]
    if kind == "MultiHeadAttention":
        heads, width = config.get("num_heads"), config.get("key_dim")
        wide = config.get("value_dim") or width
        into = [told for size in (width, width, wide) for told in ((None, heads, size), (heads, size))[: 1 + bias]]
        return [*into, (heads, wide, None), *([None] if bias else [])]
    if kind == "Normalization":
        return [] if config.get("mean") is not None else [None, None, ()]
    if kind.startswith("ConvLSTM"):
        return [None] * (2 + bias)
    if "Conv" in kind and kind in HANDLERS:
        return [None] * (1 + kind.startswith("Separable") + bias)
    return []


def _inside(kind: str, config: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The layers or cells that a layer is around, in the order of their arrays; None if it is around none."""
    inner = config.get("layer") or {}
    if kind == "TimeDistributed":
        return [inner]
    if kind == "Bidirectional":
        return [inner, config.get("backward_layer") or inner]
    if kind == "RNN":
        cell = config.get("cell") or {}
        return [*cell.get("config", {}).get("cells", [])] if _name(cell) == "StackedRNNCells" else [cell]
    return None


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("class_name", ""))


def fit(layer: Mapping[str, Any], weights: Sequence[Weight]) -> bool:
    """Whether weights are as many as the layer's configuration asks for, and of its sizes."""
    return any(
        not told or (len(told) == len(weights) and all(map(_fits, told, weights)))  # Keras 3 has seeds in some without
        for told in (told_arrays(layer), told_arrays(layer, by_gate=True))
    )


def _fits(told: Told, weight: Weight) -> bool:
    if told is None:
        return True
    return len(told) == len(weight.shape) and all(a in (None, b) for a, b in zip(told, weight.shape, strict=True))


def check_fit(layer: Mapping[str, Any], weights: Sequence[Weight]) -> None:
    """Raise :class:`Refused` for weights that are not the layer's own."""
    if fit(layer, weights):
        return
    found = ", ".join(str([*weight.shape]) for weight in weights) or "none"
    wanted = ", ".join(map(_text, told_arrays(layer) or ()))
    raise Refused(
        "weights",
        found,
        f"its configuration asks for {wanted}",
        "give the configuration that was saved with the weights",
    )


def _text(told: Told) -> str:
    return "an array" if told is None else f"[{', '.join('?' if size is None else str(size) for size in told)}]"
