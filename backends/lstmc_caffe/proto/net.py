"""The messages of Caffe's protocol that lstmc writes, and the fields that the linter reads, in protobuf.

Built from a table, in a descriptor pool of its own, so that it lives beside an installed pycaffe's ``caffe``
package in one process. Numbers and names are facts of BVLC Caffe's ``src/caffe/proto/caffe.proto``; a test
compares every field with the installed Caffe's own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from lstmc.errors import BackendError, PluginError
from lstmc.ops.base import dialects, load_dialect

PACKAGE = "lstmc_caffe"
Fields = tuple[tuple[str, int, str], ...]  # of a message: name, number and type


def _table(text: str) -> dict[str, Fields]:
    """Return the fields of each message of a table."""
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


def _field(message: Any, name: str, number: int, spec: str) -> None:
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
    file = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto2")
    for name, fields in (MESSAGES | _RAW).items():
        message = file.message_type.add(name=name)
        for field in fields:
            _field(message, *field)
    owners = {message.name: message for message in file.message_type}
    for enum, (owner, values, first) in ENUMS.items():
        declared = (owners[owner] if owner else file).enum_type.add(name=enum)
        for number, value in enumerate(values, first):
            declared.value.add(name=value, number=number)
    return file


def layer_field(name: str, number: int, message: str, fields: Fields) -> None:
    """Register a field of LayerParameter, with its message, in the notation of ``MESSAGES``.

    For the layers of a package, where they are defined: ``layer_field("relu_param", 123, "ReLUParameter",
    (("negative_slope", 1, "float=0"),))``. Names and numbers are those of the Caffe that is to read the net. Raises
    :class:`BackendError` if the name, the number or the message stands for something else already.
    """
    declared = (name, number, message)
    for other in MESSAGES["LayerParameter"]:
        if other != declared and (other[0] == name or other[1] == number):
            raise BackendError(
                f"LayerParameter has field {other[0]} = {other[1]} of {other[2]}, found {name} = {number} of {message}"
            )
    if MESSAGES.get(message, fields) != fields:
        raise BackendError(f"{message} has fields {MESSAGES[message]}, found {fields}")
    if declared not in MESSAGES["LayerParameter"]:
        MESSAGES[message] = fields
        MESSAGES["LayerParameter"] += (declared,)


def load_layer_fields() -> None:
    """Load the dialects of all packages: each registers the fields of its layers, which a parser must have from the
    first layer on. One that does not load is ``lstmc doctor``'s to name."""
    for name in dialects():
        with suppress(PluginError):
            load_dialect(name)


@cache
def _pool(layer_fields: Fields) -> descriptor_pool.DescriptorPool:
    """Return all messages, with LayerParameter as it is now."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return pool


@dataclass(frozen=True)
class Message:
    """A message type of the protocol; call it to create a message. Its class is rebuilt after a field is registered."""

    name: str

    def current_class(self) -> Any:
        """Return the message class with the current fields."""
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


def stored_layers(content: bytes) -> Any:
    """Return the layers of a caffemodel with the names of their parameters. Raises :class:`BackendError`."""
    try:
        return SharingNet.FromString(content).layer
    except DecodeError:
        raise BackendError("expected a caffemodel, found something else") from None


def net_text(content: bytes) -> str:
    """Return the text of a prototxt. Raises :class:`BackendError` if it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BackendError("expected a net as text, found a file that is not UTF-8") from None


def net_from_text(text: str, others: bool = True) -> Any:
    """Return the NetParameter of a prototxt. Fields not in the table are ignored, or refused without ``others``.

    Raises :class:`BackendError` for text that is no net, or a net of V1 layers.
    """
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
