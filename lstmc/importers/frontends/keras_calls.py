"""One call of a Keras layer: its settings, operands, masks and activations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lstmc.files.json_file import Int32, NotExpected, Number, parse_json
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Pair, same_padding
from lstmc.importers.ir.ops import function
from lstmc.importers.ir.values import Weight
from lstmc.importers.read.keras_file import Version
from lstmc.importers.refusal import Refused
from lstmc.ops import Affine, Op
from lstmc.ops.frameworks import ELEMENTWISE
from lstmc.text import brief

_PLAIN: Mapping[str, Op] = {
    name: function(row.function, *row.numbers) for row in ELEMENTWISE for name in row.activations
}
Config = Mapping[str, Any]  # of a layer or a model, as Keras stores it
Key = tuple[str, int, int]  # a layer, the number of its use, the number of its result
SAVE = "save the whole model again"
# Settings that are numbers: a name has the same type in all layers of Keras.
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
    """The configuration of a layer. A setting that is missing or of a wrong type raises :class:`Refused`."""

    def __init__(self, config: Config) -> None:
        for key in config.keys() & _TYPES.keys():
            try:
                parse_json(json.dumps(config[key], default=str).encode(), _TYPES[key])
            except NotExpected as error:
                why = "expected " + str(error).partition("expected ")[2]  # without the type's name, one of several
                raise Refused(key, brief(config[key]), why, SAVE) from None
        super().__init__(config)

    def __missing__(self, key: str) -> Any:
        raise Refused(key, "left out", "it is required", SAVE)

    def number(self, key: str, default: float | None) -> float:
        """Return a setting that must be a number, or ``default``. Raise :class:`Refused` for anything else."""
        value = self.get(key, default)
        if not isinstance(value, int | float):
            raise Refused(key, brief(value), "one number is expected", SAVE)
        return float(value)


def tensor_key(entry: Any) -> Key:
    """Return a reference to a tensor, ``[layer, use, result]``. Raises :class:`DamagedConfig` for anything else."""
    whole = isinstance(entry, list | tuple) and len(entry) >= 3
    if not whole or not isinstance(entry[0], str) or not all(isinstance(number, int) for number in entry[1:3]):
        raise DamagedConfig(f"expected a reference to a tensor, found {brief(entry)}")
    return entry[0], entry[1], entry[2]


def activation(setting: Any, version: Version, key: str) -> Op:
    """Return the op of an activation, given by name or as a serialized layer. Raises :class:`Refused` if unknown."""
    name = setting.get("config", setting.get("class_name")) if isinstance(setting, Mapping) else setting
    if isinstance(name, Mapping):
        return of_layer(str(setting.get("class_name")), Settings(name), key)
    if name == "hard_sigmoid":
        if not version:
            why = "Keras 3 defines it differently from Keras 2, and the file does not record its version"
            raise Refused(key, "hard_sigmoid", why, "give a file that has keras_version")
        # clip(0.2 x + 0.5) until Keras 2, clip(x / 6 + 0.5) from Keras 3 on
        return function("hard_sigmoid", 1 / 6 if version >= (3,) else 0.2, 0.5)
    if not isinstance(name, str) or name not in _PLAIN:
        raise Refused(key, brief(name), "it is not supported", f"use one of {', '.join(_PLAIN)}")
    return _PLAIN[name]


def of_layer(kind: str, config: Settings, key: str) -> Op:
    """Return the activation function that a layer of this class applies. Raises :class:`Refused` for other layers."""
    slope, most = config.get("negative_slope"), config.get("max_value")
    if kind == "LeakyReLU":
        return function("leaky_relu", config.number("negative_slope", config.get("alpha", 0.3)))
    if kind == "ELU":
        return function("elu", config.number("alpha", 1.0))
    if kind == "ReLU" and not config.get("threshold") and not (slope and most is not None):
        plain = function("leaky_relu", float(slope)) if slope else function("relu")
        return plain if most is None else function("clip", 0.0, config.number("max_value", None))
    raise Refused(key, kind, "this layer is not read as an activation", "put it as a layer of its own behind this one")


UNSETTLED = "?"  # the mask of a merge of values that are not masked alike


@dataclass(frozen=True)
class Call:
    """One call of a layer, with its weights in Keras's order. ``lead`` axes precede the layer's axes: the batch, and
    the time of each enclosing ``TimeDistributed``. ``each`` has the masks [N, T, 1] of the operands; ``carried`` is the
    first one's, or that of all operands of a merge, or UNSETTLED if they differ. ``seen`` is the mask [N, T, S] of an
    attention's scores; if ``causal``, a step sees no later step."""

    name: str
    config: Settings
    weights: Sequence[Weight]
    xs: Sequence[str]
    version: Version
    lead: int = 1
    carried: str | None = None
    each: Sequence[str | None] = ()
    seen: str | None = None
    causal: bool = False

    @property
    def masks(self) -> Sequence[str | None]:
        """Return the mask of each operand. Raises :class:`Refused` for a mask that is UNSETTLED."""
        return [_settled(mask) for mask in self.each or [None] * len(self.xs)]

    @property
    def mask(self) -> str | None:
        """Return the mask [N, T, 1], 1 at the steps that count. Raises :class:`Refused` if it is UNSETTLED."""
        return _settled(self.carried)

    def several(self, least: int) -> Sequence[str]:
        """Return the operands. Raises :class:`Refused` for fewer than ``least``."""
        if len(self.xs) < least:
            raise Refused("inbound_nodes", f"{len(self.xs)} operands", f"{least} are expected", SAVE)
        return self.xs

    @property
    def rank(self) -> int:
        """Return the number of image axes of a layer: 1 for ``Conv1D``."""
        return next(int(mark) for mark, after in pairwise(self.name) if mark.isdigit() and after == "D")

    def pair(self, key: str, rank: int, default: Any = 1) -> tuple[int, ...]:
        """Return a setting as a number for each of ``rank`` axes. Raises :class:`Refused` unless all are positive."""
        value = self.config.get(key)
        value = default if value is None else value
        values = (value,) * rank if isinstance(value, int) else tuple(value)
        if len(values) != rank or min(values) < 1:
            raise Refused(key, str(value), f"{rank} positive numbers are expected", SAVE)
        return values


def _settled(mask: str | None) -> str | None:
    if mask == UNSETTLED:
        why = "what a merge before it makes of different masks depends on the version of Keras"
        raise Refused("mask", "of some operands", why, "mask all of them alike")
    return mask


Handler = Callable[[Layers, Call], list[str]]


def pads_of(padding: str, size: Any, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the zeros before and after an axis for a padding mode of Keras: "causal", "same" or "valid"."""
    if padding == "causal":
        return (dilation * (kernel - 1), 0)
    return same_padding(size, kernel, stride, dilation) if padding == "same" else (0, 0)


def activated(layers: Layers, call: Call, y: str) -> str:
    """Return y with the layer's activation applied."""
    name = call.config.get("activation", "linear") or "linear"
    if isinstance(name, Mapping) and name.get("class_name") == "Softmax":
        name = "softmax"
    if name == "softmax":
        return layers.softmax(y, -1)
    if name == "log_softmax":
        return layers.softmax(y, -1, log=True)
    f = activation(name, call.version, "activation")
    return y if f == Affine() else layers.one(f, y)
