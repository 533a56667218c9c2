"""Functions of ``keras.ops``, which a functional model of Keras 3 stores as layers. Some have the name of a layer, such
as ``Add`` and ``Softmax``, but their operands may be numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lstmc.importers.frontends.keras_calls import SAVE, Config, DamagedConfig, Key, Settings, tensor_key
from lstmc.importers.frontends.layers import Layers, shared_operations
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.values import axis_in, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops.frameworks import Elementwise, Foreign, functions_of
from lstmc.text import brief

DEEPEST = 10  # lists in lists of arguments


@dataclass(frozen=True)
class Operation:
    """One call of a ``keras.ops`` function, with names of values for tensors. The function counts one axis as the
    batch, where the values have ``lead`` axes, as in :class:`Call`; the axes that methods return count all of them."""

    config: Settings
    args: Sequence[Any]
    lead: int = 1

    def place(self, axis: int | None, key: str = "axis") -> int:
        """Return the axis of the value for an axis of the operation: inside ``TimeDistributed`` the value has more axes
        in front. There an axis 0 (the batch) or None raises :class:`Refused`."""
        if self.lead > 1 and not axis:
            mend = "give the axes of a step, or take it out of TimeDistributed"
            raise Refused(key, str(axis), "inside of TimeDistributed each step is a batch of its own", mend)
        return axis if axis is not None and axis < 0 else (axis or 0) + self.lead - 1

    def axes(self, rank: int) -> list[int]:
        """Return the axes of the setting ``axis``, counted from the front; all axes if it is None."""
        setting = self.config.get("axis")
        if setting is None and self.lead == 1:
            return [*range(rank)]
        return [axis_in(self.place(axis), rank) for axis in (setting if isinstance(setting, list) else [setting])]

    @property
    def axis(self) -> int | None:
        """Return the setting ``axis``, or None if it is not set. Raises :class:`Refused` for several axes."""
        axis = self.config.get("axis")
        if not isinstance(axis, int | None):
            raise Refused("axis", str(axis), "one axis is expected", SAVE)
        return axis if axis is None and self.lead == 1 else self.place(axis)

    def argument(self, place: int) -> Any:
        if place >= len(self.args):
            raise Refused(f"argument {place}", "left out", "it is required", SAVE)
        return self.args[place]

    def operand(self, place: int) -> Operand:
        return _operand(self.argument(place))

    def operands(self, place: int) -> list[Operand]:
        """Return the tensors of an argument: a list, or one tensor. Raises :class:`Refused` for anything else."""
        xs = self.argument(place)
        if xs == []:
            raise Refused(f"argument {place}", "an empty list", "a tensor is expected", SAVE)
        return [_operand(x) for x in (xs if isinstance(xs, list) else [xs])]


OperationHandler = Callable[[Layers, Operation], str | list[str]]


def is_operation(layer: Config) -> bool:
    """Return whether a layer is a function of ``keras.ops``: by its module; in ``.h5``, if ``trainable`` is not set."""
    if layer.get("module"):
        return str(layer["module"]).startswith(("keras.src.ops.", "keras.ops."))
    nodes, config = layer.get("inbound_nodes") or [None], layer.get("config", {})
    return isinstance(nodes[0], Mapping) and "trainable" not in config


def operation(layer: Config, node: Any, values: Mapping[Key, str | None], lead: int = 1) -> Operation:
    """Return one call of an operation (``keras/src/saving/serialization_lib.py``) with the model's values."""
    call = node if isinstance(node, Mapping) else {}
    return Operation(Settings(layer.get("config", {})), [_argument(one, values) for one in call.get("args", [])], lead)


def _argument(value: Any, values: Mapping[Key, str | None], depth: int = 0) -> Any:
    """Return an argument of a call, with the names of values in place of tensors."""
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
    """Return a tensor's name or an array of a number. Raises :class:`Refused` for anything else."""
    if isinstance(x, int | float):
        return np.asarray(float(x))
    if not isinstance(x, str | np.ndarray):
        raise Refused("argument", type(x).__name__, "a tensor or a number is expected there", SAVE)
    return x


def _binary(kind: str) -> OperationHandler:
    return lambda layers, use: layers.binary(kind, use.operand(0), use.operand(1))


def _function(foreign: Foreign, row: Elementwise, layers: Layers, use: Operation) -> str:
    numbers = [use.config.number(key, value) for key, value in foreign.settings.items()] or row.numbers
    return layers.apply(row.function, use.operand(0), *numbers)


def _shared(count: int, method: Callable[..., str]) -> OperationHandler:
    return lambda layers, use: [method(layers, *map(use.operand, range(count)))]


def _power(layers: Layers, use: Operation) -> str:
    x, exponent = use.argument(0), use.argument(1)
    if not isinstance(exponent, int | float):
        raise Refused("x2", "computed by the model", "an exponent must be a number", "write exp(y * log(x))")
    return layers.apply("power", _operand(x), float(exponent))


def _reduce(kind: Any, layers: Layers, use: Operation) -> str:
    x = use.operand(0)
    return layers.reduce(kind, x, use.axes(layers.rank(x)), bool(use.config.get("keepdims")))


def _any(layers: Layers, use: Operation) -> str:
    x = use.operand(0)
    return layers.any_of(x, use.axes(layers.rank(x)), bool(use.config.get("keepdims")))


def _arg_max(sign: float) -> OperationHandler:
    return lambda layers, use: layers.argmax(use.operand(0), use.axis, bool(use.config.get("keepdims")), sign=sign)


def _rounded(layers: Layers, use: Operation) -> str:
    digits = use.config.get("decimals") or 0
    y = layers.apply("round", layers.affine(use.operand(0), 10.0**digits, 0.0))
    return layers.affine(y, 10.0**-digits, 0.0)


def _item(layers: Layers, use: Operation) -> str:
    """Write the indexing ``x[key]`` for integers, slices, None and ``...``. Raise Refused for any other key."""
    y, key = use.operand(0), use.argument(1)
    keys = list(key) if isinstance(key, list) else [key]
    if any(not (one is None or one is Ellipsis or isinstance(one, int | slice)) for one in keys):
        raise Refused("key", "computed, or a list", "only integers and slices are read", "use slices")
    if use.lead > 1 and keys[:1] not in ([slice(None)], [Ellipsis]):
        use.place(None, "key")
    keys = [*[slice(None)] * (use.lead - 1), *keys]
    rank, counted = layers.rank(y), sum(isinstance(one, int | slice) for one in keys)
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
    """Return the pieces of x: a number of equal pieces, or pieces between given indices."""
    x, setting = use.operand(0), use.config["indices_or_sections"]
    axis = axis_in(use.axis or 0, layers.rank(x))
    size = layers.size(x, axis)
    if isinstance(setting, int) and 0 < setting <= size:
        setting = range(size // setting, size, size // setting)
    if isinstance(setting, int) or not all(isinstance(place, int) for place in setting):
        raise Refused("indices_or_sections", brief(setting), f"they do not fit {size} elements", SAVE)
    places = [0, *setting]
    return layers.split(x, [stop - start for start, stop in zip(places, [*places[1:], size], strict=True)], axis)


def _reshape(layers: Layers, use: Operation) -> str:
    """Return x in the new shape; inside ``TimeDistributed`` the leading axes stay."""
    x, shape, lead = use.operand(0), layers.shape(use.operand(0)), use.lead
    own = use.config["newshape"]
    return layers.reshape(x, resolved(own if lead == 1 else (*shape[:lead], *own[1:]), shape))


def _transpose(layers: Layers, use: Operation) -> str:
    """Return x with its axes permuted, by default reversed; leading axes stay."""
    x = use.operand(0)
    axes = use.config.get("axes") or [*range(layers.rank(x))][::-1]
    if not isinstance(axes, list):
        raise Refused("axes", str(axes), "a list is expected", SAVE)
    if use.lead > 1 and axes[:1] != [0]:
        use.place(None, "axes")
    return layers.transpose(x, [*range(use.lead), *map(use.place, axes[1:])] if use.lead > 1 else axes)


def _expand_dims(layers: Layers, use: Operation) -> str:
    setting = use.config["axis"]
    axes = [setting] if isinstance(setting, int) else setting
    return layers.unsqueeze(use.operand(0), [*map(use.place, axes)])


def _squeeze(layers: Layers, use: Operation) -> str:
    setting = use.config.get("axis")
    if setting is None and use.lead == 1:
        return layers.squeeze(use.operand(0), None)
    return layers.squeeze(use.operand(0), [*map(use.place, setting if isinstance(setting, list) else [setting])])


def _softmax(layers: Layers, use: Operation, log: bool = False) -> str:
    return layers.softmax(use.operand(0), -1 if use.config.get("axis") is None else use.axis or 0, log)


def _einsum(layers: Layers, use: Operation) -> str:
    """Return an einsum; inside ``TimeDistributed`` each operand gets letters for the further leading axes."""
    equation, more = str(use.config["subscripts"]).replace(" ", ""), "ZYXW"[: use.lead - 1]
    parts = [*equation.replace("->", ",").split(",")]
    if more and (len({part[:1] for part in parts}) > 1 or {*more} & {*equation}):
        use.place(None, "subscripts")
    for part in {*parts} if more else ():
        equation = re.sub(rf"\b{part}\b", more + part, equation)
    return layers.einsum(equation, [*map(_operand, use.args)])


_GELU = {True: "gelu_tanh", False: "gelu"}
HANDLERS: dict[str, OperationHandler] = {
    "Add": _binary("add"), "Subtract": _binary("sub"), "Multiply": _binary("mul"),
    "Divide": _binary("div"), "TrueDivide": _binary("div"), "Maximum": _binary("max"), "Minimum": _binary("min"),
    "Power": _power,
    **{foreign.name: partial(_function, foreign, row) for foreign, row in functions_of("keras")},
    **{name: _shared(count, method) for name, count, method in shared_operations("keras")},
    "Gelu": lambda layers, use: layers.apply(_GELU[bool(use.config.get("approximate", True))], use.operand(0)),
    **{name: partial(_reduce, name.lower()) for name in ("Mean", "Sum", "Max", "Min")},
    **{f"A{name}": partial(_reduce, name) for name in ("max", "min")},
    "Any": _any, "Round": _rounded,
    "Cast": lambda layers, use: layers.value(layers.cast(use.operand(0), str(use.config["dtype"]))),
    "Argmax": _arg_max(1.0), "Argmin": _arg_max(-1.0), "GetItem": _item,
    "Concatenate": lambda layers, use: layers.concat(use.operands(0), use.axis or 0),
    "Stack": lambda layers, use: layers.stack(use.operands(0), use.axis or 0),
    "Split": _split, "Reshape": _reshape, "Transpose": _transpose, "ExpandDims": _expand_dims, "Squeeze": _squeeze,
    "Softmax": _softmax, "LogSoftmax": partial(_softmax, log=True),
    "Matmul": lambda layers, use: layers.matmul(use.operand(0), use.operand(1)),
    "Einsum": _einsum,
    "ConvertToTensor": lambda layers, use: layers.value(use.operand(0)),
    "ZerosLike": lambda layers, use: layers.affine(use.operand(0), 0.0, 0.0),
    "OnesLike": lambda layers, use: layers.affine(use.operand(0), 0.0, 1.0),
}  # fmt: skip
