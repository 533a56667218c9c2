"""The messages of Caffe's protocol that lstmc writes, and the fields that the linter reads, in protobuf.

Built from a table, in a descriptor pool of its own, so that it lives beside an installed pycaffe's ``caffe``
package in one process. Numbers and names are facts of BVLC Caffe's ``src/caffe/proto/caffe.proto``; a test
compares every field with the installed Caffe's own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
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


# Each line is a message, then its fields with their numbers and types: * repeated, ** repeated and packed, = default.
# Types in capitals are messages and enums.
MESSAGES = _table(
    """
BlobShape: dim 1 int64**
BlobProto: data 5 float**, shape 7 BlobShape
FillerParameter: type 1 string=constant, value 2 float=0, min 3 float=0, max 4 float=1, mean 5 float=0, std 6 float=1,
    sparse 7 int32=-1, variance_norm 8 VarianceNorm=FAN_IN
ParamSpec: name 1 string, lr_mult 3 float=1, decay_mult 4 float=1
AccuracyParameter: top_k 1 uint32=1, axis 2 int32=1, ignore_label 3 int32
BatchNormParameter: use_global_stats 1 bool, moving_average_fraction 2 float=0.999, eps 3 float=1e-05
BiasParameter: axis 1 int32=1, num_axes 2 int32=1, filler 3 FillerParameter
ConcatParameter: concat_dim 1 uint32=1, axis 2 int32=1
ConvolutionParameter: num_output 1 uint32, bias_term 2 bool=true, pad 3 uint32*, kernel_size 4 uint32*,
    group 5 uint32=1, stride 6 uint32*, weight_filler 7 FillerParameter, bias_filler 8 FillerParameter,
    pad_h 9 uint32=0, pad_w 10 uint32=0, kernel_h 11 uint32, kernel_w 12 uint32, stride_h 13 uint32=1,
    stride_w 14 uint32=1, axis 16 int32=1, dilation 18 uint32*
DropoutParameter: dropout_ratio 1 float=0.5
DummyDataParameter: data_filler 1 FillerParameter*, shape 6 BlobShape*
ELUParameter: alpha 1 float=1
EltwiseParameter: operation 1 EltwiseOp=SUM, coeff 2 float*, stable_prod_grad 3 bool=true
EmbedParameter: num_output 1 uint32, input_dim 2 uint32, bias_term 3 bool=true, weight_filler 4 FillerParameter,
    bias_filler 5 FillerParameter
ExpParameter: base 1 float=-1, scale 2 float=1, shift 3 float=0
FlattenParameter: axis 1 int32=1, end_axis 2 int32=-1
HDF5DataParameter: source 1 string, batch_size 2 uint32, shuffle 3 bool=false
InnerProductParameter: num_output 1 uint32, bias_term 2 bool=true, weight_filler 3 FillerParameter,
    bias_filler 4 FillerParameter, axis 5 int32=1, transpose 6 bool=false
InputParameter: shape 1 BlobShape*
LRNParameter: local_size 1 uint32=5, alpha 2 float=1, beta 3 float=0.75, norm_region 4 NormRegion=ACROSS_CHANNELS,
    k 5 float=1
LogParameter: base 1 float=-1, scale 2 float=1, shift 3 float=0
LossParameter: ignore_label 1 int32, normalize 2 bool, normalization 3 NormalizationMode=VALID
NetStateRule: phase 1 Phase, min_level 2 int32, max_level 3 int32, stage 4 string*, not_stage 5 string*
PReLUParameter: filler 1 FillerParameter, channel_shared 2 bool=false
PoolingParameter: pool 1 PoolMethod=MAX, kernel_size 2 uint32, stride 3 uint32=1, pad 4 uint32=0, kernel_h 5 uint32,
    kernel_w 6 uint32, stride_h 7 uint32, stride_w 8 uint32, pad_h 9 uint32=0, pad_w 10 uint32=0,
    global_pooling 12 bool=false
PowerParameter: power 1 float=1, scale 2 float=1, shift 3 float=0
ReLUParameter: negative_slope 1 float=0
ReductionParameter: operation 1 ReductionOp=SUM, axis 2 int32=0, coeff 3 float=1
ReshapeParameter: shape 1 BlobShape, axis 2 int32=0, num_axes 3 int32=-1
ScaleParameter: axis 1 int32=1, num_axes 2 int32=1, filler 3 FillerParameter, bias_term 4 bool=false,
    bias_filler 5 FillerParameter
RecurrentParameter: num_output 1 uint32=0, weight_filler 2 FillerParameter, bias_filler 3 FillerParameter,
    debug_info 4 bool=false, expose_hidden 5 bool=false
SliceParameter: slice_dim 1 uint32=1, slice_point 2 uint32*, axis 3 int32=1
SoftmaxParameter: axis 2 int32=1
TileParameter: axis 1 int32=1, tiles 2 int32
V1LayerParameter: name 4 string
LayerParameter: name 1 string, type 2 string, bottom 3 string*, top 4 string*, loss_weight 5 float*,
    param 6 ParamSpec*, blobs 7 BlobProto*, include 8 NetStateRule*, exclude 9 NetStateRule*, phase 10 Phase,
    propagate_down 11 bool*, loss_param 101 LossParameter, accuracy_param 102 AccuracyParameter,
    concat_param 104 ConcatParameter, convolution_param 106 ConvolutionParameter, dropout_param 108 DropoutParameter,
    dummy_data_param 109 DummyDataParameter, eltwise_param 110 EltwiseParameter, exp_param 111 ExpParameter,
    hdf5_data_param 112 HDF5DataParameter, inner_product_param 117 InnerProductParameter, lrn_param 118 LRNParameter,
    pooling_param 121 PoolingParameter, power_param 122 PowerParameter, relu_param 123 ReLUParameter,
    softmax_param 125 SoftmaxParameter, slice_param 126 SliceParameter, prelu_param 131 PReLUParameter,
    reshape_param 133 ReshapeParameter, log_param 134 LogParameter, flatten_param 135 FlattenParameter,
    reduction_param 136 ReductionParameter, embed_param 137 EmbedParameter, tile_param 138 TileParameter,
    batch_norm_param 139 BatchNormParameter, elu_param 140 ELUParameter, bias_param 141 BiasParameter,
    scale_param 142 ScaleParameter, input_param 143 InputParameter, recurrent_param 146 RecurrentParameter
NetParameter: name 1 string, layers 2 V1LayerParameter*, input 3 string*, input_dim 4 int32*,
    force_backward 5 bool=false, input_shape 8 BlobShape*, layer 100 LayerParameter*
SolverParameter: test_iter 3 int32*, test_interval 4 int32=0, base_lr 5 float, display 6 int32, max_iter 7 int32,
    lr_policy 8 string, gamma 9 float, power 10 float, momentum 11 float, weight_decay 12 float, stepsize 13 int32,
    snapshot 14 int32=0, snapshot_prefix 15 string, solver_mode 17 SolverMode=GPU, random_seed 20 int64=-1,
    net 24 string, regularization_type 29 string=L2, delta 31 float=1e-08, test_initialization 32 bool=true,
    average_loss 33 int32=1, stepvalue 34 int32*, clip_gradients 35 float=-1, iter_size 36 int32=1,
    rms_decay 38 float=0.99, momentum2 39 float=0.999, type 40 string=SGD
"""
)

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
