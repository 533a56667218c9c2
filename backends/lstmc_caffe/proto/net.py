"""The messages of Caffe's protocol in protobuf, one field of a layer by its path, and the misspelt fields of a text.
The messages come from a table, into a descriptor pool of their own, so that an installed pycaffe's ``caffe`` package
can be in the same process. A test compares every field with the installed Caffe's own."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import FieldDescriptor

from lstmc.errors import BackendError, PluginError
from lstmc.files.output import shortest
from lstmc.ops.base import dialects, load_dialect

PACKAGE = "lstmc_caffe"
Fields = tuple[tuple[str, int, str], ...]  # of a message: name, number and type


def _table(text: str) -> dict[str, Fields]:
    """Return the fields of each message, by its name, from a table in the form of ``messages.txt``."""
    rows = (line.partition(": ") for line in text.replace("\n    ", " ").strip().splitlines())
    fields = {message: [field.split(" ") for field in listed.split(", ")] for message, _, listed in rows}
    return {message: tuple((name, int(n), kind) for name, n, kind in each) for message, each in fields.items()}


# A line is a message, then its fields with their numbers and types: * repeated, ** repeated and packed, = default.
# Types in capitals are messages and enums.
MESSAGES = _table(Path(__file__).with_name("messages.txt").read_text("utf-8"))

# ENUM -> (message it is nested in, or "" if it is in none; its values; the number of the first)
ENUMS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "VarianceNorm": ("FillerParameter", ("FAN_IN", "FAN_OUT", "AVERAGE"), 0),
    "EltwiseOp": ("EltwiseParameter", ("PROD", "SUM", "MAX"), 0),
    "NormalizationMode": ("LossParameter", ("FULL", "VALID", "BATCH_SIZE", "NONE"), 0),
    "NormRegion": ("LRNParameter", ("ACROSS_CHANNELS", "WITHIN_CHANNEL"), 0),
    "PoolMethod": ("PoolingParameter", ("MAX", "AVE", "STOCHASTIC"), 0),
    "ReductionOp": ("ReductionParameter", ("SUM", "ASUM", "SUMSQ", "MEAN"), 1),
    "Phase": ("", ("TRAIN", "TEST"), 0),
    "SolverMode": ("SolverParameter", ("CPU", "GPU"), 0),
}

# Not Caffe's: the same messages as seen by a writer that has the floats as bytes. On the wire, packed floats and
# bytes are the same, so an array goes into a caffemodel without becoming a list of Python floats first.
# RawState is a snapshot of a solver: its history has one or two blobs a parameter. NetOfBytes has each layer as it lies
# in a file.
_RAW = _table(
    """
RawBlob: data 5 bytes, shape 7 BlobShape
RawLayer: name 1 string, type 2 string, blobs 7 RawBlob*
RawNet: name 1 string, layer 100 RawLayer*
SharingLayer: name 1 string, param 6 ParamSpec*, blobs 7 RawBlob*
SharingNet: layer 100 SharingLayer*
NetOfBytes: layer 100 bytes*
RawState: iter 1 int32, learned_net 2 bytes, history 3 RawBlob*, current_step 4 int32=0
"""
)


def _declare(message: Any, name: str, number: int, spec: str) -> None:
    """Add a field to a message. ``spec`` is the field's type, in the notation of ``MESSAGES``."""
    kind, _, default = spec.partition("=")
    field = message.field.add(name=name, number=number)
    repeated = kind.endswith("*")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind.endswith("**"):
        field.options.packed = True
    kind = kind.rstrip("*")
    if kind in ENUMS:
        owner = f".{ENUMS[kind][0]}" if ENUMS[kind][0] else ""
        field.type, field.type_name = field.TYPE_ENUM, f".{PACKAGE}{owner}.{kind}"
    elif kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    if default:
        field.default_value = default


def _file() -> Any:
    """Return the descriptor of a file with all messages and enums of the tables."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto2")
    for name, fields in (MESSAGES | _RAW).items():
        message = file.message_type.add(name=name)
        for field in fields:
            _declare(message, *field)
    owners = {message.name: message for message in file.message_type}
    for enum, (owner, values, first) in ENUMS.items():
        declared = (owners[owner] if owner else file).enum_type.add(name=enum)
        for number, value in enumerate(values, first):
            declared.value.add(name=value, number=number)
    return file


def layer_field(name: str, number: int, message: str, fields: Fields) -> None:
    """Register a field of LayerParameter, with its message, in the notation of ``MESSAGES``.

    A package calls this where it defines its layers: ``layer_field("relu_param", 123, "ReLUParameter",
    (("negative_slope", 1, "float=0"),))``. Names and numbers must be those of the Caffe that reads the net. Raises
    :class:`BackendError` if the name, the number or the message is already in use.
    """
    declared = (name, number, message)
    for other in MESSAGES["LayerParameter"]:
        if other != declared and (other[0] == name or other[1] == number):
            found = f"found {name} = {number} of {message}"
            raise BackendError(f"LayerParameter has field {other[0]} = {other[1]} of {other[2]}, {found}")
    if MESSAGES.get(message, fields) != fields:
        raise BackendError(f"{message} has fields {MESSAGES[message]}, found {fields}")
    if declared not in MESSAGES["LayerParameter"]:
        MESSAGES[message] = fields
        MESSAGES["LayerParameter"] += (declared,)


def load_layer_fields() -> None:
    """Load the dialects of all packages, which register the fields of their layers; skip one that does not load."""
    for name in dialects():
        with suppress(PluginError):
            load_dialect(name)


@cache
def _pool(layer_fields: Fields) -> descriptor_pool.DescriptorPool:
    """Return a pool of all messages. ``layer_fields``, those of LayerParameter now, is the key of the cache."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return pool


@dataclass(frozen=True)
class Message:
    """A message type of the protocol; call it to create a message. Its class is rebuilt after a field is registered."""

    name: str

    def current_class(self) -> Any:
        pool = _pool(MESSAGES["LayerParameter"])
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{self.name}"))

    def __call__(self, **values: Any) -> Any:
        return self.current_class()(**values)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.current_class(), attribute)


LayerParameter = Message("LayerParameter")
NetParameter = Message("NetParameter")
RawNet = Message("RawNet")
RawLayer = Message("RawLayer")
SharingNet = Message("SharingNet")
NetOfBytes = Message("NetOfBytes")
RawState = Message("RawState")
SolverParameter = Message("SolverParameter")


def net_text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BackendError("expected a net as text, found a file that is not UTF-8") from None


def net_from_text(text: str, others: bool = True) -> Any:
    """Return the NetParameter of a prototxt. Unless ``others``, unknown fields are refused. Raises
    :class:`BackendError` for text that is not a net, and for a net of V1 layers."""
    load_layer_fields()
    net = NetParameter()
    try:
        text_format.Parse(text, net, allow_unknown_field=others)
    except (text_format.ParseError, RecursionError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise BackendError(f"expected the text of a Caffe net, found something else: {what}") from None
    if net.layers:
        raise BackendError(
            f"expected layer {{ }} entries, found {len(net.layers)} of the old form, layers {{ }} (V1LayerParameter)",
            notes=("Caffe's upgrade_net_proto_text rewrites such a file",),
        )
    if not net.layer:
        raise BackendError("expected the text of a Caffe net, found no layer")
    return net


# The old names of two fields, which Caffe still reads (``slice_layer.cpp``, ``concat_layer.cpp``).
OLD_NAMES = {"concat_param.axis": "concat_dim", "slice_param.axis": "slice_dim"}


def write_setting(layer: Any, path: str, value: Any) -> None:
    """Set a field, given as ``PARAM.FIELD``, unless the value is None or Caffe's default for the field."""
    message, field = _field(layer, path)
    if value is None or (field.has_default_value and value == field_value(message, field.name)):
        return
    if field.enum_type is not None:
        value = field.enum_type.values_by_name[value.upper()].number
    setattr(message, field.name, value)


def read_setting(layer: Any, path: str) -> Any:
    """Return the value of a field, or Caffe's default if the field is not set; None if it has no default."""
    message, field = _field(layer, path)
    old = OLD_NAMES.get(path)
    if old is not None and message.HasField(old):
        return getattr(message, old)
    return field_value(message, field.name) if message.HasField(field.name) or field.has_default_value else None


def field_value(message: Any, name: str) -> Any:
    """Return a field's value for Python: the shortest decimal number for a float32, the name of an enum."""
    value, field = getattr(message, name), message.DESCRIPTOR.fields_by_name[name]
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return shortest(value)
    return value if field.enum_type is None else field.enum_type.values_by_number[value].name


def other_settings(layer: Any, modelled: Container[str]) -> Iterator[str]:
    """Yield a layer's settings other than those ``modelled`` (paths, or whole messages), defaults and fillers."""
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
    """A field in a net's text that its message does not have, and the nearest known field. ``layer`` is the index of
    the layer that it is in, None outside all layers."""

    layer: int | None
    message: str
    name: str
    line: int
    near: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} has no field {self.name}: did you mean {self.near}?"


def misspelt_fields(text: str) -> Iterator[UnknownField]:
    """Yield the fields of a net's text that their messages do not have, if a known field has a similar name. A field
    without a similar name may belong to another version of Caffe, with all that is inside it. The text must parse."""
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
