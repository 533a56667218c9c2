"""A TFLite net under construction, and its file, which the object API of ai-edge-litert's schema writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.text import Names
from lstmc.types import TensorType

Role = Literal["value", "weights", "bias", "index"]
ALIGNMENT = 16  # bytes: kernels read 64-bit biases and vectors of a file in place


def litert(module: str) -> Any:
    """Return a module of LiteRT. Raises :class:`BackendError` if it is not installed."""
    return need(f"ai_edge_litert.{module}", "LiteRT", "tflite", BackendError)


def schema() -> Any:
    """Return the schema of TFLite files. Raises :class:`BackendError` if it is not installed."""
    return litert("schema_py_generated")


@dataclass(eq=False)
class Tensor:
    """A tensor. ``data`` are the numbers of a constant; with ``scale`` they are ``stored`` as integers of ``dtype``. If
    there are several scales, they belong to ``axis``. ``view``: the tensor that this one reshapes, or None."""

    name: str
    shape: tuple[int, ...]
    data: Array | None = None
    role: Role = "value"
    dtype: str = "float32"
    scale: tuple[float, ...] = ()
    zero: int = 0
    axis: int = 0
    stored: Array | None = None
    view: Tensor | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(eq=False)
class Operator:
    """An operator of TFLite: its name in the schema, its operands and results, the fields of its options, and the name
    of the graph's ``node`` that it belongs to."""

    code: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    options: Mapping[str, Any]
    node: str


@dataclass
class Call:
    """An op to lower: its operands as tensors, the types of its results and their names."""

    op: Any
    args: list[Tensor]
    types: Sequence[TensorType]
    names: Sequence[str]


@dataclass
class Net:
    """Tensors and operators of one graph, in order; names are unique."""

    name: str
    operators: list[Operator] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)  # by the model's names
    outputs: dict[str, Tensor] = field(default_factory=dict)
    node: str = ""  # the node that is being written
    _names: Names = field(default_factory=Names)
    _constants: dict[tuple[str, str, tuple[int, ...], bytes], Tensor] = field(default_factory=dict)

    def tensor(self, name: str, shape: Sequence[int], **more: Any) -> Tensor:
        """Return a new tensor, called like ``name``."""
        return Tensor(self._names.unique(name), tuple(map(int, shape)), **more)

    def constant(self, name: str, values: ArrayLike, role: Role = "value") -> Tensor:
        """Return a constant: int32 for an index, else float32. Equal ones of a role, and biases of a name, are one."""
        array = np.ascontiguousarray(values, np.int32 if role == "index" else np.float32)
        array = array.reshape(np.shape(values))
        own = name if role == "bias" else role  # a bias has the units of its product
        key = own, array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            dtype = "int32" if role == "index" else "float32"
            self._constants[key] = self.tensor(name, array.shape, data=array, role=role, dtype=dtype)
        return self._constants[key]

    def index(self, values: ArrayLike) -> Tensor:
        """Return sizes, axes or places as a constant."""
        return self.constant("index", values, "index")

    def add(self, code: str, inputs: Sequence[Tensor], shape: Sequence[int], name: str, **options: Any) -> Tensor:
        """Add an operator of one result, and return its result."""
        return self.split(code, inputs, [shape], [name], **options)[0]

    def split(
        self, code: str, inputs: Sequence[Tensor], shapes: Sequence[Sequence[int]], names: Sequence[str], **options: Any
    ) -> list[Tensor]:
        """Add an operator of several results, and return its results."""
        outputs = [self.tensor(name, shape) for name, shape in zip(names, shapes, strict=True)]
        self.operators.append(Operator(code, list(inputs), outputs, options, self.node))
        return outputs

    def reshaped(self, x: Tensor, shape: Sequence[int], name: str) -> Tensor:
        """Return the elements of a tensor in another shape; the source of a view is reshaped instead of the view."""
        shape = tuple(map(int, shape))
        while x.shape != shape and x.view is not None:
            x = x.view
        if x.shape == shape:
            return x
        result = self.add("RESHAPE", [x, self.index(np.array(shape, np.int32))], shape, name, newShape=list(shape))
        result.view = x
        return result

    def transposed(self, x: Tensor, order: Sequence[int], name: str) -> Tensor:
        """Return a tensor with its axes in another order."""
        return self.add("TRANSPOSE", [x, self.index(list(order))], [x.shape[i] for i in order], name)

    def keep_live(self) -> None:
        """Drop operators that no output depends on."""
        wanted = {*self.outputs.values()}
        kept = []
        for operator in reversed(self.operators):
            if not wanted.isdisjoint(operator.outputs):
                wanted |= {*operator.inputs}
                kept.append(operator)
        self.operators = kept[::-1]

    def copy_before_views(self) -> None:
        """Copy a value before its RESHAPE if others read it: LiteRT 2.3 lets an elementwise operator overwrite both."""
        readers = Counter([*self.outputs.values(), *(t for o in self.operators for t in set(o.inputs))])
        operators, self.operators = self.operators, []
        for operator in operators:
            source, self.node = operator.inputs[0], operator.node
            if operator.code == "RESHAPE" and readers[source] > 1 and source.data is None:
                begin, size = self.index([0] * source.rank), self.index(list(source.shape))
                operator.inputs[0] = self.add("SLICE", [source, begin, size], source.shape, f"{source.name}/copy")
            self.operators.append(operator)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors in the order of their first use; inputs first."""
        used = [*self.inputs.values(), *(t for o in self.operators for t in (*o.inputs, *o.outputs))]
        return list(dict.fromkeys([*used, *self.outputs.values()]))


# The least version of an operator for float32, int8 and int16 (tensorflow/compiler/mlir/lite/tools/versioning/
# op_version.cc); those that are not listed have 1 in float32, 2 in int8 and int16.
VERSIONS: Mapping[str, tuple[int, int, int]] = {
    "ADD": (1, 2, 3), "BROADCAST_TO": (2, 3, 3), "CONCATENATION": (1, 2, 3), "CONV_2D": (1, 3, 4),
    "DEPTHWISE_CONV_2D": (1, 3, 5), "FULLY_CONNECTED": (1, 4, 7), "LOGISTIC": (1, 2, 3), "MUL": (1, 2, 4),
    "PAD": (1, 2, 3), "RELU": (1, 2, 3), "RESHAPE": (1, 1, 1), "SLICE": (1, 2, 4), "SPLIT": (1, 2, 4),
    "SUB": (1, 2, 5), "SUM": (1, 2, 3), "TANH": (1, 2, 3), "TRANSPOSE": (1, 2, 5),
}  # fmt: skip
# The schema's name of an operator's options, where it is not that of the operator; empty where it has none.
OPTIONS: Mapping[str, str] = {
    "AVERAGE_POOL_2D": "Pool2D", "MAXIMUM": "MaximumMinimum", "MAX_POOL_2D": "Pool2D", "REDUCE_MAX": "Reducer",
    "SUM": "Reducer",
    **dict.fromkeys(("LOGISTIC", "TANH", "RELU", "SQRT", "RSQRT", "SIN", "LOG"), ""),
}  # fmt: skip
BITS: Mapping[str, int] = {"int8": 1, "int16": 2}


def words(code: str) -> str:
    """Return the name of an operator as one word: ``Conv2D``, ``PadV2``."""
    parts = code.replace("V2", "_V2").split("_")
    return "".join(part if part[:1].isdecimal() else part.capitalize() for part in parts)


def version(operator: Operator) -> int:
    """Return the least version of an operator that supports the type of its result."""
    bits = BITS.get(operator.outputs[0].dtype, 0)
    if operator.code == "FULLY_CONNECTED" and bits and len(operator.inputs[1].scale) > 1:
        return 12  # that of scales by row: a runtime without them refuses the file
    if operator.code == "FULLY_CONNECTED" and "quantizedBiasType" in operator.options:
        return 11
    if operator.code == "DEQUANTIZE":
        return 2 if operator.inputs[0].dtype == "int8" else 3
    return VERSIONS.get(operator.code, (1, 2, 2))[bits]


class _File:
    """Builds the objects of a file: buffers, operator codes, tensors and operators."""

    def __init__(self, net: Net) -> None:
        self.s, self.net = schema(), net
        self.buffers, self.codes = [self.s.BufferT()], dict[tuple[str, int], int]()  # codes: name, version -> place
        self.places = {tensor: place for place, tensor in enumerate(net.tensors)}  # in the file

    def model(self) -> Any:
        """Return the schema's model of the net: a graph, its operators and tensors, and the signature ``step``."""
        s, net, graph, model = self.s, self.net, self.s.SubGraphT(), self.s.ModelT()
        graph.name = net.name.encode()
        graph.tensors = [self.tensor(tensor) for tensor in net.tensors]
        graph.operators = [self.operator(operator) for operator in net.operators]
        graph.inputs = self.indices(net.inputs.values())
        graph.outputs = self.indices(dict.fromkeys(net.outputs.values()))
        model.version, model.description, model.subgraphs = 3, b"lstmc", [graph]
        model.operatorCodes, model.buffers = [self.code(*key) for key in self.codes], self.buffers
        signature = s.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"step", 0
        signature.inputs, signature.outputs = self.named(net.inputs), self.named(net.outputs)
        model.signatureDefs = [signature]
        return model

    def indices(self, tensors: Any) -> Array:
        return np.array([self.places[tensor] for tensor in tensors], np.int32)

    def named(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """Return the entries of the signature: the names of inputs or outputs with their tensors."""
        maps = [self.s.TensorMapT() for _ in tensors]
        for each, (name, tensor) in zip(maps, tensors.items(), strict=True):
            each.name, each.tensorIndex = name.encode(), self.places[tensor]
        return maps

    def tensor(self, tensor: Tensor) -> Any:
        """Return the schema's tensor, with its scale; data that the tensor stores get a buffer of the file."""
        each, stored = self.s.TensorT(), tensor.data if tensor.stored is None else tensor.stored
        each.name, each.shape = tensor.name.encode(), np.array(tensor.shape, np.int32)
        each.type, each.buffer = getattr(self.s.TensorType, tensor.dtype.upper()), 0
        each.quantization = self.s.QuantizationParametersT()
        if tensor.scale:
            each.quantization.scale = np.array(tensor.scale, np.float32)
            each.quantization.zeroPoint = np.full(len(tensor.scale), tensor.zero, np.int64)
            each.quantization.quantizedDimension = tensor.axis
        if stored is not None:
            buffer = self.s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8)
            each.buffer = len(self.buffers)
            self.buffers.append(buffer)
        return each

    def operator(self, operator: Operator) -> Any:
        """Return the schema's operator, with its options and the index of its code."""
        each, key = self.s.OperatorT(), (operator.code, version(operator))
        each.opcodeIndex = self.codes.setdefault(key, len(self.codes))
        each.inputs, each.outputs = self.indices(operator.inputs), self.indices(operator.outputs)
        if title := OPTIONS.get(operator.code, words(operator.code)):
            options = getattr(self.s, f"{title}OptionsT")()
            for name, value in operator.options.items():
                setattr(options, name, value)
            if hasattr(options, "potScaleInt16"):
                options.potScaleInt16 = False
            each.builtinOptions, each.builtinOptionsType = options, getattr(self.s.BuiltinOptions, f"{title}Options")
        return each

    def code(self, name: str, version: int) -> Any:
        code, each = getattr(self.s.BuiltinOperator, name), self.s.OperatorCodeT()
        each.builtinCode, each.deprecatedBuiltinCode, each.version = code, min(code, 127), version
        return each


def file_bytes(net: Net) -> bytes:
    """Return the .tflite file of a net. Same net, same bytes."""
    flatbuffers = need("flatbuffers", "flatbuffers", "tflite", BackendError)
    model = _File(net).model()
    builder = flatbuffers.Builder(1 << 16)
    for buffer in model.buffers:
        buffer.Pack = _Aligned(buffer.data).pack
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@dataclass(frozen=True)
class _Aligned:
    """Packs a buffer with its data aligned: the schema's own ``Pack`` aligns to 4 bytes, whatever the schema says."""

    data: Any

    def pack(self, builder: Any) -> Any:
        """Write the buffer's data, aligned, and the buffer. Return the buffer's offset in the file."""
        s, at = schema(), None
        if self.data is not None:
            content = self.data.tobytes()
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            at = builder.EndVector()
        s.BufferStart(builder)
        if at is not None:
            s.BufferAddData(builder, at)
        return s.BufferEnd(builder)


def read_net(content: bytes) -> Net:
    """Return the first graph of a file, without options and weights. Raises :class:`BackendError` for other files."""
    s = schema()
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("no TFLite file")
        model = s.ModelT.InitFromPackedBuf(content)
        graph = model.subgraphs[0]
        names = {value: name for name, value in vars(s.BuiltinOperator).items() if not name.startswith("_")}
        types = {value: name.lower() for name, value in vars(s.TensorType).items() if not name.startswith("_")}
        tensors = [Tensor(t.name.decode(), tuple(map(int, t.shape)), dtype=types[t.type]) for t in graph.tensors]
        codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
        net = Net((graph.name or b"net").decode())
        for each in graph.operators:
            inputs, outputs = ([tensors[i] for i in places if i >= 0] for places in (each.inputs, each.outputs))
            name = outputs[0].name if outputs else ""  # an Ethos-U may write into memory alone
            net.operators.append(Operator(codes[each.opcodeIndex], inputs, outputs, {}, name))
        net.inputs = {tensors[i].name: tensors[i] for i in graph.inputs}
        net.outputs = {tensors[i].name: tensors[i] for i in graph.outputs}
    except Exception as error:  # of flatbuffers, for bytes that are none
        raise BackendError(f"expected a TFLite net, found something else: {str(error)[:100]}") from None
    return net
