"""A net with other layers in the places of some of its own: the rest of its text and its weights stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lstmc.backend import Artifact, Violation
from lstmc.importers.sources import SourceNet
from lstmc.version import __version__
from lstmc_caffe.proto.net import NetParameter, RawNet, net_from_text
from lstmc_caffe.source.layer import Told, blobs_of
from lstmc_caffe.source.layer_text import layer_fields, phases
from lstmc_caffe.source.message import LAYER, wire_fields
from lstmc_caffe.source.parts import Part, parts_of
from lstmc_caffe.source.recurrent_layers import Imported
from lstmc_caffe.source.runtime import CaffeRuntime, Fed, input_text
from lstmc_caffe.source.whole_net import describe_whole
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.load import load_target


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
