"""Which tensors are a Keras layer's own: by its name in ``.h5``, by its class and place in ``.keras``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lstmc.importers.read.source import Source
from lstmc.importers.refusal import SourceError
from lstmc.importers.weight import Weight


def weights_by_layer(source: Source, layers: Sequence[Mapping[str, Any]]) -> dict[str, list[Weight]]:
    """Every layer's tensors in Keras's own order, by the layer's name in the configuration."""
    if "layers" in source.facts:
        names = source.facts["layers"]
        return {name: [source.tensors[one].weight() for one in held] for name, held in names.items()}
    found: dict[str, list[Weight]] = {}
    for layer, place in zip(layers, _places(layers), strict=True):
        name = layer_name(layer)
        inside = [group for group in source.facts["groups"] if _below(group, place)]
        told = {source.facts["names"].get(group) for group in _roots(place)} - {None}
        if told and told != {name}:
            raise SourceError(
                f"{source.origin}: its weights of {place} are of layer {sorted(map(str, told))[0]}, not {name}"
            )
        cells = _places(layer.get("config", {}).get("cell", {}).get("config", {}).get("cells", []))
        inside.sort(key=lambda group: _order(group, cells))
        found[name] = [source.tensors[one].weight() for group in inside for one in source.facts["groups"][group]]
    return found


def _places(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the groups of layers are called: by class, and the how-manieth of it, in the order of the configuration."""
    stems = [_snake_case(str(layer.get("class_name", ""))) for layer in layers]
    counts = [stems[:at].count(stem) for at, stem in enumerate(stems)]
    return [f"{stem}_{count}" if count else stem for stem, count in zip(stems, counts, strict=True)]


def _order(group: str, cells: Sequence[str]) -> tuple[bool, int, str]:
    """Where a group of a layer stands: forwards first, the cells of StackedRNNCells in their own order."""
    last = group.rpartition("/")[2]
    return "backward_layer" in group, cells.index(last) if last in cells else 0, group


def _roots(place: str) -> tuple[str, ...]:
    return (f"layers/{place}", f"_layer_checkpoint_dependencies/{place}")


def _below(group: str, place: str) -> bool:
    return any(group == root or group.startswith(f"{root}/") for root in _roots(place))


def layer_name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("config", {}).get("name", layer.get("name", "")))


def _snake_case(name: str) -> str:
    """As Keras does: ``MaxPooling2D`` is ``max_pooling2d``, ``LSTM`` is ``lstm``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
