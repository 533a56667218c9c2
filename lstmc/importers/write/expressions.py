"""Each op of the import IR as an expression of the public language."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.importers.ir.net import Step
from lstmc.importers.ir.op import Shape
from lstmc.importers.ir.ops import (
    Apply,
    Binary,
    Concat,
    Conv,
    Dropout,
    Einsum,
    Embed,
    Expand,
    Linear,
    Normalize,
    Pool,
    Reduce,
    Reshape,
    Select,
    Softmax,
    Split,
    Transpose,
)

_BINARY = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "max": "maximum({}, {})",
    "min": "minimum({}, {})",
}


def helpers(step: Step) -> list[str]:
    """Return the definitions of functions that a step's text calls and the language lacks."""
    return [*step.op.function.helpers] if isinstance(step.op, Apply) else []


def listed(shape: Sequence[object]) -> str:
    return ", ".join(map(str, shape))


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else str(pair)


def _options(**pairs: tuple[tuple[int, int], tuple[int, int]]) -> str:
    """Return keyword arguments, as ``, stride=2``, for values other than the defaults."""
    return "".join(f", {name}={_pair(value)}" for name, (value, default) in pairs.items() if value != default)


def expression(step: Step, result: Shape) -> str:
    """Return the expression of a step; ``result`` is the shape of the first result."""
    op, x = step.op, step.inputs
    match op:
        case Linear():
            return f"linear({listed(x)}, axis=-1)"
        case Embed():
            return f"embed({listed(x)})"
        case Apply():
            return op.function.text(x[0])
        case Binary():
            return _BINARY[op.kind].format(*x)
        case Concat():
            return f"concat({listed(x)}, axis={op.axis})"
        case Split():
            parts = str(len(op.sizes)) if len(set(op.sizes)) == 1 else str(list(op.sizes))
            return f"split({x[0]}, {parts}, axis={op.axis})"
        case Reshape():
            return f"reshape({x[0]}, {listed(result) or ()})"
        case Transpose():
            return f"transpose({x[0]}, {listed(op.axes)})"
        case Softmax():
            call = f"softmax({x[0]}, axis={op.axis})"
            return f"log({call})" if op.log else call
        case Reduce():
            return f"{op.kind}({x[0]}, axis={op.axis})"
        case Select():
            return f"{x[0]}[{', '.join([*':' * op.axis, str(op.index)])}]"
        case Expand():
            return f"expand({x[0]}, {listed(result)})"
        case Einsum():
            return f'einsum("{op.of_x},{op.of_y}->{op.of_result}", {x[0]}, {x[1]})'
        case Dropout():
            return f"dropout({x[0]}, {op.ratio})"
        case Normalize():
            return f"layer_norm({x[0]}, eps={op.eps!r})"
        case Conv():
            more = _options(stride=(op.stride, (1, 1)), pad=(op.pad, (0, 0)), dilation=(op.dilation, (1, 1)))
            return f"conv({listed(x)}{more}{f', group={op.group}' if op.group > 1 else ''})"
        case Pool():
            more = _options(stride=(op.stride, op.size), pad=(op.pad, (0, 0)))
            return f"{'max' if op.kind == 'max' else 'ave'}_pool({x[0]}, {_pair(op.size)}{more})"
    raise AssertionError(f"no text for {op}")
