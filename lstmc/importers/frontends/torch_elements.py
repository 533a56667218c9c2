"""PyTorch's values and elementwise operators: arithmetic, functions, comparisons, masks, assigned elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal, cast

import numpy as np

from lstmc.importers.frontends.layers import Layers, shared_operations
from lstmc.importers.frontends.scattering import placed
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.values import Shape, Weight, axis_in, fixed, number
from lstmc.importers.refusal import Refused
from lstmc.ops.frameworks import Elementwise, Foreign, functions_of

Rounded = Literal["floor", "trunc"]
Poison = object()  # the result of a refused node
NotAvailable = object()  # a further result without a counterpart, such as a maximum's place: refused if used


class Filled:
    """An array of which slices along ``axis`` were assigned: ``places`` has them by index, ``base`` all else."""

    def __init__(self, base: Operand, shape: Shape, axis: int, places: Mapping[int, Operand]) -> None:
        self.base, self.shape, self.axis, self.places = base, shape, axis, dict(places)
        self._joined: Operand | None = None

    def joined(self, layers: Layers) -> Operand:
        """Return the whole array as one value: a Concat of slices and parts of the old array, built once."""
        if self._joined is None:
            size = fixed(self.shape[self.axis], f"axis {self.axis}")
            parts: list[Operand] = []
            for filled, run in groupby(range(size), self.places.__contains__):
                places = list(run)
                if filled:
                    parts += [layers.unsqueeze(self.places[place], [self.axis]) for place in places]
                elif isinstance(self.base, np.ndarray):
                    parts.append(self.base.take(places, self.axis))
                else:
                    parts.append(layers.cut(self.base, self.axis, places[0], places[-1] + 1))
            self._joined = layers.concat(parts, self.axis)
        return self._joined


@dataclass(frozen=True)
class Packed:
    """A packed sequence, held as the padded sequence x [T, N, ...]; ``zeros``: x is 0 past the end of each."""

    x: Operand
    zeros: bool = False


class Torch(Layers):
    """Builds the steps of a PyTorch program, and records the value of each node."""

    def __init__(self, builder: NetBuilder) -> None:
        super().__init__(builder)
        self.values: dict[Any, Any] = {}  # by node
        self.node: Any = None  # the node that is translated
        self.folded: dict[str, Callable[[], Weight]] = {}  # values computed from weights alone, as weights

    def is_mask(self, place: int = 0) -> bool:
        """Return whether an operand of the node holds truth values."""
        return str(self.node.args[place].meta["val"].dtype) == "torch.bool"

    def resolved(self, thing: Any, joined: bool) -> Any:
        """Return an argument with values for nodes. With ``joined``, arrays with assigned elements become values."""
        if isinstance(thing, dict):
            return {key: self.resolved(one, joined) for key, one in thing.items()}
        if isinstance(thing, list | tuple):
            return [self.resolved(one, joined) for one in thing]
        value = self.values[thing] if thing.__hash__ is not None and thing in self.values else thing
        return self.joined(value) if joined else value

    def joined(self, value: Any) -> Any:
        """Return an array with assigned slices as a single value; any other value unchanged."""
        return value.joined(self) if isinstance(value, Filled) else value

    def weight(self, x: Operand, name: str) -> Weight:
        """Return an operand as a parameter. Raises :class:`Refused` for a computed value."""
        if isinstance(x, str) and x in self.folded:
            x = self.folded[x]()
        x = number(x) if isinstance(x, np.ndarray) else x
        if not isinstance(x, Weight):
            raise Refused(name, "computed by the model", "it must be a parameter", "keep it as a parameter")
        return x


def weight_or_none(t: Torch, x: Any, name: str) -> Weight | None:
    return None if x is None else t.weight(x, name)


def _select(t: Torch, x: Any, axis: int, at: int) -> Operand:
    """Return an element of an axis of x; if a value was assigned to this element, that value."""
    if isinstance(x, Filled) and axis_in(axis, len(x.shape)) == x.axis:
        place = at % fixed(x.shape[x.axis], f"axis {axis}")
        if place in x.places:
            return x.places[place]
    return t.select(t.joined(x), axis, at)


def _copied(t: Torch, x: Any, source: Operand, non_blocking: bool) -> Operand:
    """Return ``source`` broadcast to the shape of x, which it overwrites completely."""
    shape, source = t.shape(x), t.joined(source)
    if isinstance(source, np.ndarray):
        return np.broadcast_to(source, [fixed(size, "a size") for size in shape])
    return t.expand(source, shape)


def _place_written(t: Torch, x: Any, source: Operand, axis: int, at: int) -> Filled:
    """Return x with ``source`` assigned to one element of an axis."""
    shape, axis = t.shape(x), axis_in(axis, t.rank(x))
    place = at % t.size(x, axis)
    if isinstance(x, Filled) and x.axis == axis:
        return Filled(x.base, shape, axis, {**x.places, place: t.joined(source)})
    return Filled(t.joined(x), shape, axis, {place: t.joined(source)})


def _slice_written(
    t: Torch, x: Any, source: Operand, axis: int, start: int | None, stop: int | None, step: int
) -> Operand:
    """Return x with ``source`` assigned to a slice of an axis."""
    axis = axis_in(axis, t.rank(x))
    size = t.size(x, axis)
    places = range(size)[start:stop:step]
    written, whole = t.joined(source), t.joined(x)
    if places and step == 1:
        return placed(t, whole, written, {axis: (places.start, places.stop)})
    if places:
        order = {place: size + at for at, place in enumerate(places)}
        whole = t.pick(t.concat([whole, written], axis), axis, [order.get(place, place) for place in range(size)])
    return cast(Operand, whole)


Handler = Callable[..., Any]
ASSIGNED: dict[str, Handler] = {
    "aten.select.int": _select, "aten.copy.default": _copied,
    "aten.select_scatter.default": _place_written, "aten.slice_scatter.default": _slice_written,
}  # fmt: skip


# Operators that compute each row of packed data separately.
_ROWS = ("linear", "dropout", "embedding", "layer_norm", *(foreign.name for foreign, _ in functions_of("torch")))
OF_ROWS = frozenset(f"aten.{name}.default" for name in _ROWS)


def _function(foreign: Foreign, row: Elementwise, t: Torch, x: Operand, *settings: Any) -> str:
    """Return an elementwise function f of x, or f(k x) / k for a steepness k."""
    numbers = settings[: len(foreign.settings)] or row.numbers
    if not foreign.steepness:
        return t.apply(row.function, x, *numbers)
    k, *rest = numbers
    return t.affine(t.apply(row.function, t.affine(x, k, 0.0), *rest), 1 / k, 0.0)


def _operand(x: Any) -> Operand:
    return np.asarray(float(x)) if isinstance(x, int | float) else x


def _binary(kind: str, t: Torch, x: Any, y: Any, alpha: float = 1, rounding_mode: Rounded | None = None) -> str:
    """Return a binary op of x and ``alpha`` y, or a rounded quotient. Raises :class:`Refused` for two constants."""
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        raise Refused("operands", "two constants", "nothing is computed", "fold it in the source")
    if alpha != 1:
        y = y * alpha if isinstance(y, int | float) else t.affine(y, alpha, 0.0)
    if rounding_mode is not None:
        return t.divided(_operand(x), _operand(y), rounding_mode)[0]
    return t.binary(kind, _operand(x), _operand(y))


def _clamp(t: Torch, x: Operand, low: Any, high: Any = None) -> Operand:
    return t.clip(x, _operand(low), _operand(high))


def _elu(t: Torch, x: Operand, alpha: float, scale: float, input_scale: float) -> str:
    """Return an ELU, or a SELU if it is scaled."""
    if input_scale != 1:
        raise Refused(
            "input_scale", str(input_scale), "an ELU with an input scale is not supported", "scale the input itself"
        )
    return t.apply("elu", x, alpha) if scale == 1 else t.apply("selu", x, alpha, scale)


def _glu(t: Torch, x: Operand, axis: int) -> str:
    size = t.size(x, axis) // 2
    a, b = t.split(x, [size, size], axis)
    return t.binary("mul", a, t.apply("sigmoid", b))


def _prelu(t: Torch, x: Operand, slope: Operand) -> str:
    w, rank = t.weight(slope, "weight"), t.rank(x)
    return t.prelu(x, w.reshaped(1) if w.shape in ((), (1,)) else w.reshaped(*w.shape, *(1,) * (rank - 2)))


def _where(t: Torch, mask: Operand, a: Any, b: Any) -> str:
    return t.where(mask, _operand(a), _operand(b))


def _shared(method: Callable[..., str]) -> Handler:
    return lambda t, *xs: method(t, *map(_operand, xs))


def _power_of(t: Torch, base: float, x: Operand) -> str:
    if base <= 0:
        raise Refused("self", str(base), "only powers of positive numbers are written", "use its magnitude")
    return t.apply("exp", t.affine(x, math.log(base), 0.0))


def _bits(logical: Callable[..., str], t: Torch, *xs: Operand) -> str:
    """Return a bitwise operator on truth values, by the ``logical`` one. Raises :class:`Refused` for integers."""
    if not t.is_mask():
        raise Refused("operands", "integers", "their bits are not known", "use truth values")
    return logical(t, *xs)


_KINDS = ("Scalar", "Tensor")
_OVERLOADS = {"where": ("self", "ScalarSelf", "ScalarOther", "Scalar")}
_GELU = {"none": "gelu", "tanh": "gelu_tanh"}
HANDLERS: dict[str, Handler] = {
    **{f"aten.{foreign.name}.default": partial(_function, foreign, row) for foreign, row in functions_of("torch")},
    "aten.pow.Tensor_Scalar": lambda t, x, e: t.apply("power", x, float(e)),
    "aten.elu.default": _elu, "aten.glu.default": _glu, "aten.prelu.default": _prelu, "aten.pow.Scalar": _power_of,
    "aten.gelu.default": lambda t, x, *, approximate: t.apply(_GELU[approximate], x),
    "aten.threshold.default": lambda t, x, least, y: _where(t, t.compare("gt", x, _operand(least)), x, y),
    **{
        f"aten.{name}.{kind}": _shared(method)
        for name, _, method in shared_operations("torch")
        for kind in _OVERLOADS.get(name, ("default",) if "logical" in name else _KINDS)
    },
    **{f"aten.masked_fill.{kind}": lambda t, x, mask, value: _where(t, mask, value, x) for kind in _KINDS},
    **{
        f"aten.{name}.{kind}": lambda t, x, y, by=by: t.divided(_operand(x), _operand(y), by)[1]
        for name, by in (("remainder", "floor"), ("fmod", "trunc"))
        for kind in _KINDS
    },
    **{
        f"aten.bitwise_{name}.{'default' if name == 'not' else 'Tensor'}": partial(_bits, method)
        for own, _, method in shared_operations("torch")
        if (name := own.removeprefix("logical_")) != own
    },
    "aten.hypot.default": lambda t, x, y: t.apply(
        "power", t.binary("add", t.apply("power", x, 2.0), t.apply("power", y, 2.0)), 0.5
    ),
    "aten.rrelu_with_noise_functional.default": lambda t, x, noise, low, high, *_: [
        t.apply("leaky_relu", x, (low + high) / 2), NotAvailable,
    ],
    **dict.fromkeys(("aten.max.other", "aten.maximum.default"), partial(_binary, "max")),
    **dict.fromkeys(("aten.min.other", "aten.minimum.default"), partial(_binary, "min")),
    **dict.fromkeys(("aten.clamp.default", "aten.clamp.Tensor", "aten.clamp_min.default"), _clamp),
    "aten.clamp_max.default": lambda t, x, high: _clamp(t, x, None, high),
    **{f"aten.{n}.{k}": partial(_binary, n) for n in ("add", "sub", "mul", "div") for k in ("Tensor", "Scalar")},
    "aten.div.Tensor_mode": partial(_binary, "div"),
    "aten.rsub.Scalar": lambda t, x, y, alpha: _binary("sub", t, y, x, alpha),
}  # fmt: skip
