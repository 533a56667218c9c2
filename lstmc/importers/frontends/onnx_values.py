"""Values and attributes of an ONNX graph, and constant folding of nodes with constant operands.

A size without a number is its name, in an array of objects: such arrays are cut and joined, without arithmetic.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.sizes import OpenSize, Size
from lstmc.importers.refusal import PIN, Refused, SourceError
from lstmc.importers.weight import Weight
from lstmc.ops import Array
from lstmc.plugins import need


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
    proto: Any

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
        for kinds, label in (
            *((str, "a text"), (int | float, "a number")),
            *((list | tuple, "a list"), (np.ndarray, "an array")),
        ):
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
# What takes sizes without a number as well.
SHAPE_OPS = frozenset(
    """
    Gather Concat Slice Unsqueeze Squeeze Cast Reshape Identity Transpose Split Flatten ConstantOfShape Expand Tile
    Equal Where Mul
    """.split()  # noqa: SIM905
)
FOLDED = SHAPE_OPS | frozenset(
    """
    DequantizeLinear Range Trilu Add Sub Div Mod Pow Min Max Greater GreaterOrEqual Less LessOrEqual And Or Not Neg Abs
    Sqrt Exp Log Sin Cos Round Floor Ceil Reciprocal ReduceProd ReduceSum ReduceMean ReduceMax ReduceMin
    """.split()  # noqa: SIM905
)
Fold = Callable[..., Any]


def fold_constants(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """Return the results of a node on constant operands; None for an operator that is not folded.

    The onnx package computes them, apart from what depends on sizes without a number, or may be large.
    """
    if node.op not in FOLDED:
        return None
    objects = [one for a in arrays if a is not None and a.dtype == object for one in a.reshape(-1)]
    named = [one for one in objects if isinstance(one, OpenSize)]
    if named and node.op not in SHAPE_OPS:
        raise Refused("operands", f"the size {named[0]}", "a computation needs its value", PIN)
    fold = OF_SIZES.get(node.op)
    if fold is None or (node.op in ("Equal", "Mul", "Cast") and not named):
        results = _computed(node, arrays)
    else:
        for place, array in enumerate(arrays[:2], 1):
            if array is None:
                missing = f"operand {place} is missing"
                raise Refused("operands", missing, f"{node.op} requires it", "check it with onnx.checker")
        results = [fold(node, *arrays)]
    return [_as_integers(one) for one in results]


def _computed(node: Node, arrays: Sequence[Array | None]) -> list[Any]:
    """Return the results of a node on these operands, as the onnx package computes them."""
    proto = type(node.proto)(op_type=node.op, attribute=node.proto.attribute)
    fed = {f"x{place}": array for place, array in enumerate(arrays) if array is not None}
    proto.input.extend(f"x{place}" if f"x{place}" in fed else "" for place in range(len(arrays)))
    proto.output.extend(f"y{place}" for place in range(node.results))
    try:
        with np.errstate(all="ignore"):
            results: list[Any] = _evaluator(proto.SerializeToString(), node.opset).run(None, fed)
    except Exception as error:  # of the onnx package, which checks operands and attributes in many ways
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise Refused(
            "operands and attributes", what, "they do not fit together", "check it with onnx.checker"
        ) from None
    return results


@lru_cache(maxsize=1024)
def _evaluator(node: bytes, opset: int) -> Any:
    onnx = need("onnx", "The onnx package", "onnx", SourceError)
    reference = importlib.import_module("onnx.reference")
    return reference.ReferenceEvaluator(onnx.NodeProto.FromString(node), opsets={"": opset})


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
    equal: Array = np.vectorize(_same_size, otypes=[bool])(x, y)
    return equal


def _multiplied(node: Node, x: Array, y: Array) -> Array:
    """Return a product; a named size can be multiplied by 1 alone."""
    factors = [one for one in (x, y) if one.dtype != object]
    if not factors or not np.all(factors[0] == 1):
        raise Refused("operands", "a size without a number", "a computation needs its value", PIN)
    product: Array = np.broadcast_arrays(x if x.dtype == object else y, factors[0])[0]
    return product


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


def _dequantized(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """(x - zero) * scale, with [C] along an axis, or one for all."""
    axis = int(node.get("axis", 1)) % max(x.ndim, 1)
    shape = [-1 if at == axis else 1 for at in range(x.ndim)] if scale.size > 1 else []
    moved = x.astype(np.float32) - (0 if zero is None else zero.astype(np.float32).reshape(shape))
    result: Array = moved * scale.reshape(shape)
    return result


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
    value = node.get("value", np.zeros(1, np.float32))
    fill = value.reshape(-1)[0]
    target = _plain(node, shape, float(fill))
    _bounded(float(np.prod([float(s) for s in target])))
    return np.full(target, fill)


def _range(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    if not delta:
        raise Refused("delta", "0", "it is the step from one number to the next", "check it with onnx.checker")
    _bounded(abs((float(limit) - float(start)) / float(delta)))
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


# What the onnx package does not compute as it is needed here.
OF_SIZES: Mapping[str, Fold] = {
    "Cast": lambda node, x: x,
    "DequantizeLinear": _dequantized,
    "Equal": _equal,
    "Mul": _multiplied,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _of_shape,
    "Range": _range,
}
