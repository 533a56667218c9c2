"""The lowering of each core op to PyTorch: an expression of its operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from lstmc.errors import BackendError
from lstmc.ops import (
    Accuracy,
    Add,
    Affine,
    AvePool,
    Concat,
    Conv,
    Dropout,
    Elu,
    Embed,
    EuclideanLoss,
    Largest,
    Linear,
    Max,
    Maximum,
    MaxPool,
    Mul,
    Op,
    Positive,
    Power,
    Precomputed,
    Reshape,
    SigmoidCrossEntropyLoss,
    Softmax,
    SoftmaxLoss,
    Split,
    Stack,
    StopGradient,
    Sub,
    Sum,
    Tile,
    Transpose,
    Unstack,
)
from lstmc.ops.frameworks import Foreign, ops_of
from lstmc.types import TensorType


@dataclass(frozen=True)
class Call:
    """An op with the texts and types of its operands, the type of its first result, and the text of its shape."""

    op: Op
    args: Sequence[str]
    types: Sequence[TensorType]
    result: TensorType
    shape: Callable[[], str]


def _number(value: float) -> str:
    return repr(float(value))


def _affine(call: Call) -> str:
    assert isinstance(call.op, Affine)
    scaled = call.args[0] if call.op.scale == 1 else f"{_number(call.op.scale)} * {call.args[0]}"
    return scaled if call.op.shift == 0 else f"{scaled} + {_number(call.op.shift)}"


def _maximum(call: Call) -> str:
    x, y = call.args
    return f"torch.where(({x} > {y}) | ({x} != {x}), {x}, {y})"  # of two equal ones y has the gradient


def _linear(call: Call) -> str:
    op, x = call.op, call.args[0]
    assert isinstance(op, Linear)
    if op.axis < call.types[0].rank - 1:
        x = f"{x}.flatten({op.axis})"
    return f"F.linear({', '.join([x, *call.args[1:]])})"


def _conv(call: Call) -> str:
    op = call.op
    assert isinstance(op, Conv)
    settings = f"stride={op.stride}, padding={op.pad}, dilation={op.dilation}, groups={op.group}"
    return _of_images(call, lambda x: f"F.conv2d({', '.join([x, *call.args[1:]])}, {settings})")


def _padded(call: Call, x: str, value: str) -> str:
    """The images with so many ``value`` around them that the last window is whole: counts are rounded up."""
    op = call.op
    assert isinstance(op, MaxPool | AvePool)
    sizes = zip(call.types[0].shape[-2:], call.result.shape[-2:], op.size, op.stride, op.pad, strict=True)
    (top, bottom), (left, right) = ((p, max(0, (count - 1) * s + k - n - p)) for n, count, k, s, p in sizes)
    around = (left, right, top, bottom)
    return f"F.pad({x}, {around}, value={value})" if any(around) else x


def _max_pool(call: Call) -> str:
    op = call.op
    assert isinstance(op, MaxPool)
    return _of_images(call, lambda x: f"F.max_pool2d({_padded(call, x, LEAST)}, {op.size}, stride={op.stride})")


def _ave_pool(call: Call) -> str:
    """The sum of a window over its number of places in the image with its own padding."""
    op = call.op
    assert isinstance(op, AvePool)
    places = []
    for n, count, k, s, p in zip(
        call.types[0].shape[-2:], call.result.shape[-2:], op.size, op.stride, op.pad, strict=True
    ):
        places.append([min(at * s - p + k, n + p) - (at * s - p) for at in range(count)])
    rows, columns = places
    sums = f"F.avg_pool2d({{}}, {op.size}, stride={op.stride}, divisor_override=1)"
    if len({*rows}) == len({*columns}) == 1:
        divisor = str(rows[0] * columns[0])
    else:
        table = [[one * other for other in columns] for one in rows]
        divisor = f"torch.tensor({table}, dtype={call.args[0]}.dtype, device={call.args[0]}.device)"
    return _of_images(call, lambda x: f"{sums.format(_padded(call, x, '0.0'))} / {divisor}")


def _of_images(call: Call, of: Callable[[str], str]) -> str:
    """A function of [N, C, H, W] for x with any axes before the last three."""
    x = call.args[0]
    if call.types[0].rank == 4:
        return of(x)
    if call.types[0].rank == 3:
        return f"({of(f'{x}.unsqueeze(0)')}).squeeze(0)"
    lead = call.types[0].rank - 3
    return f"({of(f'{x}.flatten(0, {lead - 1})')}).unflatten(0, {x}.shape[:{lead}])"


def _tile(call: Call) -> str:
    op = call.op
    assert isinstance(op, Tile)
    repeats = [op.tiles if axis == op.axis else 1 for axis in range(call.types[0].rank)]
    return f"{call.args[0]}.repeat({', '.join(map(str, repeats))})"


def _largest(call: Call) -> str:
    op, x = call.op, call.args[0]
    assert isinstance(op, Largest)
    return f"torch.zeros_like({x}).scatter({op.axis}, {x}.argmax({op.axis}, keepdim=True), 1.0)"


# Functions of their own, for ops that are more than an expression.
FUNCTIONS = {
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
    """Return the text of an elementwise function; those with settings are in ``torch.nn.functional``."""
    operands = ["{0}", *(f"{{{field.name}!r}}" for field in fields(op))]
    return f"{'F' if foreign.settings else 'torch'}.{foreign.name}({', '.join(operands)})"


Lowering = Callable[[Call], str]
# An expression in which {0}, {1} are operands, and fields of the op have their names.
TEXTS: Mapping[type[Op], str] = {
    **{op: _function(op, foreign) for op, foreign in ops_of("torch")},
    Elu: "F.elu({0}, {alpha!r})",
    Positive: "({0} > 0).to({0}.dtype)",
    Power: "{0} ** {exponent!r}",
    StopGradient: "{0}.detach()",
    Precomputed: "{0}",
    Add: "{0} + {1}",
    Sub: "{0} - {1}",
    Mul: "{0} * {1}",
    Dropout: "F.dropout({0}, {ratio!r}, training)",
    Split: "{0}.split({sizes!r}, {axis})",
    Transpose: "{0}.transpose({axis}, {axis} + 1)",
    Unstack: "{0}.unbind(0)",
    Sum: "{0}.sum({axis})",
    Max: "{0}.max({axis}).values",
    Softmax: "torch.softmax({0}, {axis})",
    Embed: "F.embedding({0}.long(), {1})",
    SoftmaxLoss: "softmax_loss({0}, {1}, {axis}, {ignore_label}, {normalization!r})",
    SigmoidCrossEntropyLoss: "sigmoid_cross_entropy_loss({0}, {1}, {normalization!r})",
    EuclideanLoss: "({0} - {1}).square().sum() / (2 * {0}.shape[0])",
    Accuracy: "accuracy({0}, {1}, {axis}, {ignore_label}, {top_k})",
}
LOWERINGS: Mapping[type[Op], Lowering] = {
    Affine: _affine,
    Maximum: _maximum,
    Linear: _linear,
    Conv: _conv,
    MaxPool: _max_pool,
    AvePool: _ave_pool,
    Tile: _tile,
    Largest: _largest,
    Concat: lambda call: f"torch.cat([{', '.join(call.args)}], {call.op.axis})",  # type: ignore[attr-defined]
    Stack: lambda call: f"torch.stack([{', '.join(call.args)}])",
    Reshape: lambda call: f"{call.args[0]}.reshape({call.shape()})",
}


def lowered(call: Call) -> str:
    """Return an op as an expression. Raises :class:`BackendError` for one that has no form in PyTorch."""
    if type(call.op) in LOWERINGS:
        return LOWERINGS[type(call.op)](call)
    if type(call.op) in TEXTS:
        fields = {name: getattr(call.op, name) for name in call.op.__dataclass_fields__}
        return TEXTS[type(call.op)].format(*call.args, **fields)
    raise BackendError(f"{call.op.name} has no form in PyTorch")
