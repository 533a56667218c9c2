"""Caffe's nets as a source: a prototxt and its caffemodel, of which nothing is run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from lstmc.errors import Argument, BackendError
from lstmc.importers.refusal import Refusal, RefusedError, SourceError
from lstmc.importers.sources import SourceNet
from lstmc.ops import Array
from lstmc.similar_names import nearest_or_all
from lstmc_caffe.proto.net import RawNet, net_from_text
from lstmc_caffe.source.layer import TYPES, Layer, Told, blobs_of, constant_of, first_unknown, unknown_bottoms
from lstmc_caffe.source.layer_text import layer_fields
from lstmc_caffe.source.message import wire_fields
from lstmc_caffe.source.recurrent_layers import Imported, describe_layers
from lstmc_caffe.source.runtime import CaffeRuntime, each_alone
from lstmc_caffe.source.splice import CaffeSurroundings
from lstmc_caffe.targets.shapes import Shape, infer_shapes, old_inputs

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
