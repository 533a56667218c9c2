"""One call of a Keras layer, its settings, and Keras's activations by name with the constants of each version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lstmc.files.json_file import Int32, NotExpected, Number, parse_json
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.ops import function
from lstmc.importers.refusal import Refused
from lstmc.importers.weight import Weight
from lstmc.ops import Affine, Op
from lstmc.ops.frameworks import ELEMENTWISE

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
                raise Refused(key, str(config[key])[:60], why, SAVE) from None
        super().__init__(config)

    def __missing__(self, key: str) -> Any:
        raise Refused(key, "left out", "it is required", SAVE)

    def number(self, key: str, default: float | None) -> float:
        """Return a setting that must be a number. Raises :class:`Refused`."""
        value = self.get(key, default)
        if not isinstance(value, int | float):
            raise Refused(key, str(value)[:60], "one number is expected", SAVE)
        return float(value)


def tensor_key(entry: Any) -> Key:
    """Return a reference to a tensor, ``[layer, use, result]``. Raises :class:`DamagedConfig`."""
    whole = isinstance(entry, list | tuple) and len(entry) >= 3
    if not whole or not isinstance(entry[0], str) or not all(isinstance(number, int) for number in entry[1:3]):
        raise DamagedConfig(f"expected a reference to a tensor, found {str(entry)[:60]}")
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
        raise Refused(key, str(name)[:60], "it is not supported", f"use one of {', '.join(_PLAIN)}")
    return _PLAIN[name]


@dataclass(frozen=True)
class Call:
    """One call of a layer: its class, configuration, weights in order, operands, and the version of Keras.

    ``lead`` axes stand before those that the layer knows: the batch, and the time of each ``TimeDistributed`` it is in.
    ``mask`` [N, T, 1] is 1 at the steps of the first operand that count.
    """

    name: str
    config: Settings
    weights: Sequence[Weight]
    xs: Sequence[str]
    version: int
    lead: int = 1
    mask: str | None = None

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


def activated(layers: Layers, call: Call, y: str) -> str:
    name = call.config.get("activation", "linear") or "linear"
    if name == "softmax":
        return layers.softmax(y, -1)
    if name in ("log_softmax", "hard_silu", "hard_swish"):
        if name == "log_softmax":
            return layers.softmax(y, -1, log=True)
        return layers.hard_swish(y)
    f = activation(name, call.version, "activation")
    return y if f == Affine() else layers.one(f, y)
