"""ONNX's operators on each element alone: arithmetic, functions, comparisons and masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstmc.importers.frontends.layers import Comparison
from lstmc.importers.frontends.onnx_values import Node, Onnx, constant
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.refusal import Refused
from lstmc.ops.frameworks import Elementwise, Foreign, functions_of

Handler = Callable[[Onnx, Node], Operand | list[Operand | None]]


def _function(foreign: Foreign, row: Elementwise) -> Handler:
    """Return a handler of a function, whose settings are attributes."""

    def handle(t: Onnx, node: Node) -> Operand:
        numbers = [float(node.get(key, value)) for key, value in foreign.settings.items()] or row.numbers
        return t.layers.apply(row.function, node.needed(0), *numbers)

    return handle


def _together(kind: str, t: Onnx, node: Node) -> Operand:
    y = node.needed(0)
    for place in range(1, len(node.operands)):
        y = t.layers.binary(kind, y, node.needed(place))
    return y


def _binary(kind: str) -> Handler:
    return lambda t, node: _together(kind, t, node)


def _pow(t: Onnx, node: Node) -> Operand:
    exponent = constant(node.operand(1))
    if exponent is None or exponent.size != 1:
        raise Refused("exponent", "computed, or several", "it must be one number", "write it as exp and log")
    return t.layers.apply("power", node.needed(0), float(exponent.reshape(-1)[0]))


def _bound(node: Node, place: int, name: str) -> float | None:
    """Return a bound, which is an operand from version 11 on, an attribute before."""
    operand = constant(node.operand(place))
    number = node.attributes.get(name) if operand is None else operand.reshape(-1)[0]
    return None if number is None else float(number)


def _clip(t: Onnx, node: Node) -> Operand:
    low, high, x = _bound(node, 1, "min"), _bound(node, 2, "max"), node.needed(0)
    if low is not None and high is not None and max(abs(low), abs(high)) < 3e38:
        return t.layers.apply("clip", x, low, high)
    for bound, kind in ((low, "max"), (high, "min")):
        if bound is not None and abs(bound) < 3e38:
            x = t.layers.binary(kind, x, np.asarray(bound))
    return x


def _gelu(t: Onnx, node: Node) -> Operand:
    exact = node.get("approximate", "none") == "none"
    return t.layers.apply("gelu" if exact else "gelu_tanh", node.needed(0))


def _thresholded(t: Onnx, node: Node) -> Operand:
    x, alpha = node.needed(0), float(node.get("alpha", 1.0))
    return t.layers.binary("mul", x, t.layers.apply("step", t.layers.affine(x, 1.0, -alpha)))


def _swish(t: Onnx, node: Node) -> Operand:
    x, alpha = node.needed(0), float(node.get("alpha", 1.0))
    return t.layers.binary("mul", x, t.layers.apply("sigmoid", t.layers.affine(x, alpha, 0.0)))


def _compared(kind: Comparison) -> Handler:
    return lambda t, node: t.layers.compare(kind, node.needed(0), node.needed(1))


_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 12: "uint32", 13: "uint64"}


def _cast(t: Onnx, node: Node) -> Operand:
    return t.layers.cast(node.needed(0), _TYPES.get(int(node.attributes["to"]), "float"))


HANDLERS: dict[str, Handler] = {
    "Identity": lambda t, node: node.needed(0),
    "Cast": _cast,
    **{foreign.name: _function(foreign, row) for foreign, row in functions_of("onnx") if row.operator},
    "Gelu": _gelu,
    "Swish": _swish,
    "Celu": lambda t, node: t.layers.celu(node.needed(0), float(node.get("alpha", 1.0))),
    "PRelu": lambda t, node: t.layers.prelu(node.needed(0), node.needed(1)),
    "ThresholdedRelu": _thresholded,
    "HardSwish": lambda t, node: t.layers.hard_swish(node.needed(0)),
    "Clip": _clip,
    "Sign": lambda t, node: t.layers.sign(node.needed(0)),
    "Pow": _pow,
    "Add": _binary("add"),
    "Sum": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _binary("div"),
    "Max": _binary("max"),
    "Min": _binary("min"),
    "Mean": lambda t, node: t.layers.affine(_together("add", t, node), 1 / len(node.operands), 0.0),
    "Greater": _compared("gt"),
    "GreaterOrEqual": _compared("ge"),
    "Less": _compared("lt"),
    "LessOrEqual": _compared("le"),
    "Equal": _compared("eq"),
    "Not": lambda t, node: t.layers.negated(node.needed(0)),
    "And": _binary("mul"),
    "Or": _binary("max"),
    "Where": lambda t, node: t.layers.where(node.needed(0), node.needed(1), node.needed(2)),
}
