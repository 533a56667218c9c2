"""The tensors of a Keras layer: their number and sizes by its configuration, also for nested models. In ``.h5`` they
are found by name or position, in ``.keras`` by class and position."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from lstmc.importers.frontends.keras_calls import Config, DamagedConfig, Settings
from lstmc.importers.frontends.keras_layers import HANDLERS
from lstmc.importers.frontends.keras_recurrent import CELLS, KINDS
from lstmc.importers.ir.recur import GATES
from lstmc.importers.ir.values import Weight
from lstmc.importers.refusal import Refused, SourceError
from lstmc.importers.sources import Source
from lstmc.text import brief

MODELS = ("Sequential", "Model", "Functional")
_DEEPEST = 50  # layers in layers


def inner_layers(config: Config) -> list[Config] | None:
    """Return the layers in a model's configuration, also of the first versions; None if they are no list of objects."""
    inner = config.get("config", {})
    layers = inner if isinstance(inner, list) else inner.get("layers", []) if isinstance(inner, Mapping) else []
    whole = isinstance(layers, list) and all(isinstance(layer, Mapping) for layer in layers)
    return layers if whole else None


def check_structure(layer: Config, depth: int = 0) -> None:
    """Raise :class:`DamagedConfig` unless a layer, and each inside it, has the objects and lists that Keras writes."""
    name, config, nodes = brief(layer.get("name", "")), layer.get("config", {}), layer.get("inbound_nodes", [])
    _check_type(layer.get("class_name", ""), str, f"the class of layer {name}")
    if isinstance(config, list) and layer.get("class_name") == MODELS[0]:  # a Sequential model of the first versions
        config = {"layers": config}
    _check_type(config, Mapping, f"the configuration of layer {name}")
    name = brief(config.get("name", name))
    if depth > _DEEPEST:
        raise DamagedConfig(f"layer {name} is nested deeper than {_DEEPEST}")
    try:
        Settings(config)
    except Refused as refused:
        text = f"{refused.attribute} of layer {name} is {refused.value}: {refused.why}"
        raise DamagedConfig(text) from None
    inside = [(key, config[key]) for key in ("layer", "backward_layer", "cell") if config.get(key)]
    for key in ("cells", "layers"):
        _check_type(config.get(key, []), list, f"{key} of layer {name}")
        inside += [(f"one of the {key}", part) for part in config.get(key, [])]
    for key, part in inside:
        _check_type(part, Mapping, f"{key} of layer {name}")
        check_structure(part, depth + 1)
    _check_type(nodes, list, f"inbound_nodes of layer {name}")
    for node in nodes:
        if isinstance(node, Mapping):
            _check_type(node.get("args", []), list, f"args of a call of layer {name}")
            _check_type(node.get("kwargs", {}), Mapping, f"kwargs of a call of layer {name}")
        else:
            _check_type(node, list, f"a call of layer {name}")
            for operand in [node] if node and isinstance(node[0], str) else node:  # one operand alone, or several
                _check_type(operand, list, f"an operand of layer {name}")
                _check_type(operand[3] if len(operand) > 3 else {}, Mapping, f"arguments of a call of layer {name}")


def _check_type(value: Any, kind: type, label: str) -> None:
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "a text" if kind is str else "an object"
        raise DamagedConfig(f"expected {label} to be {expected}, found {brief(value)}")


def nested(layer: Config) -> Config | None:
    """Return the model that a layer is or wraps; None for another layer."""
    inner = (layer.get("config") or {}).get("layer") if layer.get("class_name") == "TimeDistributed" else layer
    return inner if isinstance(inner, Mapping) and inner.get("class_name") in MODELS else None


def trainable(layer: Config) -> bool:
    """Return whether a layer's configuration makes its weights trainable; an enclosing model may still fix them."""
    config = layer.get("config")
    return not isinstance(config, Mapping) or bool(config.get("trainable", True))


def stored_order(counts: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the places of each layer's arrays in the list of a nested model in ``.h5``: the trainable arrays of all
    layers, then the fixed ones. ``counts`` has how many of each kind a layer has."""
    first, second, order = 0, sum(trained for trained, _ in counts), []
    for trained, fixed in counts:
        order.append([*range(first, first + trained), *range(second, second + fixed)])
        first, second = first + trained, second + fixed
    return order


# An array's sizes, None for an open size; None for an array whose sizes the configuration does not have.
ArraySizes = tuple[int | None, ...] | None
_INSIDE = frozenset({*HANDLERS, *CELLS})


def expected_arrays(layer: Config, by_gate: bool = False) -> list[ArraySizes] | None:
    """Return the sizes of a layer's arrays in Keras's order; None for a wrapper of a layer that is not supported. With
    ``by_gate``, LSTM and GRU have W, U and b for each gate, as in Keras 1."""
    kind, config = _name(layer), layer.get("config", {})
    if (model := nested(layer)) is not None:
        own = [expected_arrays(one, by_gate) for one in inner_layers(model) or []]
        return None if None in own else [None for arrays in own for _ in arrays or ()]
    inside = _inside(kind, config)
    if inside is not None:
        inner_arrays = [expected_arrays(one, by_gate) if _name(one) in _INSIDE else None for one in inside]
        return None if None in inner_arrays else [array for one in inner_arrays for array in one or ()]
    units = config.get("units", config.get("output_dim"))
    bias = bool(config.get("use_bias", config.get("bias", True)))
    if kind in KINDS or kind in CELLS:
        parts = len(GATES[KINDS[CELLS.get(kind, kind)]])
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
    if kind in ("Attention", "AdditiveAttention"):
        return [None] * bool(config.get("use_scale", kind == "AdditiveAttention"))
    if kind == "MultiHeadAttention":
        heads, width = config.get("num_heads"), config.get("key_dim")
        wide = config.get("value_dim") or width
        into = [array for size in (width, width, wide) for array in ((None, heads, size), (heads, size))[: 1 + bias]]
        return [*into, (heads, wide, None), *([None] if bias else [])]
    if kind == "Normalization":
        return [] if config.get("mean") is not None else [None, None, ()]
    if kind.startswith("ConvLSTM"):
        return [None] * (2 + bias)
    if "Conv" in kind and kind in HANDLERS:
        return [None] * (1 + kind.startswith("Separable") + bias)
    return []


def _inside(kind: str, config: Config) -> list[Config] | None:
    """Return the layers or cells inside a wrapper, in the order of their arrays; None for any other layer."""
    inner = config.get("layer") or {}
    if kind == "TimeDistributed":
        return [inner]
    if kind == "Bidirectional":
        return [inner, config.get("backward_layer") or inner]
    if kind == "RNN":
        cell = config.get("cell") or {}
        return [*cell.get("config", {}).get("cells", [])] if _name(cell) == "StackedRNNCells" else [cell]
    return None


def _name(layer: Config) -> str:
    return str(layer.get("class_name", ""))


def fit(layer: Config, weights: Sequence[Weight]) -> bool:
    """Return whether weights have the configuration's number and sizes. A layer that expects no arrays takes any."""
    return any(
        not arrays or (len(arrays) == len(weights) and all(map(_fits, arrays, weights)))  # Keras 3 stores seeds
        for arrays in (expected_arrays(layer), expected_arrays(layer, by_gate=True))
    )


def _fits(sizes: ArraySizes, weight: Weight) -> bool:
    """Return whether a weight has the sizes that the configuration determines."""
    if sizes is None or len(sizes) != len(weight.shape):
        return sizes is None
    return all(size in (None, own) for size, own in zip(sizes, weight.shape, strict=True))


def check_fit(layer: Config, weights: Sequence[Weight]) -> None:
    """Raise :class:`Refused` if the layer's configuration asks for weights of other shapes."""
    if fit(layer, weights):
        return
    actual = ", ".join(str([*weight.shape]) for weight in weights) or "none"
    expected = ", ".join(map(_text, expected_arrays(layer) or ()))
    mend = "give the configuration that was saved with the weights"
    raise Refused("weights", actual, f"its configuration asks for {expected}", mend)


def _text(sizes: ArraySizes) -> str:
    return "an array" if sizes is None else f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


_HEADS = ("query_dense", "key_dense", "value_dense", "output_dense")
_KNOWN = frozenset({*HANDLERS, "InputLayer"})


def weights_by_layer(source: Source, layers: Sequence[Config]) -> dict[str, list[Weight]]:
    """Return each layer's tensors in Keras's order by the layer's name, with the models around it as a prefix."""
    if "layers" in source.facts:
        by_layer: dict[str, list[Weight]] = {}
        named = {layer_name(layer): layer for layer in layers}
        for name, stored in _stored_names(source, layers).items():
            own = [source.tensors[one].weight() for one in source.facts["layers"][stored]]
            inner = nested(named.get(name, {}))
            by_layer |= {name: own} if inner is None else _cut(own, inner, f"{name}/", trainable(named[name]))
        return by_layer
    return _by_place(source, layers, ("layers", "_layer_checkpoint_dependencies"), "")


def _cut(own: Sequence[Weight], model: Config, path: str, trained: bool) -> dict[str, list[Weight]]:
    """Return a nested model's tensors ``own`` by layer: trainable ones are stored first, none is unless ``trained``."""
    by_layer: dict[str, list[Weight]] = {}
    layers = inner_layers(model) or []
    trained = trained and trainable(model)
    counts = [_counts(layer, trained) for layer in layers]
    places = stored_order(counts) if trained else stored_order([(sum(count), 0) for count in counts])
    for layer, at in zip(layers, places, strict=True):
        layer_weights = [own[place] for place in at if place < len(own)]
        inner = nested(layer)
        name = path + layer_name(layer)
        own_trained = trained and trainable(layer)
        by_layer |= {name: layer_weights} if inner is None else _cut(layer_weights, inner, f"{name}/", own_trained)
    return by_layer


def _counts(layer: Config, trained: bool) -> tuple[int, int]:
    """Return how many of a layer's arrays are trainable and fixed; all are fixed unless ``trained``."""
    inner = nested(layer)
    trained = trained and trainable(layer)
    if inner is not None:
        both = [_counts(one, trained and trainable(inner)) for one in inner_layers(inner) or []]
        return sum(count for count, _ in both), sum(count for _, count in both)
    count = len(expected_arrays(layer) or ())
    kept = 2 if layer.get("class_name") == "BatchNormalization" else 0
    return (count - kept, kept) if trained else (0, count)


def _by_place(source: Source, layers: Sequence[Config], roots: Sequence[str], path: str) -> dict[str, list[Weight]]:
    """Return tensors by layer from a ``.keras`` file: a model's group, at one of ``roots``, holds a group for each
    layer, found by class and position as Keras does. If a layer's group is missing, its class has another name in the
    file: then groups are found by the names of layers first."""
    by_layer: dict[str, list[Weight]] = {}
    groups, names, pairs = source.facts["groups"], source.facts["names"], [*zip(layers, _places(layers), strict=True)]
    places = {part for root in roots for group in groups if (part := _part(group, root))}
    missing = any(place not in places for layer, place in pairs if expected_arrays(layer) != [])
    for layer, place in pairs:
        name, inner = layer_name(layer), nested(layer)
        below = [f"{root}/{place}" for root in roots]
        if missing:
            called = [group for group, own in names.items() if own == name]
            below = [group for group in called if group.rpartition("/")[0] in roots] or below
        stored = {names.get(group) for group in below} - {None}
        if stored and name and stored != {name}:  # a class without get_config has no name in the configuration
            raise SourceError(
                f"{source.origin}: its weights of {path}{place} are of layer {sorted(map(str, stored))[0]}, not {name}"
            )
        if inner is not None:
            within = "/layer" if layer.get("class_name") == "TimeDistributed" else ""
            deeper = [f"{group}{within}{inside}" for group in below for inside in ("/layers", "")]
            by_layer |= _by_place(source, inner_layers(inner) or [], deeper, f"{path}{name}/")
            continue
        inside = [group for group in groups if any(_below(group, root) for root in below)]
        inside.sort(key=lambda group, cells=_places(_stacked(layer)): _order(group, cells))  # type: ignore[misc]
        by_layer[path + name] = [source.tensors[one].weight() for group in inside for one in groups[group]]
    return by_layer


def _stacked(layer: Config) -> list[Config]:
    """Return the cells of a layer of StackedRNNCells, also inside a wrapper; an empty list for other layers."""
    config = layer.get("config", {})
    cell, inner = config.get("cell"), config.get("layer")
    return _stacked(inner) if inner else cell.get("config", {}).get("cells", []) if cell else []


def renamed(source: Source, layers: Sequence[Config]) -> dict[str, str]:
    """Return the stored name of each layer whose weights have another name in the file."""
    names = _stored_names(source, layers) if "layers" in source.facts else {}
    return {name: stored for name, stored in names.items() if name != stored}


def _stored_names(source: Source, layers: Sequence[Config]) -> dict[str, str]:
    """Return the name in the ``.h5`` file of each layer with weights. Keras numbers names over a session, so file and
    configuration may differ: then the order decides, as in ``load_weights_from_hdf5_group``
    (keras/src/legacy/saving/legacy_h5_format.py). Raises :class:`SourceError` if they differ and sizes fit both."""
    stored = [name for name, held in source.facts["layers"].items() if held]
    owners = {layer_name(layer): layer for layer in layers if expected_arrays(layer) != []}
    by_name, by_order = dict(zip(stored, stored, strict=True)), dict(zip(owners, stored, strict=False))
    unknown = [layer for layer in layers if nested(layer) is None and layer.get("class_name") not in _KNOWN]
    if [*owners] == stored or unknown:
        return by_name  # an unknown layer is refused later, with all other refusals
    mend = "give the configuration that was saved with these weights"
    if len(owners) != len(stored):
        raise SourceError(
            f"{source.origin}: it has weights of {_listed(stored)}; the configuration has {_listed([*owners])} with"
            f" weights: {mend}"
        )
    if owners.keys() != set(stored):
        return by_order
    held = source.facts["layers"]
    if all(fit(owners[name], [source.tensors[one].weight() for one in held[at]]) for name, at in by_order.items()):
        raise SourceError(
            f"{source.origin}: its weights are of {_listed(stored)}, in this order; in the configuration the order is"
            f" {', '.join(owners)}. Keras goes by the order, and by it other layers get them than by name: {mend}, or"
            " rename its layers as they follow each other in the file"
        )
    return by_name


def _listed(names: Sequence[str]) -> str:
    count = f"{len(names)} layers" if len(names) != 1 else "1 layer"
    return f"{count} ({shorten(', '.join(names), 200, placeholder=' ...')})" if names else "no layer"


def _places(layers: Sequence[Config]) -> list[str]:
    """Return the names of the layers' groups in a ``.keras`` file: the class, and a number for a repeated class."""
    stems = [_snake_case(str(layer.get("class_name", ""))) for layer in layers]
    counts = [stems[:at].count(stem) for at, stem in enumerate(stems)]
    return [f"{stem}_{count}" if count else stem for stem, count in zip(stems, counts, strict=True)]


def _order(group: str, cells: Sequence[str]) -> tuple[bool, int, str]:
    """Return the key that sorts a layer's groups: forward before backward, then by cell or by part of an attention."""
    part = group.rpartition("/")[2]
    place = next((parts.index(part) for parts in (cells, _HEADS) if part in parts), 0)
    return "backward_layer" in group, place, group


def _part(group: str, root: str) -> str:
    """Return the name of the group directly below ``root`` that contains ``group``; '' if there is none."""
    return group.removeprefix(f"{root}/").partition("/")[0] if _below(group, root) else ""


def _below(group: str, root: str) -> bool:
    return group == root or group.startswith(f"{root}/")


def layer_name(layer: Config) -> str:
    """Return the name of a layer by its configuration; empty if it has none."""
    config = layer.get("config", {})
    return str(config.get("name", layer.get("name", "")) if isinstance(config, Mapping) else layer.get("name", ""))


def _snake_case(name: str) -> str:
    """Convert a class name as Keras does: ``MaxPooling2D`` to ``max_pooling2d``, ``LSTM`` to ``lstm``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
