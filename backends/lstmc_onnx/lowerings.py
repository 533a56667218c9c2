"""The lowering of each core op to ONNX's operators, by tables of lstmc and of packages; and the writer of ONNX graphs:
nodes, constants and unique names. The optional packages are imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, Generic

import numpy as np
from numpy.typing import ArrayLike

from lstmc import ops
from lstmc.backend.base import Lowerings
from lstmc.errors import BackendError
from lstmc.ir import OpT_co
from lstmc.ops import Op
from lstmc.ops.frameworks import ops_of
from lstmc.plugins import need
from lstmc.text import Names
from lstmc.types import OpenSize, TensorType, UnknownSize, known
from lstmc_onnx.ops import GRU, LSTM, RNN, Recurrent


def onnx() -> Any:
    """Return the package that writes, checks and reads ONNX. Raises :class:`BackendError` if it is not installed."""
    return need("onnx", "The onnx package", "onnx", BackendError)


def onnxruntime() -> Any:
    """Return the package that runs ONNX. Raises :class:`BackendError` if it is not installed."""
    return need("onnxruntime", "ONNX Runtime", "onnx", BackendError)


OLDEST = 13  # from this opset on axes and sizes are operands, and softmax is along one axis


@dataclass(frozen=True)
class Call(Generic[OpT_co]):
    """An op to lower: the names and types of its operands and results. Sizes may be open."""

    op: OpT_co
    args: tuple[str, ...]
    types: tuple[TensorType, ...]
    results: tuple[str, ...]
    result_types: tuple[TensorType, ...]


@dataclass
class Shared:
    """The state that the main graph and its bodies share; names are unique among all of them."""

    opset: int
    names: Names = field(default_factory=Names)
    tensors: list[Any] = field(default_factory=list)
    constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    dims: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # open dimension -> an input, and its axis
    sizes: dict[str, str] = field(default_factory=dict)  # values that hold a dimension's size or an input's shape
    main: Writer = field(init=False)

    def __post_init__(self) -> None:
        self.main = Writer(self)


class Writer:
    """Writes the nodes of one graph; constants are in the main graph, which bodies read too."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.nodes: list[Any] = []

    def name(self, base: str) -> str:
        """Return a unique name: ``base``, or with a number appended."""
        return self.shared.names.unique(base)

    def add(
        self, kind: str, inputs: Sequence[str], results: Sequence[str] | str, title: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node, and return its results' names: those taken by :meth:`name`, or one new name like ``results``. The
        node has its first result's name, or one like ``title``. Raises BackendError if the opset lacks its operator."""
        names = (self.name(results),) if isinstance(results, str) else tuple(results)
        check_operator(kind, self.shared.opset)
        node_name = self.name(title) if title else next(filter(None, names))
        node = onnx().helper.make_node(kind, list(inputs), list(names), name=node_name, **attributes)
        self.nodes.append(node)
        return names

    def constant(self, values: ArrayLike, name: str) -> str:
        """Return the name of a small array that is the same in every run; a new array gets a name like ``name``."""
        array, known = np.asarray(values), self.shared.constants
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in known:
            known[key] = self.tensor(array, name)
        return known[key]

    def scalar(self, value: float) -> str:
        """Return the name of a scalar constant in the main graph. It is a Constant, not an initialiser."""
        array, known = np.asarray(value, np.float32), self.shared.constants
        key = ("scalar", (), array.tobytes())
        if key not in known:
            tensor = onnx().numpy_helper.from_array(array)
            known[key] = self.shared.main.add("Constant", (), f"number_{value:g}", value=tensor)[0]
        return known[key]

    def tensor(self, array: Any, name: str) -> str:
        """Add an initialiser, and return its name."""
        tensor_name = self.name(name)
        self.shared.tensors.append(onnx().numpy_helper.from_array(np.asarray(array, order="C"), tensor_name))
        return tensor_name

    def numbers(self, values: Sequence[int], name: str) -> str:
        """Return the name of a constant of integers, such as axes and sizes."""
        return self.constant(np.asarray(values, np.int64), name)

    def shape(self, shape: Sequence[int]) -> str:
        """Return the name of a Reshape's shape: a single unknown size is -1, else open sizes are read from inputs."""
        if sum(isinstance(size, UnknownSize) for size in shape) <= 1:
            return self.numbers([-1 if isinstance(size, UnknownSize) else size for size in shape], _title(shape))
        known(tuple(size for size in shape if not isinstance(size, OpenSize) and isinstance(size, UnknownSize))[1:])
        return self.add("Concat", [self._size(size) for size in shape], _title(shape), axis=0)[0]

    def filled(self, shape: Sequence[int]) -> str:
        """Return the name of the shape of an array to be filled. Open sizes are read from the shapes of inputs."""
        if not any(isinstance(size, UnknownSize) for size in shape):
            return self.numbers(shape, _title(shape))
        known(tuple(size for size in shape if not isinstance(size, OpenSize)))
        return self.add("Concat", [self._size(size) for size in shape], _title(shape), axis=0)[0]

    def _size(self, of: int) -> str:
        """Return the name of a size as an array [1]: of an open size by an input's shape; a computed size is -1."""
        if not isinstance(of, OpenSize):
            left = isinstance(of, UnknownSize)  # which Reshape computes from the other sizes
            return self.numbers([-1 if left else of], f"size_{'left' if left else of}")
        main, sizes, size = self.shared.main, self.shared.sizes, of.name
        if size not in sizes:
            source, axis = self.shared.dims[size]
            whole = f"{source}/shape"
            if whole not in sizes:
                (sizes[whole],) = main.add("Shape", (source,), whole)
            axes = self.numbers([axis], f"axis_{axis}")
            (sizes[size],) = main.add("Gather", (sizes[whole], axes), f"size/{size}", axis=0)
        return sizes[size]


def _title(shape: Sequence[int]) -> str:
    names = ("_" if isinstance(size, UnknownSize) and not isinstance(size, OpenSize) else str(size) for size in shape)
    return f"shape_{'x'.join(names) or 'of_one'}"


def newest() -> int:
    """Return the newest version of ONNX's operators that the package knows."""
    return int(onnx().defs.onnx_opset_version())


def check_opset(opset: int) -> None:
    """Raise :class:`BackendError` for a version of ONNX's operators that is too old or unknown."""
    if not OLDEST <= opset <= newest():
        known = f"{OLDEST} to {newest()}, the newest that onnx {onnx().__version__} knows"
        raise BackendError(f"opset {opset}: expected {known}")


def check_operator(kind: str, opset: int) -> None:
    """Raise :class:`BackendError` unless ONNX has this operator in that opset."""
    defs = onnx().defs
    if defs.has(kind, opset):
        return
    versions = [schema for schema in defs.get_all_schemas_with_history() if (schema.name, schema.domain) == (kind, "")]
    if not versions:
        raise BackendError(f"ONNX has no operator {kind}")
    since = min(schema.since_version for schema in versions)
    raise BackendError(f"opset {opset} has no operator {kind}: expected opset {since} or newer")


# Ops that are a single operator; its attributes are fields of the op.
OPERATORS: Mapping[type[Op], tuple[str, Mapping[str, str]]] = {
    **{
        op: (foreign.name, dict(zip(foreign.settings, (field.name for field in fields(op)), strict=True)))
        for op, foreign in ops_of("onnx")
    },
    ops.Add: ("Add", {}), ops.Sub: ("Sub", {}), ops.Mul: ("Mul", {}), ops.Maximum: ("Max", {}),
    ops.Concat: ("Concat", {"axis": "axis"}), ops.Softmax: ("Softmax", {"axis": "axis"}), ops.Dropout: ("Identity", {}),
    ops.StopGradient: ("Identity", {}), ops.Precomputed: ("Identity", {}),
}  # fmt: skip


def operator(w: Writer, call: Call) -> None:
    """Write an op that is a single operator of ONNX."""
    kind, fields = OPERATORS[type(call.op)]
    w.add(kind, call.args, call.results, **{name: getattr(call.op, field) for name, field in fields.items()})


def affine(w: Writer, call: Call[ops.Affine]) -> None:
    """Write scale * x + shift with as few operators as possible: Mul, Sub, Add, or Mul and Add."""
    op, x = call.op, call.args[0]
    if op.shift == 0:
        w.add("Mul", (x, w.scalar(op.scale)), call.results)
        return
    if op.scale == -1:
        w.add("Sub", (w.scalar(op.shift), x), call.results)
        return
    if op.scale != 1:
        (x,) = w.add("Mul", (x, w.scalar(op.scale)), f"{call.results[0]}/scaled")
    w.add("Add", (x, w.scalar(op.shift)), call.results)


def positive(w: Writer, call: Call) -> None:
    (above,) = w.add("Greater", (*call.args, w.scalar(0.0)), f"{call.results[0]}/above")
    w.add("Cast", (above,), call.results, to=onnx().TensorProto.FLOAT)


AXES_OF_MAX_ARE_AN_INPUT = 18  # from this opset on


def full(w: Writer, call: Call[ops.Full]) -> None:
    value = onnx().numpy_helper.from_array(np.array([call.op.value], np.float32))
    w.add("ConstantOfShape", (w.filled(call.result_types[0].shape),), call.results, value=value)


def split(w: Writer, call: Call[ops.Split]) -> None:
    """Write Split; a split into one piece is the value itself."""
    if len(call.results) == 1:
        w.add("Identity", call.args, call.results)
        return
    sizes = w.numbers(call.op.sizes, "sizes_" + "_".join(map(str, call.op.sizes)))
    w.add("Split", (*call.args, sizes), call.results, axis=call.op.axis)


def reshape(w: Writer, call: Call) -> None:
    """Write Squeeze or Unsqueeze, which need no sizes, if only axes of 1 change, and Reshape otherwise."""
    before, after = call.types[0].shape, call.result_types[0].shape
    for kind, longer, shorter in (("Squeeze", before, after), ("Unsqueeze", after, before)):
        axes = ones_left_out(longer, shorter)
        if axes:
            w.add(kind, (*call.args, w.numbers(axes, "axis_" + "_".join(map(str, axes)))), call.results)
            return
    w.add("Reshape", (*call.args, w.shape(call.result_types[0].shape)), call.results)


def ones_left_out(longer: Sequence[int], shorter: Sequence[int]) -> list[int] | None:
    """Return the axes of size 1 that ``longer`` has and ``shorter`` lacks. Return None if they differ in other ways."""
    axes, left = [], list(shorter)
    for axis, size in enumerate(longer):
        if left and size == left[0]:
            left.pop(0)
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return None if left else axes


def tile(w: Writer, call: Call[ops.Tile]) -> None:
    repeats = [call.op.tiles if axis == call.op.axis else 1 for axis in range(call.types[0].rank)]
    w.add("Tile", (*call.args, w.numbers(repeats, "repeats_" + "x".join(map(str, repeats)))), call.results)


def transpose(w: Writer, call: Call[ops.Transpose]) -> None:
    """Write Transpose, which exchanges an axis and the next axis."""
    order = list(range(call.types[0].rank))
    at = call.op.axis
    order[at], order[at + 1] = order[at + 1], order[at]
    w.add("Transpose", call.args, call.results, perm=order)


def unstack(w: Writer, call: Call) -> None:
    for step, result in enumerate(call.results):
        w.add("Gather", (*call.args, w.constant(np.int64(step), f"step_{step}")), (result,), axis=0)


def stack(w: Writer, call: Call) -> None:
    axes = w.numbers([0], "axis_0")
    rows = [w.add("Unsqueeze", (x, axes), f"{x}/row")[0] for x in call.args]
    w.add("Concat", rows, call.results, axis=0)


def embed(w: Writer, call: Call) -> None:
    ids, matrix = call.args
    (integers,) = w.add("Cast", (ids,), f"{ids}/whole", to=onnx().TensorProto.INT64)
    w.add("Gather", (matrix, integers), call.results, axis=0)


def total(w: Writer, call: Call[ops.Sum]) -> None:
    w.add("ReduceSum", (*call.args, w.numbers([call.op.axis], f"axis_{call.op.axis}")), call.results, keepdims=0)


def largest(w: Writer, call: Call[ops.Max]) -> None:
    """Write ReduceMax, whose axes are an attribute in old opsets and an operand in new opsets."""
    axes = [call.op.axis]
    if w.shared.opset < AXES_OF_MAX_ARE_AN_INPUT:
        w.add("ReduceMax", call.args, call.results, axes=axes, keepdims=0)
    else:
        w.add("ReduceMax", (*call.args, w.numbers(axes, f"axis_{axes[0]}")), call.results, keepdims=0)


def first_largest(w: Writer, call: Call[ops.Largest]) -> None:
    """Write 1 at the index of the first largest value along an axis, and 0 elsewhere."""
    op, (x,) = call.op, call.args
    shape = known(call.types[0].shape)
    (index,) = w.add("ArgMax", (x,), f"{call.results[0]}/index", axis=op.axis, keepdims=1)
    indices = np.arange(shape[op.axis]).reshape(-1, *[1] * (len(shape) - 1 - op.axis))
    (is_largest,) = w.add("Equal", (index, w.constant(indices, "places")), f"{call.results[0]}/here")
    w.add("Cast", (is_largest,), call.results, to=onnx().TensorProto.FLOAT)


def linear(w: Writer, call: Call[ops.Linear]) -> None:
    """Write Gemm with the matrix [out, in] if x is a matrix, and else MatMul with the transposed matrix."""
    op, (x, matrix, *bias), result = call.op, call.args, call.results[0]
    if op.axis < call.types[0].rank - 1:
        flat = w.shape((*call.types[0].shape[: op.axis], call.types[1].shape[1]))
        (x,) = w.add("Reshape", (x, flat), f"{result}/flat")
    if op.axis == 1:
        w.add("Gemm", (x, matrix, *bias), call.results, transB=1)
        return
    (turned,) = w.add("Transpose", (matrix,), f"{result}/{matrix.rpartition('/')[2]}", perm=[1, 0])
    (y,) = w.add("MatMul", (x, turned), f"{result}/product" if bias else call.results)
    if bias:
        w.add("Add", (y, *bias), call.results)


def conv(w: Writer, call: Call[ops.Conv]) -> None:
    op = call.op
    attributes = {"strides": op.stride, "pads": (*op.pad, *op.pad), "dilations": op.dilation, "group": op.group}
    _images(w, call, "Conv", call.results, kernel_shape=call.types[1].shape[2:], **attributes)


def ave_pool(w: Writer, call: Call[ops.AvePool]) -> None:
    """Write AveragePool. ONNX divides by a window's size, the core op by how many of the window's places are in the
    padded image: a factor for each window corrects this where the two differ."""
    share = (prod(call.op.size) / call.op.covered(known(call.types[0].shape[-2:]))).astype(np.float32)
    if np.all(share == 1):
        _images(w, call, "AveragePool", call.results, count_include_pad=1, **_windows(call))
        return
    (y,) = _images(w, call, "AveragePool", f"{call.results[0]}/windows", count_include_pad=1, **_windows(call))
    w.add("Mul", (y, w.constant(share, f"{call.results[0]}/share")), call.results)


def _windows(call: Call[ops.MaxPool | ops.AvePool]) -> dict[str, Any]:
    """Return the attributes of windows, all of them whole in the padded image: no runtime rounds their number."""
    op, image = call.op, known(call.types[0].shape[-2:])
    return {"kernel_shape": op.size, "strides": op.stride, "pads": (*op.pad, *op.ends(image))}


def _images(w: Writer, call: Call, kind: str, results: Any, **attributes: Any) -> tuple[str, ...]:
    """Write an operator of images [N, C, H, W]. If x has other leading axes, x and the result are reshaped."""
    if call.types[0].rank == 4:
        return w.add(kind, call.args, results, **attributes)
    images = w.shape((prod(call.types[0].shape[:-3]), *call.types[0].shape[-3:]))
    (rows,) = w.add("Reshape", (call.args[0], images), f"{call.results[0]}/images")
    (images_out,) = w.add(kind, (rows, *call.args[1:]), f"{call.results[0]}/of_images", **attributes)
    return w.add("Reshape", (images_out, w.shape(call.result_types[0].shape)), results)


ROLES = ("x", "W", "R", "B", "lengths", "h_0", "c_0", "P")


def recurrent(w: Writer, call: Call[Recurrent]) -> None:
    """Write a recurrent layer. Operands that the layer lacks are empty names, and lengths are cast to integers."""
    op = call.op
    operands = dict(zip(op.roles(), call.args, strict=True))
    if "lengths" in operands:
        name, whole = operands["lengths"], onnx().TensorProto.INT32
        (operands["lengths"],) = w.add("Cast", (name,), f"{name}/whole", to=whole)
    inputs = [operands.get(role, "") for role in ROLES]
    while not inputs[-1]:
        inputs.pop()
    attributes: dict[str, Any] = {"hidden_size": call.types[2].shape[-1], "direction": op.direction}
    attributes["activations"] = list(op.activations)
    given = {"clip": op.clip, "activation_alpha": list(op.alpha), "activation_beta": list(op.beta)}
    attributes |= {name: value for name, value in given.items() if value}
    title = call.results[0].rpartition("/")[0]
    w.add(type(op).__name__, inputs, call.results, title, **attributes, **op.attributes())


GROUP = "lstmc_onnx.lowerings"  # an entry point of a package names a table from ops to lowerings
Lowering = Callable[[Writer, Call[Any]], object]
LOWERINGS: Mapping[type[Op], Lowering] = {
    **dict.fromkeys(OPERATORS, operator),
    ops.Power: lambda w, call: w.add("Pow", (*call.args, w.scalar(call.op.exponent)), call.results),
    ops.Affine: affine, ops.Positive: positive, ops.Full: full, ops.Split: split, ops.Reshape: reshape, ops.Tile: tile,
    ops.Transpose: transpose, ops.Unstack: unstack, ops.Stack: stack, ops.Embed: embed, ops.Sum: total,
    ops.Max: largest, ops.Largest: first_largest, ops.Linear: linear, ops.Conv: conv, ops.AvePool: ave_pool,
    ops.MaxPool: lambda w, call: _images(w, call, "MaxPool", call.results, **_windows(call)),
    **dict.fromkeys((LSTM, GRU, RNN), recurrent),
}  # fmt: skip
lowerings = Lowerings(LOWERINGS, GROUP, "ONNX")
