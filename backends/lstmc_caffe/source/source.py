"""Nets of Caffe as sources: their recurrent layers with the rest around them, or all layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.backend import Artifact, Violation
from lstmc.errors import Argument, BackendError
from lstmc.files.reading import read_file, reading, regular
from lstmc.importers.ir.values import Weight
from lstmc.importers.refusal import Refusal, RefusedError, SourceError
from lstmc.importers.sources import ImportOptions, SourceCheck, SourceNet
from lstmc.ops import Array
from lstmc.text import nearest_or_all
from lstmc.version import __version__
from lstmc_caffe.proto.net import NetOfBytes, NetParameter, RawLayer, RawNet, net_from_text
from lstmc_caffe.source import whole_net
from lstmc_caffe.source.layer import TYPES, BlobHints, Layer, constant_of, label, layer_fields, phases, unknown_bottoms
from lstmc_caffe.source.recurrent_layers import Imported, describe_layers, replacements
from lstmc_caffe.targets.lint import Shape, Shapes, infer_shapes, lint_text, misspelt, old_inputs, unwritten_bottoms
from lstmc_caffe.targets.target import load_target


@dataclass(frozen=True)
class CaffeHostNet:
    """A net's text and caffemodel, and the mapping of its recurrent layers to the imported model."""

    origin: str
    text: str
    caffemodel: bytes
    imported: Imported
    hints: BlobHints
    backend: str = "caffe"

    @property
    def name(self) -> str:
        return Path(self.origin).stem

    def whole(self) -> SourceNet:
        """Return a description of the whole net, with real Caffe to run the net's layers."""
        net, spans = net_from_text(self.text), layer_fields(self.text)
        blobs = _blobs_of(net, RawNet.FromString(self.caffemodel))
        reader = whole_net.WholeNetReader(net, blobs, self.origin, self.hints)
        described = reader.whole()
        shapes = {blob: tuple(map(int, described.inputs[name])) for name, blob in reader.inputs.items()}
        layers = (self.text[spans[place].start : spans[place].stop] for place in reader.places)
        shapes |= {blob: array.shape for blob, array in reader.constants.items()}
        text = "\n".join((whole_net.input_text(shapes), *layers))
        fed = {blob: name for name, blob in reader.inputs.items()}
        nets = [whole_net.RuntimeNet(text, fed, reader.outputs, reader.constants)]
        return SourceNet(described, "Caffe", None, whole_net.CaffeRuntime(nets, self.caffemodel))

    def files(self, artifact: Artifact, target: str) -> dict[str, bytes]:
        """Return the whole net for a target: ``NAME.TARGET.prototxt`` and ``NAME.TARGET.caffemodel``. Raises
        :class:`RefusedError` for inputs whose shapes in the text differ from those of the imported layers."""
        self._check_shapes()
        layers, stored = replacements(artifact, net_from_text(self.text), self.imported)
        name = load_target(target).name
        return {
            f"{self.name}.{name}.prototxt": self._text(layers, name).encode(),
            f"{self.name}.{name}.caffemodel": self._weights(stored),
        }

    def _check_shapes(self) -> None:
        """Raise RefusedError for shapes from the user that differ from those in the text, which is not changed."""
        net = net_from_text(self.text)
        own = infer_shapes(net.layer, old_inputs(net)).blobs
        mend = f"write it into the prototxt, or import the whole net, {Argument('whole', 'True')}"
        refusals = [
            Refusal(f"blob {name}", "shape", str(list(shape)), f"the net itself has {list(own[name] or ())}", mend)
            for name, shape in self.hints.shapes.items()
            if own.get(name) not in (None, shape)
        ]
        if refusals:
            raise RefusedError(self.origin, refusals)

    def findings(self, files: Mapping[str, bytes], target: str) -> list[Violation]:
        """Return the violations of the target's rules by copied layers. Without a table ``reads`` the target's rules
        are about nets that lstmc writes: then only forbidden types are violations."""
        forbidden = {rule.layer for rule in load_target(target).rule if rule.forbidden}
        every = load_target(target).reads is not None
        return [v for v in self._violations(files, target) if every or v.type in forbidden]

    def remarks(self, files: Mapping[str, bytes], target: str) -> list[str]:
        """Return a remark that lists the copied layers that the target's file does not list; no remark without them."""
        forbidden = {violation.layer for violation in self.findings(files, target)}
        unlisted = {v.layer: v.type for v in self._violations(files, target) if v.layer not in forbidden}
        if not unlisted:
            return []
        listed = ", ".join(f"{name} ({kind})" for name, kind in unlisted.items())
        return [
            f"Copied unchanged, and not on the list of layers that target {load_target(target).name} supports:"
            f" {listed}. Test them in your runtime, or convert the whole net."
        ]

    def compared(self, files: Mapping[str, bytes], places: Sequence[str], seed: int) -> list[SourceCheck]:
        """Compare the written net, in each of the runtimes ``places``, with the source net in Caffe."""
        (name,) = (name for name in files if name.endswith(".prototxt"))
        (weights,) = (content for name, content in files.items() if name.endswith(".caffemodel"))
        written = whole_net.NetFile(name, files[name].decode(), weights)
        source = whole_net.NetFile(self.origin, self.text, self.caffemodel)
        return whole_net.compare_nets(source, net_from_text(self.text), written, places, self.hints, seed)

    def _violations(self, files: Mapping[str, bytes], target: str) -> list[Violation]:
        (text,) = (content.decode() for name, content in files.items() if name.endswith(".prototxt"))
        layers = enumerate(net_from_text(self.text).layer)
        own = {layer.name for place, layer in layers if place not in self.imported.bottoms}
        return [violation for violation in lint_text(text, load_target(target)).violations if violation.layer in own]

    def _text(self, parts: Mapping[int, Sequence[Any]], target: str) -> str:
        """Return the net's text, in which ``parts`` replace the recurrent layers and keep their phase rules."""
        spans, layers = layer_fields(self.text), net_from_text(self.text).layer
        pieces, at = [], 0
        for place, part in parts.items():
            rules = phases(self.text, spans[place])
            texts = [str(NetParameter(layer=[layer])).rstrip() for layer in part]
            subject = f"the {layers[place].type} layer {layers[place].name}"
            title = f"# {subject}, as lstmc {__version__} made it for target {target}"
            pieces += [self.text[at : spans[place].start], title]
            pieces += [f"\n{layer[:-1]}{rules}}}" for layer in texts]
            at = spans[place].stop
        return "".join((*pieces, self.text[at:]))

    def _weights(self, parts: Mapping[int, list[bytes]]) -> bytes:
        """Return the caffemodel, in which the messages ``parts`` replace those of the recurrent layers."""
        layers = net_from_text(self.text).layer
        replaced = {(layers[place].name, layers[place].type): place for place in parts}
        pending = dict(parts)
        net, kept = NetOfBytes.FromString(self.caffemodel), list[bytes]()
        for content in net.layer:
            layer = RawLayer.FromString(content)
            place = replaced.get((layer.name, layer.type))
            kept += [content] if place is None else pending.pop(place, [])
        del net.layer[:]
        net.layer.extend([*kept, *(layer for stored in pending.values() for layer in stored)])
        return bytes(net.SerializeToString(deterministic=True))


_LARGEST = 64 * 2**20  # bytes of a prototxt
_LAYER = re.compile(rb"\blayers?\s*:?\s*[{<]")


class CaffeSource:
    """Source of Caffe nets: LSTM and RNN layers are imported alone if the net has any; otherwise all layers. The steps
    of an unrolled recurrence, as by NetSpec, are rolled up again."""

    summary = "a prototxt of Caffe (with its weights, a caffemodel)"
    options = frozenset({"weights", "shapes", "values"})

    def knows(self, path: Path) -> bool:
        """Return whether a file is a text with a layer, or a caffemodel."""
        if _is_caffemodel(path):
            return True
        if path.stat().st_size > _LARGEST:
            return False
        content = read_file(path)
        return b"\0" not in content and _LAYER.search(content) is not None

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        """Return a net's recurrent layers, with the other layers as their host; all layers if none is recurrent."""
        if _is_caffemodel(path):
            mend = f"give its prototxt, and this by {Argument('weights', path.name)}"
            raise SourceError(f"{path.name}: this file has the weights of a Caffe net: {mend}")
        try:
            text = read_file(path).decode()
            net = net_from_text(text)
        except UnicodeDecodeError:
            raise SourceError(f"{path.name}: expected the text of a Caffe net, found bytes that are no UTF-8") from None
        except BackendError as error:
            raise SourceError(f"{path.name}: {error.marked}", notes=error.marked_notes) from None
        if options.weights is None:
            given = f"give the caffemodel that was trained with it, {Argument('weights', 'FILE.caffemodel')}"
            raise SourceError(f"{path.name}: a prototxt has no weights: {given}")
        inputs = [*net.input, *(top for layer in net.layer if not layer.bottom for top in layer.top)]
        blobs = list(dict.fromkeys([*net.input, *(top for layer in net.layer for top in layer.top)]))
        for kind, named, known in (("input", options.values, inputs), ("blob", options.shapes, blobs)):
            for name in named:
                if name not in known:
                    raise SourceError(f"{path.name}: it has no {kind} {name}{nearest_or_all(name, known)}")
        if len(layer_fields(text)) != len(net.layer):
            raise SourceError(f"{path.name}: the layers in its text cannot be separated: write one `layer {{ }}` each")
        fields = [*map(str, misspelt(text, net))]
        if fields:
            raise SourceError(f"{path.name}: {fields[0]}", notes=fields[1:])
        content = _caffemodel(options.weights)
        hints = BlobHints({name: tuple(shape) for name, shape in options.shapes.items()}, options.values)
        if not any(layer.type in TYPES for layer in net.layer):
            return CaffeHostNet(path.name, text, content, Imported(), hints).whole()
        unwritten = [_unwritten_bottom(layer, blob, near) for layer, blob, near in unwritten_bottoms(net)]
        if unwritten:
            raise RefusedError(path.name, unwritten)
        layers = _layers(net, RawNet.FromString(content), path.name, hints)
        description, imported = describe_layers(layers, path.name, [list(layer.top) for layer in net.layer])
        runtime = whole_net.CaffeRuntime([*whole_net.recurrent_nets(layers, imported)], content)
        return SourceNet(description, "Caffe", CaffeHostNet(path.name, text, content, imported, hints), runtime)


def _is_caffemodel(path: Path) -> bool:
    """Return whether a file begins as a binary NetParameter: with an optional name, then an input or a layer."""
    with regular(path).open("rb") as file:
        head = file.read(128)
    if head[:1] == b"\n" and len(head) > 1 and head[1] < 0x80:
        head = head[2 + head[1] :]
    return head[:2] == b"\xa2\x06" or head[:1] in (b"\x12", b"\x1a")


def _caffemodel(path: Path) -> bytes:
    with reading(path, SourceError):
        content = read_file(path)
    try:
        RawNet.FromString(content)
    except DecodeError:
        raise SourceError(f"{path}: expected a caffemodel, found something else, or a damaged one") from None
    return content


def _layers(net: Any, trained: Any, origin: str, hints: BlobHints) -> list[Layer]:
    """Return the recurrent layers with their shapes and blobs; raise RefusedError for unknown shapes of bottoms."""
    inferred = infer_shapes(net.layer, {**old_inputs(net), **hints.shapes}, hints.shapes)
    layers, refusals = [], list[Refusal]()
    for place, blobs in _blobs_of(net, trained, TYPES).items():
        message, seen = net.layer[place], inferred.seen[place][0]
        bottoms: list[Shape] = [shape for shape in seen if shape is not None]
        if len(bottoms) != len(message.bottom):
            names = [name for name, shape in zip(message.bottom, seen, strict=True) if shape is None]
            refusals.append(unknown_bottoms(message, names, _first_unknown(net.layer, inferred, place, names)))
            continue
        fixed = {
            name: constant_of(hints.values, name, shape)
            for name, shape in zip(message.bottom, bottoms, strict=True)
            if name in hints.values and not any(name in layer.top for layer in net.layer[:place] if layer.bottom)
        }
        layers.append(Layer(place, message, bottoms, blobs, fixed))
    if refusals:
        raise RefusedError(origin, refusals)
    return layers


def _first_unknown(layers: Sequence[Any], shapes: Shapes, place: int, names: Collection[str]) -> list[str]:
    """Return the first blobs of unknown shape that ``names``, bottoms of layer ``place``, are computed from."""
    waiting, sources = set(names), list[str]()
    for layer, (bottoms, _) in reversed([*zip(layers, shapes.seen, strict=True)][:place]):
        tops = [top for top in layer.top if top in waiting]
        before = {name for name, shape in zip(layer.bottom, bottoms, strict=True) if shape is None}
        if tops:
            waiting -= {*tops}
            waiting |= before
            sources += [] if before else tops
    return [*sources, *sorted(waiting)]


def _unwritten_bottom(message: Any, blob: str, near: str) -> Refusal:
    mend = near.removeprefix(": ") or "check the net in Caffe"
    return Refusal(label(message), "bottoms", blob, "no layer before it writes that", mend)


def _blobs_of(net: Any, trained: Any, types: Collection[str] | None = None) -> Mapping[int, Sequence[Weight]]:
    """Return the blobs of each layer of ``types``, or of all, by its index; raise RefusedError for any not float32."""
    stored = {(layer.name, layer.type): layer.blobs for layer in trained.layer}
    shared: dict[str, Weight] = {}
    blobs = {}
    for place, message in enumerate(net.layer):
        if types is not None and message.type not in types:
            continue
        sharing = {index: spec.name for index, spec in enumerate(message.param) if spec.name}
        read = enumerate(stored.get((message.name, message.type), ()))
        own = [_weight(sharing.get(index), message.name, index, blob) for index, blob in read]
        own = [shared.setdefault(sharing[i], blob) if i in sharing else blob for i, blob in enumerate(own)]
        # a layer whose blobs are all shared need not be in the file
        blobs[place] = own or [shared[name] for name in sharing.values() if name in shared]
    return blobs


def _weight(param: str | None, layer: str, index: int, blob: Any) -> Weight:
    """Return a blob as a weight, named ``param`` if layers share it, else by the layer's name and the blob's index."""
    shape, name = tuple(blob.shape.dim), param or f"{layer}/{index}"
    if min(shape, default=1) < 0 or 4 * prod(shape) != len(blob.data):
        value = f"{list(shape)} in {len(blob.data):,} bytes"
        refusal = Refusal(f"blob {name}", "shape", value, "expected four bytes an element", "save it again")
        raise RefusedError(layer, [refusal])

    def load() -> Array:
        return np.frombuffer(blob.data, "<f4").reshape(shape)

    return Weight(shape, (name,), name, load)
