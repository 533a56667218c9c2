"""Keras configurations as nets: Sequential and functional models of Keras 1, 2 and 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

from lstmc.errors import Argument
from lstmc.importers.frontends import keras_calls, keras_weights
from lstmc.importers.frontends.keras_calls import UNSETTLED, Call, Config, DamagedConfig, Key, Settings, tensor_key
from lstmc.importers.frontends.keras_layers import ATTENTION, HANDLERS, MASK_GOES_ON, MERGES, output_mask
from lstmc.importers.frontends.keras_ops import DEEPEST, Operation, is_operation, operation
from lstmc.importers.frontends.keras_ops import HANDLERS as OPERATIONS
from lstmc.importers.frontends.keras_recurrent import HANDLERS as RECURRENT
from lstmc.importers.frontends.keras_weights import MODELS, inner_layers, layer_name, nested
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.values import OpenSize, Shape, ShapeProblem, domain_of
from lstmc.importers.read.keras_file import CONFIG, version_of
from lstmc.importers.refusal import Refusal, Refused, RefusedError, SourceError
from lstmc.importers.sources import Source
from lstmc.ops import Input, IntegerRange
from lstmc.text import brief

_MOST = 6  # the most results of a layer
_OVER_SEQUENCES = frozenset({*RECURRENT, "Conv1D"} - {"ConvLSTM1D", "ConvLSTM2D"})  # of [N, T, D]
_MEND = (
    "if layers of Keras compute the same, replace it by them, or by a model of them, in a copy of the model's JSON, and"
    f" give that by {CONFIG}; otherwise write the model without it"
)


def describe_keras(source: Source, shapes: Mapping[str, Sequence[int]] = {}) -> Net:
    """Return the net of a Keras model. ``shapes`` fixes inputs. Raises :class:`RefusedError` with all reasons."""
    config = source.facts["config"]
    if not isinstance(config, Mapping) or "class_name" not in config:
        raise SourceError(f"{source.origin}: its configuration is not that of a Keras model")
    layers = inner_layers(config)
    if layers is None:
        raise SourceError(f"{source.origin}: its configuration has no layers")
    kind = str(config["class_name"])
    if kind not in MODELS:
        refusal = Refusal(kind, "class_name", kind, "only Sequential and functional ones are read", "rebuild it so")
        raise RefusedError(source.origin, [refusal])
    try:
        keras_weights.check_structure(config)
        reader = _Reader(source, layers, shapes)
        graph = _Graph(reader, "", 1)
        own = config.get("config")
        built = own.get("build_input_shape") if isinstance(own, Mapping) else None
        outputs = graph.outputs(config, [graph.input(layer, built) for layer in input_layers(config)])
    except DamagedConfig as error:
        raise SourceError(f"{source.origin}: its configuration is damaged: {brief(error)}") from None
    return reader.net(outputs)


class _Reader:
    """Translates the layers of a Keras model, one call after another. ``masks`` maps values to their masks."""

    def __init__(self, source: Source, layers: Sequence[Config], shapes: Mapping[str, Sequence[int]]) -> None:
        """Assign the stored weights to the layers. A note says which layers have another name in the file."""
        self.source, self.shapes = source, shapes
        self.builder = NetBuilder("net", source.origin)
        self.layers = Layers(self.builder)
        configured = [layer for layer in layers if isinstance(layer.get("config"), Mapping)]
        self.weights = keras_weights.weights_by_layer(source, configured)
        if others := keras_weights.renamed(source, configured):
            pairs = ", ".join(f"{name} has those of {stored}" for name, stored in others.items())
            note = f"The file has other layer names: weights are assigned by order, as Keras does: {pairs}."
            self.builder.notes.append(note)
        self.version = version_of(source)
        self.refusals: list[Refusal] = []
        self.masks: dict[str, str] = {}  # value -> its mask

    def net(self, outputs: Sequence[str | None]) -> Net:
        """Return the net with these outputs. Raises :class:`RefusedError` if any layer was refused."""
        if self.refusals:
            inputs = self.builder.finish(every_input=True).source_inputs()
            raise RefusedError.of_graph(self.source.origin, self.refusals, inputs)
        names = ["Y"] if len(outputs) == 1 else [f"Y_{number}" for number in range(len(outputs))]
        self.builder.outputs |= {name: str(value) for name, value in zip(names, outputs, strict=True)}
        why = "no layer of the configuration computes an output from it"
        return self.builder.finish(stored=self.source.tensors, why=why)

    def call(
        self, layer: Config, path: str, xs: Sequence[str | None], lead: int, node: Any = None,
        values: Mapping[Key, str | None] = {},
    ) -> list[str | None]:  # fmt: skip
        """Return the results of one call of a layer, which may be a model; each is None after a refusal. ``node`` is
        this call in a functional model, ``values`` are the model's values so far."""
        kind, name = str(layer.get("class_name", "")), layer_name(layer)
        masked = _masks(node)
        if None in (*xs, *(values[key] for keys in masked.values() for key in keys if key)):
            return [None] * _MOST
        given = {argument: [key and values[key] for key in keys] for argument, keys in masked.items()}
        label, weights = f"{path}{name} ({kind})", self.weights.get(f"{path}{name}", [])
        try:
            if (inner := nested(layer)) is not None:
                return _Graph(self, f"{path}{name}/", lead + (kind == "TimeDistributed")).outputs(inner, xs)
            if is_operation(layer):
                return [*self._operation(kind, label, name, operation(layer, node, values, lead))]
            handler = HANDLERS.get(kind)
            if handler is None:
                raise Refused("class_name", brief(kind), "it is not supported", _MEND)
            self.layers.at(name, label)
            _check_arguments(kind, node)
            keras_weights.check_fit(layer, weights)
            operands = [x for x in xs if x]
            if not operands:
                raise Refused("inbound_nodes", "none", "it reads nothing", keras_calls.SAVE)
            seen = next(iter(given.get("attention_mask", ())), None)
            mask = self._mask(layer, masks := self._masks_of(operands, given))
            call = Call(
                kind, Settings(layer.get("config", {})), weights, operands, self.version, lead, mask, masks,
                seen and self._truth(seen), bool(_arguments(node).get("use_causal_mask")),
            )  # fmt: skip
            results = handler(self.layers, call)
            self._carry_mask(call, results)
            return [*results]
        except (Refused, ShapeProblem) as error:
            self.refusals.append(Refused.of(error).at(label))
        return [None] * _MOST

    def _operation(self, kind: str, label: str, name: str, use: Operation) -> list[str]:
        """Return the results of a call of a ``keras.ops`` function; they have no mask."""
        if kind not in OPERATIONS:
            supported = f"keras.ops of {', '.join(OPERATIONS)} are read"
            raise Refused("class_name", brief(kind), "this operation is not supported", supported)
        self.layers.at(name, label)
        results = OPERATIONS[kind](self.layers, use)
        return [results] if isinstance(results, str) else results

    def _mask(self, layer: Config, each: Sequence[str | None]) -> str | None:
        """Return the mask of a call: for a merge that of all operands or UNSETTLED, else the first operand's."""
        kind = layer["class_name"]
        masks = {*each} if kind in MERGES else {each[0]}
        if kind in MERGES and kind != "Concatenate" and self.version >= (3, 4) and UNSETTLED not in masks:
            if None in masks or len(masks) == 1:
                return None if None in masks else each[0]
            return reduce(partial(self.layers.binary, "max"), filter(None, each))
        in_time = kind == "Concatenate" and layer.get("config", {}).get("axis") == 1
        return UNSETTLED if len(masks) > 1 or (in_time and masks != {None}) else masks.pop()

    def _masks_of(self, xs: Sequence[str], given: Mapping[str, Sequence[str | None]]) -> list[str | None]:
        """Return the mask [N, T, 1] of each operand, or None. A mask given as an argument takes precedence."""
        own = [self.masks.get(x) for x in xs]
        for place, name in zip(range(len(xs)), ("query_mask", "value_mask", "key_mask"), strict=False):
            own[place] = self._column(next(iter(given.get(name, ())), None)) or own[place]
        if "mask" not in given:
            return own
        return [self._column(mask) for mask in (*given["mask"], *[None] * len(xs))[: len(xs)]]

    def _column(self, mask: str | None) -> str | None:
        """Return a mask [N, T], an argument of a call, as [N, T, 1]."""
        return mask and self.layers.unsqueeze(self._truth(mask), [-1])

    def _truth(self, mask: str) -> str:
        """Return a mask as 0 and 1: Keras takes every number other than 0 as true."""
        leaf = self.builder.leaves.get(mask)
        known = self.layers.is_whole(mask) or (isinstance(leaf, Input) and leaf.values == IntegerRange(0, 1))
        return mask if known else self.layers.apply("step", self.layers.apply("abs", mask))

    def _carry_mask(self, call: Call, results: Sequence[str]) -> None:
        """Record the mask of a layer's first result: one that the layer makes, or passes on from its operands."""
        inner = call.config.get("layer") or {}
        settings = inner.get("config", {}) if call.name == "Bidirectional" else call.config
        mask = output_mask(self.layers, call)
        if mask is not None:
            self.masks[results[0]] = mask
        elif call.carried is not None:
            if call.name in MASK_GOES_ON or call.name in (*MERGES, *ATTENTION) or settings.get("return_sequences"):
                self.masks[results[0]] = call.carried
            else:
                self.masks.pop(results[0], None)


class _Graph:
    """The layers of a model, which may be a layer of another model: then ``path`` precedes the names of its layers."""

    def __init__(self, reader: _Reader, path: str, lead: int) -> None:
        self.reader, self.path, self.lead = reader, path, lead
        self.origin, self.builder = reader.source.origin, reader.builder
        self.values: dict[Key, str | None] = {}  # None: computed from a refused value

    def outputs(self, config: Config, xs: Sequence[str | None]) -> list[str | None]:
        """Return the model's outputs for the inputs ``xs``, in the order of :func:`input_layers`."""
        layers = inner_layers(config) or []
        if config["class_name"] != "Sequential":
            return self._functional(layers, config.get("config", {}), xs)
        if not layers:
            raise SourceError(f"{self.origin}: its configuration has no layers")
        value = xs[0]
        for layer in layers:
            if layer.get("class_name") != "InputLayer":
                value = self.reader.call(layer, self.path, [value], self.lead)[0]
        return [value]

    def _functional(self, layers: Sequence[Config], config: Config, xs: Sequence[str | None]) -> list[str | None]:
        """Return the outputs of a functional model: call each layer as soon as all its operands are known."""
        waiting = {layer_name(layer): (layer, [*map(_use, layer.get("inbound_nodes", []))]) for layer in layers}
        outputs = [tensor_key(entry) for entry in _listed(config.get("output_layers", []))]
        inputs = input_layers({"class_name": "Functional", "config": config})
        if len(inputs) != len(xs):
            raise DamagedConfig(f"a model of {len(inputs)} inputs is called with {len(xs)}")
        for layer, x in zip(inputs, xs, strict=True):
            self.values[layer_name(layer), 0, 0] = x
        needed = _needed(waiting, outputs)  # Keras 3 has layers that only make masks
        for name, (layer, _) in [*waiting.items()]:
            if name not in needed or layer.get("class_name") == "InputLayer":
                del waiting[name]
        done = Counter[str]()
        while waiting:
            before = len(self.values)
            for name, (layer, uses) in list(waiting.items()):
                while done[name] < len(uses) and all(key in self.values for key in uses[done[name]].every):
                    use = done[name]
                    operands = [self.values[key] for key in uses[use].operands]
                    node = layer["inbound_nodes"][use]
                    results = self.reader.call(layer, self.path, operands, self.lead, node, self.values)
                    self.values.update({(name, use, place): value for place, value in enumerate(results)})
                    done[name] += 1
                if done[name] == len(uses):
                    del waiting[name]
            if len(self.values) == before and waiting:
                raise SourceError(f"{self.origin}: layer {next(iter(waiting))} reads what no layer makes")
        if missing := [name for name, use, place in outputs if (name, use, place) not in self.values]:
            raise SourceError(f"{self.origin}: output {missing[0]} is of no layer")
        return [self.values[key] for key in outputs]

    def input(self, layer: Config, built: Any) -> str:
        """Add an input of the whole model, and return its name in the net: X for the first one. ``built`` is the
        input's shape that a Sequential model stores."""
        name = layer_name(layer)
        shape = tuple(self.reader.shapes[name]) if name in self.reader.shapes else self._declared(layer, name, built)
        domain = domain_of(str(layer.get("config", {}).get("dtype")))
        return self.builder.input("X" if not self.builder.inputs else name, shape, called=name, values=domain)

    def _declared(self, layer: Config, name: str, built: Any) -> Shape:
        """Return an input's shape, with names for open sizes: by the first layer's settings, or by its weights."""
        config = layer.get("config", {})
        if (model := nested(layer)) is not None and layer["class_name"] in MODELS:
            inside = model["config"].get("build_input_shape", built) if isinstance(model["config"], Mapping) else built
            return self._declared(input_layers(model)[0], name, inside)
        declared = config.get("batch_shape", config.get("batch_input_shape", built))
        if declared is None and config.get("input_dim") and layer.get("class_name") != "Embedding":  # Keras 1
            declared = [None, config.get("input_length"), config["input_dim"]]
        if declared is None and layer.get("class_name") == "Embedding":
            declared = [None, config.get("input_length")]
        if declared is None and layer.get("class_name") in _OVER_SEQUENCES and self.reader.weights.get(name):
            declared = [None, None, self.reader.weights[name][0].shape[-2]]
        if not isinstance(declared, list):
            raise SourceError(
                f"{self.origin}: layer {name} is the first layer, and its input shape is missing: give it by"
                f" {Argument('shapes', f'{name}=SIZES')}, with the sizes of the batch and of the input's axes"
            )
        if not all(size is None or (isinstance(size, int) and size >= 0) for size in declared):
            raise SourceError(f"{self.origin}: layer {name}: expected an input's shape in integers, found {declared}")
        names = ("N", "T", f"{name}_2", f"{name}_3")
        return tuple(OpenSize(names[min(axis, 3)]) if size is None else int(size) for axis, size in enumerate(declared))


def input_layers(config: Config) -> list[Config]:
    """Return the layers that take a model's inputs, in the order of the inputs; of Sequential, the first layer."""
    layers = inner_layers(config) or []
    if config["class_name"] == "Sequential":
        return [*layers[:1]]
    inputs = {layer_name(layer): layer for layer in layers if layer.get("class_name") == "InputLayer"}
    order = [tensor_key(entry)[0] for entry in _listed(config.get("config", {}).get("input_layers", []))]
    return [inputs[name] for name in order] if set(order) == set(inputs) else [*inputs.values()]


def _listed(references: Any) -> list[Any]:
    """Return references to tensors as a list. A single reference ``["name", 0, 0]`` becomes a list of one reference."""
    if not isinstance(references, list):
        raise DamagedConfig(f"expected a list of references, found {brief(references)}")
    return [references] if references and isinstance(references[0], str) else references


def _needed(layers: Mapping[str, tuple[Any, Sequence[_Use]]], outputs: Sequence[Key]) -> set[str]:
    """Return the names of the layers that the outputs depend on."""
    reachable: set[str] = set()
    waiting = [name for name, _, _ in outputs]
    while waiting:
        name = waiting.pop()
        if name not in reachable and name in layers:
            reachable.add(name)
            waiting += [operand for use in layers[name][1] for operand, _, _ in use.every]
    return reachable


class _Use(NamedTuple):
    """The tensors of one call of a layer: its operands, and these with the masks among its arguments."""

    operands: Sequence[Key]
    every: Sequence[Key]


def _arguments(node: Any) -> Mapping[str, Any]:
    """Return the keyword arguments of a call by name. Until Keras 2 they are the fourth entry of the first operand."""
    first = [] if isinstance(node, Mapping) or not node else _listed(node)[0]
    arguments: Mapping[str, Any] = node.get("kwargs", {}) if isinstance(node, Mapping) else dict(*first[3:4])
    return arguments


def _check_arguments(kind: str, node: Any) -> None:
    """Raise :class:`Refused` for an argument of a call that has an effect and is not read."""
    read = ("use_causal_mask", "return_attention_scores") if kind in ATTENTION else ()
    for key, value in _arguments(node).items():
        if key not in read and value not in (None, False) and not [*_tensors(value)]:
            why = "an argument of the call that is not read"
            raise Refused(key, brief(value), why, "call the layer without it, and save the model again")


def _masks(node: Any) -> dict[str, list[Key | None]]:
    """Return the masks among the arguments of a call by name: a list of one, or of one for each operand."""
    masks = {}
    for name, value in _arguments(node).items():
        each = value if isinstance(value, list) and not _is_key(value) else [value]
        if name.endswith("mask") and [*_tensors(each)]:
            masks[name] = [next(_tensors(one), None) for one in each]
    return masks


def _use(node: Any) -> _Use:
    """Return the operands and masks of one call of a layer: of Keras 1 and 2 (lists) or 3 (objects)."""
    named = {name: value for name, value in _arguments(node).items() if not name.endswith("mask")}
    first = _tensors(node.get("args", [])) if isinstance(node, Mapping) else map(tensor_key, _listed(node))
    operands = [*first, *_tensors(named)]
    return _Use(operands, [*operands, *(key for keys in _masks(node).values() for key in keys if key)])


def _is_key(value: Any) -> bool:
    """Return whether a list is a tensor of Keras 2 among arguments, ``["lstm", 0, 0]``."""
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def _tensors(thing: Any, depth: int = 0) -> Iterator[Key]:
    """Yield the references to tensors anywhere in an argument."""
    if isinstance(thing, Mapping) and thing.get("class_name") == "__keras_tensor__":
        config = thing.get("config")
        yield tensor_key(config.get("keras_history") if isinstance(config, Mapping) else config)
    elif _is_key(thing):
        yield tensor_key(thing)
    elif isinstance(thing, Mapping | list) and depth < DEEPEST:
        for inner in thing.values() if isinstance(thing, Mapping) else thing:
            yield from _tensors(inner, depth + 1)
