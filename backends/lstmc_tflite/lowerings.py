"""The lowering of a graph to a net of TFLite: passes (a product for each gate, formulas of ops that TFLite lacks, one
operation a node), then an operator for each core op, by a table of lstmc and tables of packages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from lstmc import ops, passes
from lstmc.backend import Compiled
from lstmc.backend.base import Lowerings
from lstmc.errors import BackendError, LstmcError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, weight_graph
from lstmc.ir.rebuild import renewed
from lstmc.numerics.sequences import constants
from lstmc.numerics.tflite import JOINS, Requantize, keeps_bits
from lstmc.ops import Array, Input, Op, Param, Unstack, applied
from lstmc.passes import CheckOps, Cse, Dead, Decompose, Expand, Pass, Precompute, Refs, Simplify
from lstmc_tflite.net import Call, Net, Tensor, schema

# Ops of the operands in their order that are an operator without options.
_NAMED = (ops.Abs, ops.Add, ops.Cos, ops.Exp, ops.Log, ops.Maximum, ops.Mul, ops.Relu, ops.Sin, ops.Sub, ops.Tanh)
OPERATORS: Mapping[type[Op], str] = {
    **{op: op.name.upper() for op in _NAMED},
    ops.Sigmoid: "LOGISTIC",
    Requantize: "QUANTIZE",
}
POWERS: Mapping[float, str] = {0.5: "SQRT", -0.5: "RSQRT"}
MOST_JOINED = 10  # operands of a CONCATENATION in TFLite Micro
MOST_AXES = 4  # of operands with broadcasting

Results = list[Tensor]


def operator(net: Net, call: Call) -> Results:
    """Write an op that is one operator, without a BROADCAST_TO of an operand that the operator broadcasts."""
    args = call.args
    if len(args) == 2:
        args = [_unrepeated(net, x, other, call) for x, other in (args, args[::-1])]
    return [net.add(OPERATORS[type(call.op)], args, call.types[0].shape, call.names[0])]


def _unrepeated(net: Net, x: Tensor, other: Tensor, call: Call) -> Tensor:
    """Return the tensor of which a BROADCAST_TO made ``x``, if the operator of ``call`` broadcasts it, else ``x``."""
    repeat = next((o for o in net.operators if x in o.outputs and o.code == "BROADCAST_TO"), None)
    if repeat is None or x.rank > MOST_AXES:
        return x
    source = repeat.inputs[0]
    shape = np.broadcast_shapes(source.shape, other.shape)
    return source if shape == call.types[0].shape else x


def _constant(net: Net, like: Tensor, value: float, name: str) -> Tensor:
    return net.constant(f"{name}/number", np.full((1,) * like.rank, value))


def power(net: Net, call: Call) -> Results:
    """Write a power with the cheapest operator for its exponent."""
    (x,), shape, name, exponent = call.args, call.types[0].shape, call.names[0], call.op.exponent
    if exponent in POWERS:
        return [net.add(POWERS[exponent], [x], shape, name)]
    if exponent == 2:
        return [net.add("MUL", [x, x], shape, name)]
    if exponent == -1:
        return [net.add("DIV", [_constant(net, x, 1.0, name), x], shape, name)]
    return [net.add("POW", [x, _constant(net, x, exponent, name)], shape, name)]


def affine(net: Net, call: Call) -> Results:
    """Write an affine with one operation: s - x, s x or x + s. The pass ``one_operation`` has split all others."""
    (x,), shape, name, (scale, shift) = call.args, call.types[0].shape, call.names[0], (call.op.scale, call.op.shift)
    if scale == -1 and shift:
        return [net.add("SUB", [_constant(net, x, shift, name), x], shape, name)]
    if shift == 0:
        return [net.add("MUL", [x, _constant(net, x, scale, name)], shape, name)]
    return [net.add("ADD", [x, _constant(net, x, shift, name)], shape, name)]


EXACT = 1.5 * 2**23  # a float32 plus this has no fraction: the sum is rounded to the nearest integer, ties to even


def nearest(net: Net, call: Call) -> Results:
    """Write the rounding of x without ROUND, which LiteRT's list of operators lacks."""
    (x,), shape, name = call.args, call.types[0].shape, call.names[0]
    whole = net.add("ADD", [x, _constant(net, x, EXACT, name)], shape, f"{name}/whole")
    return [net.add("SUB", [whole, _constant(net, x, EXACT, name)], shape, name)]


def positive(net: Net, call: Call) -> Results:
    """Write 1 where x > 0, else 0: GREATER, and a CAST of the booleans."""
    (x,), shape, name = call.args, call.types[0].shape, call.names[0]
    above = net.add("GREATER", [x, _constant(net, x, 0.0, name)], shape, f"{name}/above")
    above.dtype, types = "bool", schema().TensorType
    return [net.add("CAST", [above], shape, name, inDataType=types.BOOL, outDataType=types.FLOAT32)]


def split(net: Net, call: Call) -> Results:
    """Write a split: SPLIT for pieces of equal size, else a SLICE for each piece."""
    (x,), axis, shapes = call.args, call.op.axis, [type_.shape for type_ in call.types]
    if len(shapes) == 1:
        return [x]
    if len(set(call.op.sizes)) == 1:
        return net.split("SPLIT", [net.index(np.int32(axis)), x], shapes, call.names, numSplits=len(shapes))
    pieces = zip(np.cumsum([0, *call.op.sizes]), shapes, call.names, strict=False)
    return [_slice(net, x, axis, int(start), shape, name) for start, shape, name in pieces]


def _slice(net: Net, x: Tensor, axis: int, start: int, shape: Sequence[int], name: str) -> Tensor:
    begin = [start if each == axis else 0 for each in range(x.rank)]
    return net.add("SLICE", [x, net.index(begin), net.index(list(shape))], shape, name)


def unstack(net: Net, call: Call) -> Results:
    """Write a SLICE and a RESHAPE for each step."""
    (x,) = call.args
    if len(call.types) == 1:
        return [net.reshaped(x, call.types[0].shape, call.names[0])]
    rows = [_slice(net, x, 0, t, (1, *x.shape[1:]), f"{name}/row") for t, name in enumerate(call.names)]
    return [net.reshaped(row, call.types[0].shape, name) for row, name in zip(rows, call.names, strict=True)]


def stack(net: Net, call: Call) -> Results:
    rows = [net.reshaped(x, (1, *x.shape), f"{call.names[0]}/row") for x in call.args]
    return [_joined(net, rows, 0, call.names[0])]


def _joined(net: Net, parts: Sequence[Tensor], axis: int, name: str) -> Tensor:
    """Return the concatenation of tensors along an axis, in several stages if there are more than ``MOST_JOINED``."""
    while len(parts) > MOST_JOINED:
        groups = [parts[i : i + MOST_JOINED] for i in range(0, len(parts), MOST_JOINED)]
        parts = [_joined(net, group, axis, f"{name}/part") for group in groups]
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return net.add("CONCATENATION", parts, shape, name, axis=axis)


def transpose(net: Net, call: Call) -> Results:
    """Write TRANSPOSE, which exchanges an axis and the next axis."""
    (x,), axis = call.args, call.op.axis
    order = list(range(x.rank))
    order[axis : axis + 2] = axis + 1, axis
    return [net.transposed(x, order, call.names[0])]


def tile(net: Net, call: Call) -> Results:
    """Write BROADCAST_TO for an axis of one element, or else a CONCATENATION of copies."""
    (x,), axis = call.args, call.op.axis
    if x.shape[axis] != 1:
        return [_joined(net, [x] * call.op.tiles, axis, call.names[0])]
    return [net.add("BROADCAST_TO", [x, net.index(call.types[0].shape)], call.types[0].shape, call.names[0])]


def reduced(code: str, net: Net, call: Call) -> Results:
    """Write an operator that reduces one axis."""
    return [net.add(code, [*call.args, net.index([call.op.axis])], call.types[0].shape, call.names[0])]


def softmax(net: Net, call: Call) -> Results:
    """Write SOFTMAX. It is along the last axis, so a softmax along another axis stands between two transposes."""
    (x,), axis, name = call.args, call.op.axis, call.names[0]
    if axis == x.rank - 1:
        return [net.add("SOFTMAX", [x], x.shape, name, beta=1.0)]
    order = [*(i for i in range(x.rank) if i != axis), axis]
    turned = net.transposed(x, order, f"{name}/turned")
    parts = net.add("SOFTMAX", [turned], turned.shape, f"{name}/parts", beta=1.0)
    return [net.transposed(parts, list(np.argsort(order)), name)]


def embed(net: Net, call: Call) -> Results:
    """Write GATHER of the rows of a matrix, with the indices as integers."""
    (ids, matrix), types = call.args, schema().TensorType
    if matrix.data is not None:
        matrix = net.constant(matrix.name, matrix.data, "weights")
    whole = net.add("CAST", [ids], ids.shape, f"{call.names[0]}/ids", inDataType=types.FLOAT32, outDataType=types.INT32)
    whole.dtype = "int32"
    return [net.add("GATHER", [matrix, whole], call.types[0].shape, call.names[0])]


def linear(net: Net, call: Call) -> Results:
    """Write FULLY_CONNECTED on x as a matrix of rows, with the matrix [out, in] of the op. A missing bias is zeros."""
    (x, matrix, *bias), name = call.args, call.names[0]
    out, width = matrix.shape
    rows = net.reshaped(x, (prod(x.shape) // width, width), f"{name}/rows")
    if matrix.data is not None:
        matrix = net.constant(matrix.name, matrix.data, "weights")
    numbers = bias[0].data if bias else np.zeros(out)
    terms = net.constant(f"{name}/bias", numbers, "bias") if numbers is not None else bias[0]
    product = net.add("FULLY_CONNECTED", [rows, matrix, terms], (rows.shape[0], out), name)
    return [net.reshaped(product, call.types[0].shape, name)]


def conv(net: Net, call: Call) -> Results:
    """Write CONV_2D (groups: a kernel of fewer channels), or DEPTHWISE_CONV_2D if each channel is a group, between
    transposes to TFLite's [N, H, W, C]. Raises :class:`BackendError` for a kernel that is not made of parameters."""
    op, (x, matrix, *bias), name = call.op, call.args, call.names[0]
    if matrix.data is None:
        raise BackendError("conv with a computed kernel has no form in TFLite: expected one of parameters")
    out, inside = matrix.shape[:2]
    depthwise = op.group > 1 and inside == 1
    image = _padded(net, _channels_last(net, x, name), op.pad, (0, 0), name)
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    weights = net.constant(f"{name}/weights", matrix.data.transpose(order), "weights")
    numbers = np.zeros(out) if not bias else bias[0].data
    assert numbers is not None
    terms = net.constant(f"{name}/bias", numbers, "bias")
    options = {"strideH": op.stride[0], "strideW": op.stride[1], "padding": schema().Padding.VALID}
    options |= {"dilationHFactor": op.dilation[0], "dilationWFactor": op.dilation[1]}
    options |= {"depthMultiplier": out // op.group} if depthwise else {}
    shape = (image.shape[0], *call.types[0].shape[-2:], out)
    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    maps = net.add(code, [image, weights, terms], shape, f"{name}/maps", **options)
    return [_channels_first(net, maps, call.types[0].shape, name)]


def _channels_last(net: Net, x: Tensor, name: str) -> Tensor:
    """Return images [..., C, H, W] as [N, H, W, C]."""
    channels, height, width = x.shape[-3:]
    if channels == 1:
        return net.reshaped(x, (prod(x.shape[:-3]), height, width, 1), f"{name}/images")
    images = net.reshaped(x, (prod(x.shape[:-3]), channels, height, width), f"{name}/images")
    return net.transposed(images, (0, 2, 3, 1), f"{name}/last")


def _channels_first(net: Net, maps: Tensor, shape: Sequence[int], name: str) -> Tensor:
    if maps.shape[3] > 1:
        maps = net.transposed(maps, (0, 3, 1, 2), f"{name}/first")
    return net.reshaped(maps, shape, name)


def _padded(net: Net, x: Tensor, pad: Sequence[int], more: Sequence[int], name: str, value: float = 0.0) -> Tensor:
    """Return images with ``pad`` elements of ``value`` around height and width, and ``more`` elements at their ends."""
    if not any((*pad, *more)):
        return x
    ends = np.array([(0, 0), *((p, p + m) for p, m in zip(pad, more, strict=True)), (0, 0)], np.int32)
    shape = [size + int(sum(pair)) for size, pair in zip(x.shape, ends, strict=True)]
    if value:
        return net.add("PADV2", [x, net.index(ends), net.constant("least", np.float32(value))], shape, f"{name}/padded")
    return net.add("PAD", [x, net.index(ends)], shape, f"{name}/padded")


def pool(net: Net, call: Call) -> Results:
    """Write a pooling of a padded image. TFLite divides a mean by a window's size, the core op by how many of the
    window's places are in the padded image; factors correct the means where the two differ."""
    op, (x,), name = call.op, call.args, call.names[0]
    counts, more = call.types[0].shape[-2:], [max(0, e - p) for e, p in zip(op.ends(x.shape[-2:]), op.pad, strict=True)]
    mean = isinstance(op, ops.AvePool)
    image = _padded(net, _channels_last(net, x, name), op.pad, more, name, 0.0 if mean else -3e38)
    shape, options = (image.shape[0], *counts, x.shape[-3]), {"filterHeight": op.size[0], "filterWidth": op.size[1]}
    options |= {"strideH": op.stride[0], "strideW": op.stride[1], "padding": schema().Padding.VALID}
    maps = net.add("AVERAGE_POOL_2D" if mean else "MAX_POOL_2D", [image], shape, f"{name}/maps", **options)
    share = prod(op.size) / op.covered(x.shape[-2:]) if isinstance(op, ops.AvePool) else np.ones((1, 1))
    if np.any(share != 1):
        maps = net.add("MUL", [maps, net.constant(f"{name}/share", share[None, :, :, None])], shape, f"{name}/means")
    return [_channels_first(net, maps, call.types[0].shape, name)]


def leaky_relu(net: Net, call: Call) -> Results:
    return [net.add("LEAKY_RELU", call.args, call.types[0].shape, call.names[0], alpha=call.op.slope)]


GROUP = "lstmc_tflite.lowerings"  # an entry point of a package names a table from ops to lowerings
Lowering = Callable[[Net, Call], Results]
LOWERINGS: Mapping[type[Op], Lowering] = {
    **dict.fromkeys(OPERATORS, operator),
    **dict.fromkeys((ops.StopGradient, ops.Dropout, ops.Precomputed), lambda net, call: call.args),
    **dict.fromkeys((ops.MaxPool, ops.AvePool), pool),
    ops.Affine: affine, ops.Conv: conv, ops.Embed: embed, ops.Linear: linear, ops.Positive: positive, ops.Power: power,
    ops.Round: nearest, ops.Softmax: softmax, ops.Split: split, ops.Stack: stack, ops.Tile: tile,
    ops.Transpose: transpose, ops.Unstack: unstack,
    ops.Max: partial(reduced, "REDUCE_MAX"), ops.Sum: partial(reduced, "SUM"), ops.LeakyRelu: leaky_relu,
    ops.Concat: lambda net, call: [_joined(net, call.args, call.op.axis, call.names[0])],
    ops.Reshape: lambda net, call: [net.reshaped(call.args[0], call.types[0].shape, call.names[0])],
}  # fmt: skip
lowerings = Lowerings(LOWERINGS, GROUP, "TFLite")


@dataclass
class Written:
    """A net, the graph of its weights, and the tensor of each value of the net's graph."""

    net: Net
    weights: Graph
    tensors: dict[Ref, Tensor] = field(default_factory=dict)


def write_net(compiled: Compiled, params: Mapping[str, Array]) -> Written:
    """Return the net of a graph. Tensors have the names of values; states are inputs and outputs. Raises
    :class:`BackendError`, at the user's line, for an op that cannot be written."""
    graph = compiled.expanded
    fixed = constants(graph)
    read = {ref for node in graph if node.name not in fixed for ref in graph.args(node.name)}
    read |= {output.ref for output in graph.outputs}
    stored = [ref for ref in graph.refs() if ref.node in fixed and ref in read]
    written = Written(Net(compiled.name), weight_graph(graph, (ref for ref in stored if _of_parameters(graph, ref))))
    values = forward(weight_graph(graph, stored), params=params, dtype=np.float32).outputs
    for ref in stored:
        written.tensors[ref] = written.net.constant(graph.value_name(ref), values[graph.value_name(ref)])
    for node in graph:
        if node.name not in fixed:
            _write(written, graph, node)
    for output in graph.outputs:
        written.net.outputs[output.name] = _output(written, graph, output.ref, output.name)
    written.net.keep_live()
    written.net.copy_before_views()
    return written


def _write(written: Written, graph: Graph, node: Node) -> None:
    """Write a node into the net, and note the tensor of each result. An input becomes an input of the net."""
    net = written.net
    net.node = node.name
    if isinstance(node.op, Input):
        tensor = net.tensor(node.name, _input_shape(graph, node))
        net.inputs[node.name] = written.tensors[Ref(node.name)] = tensor
        return
    call = Call(node.op, [written.tensors[ref] for ref in graph.args(node.name)], node.types, node.names)
    try:
        results = lowerings.of(node.op)(net, call)
    except LstmcError as error:
        raise error.located(node.loc) from None
    written.tensors |= {Ref(node.name, out): tensor for out, tensor in enumerate(results)}


def _input_shape(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return an input's shape in the net. A sequence of one step that is only cut into steps has the step's shape."""
    readers = [each for each in graph if Ref(node.name) in graph.args(each.name)]
    shape = node.types[0].shape
    given = any(output.ref == Ref(node.name) for output in graph.outputs)
    is_sequence = bool(readers) and not given and shape[:1] == (1,) and all(isinstance(r.op, Unstack) for r in readers)
    return shape[1:] if is_sequence else shape


def _output(written: Written, graph: Graph, ref: Ref, name: str) -> Tensor:
    """Return the tensor of an output, in any shape of the same elements. A RESHAPE copies an input or a constant."""
    net, tensor = written.net, written.tensors[ref]
    while tensor.view is not None:
        tensor = tensor.view
    if tensor.data is None and tensor not in net.inputs.values():
        return tensor
    flat = (prod(tensor.shape),) if tensor.rank != 1 else (1, prod(tensor.shape))
    return net.add("RESHAPE", [tensor, net.index(np.array(flat, np.int32))], flat, name, newShape=list(flat))


def _of_parameters(graph: Graph, ref: Ref) -> bool:
    return any(isinstance(graph.node(name).op, Param) for name in graph.needed([ref]))


@dataclass(frozen=True)
class SoftplusFormula(Decompose):
    """softplus(x) as max(x, 0) + ln(1 + exp(-|x|)), which cannot overflow."""

    name = "softplus_formula"
    op = ops.Softplus

    def formula(self, op: ops.Softplus, x: Any) -> Any:
        (above,), (size,) = applied(ops.Relu(), x), applied(ops.Abs(), x)
        (rest,) = applied(ops.Exp(), *applied(ops.Affine(-1.0), size))
        return above + applied(ops.Log(), *applied(ops.Affine(shift=1.0), rest))[0]


@dataclass(frozen=True)
class EluFormula(Decompose):
    """elu(x) as max(x, 0) + alpha (exp(min(x, 0)) - 1)."""

    name = "elu_formula"
    op = ops.Elu

    def formula(self, op: ops.Elu, x: Any) -> Any:
        (above,), (below,) = applied(ops.Relu(), x), applied(ops.Relu(), *applied(ops.Affine(-1.0), x))
        (rest,) = applied(ops.Exp(), *applied(ops.Affine(-1.0), below))
        return above + applied(ops.Affine(op.alpha, -op.alpha), rest)[0]


@passes.node_pass()
def one_operation(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Write each affine as one operation of TFLite: s - x, s x or x + s.

    1. affine(x, scale, shift) => affine(affine(x, scale), 1, shift), unless the scale is 1 or -1
    """
    op = node.op
    if type(op) is not ops.Affine or op.scale in (1, -1) or op.shift == 0:
        return None
    counts["one_operation"] += 1
    (scaled,) = b.add(ops.Affine(op.scale), *args, names=(f"{node.name}/scaled",), loc=node.loc)
    return b.add(ops.Affine(shift=op.shift), scaled, names=node.names, loc=node.loc)


@passes.node_pass()
def sums_as_products(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Write sums as products with ones: LiteRT has no SUM of 16 bits, and its reference kernel of 8 bits is wrong.

    1. sum(x, axis) => reshape(linear(x with this axis last, 1))
    """
    op = node.op
    if not isinstance(op, ops.Sum):
        return None
    counts["sum_as_product"] += 1
    (x,), last = args, b.type(args[0]).rank - 1
    size = b.type(x).shape[op.axis]
    for axis in range(op.axis, last):
        (x,) = b.add(ops.Transpose(axis), x, names=(f"{node.name}/turned{axis}",), loc=node.loc)
    (ones,) = b.add(ops.Full((1, size), 1.0), names=(f"{node.name}/ones",), loc=node.loc)
    (total,) = b.add(ops.Linear(axis=last), x, ones, names=(f"{node.name}/product",), loc=node.loc)
    return b.add(ops.Reshape(node.types[0].shape), total, names=node.names, loc=node.loc)


@dataclass(frozen=True)
class Widths(Pass):
    """Put states, values added to or multiplied with them, and logistic and tanh of these in 16 bits, all others in 8.

    1. a value that an op reads in the other size => requantize(value)

    ``states`` are pairs of an input and the output that it takes at the next step.
    """

    states: tuple[tuple[str, str], ...] = ()
    name = "widths"

    def for_states(self, after: Mapping[str, str]) -> Widths:
        return Widths(tuple(after.items()))

    def run(self, graph: Graph) -> passes.PassResult:
        """Return the graph with a requantize wherever an op reads a value in the other size."""
        counts: Counter[str] = Counter()
        fixed, states = constants(graph), dict(self.states)
        wide, casts = set[Ref](), dict[tuple[Ref, bool], Ref]()  # wide: the values in 16 bits
        rebuild = Rebuild(graph)

        def cast(ref: Ref, to_wide: bool) -> Ref:
            """Return a value in 16 bits if ``to_wide``, or else in 8 bits. A constant stays as it is."""
            if (ref in wide) == to_wide or ref.node in kept:
                return ref
            if (ref, to_wide) not in casts:
                counts["requantize"] += 1
                bits, node = (16 if to_wide else 8), rebuild.builder.node(ref.node)
                names = (f"{node.names[ref.out]}/{bits}",)
                (casts[ref, to_wide],) = rebuild.builder.add(Requantize(bits), ref, names=names, loc=node.loc)
                wide.update([casts[ref, to_wide]] if to_wide else [])
            return casts[ref, to_wide]

        kept = set[str]()  # constants
        for node in graph:
            args = rebuild.args(node)
            if node.name in fixed or isinstance(node.op, ops.Input):
                refs = rebuild.copy(node)
                kept.update(ref.node for ref in refs if node.name in fixed)
                wide.update(refs if node.name in states else ())
                continue
            among = [ref in wide for ref in args if ref.node not in kept]
            is_wide = keeps_bits(node.op) and (all if isinstance(node.op, JOINS) else any)(among)
            refs = rebuild.copy(node, [cast(ref, is_wide) for ref in args])
            wide.update(refs if is_wide else ())
        outputs = renewed(graph.outputs, rebuild.new)
        done = [o._replace(ref=cast(o.ref, True)) if o.name in states.values() else o for o in outputs]
        return passes.result(graph, rebuild.builder.finish(done), counts)


def _check(op: Op) -> None:
    if not isinstance(op, ops.Full):  # a constant
        lowerings.of(op)


PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), passes.fuse_linears, passes.split_products),
    *(SoftplusFormula(), EluFormula(), Simplify(), Cse(), Dead(), Precompute(), one_operation, Dead()),
    *(CheckOps("TFLite", _check), Expand(), Dead()),
)
INTEGERS: tuple[Pass, ...] = (*PASSES, sums_as_products, Dead())
WIDER_STATES: tuple[Pass, ...] = (*INTEGERS, Widths())
