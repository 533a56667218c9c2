"""Nets, or parts of them, in real Caffe, fed what their descriptions are fed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.backend import Artifact, Violation
from lstmc.errors import Argument, BackendError
from lstmc.importers.refusal import Refusal, RefusedError, SourceError
from lstmc.importers.sources import SourceNet
from lstmc.ops import Array
from lstmc.text import nearest_or_all
from lstmc.version import __version__
from lstmc_caffe.proto.net import NetParameter, RawNet, net_from_text
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.source.layer import (
    LAYER,
    TYPES,
    Layer,
    Told,
    blobs_of,
    constant_of,
    first_unknown,
    layer_fields,
    phases,
    unknown_bottoms,
    wire_fields,
)
from lstmc_caffe.source.recurrent_layers import Imported, Part, describe_layers, parts_of
from lstmc_caffe.source.whole_net import describe_whole
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.load import load_target
from lstmc_caffe.targets.shapes import Shape, infer_shapes, old_inputs


@dataclass(frozen=True)
class Fed:
    """A net's text; for each of its inputs the description's, and for each of the description's outputs its blob.

    ``fixed`` are the inputs that are constants.
    """

    text: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    fixed: Mapping[str, Array]


class CaffeRuntime:
    """Real Caffe on these nets, with a trained net's weights."""

    name = "Caffe's own layers"

    def __init__(self, nets: Sequence[Fed], caffemodel: bytes) -> None:
        self.nets, self.caffemodel = nets, caffemodel

    def unavailable(self) -> str | None:
        """Why there is no Caffe here, or None."""
        return CaffeExecutor(Runner(), "cpu").unavailable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One forward pass of each net."""
        found: dict[str, Array] = {}
        with Runner() as runner, TemporaryDirectory() as folder:
            weights = Path(folder, "weights.caffemodel")
            weights.write_bytes(self.caffemodel)
            for net in self.nets:
                with runner.load(net.text, weights=weights) as loaded:
                    fed = {**{blob: inputs[name] for blob, name in net.inputs.items()}, **net.fixed}
                    blobs = loaded.run(fed, want=list(net.outputs.values())).blobs
                found |= {name: np.asarray(blobs[blob], np.float64) for name, blob in net.outputs.items()}
        return found


def each_alone(layers: Sequence[Layer], imported: Imported) -> Iterator[Fed]:
    """The recurrent layers, a net each, as they stand in their own."""
    for layer in layers:
        alone = type(layer.message)()
        alone.CopyFrom(layer.message)
        alone.ClearField("include")
        alone.ClearField("exclude")
        shapes = dict(zip(layer.message.bottom, layer.bottoms, strict=True))
        text = input_text(shapes) + str(NetParameter(layer=[alone]))
        names = dict(zip(layer.message.bottom, imported.bottoms[layer.place], strict=True))
        fed = {blob: name for blob, name in names.items() if blob not in layer.fixed}
        tops = {name: top for name, (place, top) in imported.outputs.items() if place == layer.place}
        yield Fed(text, fed, tops, layer.fixed)


def input_text(shapes: Mapping[str, Shape]) -> str:
    """A layer of type Input for each blob."""
    net: Any = NetParameter()
    for blob, shape in shapes.items():
        entry = net.layer.add(name=f"input of {blob}", type="Input", top=[blob])
        entry.input_param.shape.add().dim.extend(shape)
    return str(net)


@dataclass(frozen=True)
class CaffeSurroundings:
    """A net's text and caffemodel, and what its recurrent layers were imported as.

    ``told`` is what a person said of it.
    """

    origin: str
    text: str
    caffemodel: bytes
    imported: Imported
    told: Told
    backend: str = "caffe"

    @property
    def name(self) -> str:
        """What its files are called."""
        return Path(self.origin).stem

    def whole(self) -> SourceNet:
        """All of the net, with real Caffe to run the layers that were described."""
        net, spans = net_from_text(self.text), layer_fields(self.text)
        blobs = blobs_of(net, RawNet.FromString(self.caffemodel))
        described, whole = describe_whole(net, blobs, self.origin, self.told)
        shapes = {blob: tuple(map(int, described.inputs[name])) for name, blob in whole.inputs.items()}
        layers = (self.text[spans[place].start : spans[place].stop] for place in whole.places)
        shapes |= {blob: array.shape for blob, array in whole.fixed.items()}
        text = "\n".join((input_text(shapes), *layers))
        fed = Fed(text, {blob: name for name, blob in whole.inputs.items()}, whole.outputs, whole.fixed)
        return SourceNet(described, "Caffe", None, CaffeRuntime([fed], self.caffemodel))

    def files(self, artifact: Artifact, target: str) -> dict[str, bytes]:
        """``NAME.TARGET.prototxt`` and ``NAME.TARGET.caffemodel``: the whole net for a target."""
        parts = parts_of(artifact, net_from_text(self.text), self.imported)
        name = load_target(target).name
        return {
            f"{self.name}.{name}.prototxt": self._text(parts, name).encode(),
            f"{self.name}.{name}.caffemodel": self._weights(parts),
        }

    def findings(self, files: Mapping[str, bytes], target: str) -> list[Violation]:
        """Return what the target's rules say against copied layers.

        Without ``reads`` the rules are on what lstmc writes: then only layers of types that the target forbids.
        """
        if load_target(target).reads is not None:
            return self._violations(files, target)
        forbidden = {rule.layer for rule in load_target(target).restrictions if rule.forbidden}
        return [violation for violation in self._violations(files, target) if violation.type in forbidden]

    def remarks(self, files: Mapping[str, bytes], target: str) -> list[str]:
        """Return a line on copied layers of which the target does not say whether its readers load them."""
        forbidden = {violation.layer for violation in self.findings(files, target)}
        found = {v.layer: v.type for v in self._violations(files, target) if v.layer not in forbidden}
        if not found:
            return []
        listed = ", ".join(f"{name} ({kind})" for name, kind in found.items())
        return [
            f"Copied unchanged, and not on the list of layers that target {load_target(target).name} supports:"
            f" {listed}. Test them in your runtime, or convert the whole net."
        ]

    def _violations(self, files: Mapping[str, bytes], target: str) -> list[Violation]:
        """Return what the target's rules say against the layers that were copied."""
        (text,) = (content.decode() for name, content in files.items() if name.endswith(".prototxt"))
        layers = enumerate(net_from_text(self.text).layer)
        own = {layer.name for place, layer in layers if place not in self.imported.bottoms}
        return [violation for violation in lint_text(text, load_target(target)).violations if violation.layer in own]

    def _text(self, parts: Mapping[int, Part], target: str) -> str:
        spans, layers = layer_fields(self.text), net_from_text(self.text).layer
        pieces, at = [], 0
        for place, part in parts.items():
            told = phases(self.text, spans[place])
            made = [str(NetParameter(layer=[layer])).rstrip() for layer in part.layers]
            what = f"the {layers[place].type} layer {layers[place].name}"
            title = f"# {what}, as lstmc {__version__} made it for target {target}"
            pieces += [self.text[at : spans[place].start], title]
            pieces += [f"\n{layer[:-1]}{told}}}" for layer in made]
            at = spans[place].stop
        return "".join((*pieces, self.text[at:]))

    def _weights(self, parts: Mapping[int, Part]) -> bytes:
        layers = net_from_text(self.text).layer
        replaced = {(layers[place].name, layers[place].type): place for place in parts}
        waiting = {place: part.stored for place, part in parts.items()}
        pieces: list[bytes | memoryview] = []
        for found in wire_fields(self.caffemodel):
            layer = RawNet.FromString(bytes(found.whole)).layer[0] if found.number == LAYER else None
            place = None if layer is None else replaced.get((layer.name, layer.type))
            pieces += [found.whole] if place is None else waiting.pop(place, [])
        return b"".join((*pieces, *(left for stored in waiting.values() for left in stored)))


_LARGEST = 64 * 2**20  # bytes of a prototxt
_LAYER = re.compile(rb"\blayers?\s*:?\s*[{<]")


class CaffeSource:
    """Nets with layers of type LSTM and RNN, of which these are imported; of all others everything is.

    A net in which a recurrence is unrolled, as by NetSpec, is one of the others: its steps are rolled up again.
    """

    summary = "a prototxt of Caffe (with its weights, a caffemodel)"

    def knows(self, path: Path) -> bool:
        """Whether a file is text in which there is a layer, or a caffemodel."""
        if _is_caffemodel(path):
            return True
        if path.stat().st_size > _LARGEST:
            return False
        content = path.read_bytes()
        return b"\0" not in content and _LAYER.search(content) is not None

    def read(
        self,
        path: Path,
        weights: Path | None,
        shapes: Mapping[str, Sequence[int]],
        values: Mapping[str, Array],
    ) -> SourceNet:
        """Its recurrent layers, the rest as surroundings; or the whole net, if it has none."""
        if _is_caffemodel(path):
            argument = Argument("weights", path.name)
            message = (
                f"{path.name}: this file has the weights of a Caffe net: give its prototxt, and this by {argument}"
            )
            raise SourceError(message, arguments=(argument,))
        try:
            text = path.read_bytes().decode()
            net = net_from_text(text)
        except UnicodeDecodeError:
            raise SourceError(f"{path.name}: expected the text of a Caffe net, found bytes that are no UTF-8") from None
        except BackendError as error:
            raise SourceError(f"{path.name}: {error.message}", notes=error.notes) from None
        if weights is None:
            argument = Argument("weights", "FILE.caffemodel")
            message = (
                f"{path.name}: a prototxt has no weights: give the caffemodel that was trained with it, {argument}"
            )
            raise SourceError(message, arguments=(argument,))
        inputs = [*net.input, *(top for layer in net.layer if not layer.bottom for top in layer.top)]
        for name in values:
            if name not in inputs:
                raise SourceError(f"{path.name}: it has no input {name}{nearest_or_all(name, inputs)}")
        if len(layer_fields(text)) != len(net.layer):
            raise SourceError(f"{path.name}: the layers in its text cannot be separated: write one `layer {{ }}` each")
        content = _caffemodel(weights)
        told = Told({name: tuple(shape) for name, shape in shapes.items()}, values)
        if not any(layer.type in TYPES for layer in net.layer):
            return CaffeSurroundings(path.name, text, content, Imported(), told).whole()
        layers = _layers(net, RawNet.FromString(content), path.name, told)
        net_described, imported = describe_layers(layers, path.name, [list(layer.top) for layer in net.layer])
        around = CaffeSurroundings(path.name, text, content, imported, told)
        return SourceNet(net_described, "Caffe", around, CaffeRuntime([*each_alone(layers, imported)], content))


def _is_caffemodel(path: Path) -> bool:
    """Whether a file begins as a binary NetParameter does: maybe with its name, then with an input or a layer."""
    with path.open("rb") as file:
        head = file.read(128)
    if head[:1] == b"\n" and len(head) > 1 and head[1] < 0x80:
        head = head[2 + head[1] :]
    return head[:2] == b"\xa2\x06" or head[:1] in (b"\x12", b"\x1a")


def _caffemodel(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        RawNet.FromString(content)
        list(wire_fields(content))
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    except (DecodeError, BackendError):
        raise SourceError(f"{path}: expected a caffemodel, found something else, or a damaged one") from None
    return content


def _layers(net: Any, trained: Any, origin: str, told: Told) -> list[Layer]:
    """The recurrent layers with the shapes of their bottoms and their blobs."""
    known = infer_shapes(net.layer, {**old_inputs(net), **told.shapes}, told.shapes)
    found, refusals, arguments = [], list[Refusal](), list[Argument]()
    for place, blobs in blobs_of(net, trained, TYPES).items():
        message, seen = net.layer[place], known.seen[place][0]
        bottoms: list[Shape] = [shape for shape in seen if shape is not None]
        if len(bottoms) != len(message.bottom):
            names = [name for name, shape in zip(message.bottom, seen, strict=True) if shape is None]
            refused, named = unknown_bottoms(message, names, first_unknown(net.layer, known, place, names))
            refusals.append(refused)
            arguments += named
            continue
        fixed = {
            name: constant_of(told.values, name, shape)
            for name, shape in zip(message.bottom, bottoms, strict=True)
            if name in told.values and not any(name in layer.top for layer in net.layer[:place] if layer.bottom)
        }
        found.append(Layer(place, message, bottoms, blobs, fixed))
    if refusals:
        raise RefusedError(origin, refusals, arguments)
    return found
