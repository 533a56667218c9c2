"""One call of a Keras layer, its settings and activations; and functions of ``keras.ops``.

A functional model of Keras 3 stores operators on tensors as layers. Some are called as layers are (``Add``,
``Softmax``), and are no layers: their operands may be numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lstmc.files.json_file import Int32, NotExpected, Number, parse_json
from lstmc.importers.frontends.layers import Layers, shared_operations
from lstmc.importers.frontends.shape_ops import Operand, Pair, same_padding
from lstmc.importers.ir.ops import function
from lstmc.importers.ir.values import Weight, axis_in, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops import Affine, Op
from lstmc.ops.frameworks import ELEMENTWISE, Elementwise, Foreign, functions_of
from lstmc.text import brief

_PLAIN: Mapping[str, Op] = {
    name: function(row.function, *row.numbers) for row in ELEMENTWISE for name in row.activations
}
Key = tuple[str, int, int]  # a layer, which use of it, which of its results
SAVE = "save the whole model again"
# The settings that are read as numbers: a name has one type in all layers of Keras.
_SETTINGS: Mapping[Any, str] = {
    Number | None: "alpha epsilon mask_value max_value rate threshold",
    Number | list[Number] | None: "negative_slope",
    Int32 | None: "decimals filters groups input_dim input_length key_dim n num_heads output_dim pool_length stride"
    " units value_dim",
    list[Int32]: "dims newshape target_shape",
    Int32 | list[Int32] | None: "axes axis dilation_rate kernel_size pool_size size strides",
    Int32 | list[Int32 | list[Int32]]: "cropping",
    str | Int32 | list[Int32 | list[Int32]]: "padding",
}
_TYPES = {name: type_ for type_, names in _SETTINGS.items() for name in names.split()}


class DamagedConfig(ValueError):
    """Raised for a configuration without the objects and lists that Keras writes."""


class Settings(dict[str, Any]):
    """The configuration of a layer. Raises :class:`Refused` for a number that is none, and one that is left out."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        for key in config.keys() & _TYPES.keys():
            try:
                parse_json(json.dumps(config[key], default=str).encode(), _TYPES[key])
            except NotExpected as error:
                why = "expected " + str(error).partition("expected ")[2]  # without which of several types
                raise Refused(key, brief(config[key]), why, SAVE) from None
        super().__init__(config)

    def __missing__(self, key: str) -> Any:
        raise Refused(key, "left out", "it is required", SAVE)

    def number(self, key: str, default: float | None) -> float:
        """Return a setting that must be a number. Raises :class:`Refused`."""
        value = self.get(key, default)
        if not isinstance(value, int | float):
            raise Refused(key, brief(value), "one number is expected", SAVE)
        return float(value)


def tensor_key(entry: Any) -> Key:
    """Return a reference to a tensor, ``[layer, use, result]``. Raises :class:`DamagedConfig`."""
    whole = isinstance(entry, list | tuple) and len(entry) >= 3
    if not whole or not isinstance(entry[0], str) or not all(isinstance(number, int) for number in entry[1:3]):
        raise DamagedConfig(f"expected a reference to a tensor, found {brief(entry)}")
    return entry[0], entry[1], entry[2]


def activation(setting: Any, version: int, key: str) -> Op:
    """Return an activation by its name, or by a serialized function of that name."""
    name = setting.get("config", setting.get("class_name")) if isinstance(setting, Mapping) else setting
    if name == "hard_sigmoid":
        if not version:
            why = "Keras 3 defines it differently from Keras 2, and the file does not record its version"
            raise Refused(key, "hard_sigmoid", why, "give a file that has keras_version")
        # clip(0.2 x + 0.5) until Keras 2, clip(x / 6 + 0.5) from Keras 3 on
        return function("hard_sigmoid", 1 / 6 if version >= 3 else 0.2, 0.5)
    if not isinstance(name, str) or name not in _PLAIN:
        raise Refused(key, brief(name), "it is not supported", f"use one of {', '.join(_PLAIN)}")
    return _PLAIN[name]


UNSETTLED = "?"  # the mask of a merge of values that are not masked alike


@dataclass(frozen=True)
class Call:
    """One call of a layer: its class, configuration, weights in order, operands, and the version of Keras.

    ``lead`` axes stand before those that the layer knows: the batch, and the time of each ``TimeDistributed`` it is in.
    ``carried`` is the mask of its operands, or UNSETTLED.
    """

    name: str
    config: Settings
    weights: Sequence[Weight]
    xs: Sequence[str]
    version: int
    lead: int = 1
    carried: str | None = None

    @property
    def mask(self) -> str | None:
        """Return the mask [N, T, 1], 1 at the steps that count. Raises :class:`Refused` for one that is UNSETTLED."""
        if self.carried == UNSETTLED:
            why = "what a merge before it makes of different masks depends on the version of Keras"
            raise Refused("mask", "of some operands", why, "mask all of them alike")
        return self.carried

    def several(self, least: int) -> Sequence[str]:
        """Return the operands. Raises :class:`Refused` for fewer than ``least``."""
        if len(self.xs) < least:
            raise Refused("inbound_nodes", f"{len(self.xs)} operands", f"{least} are expected", SAVE)
        return self.xs

    @property
    def rank(self) -> int:
        """Return the number of axes of a layer of images: 1 of ``Conv1D``."""
        return next(int(mark) for mark, after in pairwise(self.name) if mark.isdigit() and after == "D")

    def pair(self, key: str, rank: int, default: Any = 1) -> tuple[int, ...]:
        value = self.config.get(key)
        value = default if value is None else value
        values = (value,) * rank if isinstance(value, int) else tuple(value)
        if len(values) != rank or min(values) < 1:
            raise Refused(key, str(value), f"{rank} positive numbers are expected", SAVE)
        return values


Handler = Callable[[Layers, Call], list[str]]


def pads_of(padding: str, size: Any, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the zeros before and after an axis for a padding mode."""
    if padding == "causal":
        return (dilation * (kernel - 1), 0)
    return same_padding(size, kernel, stride, dilation) if padding == "same" else (0, 0)


def activated(layers: Layers, call: Call, y: str) -> str:
    name = call.config.get("activation", "linear") or "linear"
    if name == "softmax":
        return layers.softmax(y, -1)
    if name == "log_softmax":
        return layers.softmax(y, -1, log=True)
    f = activation(name, call.version, "activation")
    return y if f == Affine() else layers.one(f, y)


DEEPEST = 10  # lists in lists of arguments


@dataclass(frozen=True)
class Operation:
    """One call of an operation: its configuration, and its arguments with the names of values for tensors."""

    config: Settings
    args: Sequence[Any]

    def axes(self, rank: int) -> list[int]:
        setting = self.config.get("axis")
        axes = range(rank) if setting is None else [setting] if isinstance(setting, int) else setting
        return [axis_in(axis, rank) for axis in axes]

    @property
    def axis(self) -> int | None:
        """Return the axis, if there is one. Raises :class:`Refused` for several."""
        axis = self.config.get("axis")
        if not isinstance(axis, int | None):
            raise Refused("axis", str(axis), "one axis is expected", SAVE)
        return axis

    def argument(self, place: int) -> Any:
        """Return an argument. Raises :class:`Refused` for one that is left out."""
        if place >= len(self.args):
            raise Refused(f"argument {place}", "left out", "it is required", SAVE)
        return self.args[place]

    def operand(self, place: int) -> Operand:
        """Return an argument that must be a tensor or a number. Raises :class:`Refused`."""
        return _operand(self.argument(place))

    def operands(self, place: int) -> list[Operand]:
        """Return an argument that must be a list of tensors. Raises :class:`Refused`."""
        xs = self.argument(place)
        if xs == []:
            raise Refused(f"argument {place}", "an empty list", "a tensor is expected", SAVE)
        return [_operand(x) for x in (xs if isinstance(xs, list) else [xs])]


OperationHandler = Callable[[Layers, Operation], str | list[str]]


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Return whether a layer of a configuration is a function of ``keras.ops``.

    A ``.keras`` file has the module; in an ``.h5`` file a layer of Keras 3 may be trained or not, an operation may not.
    """
    if layer.get("module"):
        return str(layer["module"]).startswith(("keras.src.ops.", "keras.ops."))
    nodes, config = layer.get("inbound_nodes") or [None], layer.get("config", {})
    return isinstance(nodes[0], Mapping) and "trainable" not in config


def operation(layer: Mapping[str, Any], node: Any, values: Mapping[tuple[str, int, int], str | None]) -> Operation:
    """Return one call, from the format of ``keras/src/saving/serialization_lib.py``."""
    call = node if isinstance(node, Mapping) else {}
    return Operation(
        Settings(layer.get("config", {})),
        [_argument(one, values) for one in call.get("args", [])],
    )


def _argument(value: Any, values: Mapping[tuple[str, int, int], str | None], depth: int = 0) -> Any:
    if isinstance(value, list) and depth < DEEPEST:
        return [_argument(one, values, depth + 1) for one in value]
    if isinstance(value, str):
        raise Refused("argument", brief(value), "it is neither a tensor nor a number", SAVE)
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if not isinstance(config, Mapping):
        raise DamagedConfig(f"expected an object, found {brief(value)}")
    if kind == "__keras_tensor__":
        if (key := tensor_key(config.get("keras_history"))) not in values:
            raise DamagedConfig(f"a tensor of {key[0]} is read before it is made")
        return values[key]
    if kind == "__slice__":
        bounds = [config.get(key) for key in ("start", "stop", "step")]
        if not all(isinstance(bound, int | None) for bound in bounds) or bounds[2] == 0:
            raise Refused("slice", str(bounds), "integers are expected", SAVE)
        return slice(*bounds)
    if kind == "__ellipsis__":
        return Ellipsis
    if kind in ("__tensor__", "__numpy__"):
        return np.asarray(config["value"], config["dtype"])
    raise Refused("argument", brief(kind), "it is neither a tensor nor a number", "write the model without it")


def _operand(x: Any) -> Operand:
    if isinstance(x, int | float):
        return np.asarray(float(x))
    if not isinstance(x, str | np.ndarray):
        raise Refused("argument", type(x).__name__, "a tensor or a number is expected there", SAVE)
    return x


def _binary(kind: str) -> OperationHandler:
    return lambda layers, use: layers.binary(kind, use.operand(0), use.operand(1))


def _function(foreign: Foreign, row: Elementwise) -> OperationHandler:
    """Return a handler of an elementwise function; its settings are configuration keys."""

    def handle(layers: Layers, use: Operation) -> str:
        numbers = [use.config.number(key, value) for key, value in foreign.settings.items()] or row.numbers
        return layers.apply(row.function, use.operand(0), *numbers)

    return handle


def _shared(count: int, method: Callable[..., str]) -> OperationHandler:
    return lambda layers, use: [method(layers, *map(use.operand, range(count)))]


def _power(layers: Layers, use: Operation) -> str:
    x, exponent = use.argument(0), use.argument(1)
    if not isinstance(exponent, int | float):
        raise Refused("x2", "computed by the model", "an exponent must be a number", "write exp(y * log(x))")
    return layers.apply("power", _operand(x), float(exponent))


def _reduce(kind: Any) -> OperationHandler:
    def handle(layers: Layers, use: Operation) -> str:
        x = use.operand(0)
        return layers.reduce(kind, x, use.axes(len(layers.shape(x))), bool(use.config.get("keepdims")))

    return handle


def _arg_max(sign: float) -> OperationHandler:
    """Return a handler for the index of the largest element of an axis or of all; with a sign of -1 the smallest."""

    def handle(layers: Layers, use: Operation) -> str:
        return layers.argmax(layers.affine(use.operand(0), sign, 0.0), use.axis, bool(use.config.get("keepdims")))

    return handle


def _rounded(layers: Layers, use: Operation) -> str:
    digits = use.config.get("decimals") or 0
    y = layers.apply("round", layers.affine(use.operand(0), 10.0**digits, 0.0))
    return layers.affine(y, 10.0**-digits, 0.0)


def _item(layers: Layers, use: Operation) -> str:
    """Indexing ``x[key]`` by integers, slices, None and ``...``."""
    y, key = use.operand(0), use.argument(1)
    keys = list(key) if isinstance(key, list) else [key]
    if any(not (one is None or one is Ellipsis or isinstance(one, int | slice)) for one in keys):
        raise Refused("key", "computed, or a list", "only integers and slices are read", "use slices")
    rank, counted = len(layers.shape(y)), sum(isinstance(one, int | slice) for one in keys)
    rest = [slice(None)] * (rank - counted)
    at = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    axis = 0
    for one in (*keys[:at], *rest, *keys[at + 1 :]):
        if one is None:
            y, axis = layers.unsqueeze(y, [axis]), axis + 1
        elif isinstance(one, int):
            y = layers.select(y, axis, one)
        else:
            if one != slice(None):
                y = layers.slice(y, axis, one)
            axis += 1
    return layers.value(y)


def _split(layers: Layers, use: Operation) -> list[str]:
    x, setting = use.operand(0), use.config["indices_or_sections"]
    axis = axis_in(use.axis or 0, len(layers.shape(x)))
    size = layers.size(x, axis)
    if isinstance(setting, int) and 0 < setting <= size:
        setting = range(size // setting, size, size // setting)
    if isinstance(setting, int) or not all(isinstance(place, int) for place in setting):
        raise Refused("indices_or_sections", brief(setting), f"they do not fit {size} elements", SAVE)
    places = [0, *setting]
    return layers.split(x, [stop - start for start, stop in zip(places, [*places[1:], size], strict=True)], axis)


def _reshape(layers: Layers, use: Operation) -> str:
    x = use.operand(0)
    return layers.reshape(x, resolved(use.config["newshape"], layers.shape(x)))


def _transpose(layers: Layers, use: Operation) -> str:
    x = use.operand(0)
    axes = use.config.get("axes") or [*range(len(layers.shape(x)))][::-1]
    if not isinstance(axes, list):
        raise Refused("axes", str(axes), "a list is expected", SAVE)
    return layers.transpose(x, axes)


def _expand_dims(layers: Layers, use: Operation) -> str:
    setting = use.config["axis"]
    return layers.unsqueeze(use.operand(0), [setting] if isinstance(setting, int) else setting)


def _squeeze(layers: Layers, use: Operation) -> str:
    setting = use.config.get("axis")
    return layers.squeeze(use.operand(0), [setting] if isinstance(setting, int) else setting)


_GELU = {True: "gelu_tanh", False: "gelu"}
HANDLERS: dict[str, OperationHandler] = {
    **{name: _binary(kind) for name, kind in (("Add", "add"), ("Subtract", "sub"), ("Multiply", "mul"))},
    **{name: _binary(kind) for name, kind in (("Divide", "div"), ("TrueDivide", "div"))},
    **{name: _binary(kind) for name, kind in (("Maximum", "max"), ("Minimum", "min"))},
    "Power": _power,
    **{foreign.name: _function(foreign, row) for foreign, row in functions_of("keras")},
    **{name: _shared(count, method) for name, count, method in shared_operations("keras")},
    "Gelu": lambda layers, use: layers.apply(_GELU[bool(use.config.get("approximate", True))], use.operand(0)),
    **{name: _reduce(name.lower()) for name in ("Mean", "Sum", "Max", "Min")},
    **{f"A{name}": _reduce(name) for name in ("max", "min")},
    "Round": _rounded,
    "Cast": lambda layers, use: layers.value(layers.cast(use.operand(0), str(use.config["dtype"]))),
    "Argmax": _arg_max(1.0),
    "Argmin": _arg_max(-1.0),
    "GetItem": _item,
    "Concatenate": lambda layers, use: layers.concat(use.operands(0), use.axis or 0),
    "Stack": lambda layers, use: layers.stack(use.operands(0), use.axis or 0),
    "Split": _split,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Softmax": lambda layers, use: layers.softmax(use.operand(0), -1 if use.axis is None else use.axis),
    "LogSoftmax": lambda layers, use: layers.softmax(use.operand(0), -1 if use.axis is None else use.axis, log=True),
    "Matmul": lambda layers, use: layers.matmul(use.operand(0), use.operand(1)),
    "Einsum": lambda layers, use: layers.einsum(str(use.config["subscripts"]), [*map(_operand, use.args)]),
}
