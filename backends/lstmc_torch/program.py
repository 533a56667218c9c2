"""A compiled graph as a program in Python: an expression for each core op, and a function for each scan."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic

import numpy as np

from lstmc import ops
from lstmc.backend.compiled import PRODUCT, open_inputs, open_shape
from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, OpT_co, Ref, Scan
from lstmc.loops.code import cpu_source, layer_code, source
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.rows import batch_of
from lstmc.ops import Binary, Op
from lstmc.ops.frameworks import Foreign, ops_of
from lstmc.passes import named_results
from lstmc.text import Names
from lstmc.types import TensorType


@dataclass(frozen=True)
class Call(Generic[OpT_co]):
    """An op with the texts and types of its operands, and the text of the shape of its first result."""

    op: OpT_co
    args: Sequence[str]
    types: Sequence[TensorType]
    shape: Callable[[], str]


def _affine(call: Call[ops.Affine]) -> str:
    scaled = call.args[0] if call.op.scale == 1 else f"{float(call.op.scale)!r} * {call.args[0]}"
    return scaled if call.op.shift == 0 else f"{scaled} + {float(call.op.shift)!r}"


def _linear(call: Call[ops.Linear]) -> str:
    op, x = call.op, call.args[0]
    if op.axis < call.types[0].rank - 1:
        x = f"{x}.flatten({op.axis})"
    return f"F.linear({', '.join([x, *call.args[1:]])})"


def _conv(call: Call[ops.Conv]) -> str:
    op = call.op
    settings = f"stride={op.stride}, padding={op.pad}, dilation={op.dilation}, groups={op.group}"
    return _of_images(call, lambda x: f"F.conv2d({', '.join([x, *call.args[1:]])}, {settings})")


def _padded(call: Call[ops.MaxPool | ops.AvePool], x: str, value: str) -> str:
    """Return images padded with ``value`` so that the last window is whole: Caffe rounds the number of windows up."""
    (top, left), (below, right) = call.op.pad, call.op.ends(call.types[0].shape[-2:])
    around = (left, right, top, below)
    return f"F.pad({x}, {around}, value={value})" if any(around) else x


def _pool(call: Call[ops.MaxPool | ops.AvePool]) -> str:
    """Return the largest element of each window, or its sum divided by its number of places in the padded image."""
    op = call.op
    if isinstance(op, ops.MaxPool):
        return _of_images(call, lambda x: f"F.max_pool2d({_padded(call, x, LEAST)}, {op.size}, stride={op.stride})")
    covered = op.covered(call.types[0].shape[-2:])
    divisor = str(covered.flat[0])
    if np.any(covered != covered.flat[0]):
        divisor = f"torch.tensor({covered.tolist()}, dtype={call.args[0]}.dtype, device={call.args[0]}.device)"
    sums = f"F.avg_pool2d({{}}, {op.size}, stride={op.stride}, divisor_override=1)"
    return _of_images(call, lambda x: f"{sums.format(_padded(call, x, '0.0'))} / {divisor}")


def _of_images(call: Call, of: Callable[[str], str]) -> str:
    """Return the expression that ``of`` writes for x as [N, C, H, W], reshaped back if x has other leading axes."""
    x = call.args[0]
    if call.types[0].rank == 4:
        return of(x)
    if call.types[0].rank == 3:
        return f"({of(f'{x}.unsqueeze(0)')}).squeeze(0)"
    lead = call.types[0].rank - 3
    return f"({of(f'{x}.flatten(0, {lead - 1})')}).unflatten(0, {x}.shape[:{lead}])"


def _tile(call: Call[ops.Tile]) -> str:
    op = call.op
    repeats = [op.tiles if axis == op.axis else 1 for axis in range(call.types[0].rank)]
    return f"{call.args[0]}.repeat({', '.join(map(str, repeats))})"


# Functions for ops that are more than an expression.
FUNCTIONS = {
    "alike": """\
def alike(*inputs):
    kind = torch.get_default_dtype() if not any(x.is_floating_point() for x in inputs) else None
    for x in inputs:
        if x.is_floating_point():
            kind = x.dtype if kind is None else torch.promote_types(kind, x.dtype)
    return [x.to(inputs[0].device, kind) for x in inputs]""",
    "softmax_loss": """\
def softmax_loss(x, label, axis, ignored, normalization):
    rows, index = x.movedim(axis, -1).reshape(-1, x.shape[axis]), label.reshape(-1).long()
    ignored = -100 if ignored is None else ignored
    total = F.cross_entropy(rows, index, ignore_index=ignored, reduction="sum")
    if normalization == "valid":
        return total / (index != ignored).sum().clamp(min=1)
    return total / {"full": index.numel(), "batch_size": x.shape[:axis].numel(), "none": 1}[normalization]""",
    "sigmoid_cross_entropy_loss": """\
def sigmoid_cross_entropy_loss(x, target, normalization):
    total = F.binary_cross_entropy_with_logits(x, target.detach(), reduction="sum")
    return total / {"batch_size": x.shape[0], "none": 1}.get(normalization, x.numel())""",
    "accuracy": """\
def accuracy(x, label, axis, ignored, top_k):
    rows, index = x.detach().movedim(axis, -1).reshape(-1, x.shape[axis]), label.reshape(-1, 1).long()
    counted = torch.ones_like(index, dtype=torch.bool) if ignored is None else index != ignored
    index = torch.where(counted, index, 0)
    own = rows.gather(1, index)
    later = torch.arange(rows.shape[1], device=x.device) > index
    right = ((rows > own) | ((rows == own) & later)).sum(1, keepdim=True) < top_k
    return ((right & counted).sum() / counted.sum().clamp(min=1)).to(x.dtype)""",
}
LEAST = 'float("-inf")'


def _function(op: type[Op], foreign: Foreign) -> str:
    """Return the template of a function of PyTorch; those with settings are in ``torch.nn.functional``."""
    operands = ["{0}", *(f"{{{field.name}!r}}" for field in fields(op))]
    return f"{'F' if foreign.settings else 'torch'}.{foreign.name}({', '.join(operands)})"


Lowering = Callable[[Call[Any]], str]
# An expression in which {0}, {1} are operands, and fields of the op have their names.
TEXTS: Mapping[type[Op], str] = {
    **{op: _function(op, foreign) for op, foreign in ops_of("torch")},
    ops.Elu: "F.elu({0}, {alpha!r})",
    ops.Positive: "({0} > 0).to({0}.dtype)",
    ops.Power: "{0} ** {exponent!r}",
    ops.StopGradient: "{0}.detach()",
    ops.Precomputed: "{0}",
    ops.Add: "{0} + {1}",
    ops.Sub: "{0} - {1}",
    ops.Mul: "{0} * {1}",
    ops.Maximum: "torch.where(({0} > {1}) | ({0} != {0}), {0}, {1})",  # of two equal values {1} has the gradient
    ops.Dropout: "F.dropout({0}, {ratio!r}, training)",
    ops.Split: "{0}.split({sizes!r}, {axis})",
    ops.Transpose: "{0}.transpose({axis}, {axis} + 1)",
    ops.Unstack: "{0}.unbind(0)",
    ops.Sum: "{0}.sum({axis})",
    ops.Max: "{0}.max({axis}).values",
    ops.Largest: "torch.zeros_like({0}).scatter({axis}, {0}.argmax({axis}, keepdim=True), 1.0)",
    ops.Softmax: "torch.softmax({0}, {axis})",
    ops.Embed: "F.embedding({0}.long(), {1})",
    ops.SoftmaxLoss: "softmax_loss({0}, {1}, {axis}, {ignore_label}, {normalization!r})",
    ops.SigmoidCrossEntropyLoss: "sigmoid_cross_entropy_loss({0}, {1}, {normalization!r})",
    ops.EuclideanLoss: "({0} - {1}).square().sum() / (2 * {0}.shape[0])",
    ops.Accuracy: "accuracy({0}, {1}, {axis}, {ignore_label}, {top_k})",
}
LOWERINGS: Mapping[type[Op], Lowering] = {
    ops.Affine: _affine, ops.Linear: _linear, ops.Conv: _conv, ops.MaxPool: _pool, ops.AvePool: _pool, ops.Tile: _tile,
    ops.Concat: lambda call: f"torch.cat([{', '.join(call.args)}], {call.op.axis})",
    ops.Stack: lambda call: f"torch.stack([{', '.join(call.args)}])",
    ops.Reshape: lambda call: f"{call.args[0]}.reshape({call.shape()})",
}  # fmt: skip


def lowered(call: Call) -> str:
    """Return an op as an expression. Raises :class:`BackendError` for an op without a form in PyTorch."""
    if type(call.op) in LOWERINGS:
        return LOWERINGS[type(call.op)](call)
    if type(call.op) in TEXTS:
        fields = {name: getattr(call.op, name) for name in call.op.__dataclass_fields__}
        return TEXTS[type(call.op)].format(*call.args, **fields)
    raise BackendError(f"{call.op.name} has no form in PyTorch")


_OWN = ("torch", "F", "parameters", "training", "native", "loop", "like", "operands", "t", *FUNCTIONS)
_TAKEN = {*dir(builtins), *keyword.kwlist, *_OWN}


@dataclass(frozen=True)
class Program:
    """The text of a program, whose ``forward`` computes a graph, and the C++ and CUDA of its loops, else empty."""

    text: str
    cpp: str
    cu: str = ""


def program_of(graph: Graph, gpu: bool = False) -> Program:
    """Return the program of a graph, for all sizes of its open dimensions; with ``gpu`` its loops in CUDA too. Raises
    :class:`BackendError` for an op without a form in PyTorch, and for a size that cannot be written."""
    codes = [layer_code(node.op.plan()) for node in graph if isinstance(node.op, GeneratedScan)]
    whole = _Function(graph, "forward", open_inputs(graph))
    whole.write_graph()
    functions = [*whole.scans, "\n".join(whole.lines)]
    functions = [text for name, text in FUNCTIONS.items() if any(f"{name}(" in each for each in functions)] + functions
    text = "\n\n\n".join(["import torch\nimport torch.nn.functional as F", *functions])
    cu = source(graph.name, codes).cu if codes and gpu else None
    return Program(text + "\n", cpu_source(graph.name, codes) if codes else "", cu or "")


def _spelled(name: str) -> str:
    base = re.sub(r"\W", "_", name.rpartition("/")[2]) or "v"
    return f"v{base}" if base[0].isdigit() else base


class _Function:
    """Writes the text of one function: of a whole graph, or of a scan, as a loop over its body's steps."""

    def __init__(self, graph: Graph, name: str, inputs: Mapping[str, tuple[str, int]]) -> None:
        self.graph, self.name, self.inputs = graph, name, inputs
        self.dims = list(inputs) if name == "forward" else []  # open dimensions: variables of these names
        self.names = Names({*_TAKEN, *self.dims}, _spelled)  # makes names of variables that are not taken
        self.values: dict[Ref, str] = {}  # the variable of each value
        self.lines: list[str] = []  # of this function
        self.scans: list[str] = []  # the texts of the functions of its scans

    # the whole graph ----------------------------------------------------------------------------------------------

    def write_graph(self) -> None:
        """Write ``forward``: read inputs and parameters, compute each node, return the outputs."""
        inputs = [node for node in self.graph if isinstance(node.op, ops.Input)]
        for node in inputs:
            self._name(node)
        listed = "".join(f"{self.values[Ref(node.name)]}, " for node in inputs)
        self.lines.append(f"def forward(parameters, {listed}training, native, loop):")
        self.lines += [f"    {dim} = {self._value(name)}.shape[{axis}]" for dim, (name, axis) in self.inputs.items()]
        params = [node for node in self.graph if isinstance(node.op, ops.Param)]
        for node in params:
            self.lines.append(f"    {self._name(node)} = parameters[{node.name!r}]")
        if not params:  # no parameter gives the type of all values
            self.lines.append(f"    {listed[:-1] if len(inputs) == 1 else listed[:-2]} = alike({listed[:-2]})")
        self.lines.append(f"    like = {self._value((params or inputs)[0].name)}")
        for node in self.graph:
            if isinstance(node.op, Scan):
                self._call_scan(node, node.op)
            else:
                self._write(node, "    ")
        self.lines.append(f"    return {_tuple([self._read(output.ref) for output in self.graph.outputs])}")

    def _call_scan(self, node: Node, scan: Scan) -> None:
        """Write a function for a scan, and its call; a scan with native code has two calls, chosen by ``native``."""
        body, dims = named_results(scan, scan.body), list(self.inputs)
        function = _Function(body, self.names.unique(scan.body.name), self.inputs)
        steps, rows = scan.length, batch_of(scan)
        function.write_scan(scan, dims, steps)
        self.scans.append("\n".join(function.lines))
        operands = self.graph.args(node.name)
        results = [self.names.unique(name) for name in node.names]
        self.values.update((Ref(node.name, out), name) for out, name in enumerate(results))
        to = ", ".join(results) + ("," if len(results) == 1 else "")
        plain = f"{function.name}({', '.join([*map(self._read, operands), 'like', *dims])})"
        if not isinstance(scan, GeneratedScan):
            self.lines.append(f"    {to} = {plain}")
            return
        inlined = scan.inlined(len(operands))
        bottoms = [ref for slot, ref in enumerate(operands) if scan.role(slot) != "weight" and slot not in inlined]
        weights = [ref for slot, ref in enumerate(operands) if scan.role(slot) == "weight"]
        tensors = (f"[{', '.join(map(self._read, refs))}]" for refs in (bottoms, weights))
        order = {ref: f"operands[{at}]" for at, ref in enumerate((*bottoms, *weights))}
        given = [self._read(ref) if slot in inlined else order[ref] for slot, ref in enumerate(operands)]
        kind = layer_code(scan.plan()).type
        steps_too = f"lambda *operands: {function.name}({', '.join([*given, 'like', *dims])})"
        self.lines += [
            "    if native:",
            f"        {to} = loop({kind!r}, {steps}, {rows}, {', '.join(tensors)}, {steps_too})",
            "    else:",
            f"        {to} = {plain}",
        ]

    # a scan -------------------------------------------------------------------------------------------------------

    def write_scan(self, scan: Scan, dims: Sequence[str], length: int) -> None:
        """Write a function that loops over a scan's steps, and returns the outputs, stacked, and the last states."""
        self.dims, self.names = list(dims), Names({*_TAKEN, *dims}, _spelled)
        args = self.graph.body_args()
        roles = [scan.role(slot) for slot in range(len(args))]
        names = [self.names.unique(arg.name) for arg in args]
        sequences = [name for name, role in zip(names, roles, strict=True) if role == "x"]
        self.lines.append(f"def {self.name}({', '.join([*names, 'like', *dims])}):")
        steps = f"{sequences[0]}.shape[0]" if sequences else str(length)
        states = [name for name, role in zip(names, roles, strict=True) if role == "state"]
        outputs = [self.names.unique(f"all_{output.name or 'y'}") for output in scan.step_outputs]
        self.lines += [f"    {name} = []" for name in outputs]
        self.lines.append(f"    for t in {f'reversed(range({steps}))' if scan.reverse else f'range({steps})'}:")
        for arg, name, role in zip(args, names, roles, strict=True):
            if role == "x":
                step = self.names.unique(f"{name}_t")
                self.lines.append(f"        {step} = {name}[t]")
                name = step
            self.values[Ref(arg.name)] = name
        for node in self.graph:
            if isinstance(node.op, Scan):
                raise BackendError("a scan in a scan has no form in PyTorch", loc=node.loc)
            self._write(node, "        ")
        results = [self._read(output.ref) for output in self.graph.outputs]
        self.lines += [f"        {name}.append({value})" for name, value in zip(outputs, results, strict=False)]
        if states:
            self.lines.append(f"        {', '.join(states)} = {', '.join(results[len(outputs) :])}")
        order = "[::-1]" if scan.reverse else ""
        stacked = [f"torch.stack({name}{order})" for name in outputs]
        self.lines.append(f"    return {_tuple([*stacked, *states])}")

    # one node -----------------------------------------------------------------------------------------------------

    def _write(self, node: Node, indent: str) -> None:
        """Write the line that computes a node. Inputs, parameters, arguments and constants have no line."""
        if isinstance(node.op, ops.Input | ops.Param | ops.Arg | ops.Full):
            return
        operands = self.graph.args(node.name)
        types = [self.graph.type(ref) for ref in operands]
        args = [self._read(ref) for ref in operands]
        if isinstance(node.op, Binary):  # a constant can be a number if the other operand has the result's type
            whole = zip(operands, args, [other == node.types[0] for other in types[::-1]], strict=True)
            args = [self._number(ref, arg) if fits else arg for ref, arg, fits in whole]
        call = Call(node.op, args, types, lambda: self._shape(Ref(node.name)))
        try:
            text = lowered(call)
        except BackendError as error:
            raise error.located(node.loc) from None
        names = [self.names.unique(name) for name in node.names]
        self.values.update((Ref(node.name, out), name) for out, name in enumerate(names))
        to = ", ".join(names) + ("," if len(names) == 1 and isinstance(node.op, ops.Split | ops.Unstack) else "")
        self.lines.append(f"{indent}{to} = {text}")

    def _name(self, node: Node) -> str:
        self.values[Ref(node.name)] = self.names.unique(node.name)
        return self.values[Ref(node.name)]

    def _value(self, name: str) -> str:
        return self.values[Ref(name)]

    def _read(self, ref: Ref) -> str:
        op = self.graph.node(ref.node).op
        if isinstance(op, ops.Full):
            return f"like.new_full({self._shape(ref)}, {op.value!r})"
        return self.values[ref]

    def _number(self, ref: Ref, text: str) -> str:
        op = self.graph.node(ref.node).op
        return repr(op.value) if isinstance(op, ops.Full) else text

    def _shape(self, ref: Ref) -> str:
        """Return a shape as text: variables for open sizes, -1 for a computed one. Raises BackendError for two -1."""
        sizes = open_shape(self.graph.type(ref))
        if sum(size == PRODUCT for size in sizes) > 1:
            raise BackendError(f"{self.graph.value_name(ref)} has two sizes that are computed")
        return _tuple(["-1" if size == PRODUCT else str(size) for size in sizes])


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
