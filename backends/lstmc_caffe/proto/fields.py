"""One field of a LayerParameter by its path, as ``softmax_param.axis``; and the misspelt fields of a text."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from lstmc.files.output import shortest
from lstmc_caffe.proto.net import NetParameter

# The old names of two fields, which Caffe still reads (``slice_layer.cpp``, ``concat_layer.cpp``).
OLD_NAMES = {"concat_param.axis": "concat_dim", "slice_param.axis": "slice_dim"}


def write_setting(layer: Any, path: str, value: Any) -> None:
    """Set a field, unless the value is None or what Caffe takes for a field that is not set."""
    message, field = _field(layer, path)
    if value is None or (field.has_default_value and value == field_value(message, field.name)):
        return
    if field.enum_type is not None:
        value = field.enum_type.values_by_name[value.upper()].number
    setattr(message, field.name, value)


def read_setting(layer: Any, path: str) -> Any:
    """Return a field's value, or Caffe's default; None without a default."""
    message, field = _field(layer, path)
    old = OLD_NAMES.get(path)
    if old is not None and message.HasField(old):
        return getattr(message, old)
    return field_value(message, field.name) if message.HasField(field.name) or field.has_default_value else None


def field_value(message: Any, name: str) -> Any:
    """Return a field as a value of Python: a float as the shortest number that it is, an enum by its name."""
    value, field = getattr(message, name), message.DESCRIPTOR.fields_by_name[name]
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return shortest(value)
    return value if field.enum_type is None else field.enum_type.values_by_number[value].name


def other_settings(layer: Any, modelled: Container[str]) -> Iterator[str]:
    """Yield the parameters of a layer outside of ``modelled``, which has fields by path and whole messages by name.

    Fields with their default values and fillers do not count; ``propagate_down: false`` does.
    """
    if not all(layer.propagate_down) and "propagate_down" not in modelled:
        yield "propagate_down: false"
    for field, message in layer.ListFields():
        if field.name.endswith("_param") and field.name not in modelled:
            for inner, value in message.ListFields():
                path = f"{field.name}.{inner.name}"
                is_filler = inner.message_type is not None and inner.message_type.name == "FillerParameter"
                is_modelled = path in modelled or inner.name == OLD_NAMES.get(f"{field.name}.axis") or is_filler
                if not is_modelled and not (inner.has_default_value and value == inner.default_value):
                    yield path


def _field(layer: Any, path: str) -> tuple[Any, Any]:
    param, _, name = path.partition(".")
    return getattr(layer, param), getattr(layer, param).DESCRIPTOR.fields_by_name[name]


TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>\w+)|(?P<mark>.)"""
)
OPEN, CLOSE = "{<", "}>"

_SIMILAR = 0.85  # of get_close_matches: other versions of Caffe have fields whose names are less similar


@dataclass(frozen=True)
class UnknownField:
    """A field in a net's text that its message does not have: its line, and the nearest field.

    ``layer`` is the index of the layer that it is in, None outside all layers.
    """

    layer: int | None
    message: str
    name: str
    line: int
    near: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} has no field {self.name}: did you mean {self.near}?"


def misspelt_fields(text: str) -> Iterator[UnknownField]:
    """Yield the fields of a net's text that their messages do not have, where one of a similar name exists.

    A field without such a name, and all that is inside it, may be of another version of Caffe. The text must parse.
    """
    messages: list[Any] = [NetParameter.DESCRIPTOR]
    entered: Any = None  # the message of the last field
    layers, tokens = -1, [token for token in TOKEN.finditer(text) if token["skip"] is None]
    for token, following in pairwise(tokens):
        mark, message = token["mark"] or "", messages[-1]
        if mark and mark in OPEN:
            messages.append(entered)
        elif mark and mark in CLOSE:
            messages.pop()
        elif token["word"] and (following["mark"] or " ") in f":{OPEN}":
            name = token["word"]
            layers += len(messages) == 1 and name == "layer"
            field = message.fields_by_name.get(name) if message is not None else None
            entered = field.message_type if field is not None else None
            if field is None and message is not None:
                for near in get_close_matches(name, message.fields_by_name, 1, _SIMILAR):
                    line = text.count("\n", 0, token.start()) + 1
                    yield UnknownField(None if len(messages) == 1 else layers, message.name, name, line, near)


# Every type of layer in Caffe 1.0
LAYER_TYPES = frozenset(
    """
    AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data
    Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss
    Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU
    Parameter Pooling Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice
    Softmax SoftmaxWithLoss Split Swish TanH Threshold Tile WindowData
    """.split()  # noqa: SIM905
)
