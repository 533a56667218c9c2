"""A compiled net in parts, one for each recurrent layer of another net, ready to stand in those layers' places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstmc.backend import Artifact
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.manifest import Manifest, Place, parse_manifest
from lstmc_caffe.proto.net import LayerParameter, RawNet, net_from_text
from lstmc_caffe.source.recurrent_layers import Imported


@dataclass(frozen=True)
class Part:
    """What stands in a layer's place: layers, and those of them that have blobs, as messages for a caffemodel."""

    layers: list[Any]
    stored: list[bytes]


def parts_of(artifact: Artifact, net: Any, imported: Imported) -> dict[int, Part]:
    """The parts by the places of ``net``'s recurrent layers, called so that nothing clashes with its other layers.

    Raises :class:`RefusedError` where the compiled net has a blob for each step: no layer here cuts or joins them.
    """
    content = {name.partition(".")[2]: content for name, content in artifact.files.items()}
    manifest = parse_manifest(content["manifest.json"])
    _check_places(manifest, imported)
    compiled = net_from_text(content["prototxt"].decode())
    names = _names(net, imported)
    layers = _Cut(compiled.layer, manifest, imported, names).layers()
    stored = _stored(layers, compiled.layer, RawNet.FromString(content["caffemodel"]), names)
    return {place: Part(layers[place], stored[place]) for place in layers}


def _check_places(manifest: Manifest, imported: Imported) -> None:
    inputs = [(imported.inputs[name], entry.place) for name, entry in manifest.inputs.items() if not entry.filled]
    outputs = [(imported.outputs[name][1], place) for name, place in manifest.outputs.items()]
    steps = [(blob, place) for blob, place in (*inputs, *outputs) if len(place.blobs) > 1]
    why = f"target {manifest.target} has a blob for each step, and no layer that cuts or joins them"
    refusals = [Refusal(f"blob {blob}", "steps", str(len(p.blobs)), why, "take another target") for blob, p in steps]
    if refusals:
        raise RefusedError(manifest.source, refusals)


class _Names:
    """What layers, blobs and parameters of the compiled net are called in the other one."""

    def __init__(self, taken: set[str]) -> None:
        self.taken, self.given = taken, dict[str, str]()

    def __getitem__(self, name: str) -> str:
        if name not in self.given:
            fresh = name
            while fresh in self.taken:
                fresh += "_"
            self.taken.add(fresh)
            self.given[name] = fresh
        return self.given[name]


def _names(net: Any, imported: Imported) -> _Names:
    kept = [layer for place, layer in enumerate(net.layer) if place not in imported.bottoms]
    taken = {name for layer in kept for name in (layer.name, *layer.top, *(p.name for p in layer.param))}
    return _Names({*taken, *net.input, *(top for _, top in imported.outputs.values())})


class _Cut:
    """The layers of each part, in order."""

    def __init__(self, layers: Sequence[Any], manifest: Manifest, imported: Imported, names: _Names) -> None:
        self.compiled, self.names, self.imported = layers, names, imported
        inputs = {name: entry.place for name, entry in manifest.inputs.items() if not entry.filled}
        self.fed = {blob: (imported.inputs[name], place) for name, place in inputs.items() for blob in place.names}
        self.entered: set[str] = set()
        self.wanted: dict[int, list[str]] = {place: [] for place in imported.bottoms}
        self.leaving: dict[int, list[Any]] = {place: [] for place in imported.bottoms}
        for name, (place, top) in imported.outputs.items():
            self._leave(place, top, manifest.outputs[name])

    def _leave(self, place: int, top: str, where: Place) -> None:
        """An output that has its top's shape is called so where it is made; others are reshaped to it at the end."""
        (blob,) = where.names
        self.wanted[place].append(blob)
        if where.blob_shape is None and blob not in self.names.given and blob not in self.fed:
            self.names.given[blob] = top
        else:
            self.leaving[place].append(_reshape(self.names[blob], top, where.shape))

    def layers(self) -> dict[int, list[Any]]:
        """Each layer goes to the first place whose tops need it; the rest, as Silence, to the last one."""
        makers: list[set[int]] = []  # of each layer's bottoms, the layers that wrote them last
        writers: dict[str, int] = {}
        for number, layer in enumerate(self.compiled):
            makers.append({writers[bottom] for bottom in layer.bottom if bottom in writers})
            writers.update(dict.fromkeys(layer.top, number))
        done = {n for n, layer in enumerate(self.compiled) if layer.type == "Input" and {*layer.top} <= {*self.fed}}
        found = {}
        for place, wanted in self.wanted.items():
            part, waiting = set(), [writers[blob] for blob in wanted if blob in writers]
            if place == max(self.wanted):
                waiting += range(len(self.compiled))
            while waiting:
                number = waiting.pop()
                if number not in done:
                    done.add(number)
                    part.add(number)
                    waiting += makers[number]
            own = [self.compiled[number] for number in sorted(part)]
            tops = {top for at, top in self.imported.outputs.values() if at == place}
            found[place] = [*self._entering(own), *(self._renamed(layer, tops) for layer in own), *self.leaving[place]]
        return found

    def _entering(self, layers: Sequence[Any]) -> Iterator[Any]:
        """A reshape for each blob that comes in and has another shape here, before the first part that reads it."""
        for blob in dict.fromkeys(bottom for layer in layers for bottom in layer.bottom):
            if blob not in self.fed or blob in self.entered:
                continue
            self.entered.add(blob)
            outer, where = self.fed[blob]
            if where.blob_shape is None:
                self.names.given[blob] = outer
            else:
                yield _reshape(outer, self.names[blob], where.blob_shape)

    def _renamed(self, layer: Any, tops: set[str]) -> Any:
        """The layer with the names that are right here; one that writes a top alone is called as that."""
        made = LayerParameter()
        made.CopyFrom(layer)
        written = [self.names[top] for top in layer.top]
        made.name = written[0] if len(written) == 1 and written[0] in tops else self.names[layer.name]
        del made.bottom[:], made.top[:]
        made.bottom.extend(self.names[bottom] for bottom in layer.bottom)
        made.top.extend(written)
        for spec in made.param:
            spec.name = self.names[spec.name]
        return made


def _stored(
    layers: Mapping[int, Sequence[Any]], compiled: Sequence[Any], weights: Any, names: _Names
) -> dict[int, list[bytes]]:
    """The messages of layers with blobs: of those that had them, and of those that own a parameter here."""
    blobs = {layer.name: layer.blobs for layer in weights.layer}
    having = [layer for layer in compiled if layer.name in blobs]
    values = {
        names[spec.name]: blob for layer in having for spec, blob in zip(layer.param, blobs[layer.name], strict=True)
    }
    tops = {tuple(names[top] for top in layer.top) for layer in having}
    found: dict[int, list[bytes]] = {}
    owned: set[str] = set()
    for place, part in layers.items():
        found[place] = []
        for layer in part:
            own = [spec.name for spec in layer.param]
            if own and (tuple(layer.top) in tops or not owned.issuperset(own)):
                raw = RawNet()
                raw.layer.add(name=layer.name, type=layer.type).blobs.extend(values[name] for name in own)
                found[place].append(raw.SerializeToString(deterministic=True))
            owned.update(own)
    return found


def _reshape(bottom: str, top: str, shape: Sequence[int]) -> Any:
    layer = LayerParameter(name=top, type="Reshape", bottom=[bottom], top=[top])
    layer.reshape_param.shape.dim.extend(shape)
    return layer
