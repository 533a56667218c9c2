"""TFLite files as graphs of ONNX, which the reader of ONNX describes: one operator is translated after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from lstmc.importers.read.tflite_file import Operator, Tensor, TfliteFile
from lstmc.importers.refusal import Refusal, Refused, RefusedError, SourceError
from lstmc.plugins import need
from lstmc.text import Names, brief

TYPES = {"FLOAT32": 1, "FLOAT64": 11, "INT32": 6, "INT64": 7, "BOOL": 9}  # ONNX's, of inputs
OPSET = 20
FLOAT_NET = "convert the float file from which it was quantised; the integers of a device are chosen then"
UNREAD = ("it is not supported", "write the model without it, or convert the model that the file was made from")
WHILE = (
    "a loop with a body of its own is not read",
    "convert the model that it was made from (.keras, .h5, .pt2, .onnx), or export it with unrolled steps"
    " (unroll=True of Keras's layers)",
)
VARIABLE = ("it keeps values in a variable", UNREAD[1])
_RECURRENT = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN")
ROUNDING = ("FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", *_RECURRENT)
SHIFT = 1.5 * 2**23  # x + SHIFT - SHIFT rounds x to a whole number in float32, and is written for that
END = 2**31 - 1  # beyond the end of every axis


class Graph:
    """The ONNX graph that is built; ``label`` is the name of the operator that is being translated."""

    def __init__(self, file: TfliteFile) -> None:
        """Start an empty graph for a file. The outputs' names are reserved."""
        self.helper = need("onnx.helper", "The onnx package", "onnx", SourceError)
        self.file, self.rounded = file, False  # rounded: an operator rounds to 8 bits while it runs
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.unique = Names(file.outputs).unique
        self.names: dict[int, str] = {}  # tensor -> its value in the graph
        self.shifted: dict[str, str] = {}  # x + SHIFT -> x
        self.refusals: list[Refusal] = []
        self.label = ""

    def model(self) -> Any:
        """Return the ``ModelProto``. Raise :class:`RefusedError` with all operators that are not read."""
        helper, file = self.helper, self.file
        inputs = []
        for name, place in file.inputs.items():
            tensor = file.tensors[place]
            if tensor.kind not in TYPES:
                self.refusals.append(Refused("elements", tensor.kind, "it is no input of numbers", FLOAT_NET).at(name))
            sizes = [None if size < 1 else size for size in tensor.signature]
            title = self.unique(name)
            inputs.append(helper.make_tensor_value_info(title, TYPES.get(tensor.kind, 1), sizes))
            self.names[place] = self.emit("Cast", title, to=7) if tensor.kind == "INT32" else title
        of_integers = [operator for operator in file.operators if file.computes_in_integers(operator)]
        if of_integers:
            what = f"{len(of_integers)} operators of 8 or 16 bits"
            self.refusals.append(Refused("", what, "the net computes in integers", FLOAT_NET).at(of_integers[0].code))
        for operator in file.operators:
            if file.computes_in_integers(operator):
                self.names |= dict.fromkeys(operator.outputs, "")
            else:
                self.translate(operator)
        outputs = []
        for name, place in file.outputs.items():
            try:
                self.nodes.append(helper.make_node("Identity", [self.value(place)], [name], name=name))
            except Refused as refused:
                self.refusals.append(refused.at(name))
            outputs.append(helper.make_tensor_value_info(name, 1, None))
        if self.refusals:
            raise RefusedError.of_graph(file.origin, self.refusals, {})
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, [*self.constants.values()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def translate(self, operator: Operator) -> None:
        """Add the nodes of an operator, or its refusal. Raises an error if the operator lacks options or tensors."""
        tensors = self.file.tensors
        self.label = tensors[operator.outputs[0]].name if operator.outputs else operator.code
        call = Call(self, operator)
        try:
            if operator.code in ("WHILE", "CALL_ONCE"):
                raise Refused("operator", operator.code, *WHILE)
            if operator.code in ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"):
                raise Refused("operator", operator.code, *VARIABLE)
            if (handler := HANDLERS.get(operator.code)) is None:
                raise Refused("operator", operator.code, *UNREAD)
            made = [tensors[place] for place in (*operator.inputs, *operator.outputs) if place >= 0]
            self.rounded |= operator.code in ROUNDING and any(t.integer and t.kind == "INT8" for t in made)
            results = handler(call)
        except Refused as refused:
            self.refusals.append(refused.at(f"{self.label} ({operator.code})"))
            results = [""] * len(operator.outputs)
        except AttributeError:
            raise self.file.damaged(f"{operator.code} at {self.label} has not the options of its kind") from None
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # the operator lacks tensors
            raise self.file.damaged(f"{operator.code} at {self.label}: {brief(error)}") from None
        results = [results] if isinstance(results, str) else results
        self.names |= dict(zip(operator.outputs, results, strict=False))

    def value(self, place: int) -> str:
        """Return the name of a tensor's value. A stored tensor is added as a constant at its first use."""
        tensor = self.file.tensors[place]
        if place not in self.names:
            if tensor.kind not in (*TYPES, "FLOAT16", "INT8", "UINT8", "INT16"):
                raise Refused("elements", f"{tensor.kind} of {tensor.name}", *UNREAD)
            if tensor.stored is None:
                missing = f"{self.label} reads {tensor.name}, which nothing before it makes"
                raise SourceError(f"{self.file.origin}: {missing}")
            self.names[place] = self.constant(tensor.numbers(), tensor.name)
        return self.names[place]

    def constant(self, values: Any, name: str = "") -> str:
        """Add a constant, and return its name."""
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        title = self.unique(name or f"{self.label}/constant")
        kind, content = {"f": 1, "b": 9}.get(array.dtype.kind, 7), np.ascontiguousarray(array).tobytes()
        self.constants[title] = self.helper.make_tensor(title, kind, array.shape, content, raw=True)
        return title

    def many(self, op: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add an operator of ONNX with ``count`` results, and return their names."""
        names = [self.unique(self.label) for _ in range(count)]
        self.nodes.append(self.helper.make_node(op, [*inputs], names, name=names[0], **attributes))
        return names

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.many(op, 1, *inputs, **attributes)[0]


class Call:
    """The operator that is translated now, with its tensors and options. ``slot`` numbers the operands."""

    def __init__(self, graph: Graph, operator: Operator) -> None:
        self.graph, self.operator, self.options = graph, operator, operator.options
        self.emit, self.many, self.constant = graph.emit, graph.many, graph.constant

    def has(self, slot: int) -> bool:
        return slot < len(self.operator.inputs) and self.operator.inputs[slot] >= 0

    def tensor(self, slot: int) -> Tensor:
        return self.graph.file.tensors[self.operator.inputs[slot]]

    def x(self, slot: int = 0) -> str:
        """Return the value of an operand."""
        if not self.has(slot):
            raise self.graph.file.damaged(f"{self.operator.code} at {self.graph.label} has no operand {slot}")
        return self.graph.value(self.operator.inputs[slot])

    def given(self, slot: int) -> list[str]:
        """Return the value of an optional operand in a list, which is empty without it."""
        return [self.x(slot)] if self.has(slot) else []

    def all(self) -> list[str]:
        return [self.x(slot) for slot in range(len(self.operator.inputs))]

    def rank(self, slot: int = 0) -> int:
        return len(self.tensor(slot).shape)

    def fixed(self, slot: int) -> list[int]:
        """Return the integers of a constant operand. Raise :class:`Refused` if the net computes the operand."""
        stored = self.tensor(slot).stored
        if stored is None:
            raise Refused(f"operand {slot}", self.tensor(slot).name, "it is computed by the net", UNREAD[1])
        return [int(number) for number in stored.ravel()]

    def is_shift(self, slot: int) -> bool:
        stored = self.tensor(slot).stored
        return stored is not None and stored.size == 1 and float(stored.ravel()[0]) == SHIFT

    def clipped(self, value: str, least: float, most: float) -> str:
        return self.emit("Clip", value, self.constant(np.float32(least)), self.constant(np.float32(most)))

    def activated(self, value: str, function: int) -> str:
        """Return a value after the activation of this number in TFLite. Raises :class:`Refused` for unknown numbers."""
        if function in (2, 3):
            return self.clipped(value, *((-1, 1) if function == 2 else (0, 6)))
        if function not in (0, 1, 4):
            raise Refused("activation", str(function), *UNREAD)
        return self.emit({1: "Relu", 4: "Tanh"}[function], value) if function else value

    def fused(self, value: str) -> str:
        """Return a value after the operator's fused activation."""
        function = self.options.fusedActivationFunction
        if function > 3:  # LiteRT computes it in recurrent layers alone
            raise Refused("activation", str(function), *UNREAD)
        return self.activated(value, function)

    def like(self, op: str, *more: str, **attributes: Any) -> str:
        return self.emit(op, self.x(), *more, **attributes)


Handler = Callable[[Call], str | Sequence[str]]


def _connected(t: Call) -> str:
    """Return a fully connected layer; with ``keepNumDims`` it keeps the leading axes."""
    x, bias = t.x(), t.given(2)
    if not t.options.keepNumDims or t.rank() == 2:
        x = x if t.rank() == 2 else t.emit("Reshape", x, t.constant([-1, t.tensor(1).shape[-1]]))
        return t.fused(t.emit("Gemm", x, t.x(1), *bias, transB=1))
    product = t.emit("MatMul", x, t.emit("Transpose", t.x(1), perm=[1, 0]))
    return t.fused(t.emit("Add", product, *bias) if bias else product)


def _product(t: Call) -> str:
    """Return the product of two matrices, each transposed if its option says so."""
    factors = []
    for slot, adjoint in enumerate((t.options.adjX, t.options.adjY)):
        order = [*range(t.rank(slot) - 2), t.rank(slot) - 1, t.rank(slot) - 2]
        factors.append(t.emit("Transpose", t.x(slot), perm=order) if adjoint else t.x(slot))
    return t.emit("MatMul", *factors)


def _reshape(t: Call) -> str:
    if t.has(1):
        return t.like("Reshape", t.x(1))
    return t.like("Reshape", t.constant([int(size) for size in t.options.newShape]))


def _slice(t: Call) -> str:
    """Return the part of x that begins at the second operand; a size of -1 reaches to the end."""
    begin, sizes = t.fixed(1), t.fixed(2)
    ends = [END if size < 0 else start + size for start, size in zip(begin, sizes, strict=True)]
    return t.like("Slice", t.constant(begin), t.constant(ends))


def _strided(t: Call) -> str:
    """Return a part of x by begin, end and step. Bits of masks take an axis from its start, to its end, or drop it."""
    begin, end, steps = t.fixed(1), t.fixed(2), t.fixed(3)
    o = t.options
    if o.ellipsisMask or o.newAxisMask or o.offset:
        found = f"ellipsis {o.ellipsisMask}, new axis {o.newAxisMask}, offset {o.offset}"
        raise Refused("masks", found, "only begin, end and shrink masks are read", UNREAD[1])
    for axis, step in enumerate(steps):
        if o.shrinkAxisMask >> axis & 1:
            begin[axis] = 0 if o.beginMask >> axis & 1 else begin[axis]
            end[axis], steps[axis] = begin[axis] + 1 or END, 1
            continue
        if o.beginMask >> axis & 1:
            begin[axis] = 0 if step > 0 else END
        if o.endMask >> axis & 1:
            end[axis] = END if step > 0 else -END
    parts = map(t.constant, (begin, end, [*range(len(steps))], steps))
    shrunk = [axis for axis in range(len(steps)) if o.shrinkAxisMask >> axis & 1]
    x = t.like("Slice", *parts)
    return t.emit("Squeeze", x, t.constant(shrunk)) if shrunk else x


def _split(t: Call) -> Sequence[str]:
    count = len(t.operator.outputs)
    return t.many("Split", count, t.x(1), axis=t.fixed(0)[0], num_outputs=count)


def _split_sizes(t: Call) -> Sequence[str]:
    """Return pieces of given sizes; a size of -1 is the rest."""
    sizes, axis = t.fixed(1), t.fixed(2)[0]
    rest = t.tensor(0).shape[axis] - sum(size for size in sizes if size >= 0)
    parts = t.constant([rest if size < 0 else size for size in sizes])
    return t.many("Split", len(t.operator.outputs), t.x(0), parts, axis=axis)


def _squeeze(t: Call) -> str:
    axes = t.options.squeezeDims
    return t.like("Squeeze", *([] if axes is None or not len(axes) else [t.constant([*map(int, axes)])]))


def _pack(t: Call) -> str:
    axis = t.constant([t.options.axis])
    return t.emit("Concat", *(t.emit("Unsqueeze", x, axis) for x in t.all()), axis=t.options.axis)


def _unpack(t: Call) -> Sequence[str]:
    count, axis = len(t.operator.outputs), t.options.axis
    parts = t.many("Split", count, t.x(), axis=axis, num_outputs=count)
    return [t.emit("Squeeze", part, t.constant([axis])) for part in parts]


def _gather(t: Call) -> str:
    if t.options.batchDims:
        raise Refused("batchDims", str(t.options.batchDims), *UNREAD)
    return t.like("Gather", t.x(1), axis=t.options.axis)


def _reduce(t: Call, op: str) -> str:
    """Return a reduction of constant axes; x itself if there are none."""
    axes = t.fixed(1)
    return t.like(op, t.constant(axes), keepdims=int(t.options.keepDims)) if axes else t.x()


def _cast(t: Call) -> str:
    """Write a conversion; 32-bit integers become 64-bit integers, as everywhere in this graph."""
    kind = t.graph.file.tensors[t.operator.outputs[0]].kind
    if kind not in TYPES or kind == "FLOAT64":
        raise Refused("elements", kind, *UNREAD)
    return t.like("Cast", to=7 if kind == "INT32" else TYPES[kind])


def _padded(t: Call) -> str:
    pairs = np.reshape(t.fixed(1), (-1, 2)).T
    return t.like("Pad", t.constant(pairs.ravel()), *t.given(2))


def _softmax(t: Call) -> str:
    beta = t.options.beta
    x = t.x() if beta == 1 else t.like("Mul", t.constant(np.float32(beta)))
    return t.emit("Softmax", x, axis=-1)


def _distance(t: Call) -> str:
    apart = t.emit("Sub", t.x(0), t.x(1))
    return t.emit("Mul", apart, apart)


def _normal(t: Call) -> str:
    """Return x divided by its Euclidean length, which is at least 1e-6."""
    squares = t.emit("ReduceSumSquare", t.x(), t.constant([-1]), keepdims=1)
    return t.fused(t.like("Div", t.emit("Max", t.emit("Sqrt", squares), t.constant(np.float32(1e-6)))))


def _reversed(t: Call) -> str:
    axes = t.fixed(1)
    parts = ([-1] * len(axes), [-END] * len(axes), axes, [-1] * len(axes))
    return t.like("Slice", *map(t.constant, parts))


def _image(t: Call, compute: Callable[[str], str], slot: int = 0) -> str:
    """Apply ``compute`` to an operand with its channels first, and return the result with its channels last."""
    return t.emit("Transpose", compute(t.emit("Transpose", t.x(slot), perm=[0, 3, 1, 2])), perm=[0, 2, 3, 1])


def _window(t: Call) -> dict[str, Any]:
    o = t.options
    return {"strides": [o.strideH, o.strideW], "auto_pad": ("SAME_UPPER", "VALID")[o.padding]}


def _conv(t: Call, order: Sequence[int], each: bool = False) -> str:
    """Return a convolution. ``order`` brings the kernel's axes into ONNX's order; with ``each`` it is depthwise."""
    o, more = t.options, t.given(2)
    group = t.tensor(0).shape[3] if each else t.tensor(0).shape[3] // t.tensor(1).shape[3]
    options = {**_window(t), "dilations": [o.dilationHFactor, o.dilationWFactor], "group": group}
    kernel = t.emit("Transpose", t.x(1), perm=[*order])
    return t.fused(_image(t, lambda x: t.emit("Conv", x, kernel, *more, **options)))


def _transposed(t: Call) -> str:
    """Return a transposed convolution. Operands are the output's size, a kernel [O, H, W, I], the input and a bias."""
    o, kernel, more = t.options, t.emit("Transpose", t.x(1), perm=[3, 0, 1, 2]), t.given(3)
    rows = zip((o.strideH, o.strideW), t.tensor(2).shape[1:3], t.tensor(1).shape[1:3], t.fixed(0)[1:3], strict=True)
    over = [stride * (size - 1) + width - out for stride, size, width, out in rows]
    before = [max(extra, 0) // 2 for extra in over]
    pads = [*before, *(max(extra, 0) - early for extra, early in zip(over, before, strict=True))]
    late = [max(-extra, 0) for extra in over]
    options: dict[str, Any] = {"strides": [o.strideH, o.strideW], "pads": pads, "output_padding": late}
    return t.fused(_image(t, lambda x: t.emit("ConvTranspose", x, kernel, *more, **options), 2))


def _pool(t: Call, op: str) -> str:
    window = {**_window(t), "kernel_shape": [t.options.filterHeight, t.options.filterWidth]}
    return t.fused(_image(t, lambda x: t.emit(op, x, **window)))


def _loop(t: Call, sizes: Sequence[int], first: Sequence[int], step: Callable[..., Sequence[str]]) -> str:
    """Return the outputs of a loop over time, written as a Scan. ``step`` takes a frame and states of ``sizes``, which
    begin as the operands at slots ``first``, or as zeros for variables."""
    g, helper, by_time = t.graph, t.graph.helper, t.options.timeMajor
    x = t.x() if by_time else t.emit("Transpose", t.x(), perm=[1, 0, 2])
    batch = t.emit("Slice", t.emit("Shape", x), t.constant([1]), t.constant([2]))
    states = []
    for slot, size in zip(first, sizes, strict=True):
        shape = t.emit("Concat", batch, t.constant([size]), axis=0) if t.tensor(slot).variable else None
        states.append(t.x(slot) if shape is None else t.emit("ConstantOfShape", shape))
    before, outside = [g.unique(f"{g.label}/{part}") for part in ("frame", *"hc"[: len(sizes)])], g.nodes
    g.nodes = []
    after = step(*before)
    values = [[helper.make_tensor_value_info(name, 1, None) for name in names] for names in (before, after)]
    result = g.unique(f"{g.label}/y")
    values[1].append(helper.make_tensor_value_info(result, 1, None))
    inner = [*g.nodes, helper.make_node("Identity", [after[0]], [result])]
    body = helper.make_graph(inner, "step", [*values[0][1:], values[0][0]], values[1])
    g.nodes = outside
    y = t.many("Scan", len(sizes) + 1, *states, x, body=body, num_scan_inputs=1)[-1]
    return y if by_time else t.emit("Transpose", y, perm=[1, 0, 2])


def _lstm(t: Call) -> str:
    """Return an LSTM: input weights from slot 1, recurrent ones from 5, peepholes 9, biases 12, a projection 16."""
    o, add = t.options, partial(t.emit, "Add")
    if any(t.has(slot) for slot in range(20, 24)):
        raise Refused("operand 20", t.tensor(20).name if t.has(20) else "", "its norms are not supported", UNREAD[1])
    if o.fusedActivationFunction == 0:  # LiteRT reads memory then that it did not write
        raise Refused("activation", "0", *UNREAD)

    def limited(value: str, most: float) -> str:
        return t.clipped(value, -most, most) if most > 0 else value

    def step(x: str, h: str, c: str) -> Sequence[str]:
        """Return the next h and c from a frame and the old h and c."""

        def gate(place: int, cell: str = "") -> str:
            """Return the sum of a gate's products and bias, and of its peephole if ``cell`` is given."""
            of_x = t.emit("Gemm", x, t.x(1 + place), t.x(12 + place), transB=1)
            of_h, peephole = t.emit("Gemm", h, t.x(5 + place), transB=1), 9 + (0, 1, 9, 2)[place]
            seen = [t.emit("Mul", cell, t.x(peephole))] if cell and t.has(peephole) else []
            return add(add(of_x, of_h), *seen) if seen else add(of_x, of_h)

        forget, new = t.emit("Sigmoid", gate(1, c)), t.activated(gate(2), o.fusedActivationFunction)
        coupled = None if t.has(1) else t.emit("Sub", t.constant(np.float32(1)), forget)
        insert = coupled or t.emit("Sigmoid", gate(0, c))
        cell = limited(add(t.emit("Mul", forget, c), t.emit("Mul", insert, new)), o.cellClip)
        shown = t.activated(cell, o.fusedActivationFunction)
        out = t.emit("Mul", t.emit("Sigmoid", gate(3, cell)), shown)
        if t.has(16):
            out = limited(t.emit("Gemm", out, t.x(16), *t.given(17), transB=1), o.projClip)
        return out, cell

    cells, units = t.tensor(6).shape
    return _loop(t, (units, cells), (18, 19), step)


def _rnn(t: Call) -> str:
    def step(x: str, h: str) -> Sequence[str]:
        both = t.emit("Gemm", x, t.x(1), t.x(3), transB=1), t.emit("Gemm", h, t.x(2), transB=1)
        return [t.activated(t.emit("Add", *both), t.options.fusedActivationFunction)]

    return _loop(t, t.tensor(2).shape[1:], (4,), step)


def _one(op: str) -> Handler:
    return lambda t: t.emit(op, *t.all())


def _binary(op: str) -> Handler:
    return lambda t: t.fused(t.emit(op, *t.all()))


def _sum(t: Call) -> str:
    """Return x + y; if y is SHIFT, remember x, as a following - SHIFT rounds it."""
    y = t.fused(t.emit("Add", *t.all()))
    if t.is_shift(1):
        t.graph.shifted[y] = t.x(0)
    return y


def _difference(t: Call) -> str:
    """Return x - y; if it undoes an addition of SHIFT, the rounded number."""
    x = t.graph.shifted.get(t.x(0)) if t.is_shift(1) else None
    return t.fused(t.emit("Sub", *t.all()) if x is None else t.emit("Round", x))


# Operators with ONNX's names, and with others.
_ALIKE = """
    ABS CEIL COS ELU EQUAL EXP FLOOR GREATER HARD_SWISH LESS LOG NEG POW RELU ROUND SHAPE SIGN SIN SQRT TANH TILE
    """.split()  # noqa: SIM905
_OTHERS = {
    "ADD_N": "Sum", "BROADCAST_TO": "Expand", "DEQUANTIZE": "Identity", "LOGISTIC": "Sigmoid", "PRELU": "PRelu",
    "GREATER_EQUAL": "GreaterOrEqual", "LESS_EQUAL": "LessOrEqual", "MAXIMUM": "Max", "MINIMUM": "Min",
    "LOGICAL_AND": "And", "LOGICAL_NOT": "Not", "LOGICAL_OR": "Or", "SELECT": "Where", "SELECT_V2": "Where",
}  # fmt: skip
HANDLERS: dict[str, Handler] = {
    **{name: _one(name.title().replace("_", "")) for name in _ALIKE},
    **{name: _one(op) for name, op in _OTHERS.items()},
    **{name: _binary(name.title()) for name in ("MUL", "DIV")},
    **{name: partial(_reduce, op=f"Reduce{name.title()}") for name in ("MEAN", "SUM")},
    **{f"REDUCE_{name}": partial(_reduce, op=f"Reduce{name.title()}") for name in ("MAX", "MIN", "PROD")},
    "ADD": _sum,
    "ARG_MAX": lambda t: t.like("ArgMax", axis=t.fixed(1)[0], keepdims=0),
    "AVERAGE_POOL_2D": partial(_pool, op="AveragePool"),
    "BATCH_MATMUL": _product, "CAST": _cast,
    "CONCATENATION": lambda t: t.fused(t.emit("Concat", *t.all(), axis=t.options.axis)),
    "CONV_2D": partial(_conv, order=(0, 3, 1, 2)),
    "DEPTHWISE_CONV_2D": partial(_conv, order=(3, 0, 1, 2), each=True),
    "EMBEDDING_LOOKUP": lambda t: t.emit("Gather", t.x(1), t.x(0)),
    "EXPAND_DIMS": lambda t: t.like("Unsqueeze", t.constant(t.fixed(1))),
    "FILL": lambda t: t.emit("Expand", t.x(1), t.x(0)),
    "FULLY_CONNECTED": _connected, "GATHER": _gather,
    "GELU": lambda t: t.like("Gelu", approximate="tanh" if t.options.approximate else "none"),
    "L2_NORMALIZATION": _normal,
    "LEAKY_RELU": lambda t: t.like("LeakyRelu", alpha=t.options.alpha),
    "LOG_SOFTMAX": lambda t: t.like("LogSoftmax", axis=-1),
    "MAX_POOL_2D": partial(_pool, op="MaxPool"),
    "PACK": _pack, "PAD": _padded, "PADV2": _padded,
    "RELU6": lambda t: t.activated(t.x(), 3),
    "RELU_N1_TO_1": lambda t: t.activated(t.x(), 2),
    "RESHAPE": _reshape, "REVERSE_V2": _reversed,
    "RSQRT": lambda t: t.emit("Reciprocal", t.like("Sqrt")),
    "SLICE": _slice, "SOFTMAX": _softmax, "SPLIT": _split, "SPLIT_V": _split_sizes,
    "SQUARE": lambda t: t.like("Mul", t.x()),
    "SQUARED_DIFFERENCE": _distance, "SQUEEZE": _squeeze, "STRIDED_SLICE": _strided, "SUB": _difference,
    "TRANSPOSE": lambda t: t.like("Transpose", perm=t.fixed(1)),
    "TRANSPOSE_CONV": _transposed, "UNPACK": _unpack,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm, "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
}  # fmt: skip
