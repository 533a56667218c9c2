"""Keras's configurations as descriptions: Sequential and functional models, as Keras 1, 2 and 3 write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lstmc.importers.describe.net import Net, NetBuilder
from lstmc.importers.describe.shapes import Shape, ShapeProblem
from lstmc.importers.frontends.keras_arrays import check_fit
from lstmc.importers.frontends.keras_layers import HANDLERS, Call
from lstmc.importers.frontends.keras_weights import layer_name, renamed, weights_by_layer
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.read.keras_file import version_of
from lstmc.importers.read.source import Source
from lstmc.importers.refusal import Refusal, RefusedError, SourceError

_MALFORMED = (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError, AssertionError, StopIteration)
Key = tuple[str, int, int]  # a layer, which use of it, which of its results


def describe_keras(source: Source, shapes: Mapping[str, Sequence[int]] = {}) -> Net:
    """A model of Keras. ``shapes`` of inputs that are to be fixed. Raises :class:`RefusedError` with all reasons."""
    config = source.facts["config"]
    if not isinstance(config, Mapping) or "class_name" not in config:
        raise SourceError(f"{source.origin}: its configuration is none of a model of Keras")
    inner = config.get("config", {})
    layers = inner if isinstance(inner, list) else inner.get("layers", []) if isinstance(inner, Mapping) else []
    if not isinstance(layers, list) or not all(isinstance(layer, Mapping) for layer in layers):
        raise SourceError(f"{source.origin}: its configuration has no layers")
    reader = _Reader(source, layers, shapes)
    kind = str(config["class_name"])
    if kind == "Sequential":
        reader.sequential(layers)
    elif kind in ("Model", "Functional"):
        reader.functional(layers, inner)
    else:
        refusal = Refusal(kind, "class_name", kind, "only Sequential and functional ones are read", "rebuild it so")
        raise RefusedError(source.origin, [refusal])
    return reader.net()


class _Reader:
    def __init__(
        self, source: Source, layers: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self.source, self.shapes = source, shapes
        self.builder = NetBuilder("net", source.origin)
        self.layers = Layers(self.builder)
        configured = [layer for layer in layers if isinstance(layer.get("config"), Mapping)]
        try:
            self.weights, others = weights_by_layer(source, configured), renamed(source, configured)
        except _MALFORMED as error:
            raise SourceError(f"{source.origin}: its configuration is damaged: {str(error)[:100]}") from None
        if others:
            told = ", ".join(f"{name} has those of {stored}" for name, stored in others.items())
            self.builder.notes.append(
                f"The file names layers otherwise: weights are given by order, as Keras does: {told}."
            )
        self.version = version_of(source)
        self.refusals: list[Refusal] = []
        self.values: dict[Key, str | None] = {}  # None: made of something that was refused

    def net(self) -> Net:
        if self.refusals:
            raise RefusedError(self.source.origin, self.refusals)
        net = self.builder.finish()
        used = {name for weight in net.params.values() for name in weight.sources}
        unused = [name for name in self.source.tensors if name not in used]
        net.ignored.update(dict.fromkeys(unused, "no layer of the configuration computes an output from it"))
        return net

    def sequential(self, layers: Sequence[Mapping[str, Any]]) -> None:
        value: str | None = None
        for number, layer in enumerate(layers):
            if layer.get("class_name") == "InputLayer":
                value = self._input(layer)
                continue
            if number == 0:
                value = self._input(layer)
            value = self._call(layer, [value])[0]
        if value is None and not self.refusals:
            raise SourceError(f"{self.source.origin}: its configuration has no layers")
        self.builder.outputs["Y"] = value or ""

    def functional(self, layers: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> None:
        waiting = {layer_name(layer): (layer, list(_uses(layer))) for layer in layers}
        for name, (layer, _) in list(waiting.items()):
            if layer.get("class_name") == "InputLayer":
                self.values[name, 0, 0] = self._input(layer)
                del waiting[name]
        done: dict[str, int] = {}
        while waiting:
            before = len(self.values)
            for name, (layer, uses) in list(waiting.items()):
                while done.get(name, 0) < len(uses) and all(key in self.values for key in uses[done.get(name, 0)]):
                    use = done.get(name, 0)
                    results = self._call(layer, [self.values[key] for key in uses[use]])
                    self.values.update({(name, use, place): value for place, value in enumerate(results)})
                    done[name] = use + 1
                if done.get(name, 0) == len(uses):
                    del waiting[name]
            if len(self.values) == before and waiting:
                raise SourceError(f"{self.source.origin}: layer {next(iter(waiting))} reads what no layer makes")
        outputs = config.get("output_layers", [])
        outputs = [outputs] if outputs and isinstance(outputs[0], str) else outputs
        for told in outputs:
            key = (str(told[0]), int(told[1]), int(told[2]))
            if key not in self.values:
                raise SourceError(f"{self.source.origin}: output {key[0]} is of no layer")
            name = "Y" if len(outputs) == 1 else f"Y_{len(self.builder.outputs)}"
            self.builder.outputs[name] = self.values[key] or ""

    def _input(self, layer: Mapping[str, Any]) -> str:
        name, config = layer_name(layer), layer.get("config", {})
        if name in self.shapes:
            return self.builder.input(name, tuple(self.shapes[name]))
        told = config.get("batch_shape", config.get("batch_input_shape"))
        if told is None and config.get("input_dim") and layer.get("class_name") != "Embedding":  # Keras 1
            told = [None, config.get("input_length"), config["input_dim"]]
        if told is None and layer.get("class_name") == "Embedding":
            told = [None, config.get("input_length")]
        if not isinstance(told, list):
            raise SourceError(f"{self.source.origin}: layer {name} is the first and does not say its input's shape")
        shape: Shape = tuple(
            int(size) if size is not None else ("N", "T", f"{name}_2", f"{name}_3")[min(axis, 3)]
            for axis, size in enumerate(told)
        )
        return self.builder.input("X" if not self.builder.inputs else name, shape, called=name)

    def _call(self, layer: Mapping[str, Any], xs: Sequence[str | None]) -> list[str | None]:
        kind, name = str(layer.get("class_name", "")), layer_name(layer)
        count = 3  # results that a layer may have
        if any(x is None for x in xs):
            return [None] * count
        label = f"{name} ({kind})"
        try:
            handler = HANDLERS.get(kind)
            if handler is None:
                raise Refused("class_name", kind[:60], "it has no counterpart here", "write the model without it")
            self.layers.at(name, label)
            check_fit(layer, self.weights.get(name, []))
            call = Call(kind, layer.get("config", {}), self.weights.get(name, []), [x for x in xs if x], self.version)
            return [*handler(self.layers, call)]
        except Refused as refused:
            found = (refused.attribute, refused.value, refused.why, refused.mend)
        except ShapeProblem as problem:
            found = ("shapes", str(problem), "they do not fit, or are not known", "give shape, or check the model")
        except _MALFORMED as error:
            text = f"{type(error).__name__}: {str(error)[:200]}"
            found = ("configuration and weights", text, "they do not fit together", "save the whole model anew")
        self.refusals.append(Refusal(label, *found))
        return [None] * count


def _uses(layer: Mapping[str, Any]) -> Iterator[list[Key]]:
    """The operands of each use of a layer: lists until Keras 2, tensors among the arguments in Keras 3."""
    for node in layer.get("inbound_nodes", []):
        if isinstance(node, Mapping):
            yield list(_tensors([node.get("args", []), node.get("kwargs", {})]))
        else:
            yield [(str(told[0]), int(told[1]), int(told[2])) for told in node]


def _tensors(thing: Any, depth: int = 0) -> Iterator[Key]:
    if isinstance(thing, Mapping) and thing.get("class_name") == "__keras_tensor__":
        name, use, place = thing["config"]["keras_history"]
        yield str(name), int(use), int(place)
    elif isinstance(thing, Mapping | list) and depth < 10:
        for inner in thing.values() if isinstance(thing, Mapping) else thing:
            yield from _tensors(inner, depth + 1)
