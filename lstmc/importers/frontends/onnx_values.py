"""Values and attributes of an ONNX graph, and constant folding of nodes with constant operands.

A size without a number is its name, in an array of objects: such arrays are cut and joined, without arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.sizes import OpenSize, Size
from lstmc.importers.weight import Weight
from lstmc.ops import Array

PIN = "give the sizes of the inputs, as in shape input=1,576"


class Poison:
    """The result of a refused node; nodes that read it are skipped."""


@dataclass
class Node:
    """A node's operands by position (None for an omitted one), attributes, and operator set version."""

    op: str
    label: str
    operands: list[Operand | None]
    attributes: Mapping[str, Any]
    opset: int
    results: int
    names: Sequence[str] = ()
    used: set[str] = field(default_factory=set)

    def operand(self, place: int) -> Operand | None:
        return self.operands[place] if place < len(self.operands) else None

    def needed(self, place: int) -> Operand:
        operand = self.operand(place)
        if operand is None:
            raise Refused(f"operand {place}", "left out", "it is required", "check the model with onnx.checker")
        return operand

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute, or the default. Raises :class:`Refused` for one of another type than the default."""
        value = self.attributes.get(name, default)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        for kinds, label in ((str, "a text"), (int | float, "a number"), (list | tuple, "a list")):
            if isinstance(default, kinds) and not isinstance(value, kinds):
                raise Refused(name, str(value)[:60], f"{label} is expected", "check it with onnx.checker")
        return value


class Onnx:
    """The state of a translation: the steps being built, and the values by name."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.values: dict[str, Operand | None] = {}


def constant(x: Operand | None) -> Array | None:
    """Return the elements of a parameter or constant; None for a computed value."""
    return x.make() if isinstance(x, Weight) else x if isinstance(x, np.ndarray) else None


def fixed_numbers(x: Operand | None, what: str) -> list[int]:
    """Return constant integers. Raises :class:`Refused` for computed values and named sizes."""
    numbers = [size for size in sizes(x, what) if not isinstance(size, OpenSize)]
    if x is None or len(numbers) != len(sizes(x, what)):
        raise Refused(what, "it has a size without a number", "it must be known here", PIN)
    return numbers


def sizes(x: Operand | None, what: str) -> list[Size]:
    """Return constant integers or named sizes. Raises :class:`Refused` for computed values."""
    array = constant(x)
    if array is None:
        raise Refused(what, "computed from the inputs", "it must be known here", PIN)
    return [one if isinstance(one, OpenSize) else int(one) for one in array.reshape(-1).tolist()]


def weight(x: Operand | None, what: str) -> Weight:
    """Return an operand as a parameter. Raises :class:`Refused` for a computed value."""
    if isinstance(x, Weight):
        return x
    if isinstance(x, np.ndarray) and x.dtype != object:
        array = x
        return Weight(array.shape, (), "a constant of the graph", lambda: array)
    raise Refused(what, "computed from the inputs", "it must be a parameter", "give its values")


def weight_or_none(x: Operand | None, what: str) -> Weight | None:
    return None if x is None else weight(x, what)


LARGEST = 2**24  # elements of what is computed
SHAPE_OPS = frozenset(
    {
        "Gather",
        "Concat",
        "Slice",
        "Unsqueeze",
        "Squeeze",
        "Cast",
        "Reshape",
        "Identity",
        "Transpose",
        "Split",
        "Flatten",
        "ConstantOfShape",
        "Expand",
        "Tile",
    }
)
Fold = Callable[..., Any]


def _same_size(a: Any, b: Any) -> bool:
    """Return whether two sizes are equal; a named size is at least 1 and equals itself."""
    if a == b:
        return True
    if isinstance(a, OpenSize) == isinstance(b, OpenSize) or min(s for s in (a, b) if not isinstance(s, OpenSize)) > 0:
        named = a if isinstance(a, OpenSize) else b
        if isinstance(named, OpenSize):
            raise Refused("operands", f"the size {named}", "it is compared, so it must be a number", PIN)
    return False


def _equal(node: Node, x: Array, y: Array) -> Array:
    equal: Array = np.vectorize(_same_size, otypes=[bool])(x, y) if object in (x.dtype, y.dtype) else x == y
    return equal


def _multiplied(node: Node, x: Array, y: Array) -> Array:
    """Return a product; a named size can be multiplied by 1 alone."""
    if object not in (x.dtype, y.dtype):
        return x * y
    factors = [one for one in (x, y) if one.dtype != object]
    if not factors or not np.all(factors[0] == 1):
        raise Refused("operands", "a size without a number", "a computation needs its value", PIN)
    product: Array = np.broadcast_arrays(x if x.dtype == object else y, factors[0])[0]
    return product


OF_SIZES = frozenset({"Equal", "Where", "Mul"})  # what takes sizes without a number as well


def fold_constants(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """Return the results of a node on constant operands; None for an operator that is not folded."""
    fold = FOLDS.get(node.op)
    if fold is None:
        return None
    named = [
        one for a in arrays if a is not None and a.dtype == object for one in a.reshape(-1) if isinstance(one, OpenSize)
    ]
    if named and node.op not in SHAPE_OPS and node.op not in OF_SIZES:
        raise Refused("operands", f"the size {named[0]}", "a computation needs its value", PIN)
    for slot, array in enumerate(arrays):
        if array is None and slot in _required(fold, len(arrays)):
            raise Refused(
                "operands", f"operand {slot + 1} is missing", f"{node.op} requires it", "check it with onnx.checker"
            )
    with np.errstate(all="ignore"):
        results = fold(node, *arrays)
    return [_as_integers(one) for one in (results if isinstance(results, list) else [results])]


def _required(fold: Fold, count: int) -> range:
    """Return the positions of a node's ``count`` operands that are mandatory."""
    _, *operands = signature(fold).parameters.values()
    if any(each.kind is Parameter.VAR_POSITIONAL for each in operands):
        return range(count)
    return range(sum(each.default is Parameter.empty for each in operands))


def _as_integers(array: Any) -> Array:
    """Convert an array of sizes without names to integers."""
    result = np.array(array, object) if isinstance(array, OpenSize) else np.asarray(array)
    if result.dtype == object and not any(isinstance(one, OpenSize) for one in result.reshape(-1)):
        result = result.astype(np.int64)
    return result


def triangle(node: Node, shape: Sequence[int], diagonal: Array | None) -> Array:
    """Return the mask of the elements that a Trilu keeps."""
    k = 0 if diagonal is None else int(diagonal.reshape(-1)[0])
    rows, columns = shape[-2:]
    lower = np.tri(rows, columns, k - 1 if node.get("upper", 1) else k, dtype=bool)
    return np.broadcast_to(~lower if node.get("upper", 1) else lower, shape)


def _trilu(node: Node, x: Array, diagonal: Array | None = None) -> Array:
    return np.where(triangle(node, x.shape, diagonal), x, np.zeros((), x.dtype))


def _axes(node: Node, operand: Array | None) -> tuple[int, ...] | None:
    """Return axes, which are an operand or an attribute, by version."""
    axes = node.attributes.get("axes") if operand is None else operand.reshape(-1).tolist()
    return None if axes is None else tuple(int(axis) for axis in axes)


def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, _axes(node, axes) or ())


def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, _axes(node, axes))


def slices(node: Node, operands: list[Array | None]) -> list[tuple[int, slice]]:
    """Return the axes and slices of a Slice, from its operands or, in old versions, its attributes."""
    if node.opset >= 10:
        starts, ends, axes, steps = (*operands, None, None, None, None)[:4]
    else:
        starts, ends, axes = (
            None if node.attributes.get(name) is None else np.asarray(node.attributes[name])
            for name in ("starts", "ends", "axes")
        )
        steps = None
    if starts is None or ends is None:
        raise Refused("starts, ends", "computed, or missing", "they must be known here", PIN)
    count = starts.size
    places = range(count) if axes is None else axes.reshape(-1).tolist()
    by = [1] * count if steps is None else steps.reshape(-1).tolist()
    cuts = zip(places, starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), by, strict=True)
    return [(int(a), slice(int(s), None if st < 0 and e < -(2**30) else int(e), int(st))) for a, s, e, st in cuts]


def _slice(node: Node, x: Array, *operands: Array | None) -> Array:
    for axis, part in slices(node, [*operands]):
        x = x[(slice(None),) * (axis % x.ndim) + (part,)]
    return x


def _split(node: Node, x: Array, operand: Array | None = None) -> list[Array]:
    axis = int(node.get("axis", 0))
    pieces = operand.reshape(-1).tolist() if operand is not None else node.get("split", None)
    if pieces is None:
        each = -(-x.shape[axis] // node.results)
        return np.array_split(x, range(each, x.shape[axis], each), axis)
    return np.split(x, np.cumsum(pieces)[:-1].astype(int), axis)


def _reshape(node: Node, x: Array, shape: Array | None = None) -> Array:
    new_shape = [int(s) for s in (node.attributes["shape"] if shape is None else shape.reshape(-1))]
    return x.reshape([x.shape[i] if s == 0 and not node.get("allowzero", 0) else s for i, s in enumerate(new_shape)])


def _cast(node: Node, x: Array) -> Array:
    if x.dtype == object:
        return x
    kinds = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
    return x.astype(kinds.get(int(node.attributes["to"]), np.float64))


def _dequantized(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """(x - zero) * scale, with [C] along an axis, or one for all."""
    axis = int(node.get("axis", 1)) % max(x.ndim, 1)
    shape = [-1 if at == axis else 1 for at in range(x.ndim)] if scale.size > 1 else []
    moved = x.astype(np.float32) - (0 if zero is None else zero.astype(np.float32).reshape(shape))
    result: Array = moved * scale.reshape(shape)
    return result


def _divide(node: Node, x: Array, y: Array) -> Array:
    if np.issubdtype(x.dtype, np.integer):
        quotient: Array = np.trunc(x / y).astype(x.dtype)  # towards zero, as ONNX does
        return quotient
    return x / y


def _bounded(count: float) -> None:
    if count > LARGEST:
        raise Refused("result", f"{count:,.0f} elements", f"{LARGEST:,} are the most", "fold it in the source")


def _plain(node: Node, shape: Array, fill: float) -> list[int]:
    """Return a shape in numbers. A named size counts as 1 for zeros, which are left out as initial states."""
    if fill and any(isinstance(size, OpenSize) for size in shape.reshape(-1)):
        raise Refused("shape", str(shape.reshape(-1).tolist()), "it must be known here", PIN)
    return [1 if isinstance(size, OpenSize) else int(size) for size in shape.reshape(-1)]


def _expand(node: Node, x: Array, shape: Array) -> Array:
    target = np.broadcast_shapes(x.shape, tuple(_plain(node, shape, float(np.any(x)))))
    _bounded(float(np.prod([float(s) for s in target])))
    return np.broadcast_to(x, target)


def _tile(node: Node, x: Array, repeats: Array) -> Array:
    counts = _plain(node, repeats, float(np.any(x != 0)))
    _bounded(x.size * float(np.prod([float(count) for count in counts])))
    return np.tile(x, counts)


def _of_shape(node: Node, shape: Array) -> Array:
    value = node.attributes.get("value")
    fill = 0.0 if value is None else value.reshape(-1)[0]
    target = _plain(node, shape, float(fill))
    _bounded(float(np.prod([float(s) for s in target])))
    return np.full(target, fill)


def _range(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    _bounded(abs((float(limit) - float(start)) / float(delta)))
    return np.arange(start.item(), limit.item(), delta.item())


def _reduced(kind: str) -> Fold:
    def fold(node: Node, x: Array, axes: Array | None = None) -> Array:
        return np.asarray(getattr(np, kind)(x, axis=_axes(node, axes), keepdims=bool(node.get("keepdims", 1))))

    return fold


FOLDS: Mapping[str, Fold] = {
    "Identity": lambda node, x: x,
    "Cast": _cast,
    "DequantizeLinear": _dequantized,
    "Gather": lambda node, x, at: np.take(x, at.astype(np.int64), axis=int(node.get("axis", 0))),
    "Concat": lambda node, *xs: np.concatenate(xs, axis=int(node.attributes["axis"])),
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Split": _split,
    "Flatten": lambda node, x: x.reshape(int(np.prod(x.shape[: int(node.get("axis", 1))])), -1),
    "Transpose": lambda node, x: np.transpose(x, node.attributes.get("perm")),
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _of_shape,
    "Range": _range,
    "Trilu": _trilu,
    "Add": lambda node, x, y: x + y,
    "Sub": lambda node, x, y: x - y,
    "Mul": _multiplied,
    "Div": _divide,
    "Mod": lambda node, x, y: np.fmod(x, y) if node.get("fmod", 0) else np.mod(x, y),
    "Pow": lambda node, x, y: np.power(x, y),
    "Min": lambda node, *xs: np.minimum.reduce(xs),
    "Max": lambda node, *xs: np.maximum.reduce(xs),
    "Equal": _equal,
    "Greater": lambda node, x, y: x > y,
    "GreaterOrEqual": lambda node, x, y: x >= y,
    "Less": lambda node, x, y: x < y,
    "LessOrEqual": lambda node, x, y: x <= y,
    "And": lambda node, x, y: x & y,
    "Or": lambda node, x, y: x | y,
    "Not": lambda node, x: ~x,
    "Where": lambda node, c, x, y: np.where(c, x, y),
    "Neg": lambda node, x: -x,
    "Abs": lambda node, x: np.abs(x),
    "Sqrt": lambda node, x: np.sqrt(x),
    "Exp": lambda node, x: np.exp(x),
    "Log": lambda node, x: np.log(x),
    "Sin": lambda node, x: np.sin(x),
    "Cos": lambda node, x: np.cos(x),
    "Round": lambda node, x: np.rint(x),
    "Floor": lambda node, x: np.floor(x),
    "Ceil": lambda node, x: np.ceil(x),
    "Reciprocal": lambda node, x: 1 / x,
    "ReduceProd": _reduced("prod"),
    "ReduceSum": _reduced("sum"),
    "ReduceMean": _reduced("mean"),
    "ReduceMax": _reduced("max"),
    "ReduceMin": _reduced("min"),
}
