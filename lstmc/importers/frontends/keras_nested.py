"""Models of Keras that are layers of others, by themselves or within TimeDistributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MODELS = ("Sequential", "Model", "Functional")


def inner_layers(config: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The configurations of a model's layers; the first versions had a list of them for a Sequential model's own."""
    inner = config.get("config", {})
    layers = inner if isinstance(inner, list) else inner.get("layers", []) if isinstance(inner, Mapping) else []
    whole = isinstance(layers, list) and all(isinstance(layer, Mapping) for layer in layers)
    return layers if whole else None


def nested(layer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The model that a layer is, or is around; None if it is another layer."""
    inner = (layer.get("config") or {}).get("layer") if layer.get("class_name") == "TimeDistributed" else layer
    return inner if isinstance(inner, Mapping) and inner.get("class_name") in MODELS else None


def trainable(layer: Mapping[str, Any]) -> bool:
    """Whether a layer's weights are trained, as far as its own configuration says."""
    config = layer.get("config")
    return not isinstance(config, Mapping) or bool(config.get("trainable", True))


def stored_order(counts: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Where the arrays of each layer stand among a nested model's own in ``.h5``: those that are trained come first.

    ``counts``: how many of a layer's arrays are trained, and how many are not.
    """
    first, second, found = 0, sum(trained for trained, _ in counts), []
    for trained, fixed in counts:
        found.append([*range(first, first + trained), *range(second, second + fixed)])
        first, second = first + trained, second + fixed
    return found
