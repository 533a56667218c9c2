"""One call of a Keras layer, and Keras's activations by name with the constants of each version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.ops import function
from lstmc.importers.refusal import Refused
from lstmc.importers.weight import Weight
from lstmc.ops import Affine, Op
from lstmc.ops.frameworks import ELEMENTWISE

_PLAIN: Mapping[str, Op] = {
    name: function(row.function, *row.numbers) for row in ELEMENTWISE for name in row.activations
}


def activation(setting: Any, version: int, key: str) -> Op:
    """Return an activation by its name, or by a serialized function of that name."""
    name = setting.get("config", setting.get("class_name")) if isinstance(setting, Mapping) else setting
    if name in ("hard_sigmoid",):
        if not version:
            why = "Keras 3 defines it differently from Keras 2, and the file does not record its version"
            raise Refused(key, "hard_sigmoid", why, "give a file that has keras_version")
        # clip(0.2 x + 0.5) until Keras 2, clip(x / 6 + 0.5) from Keras 3 on
        return function("hard_sigmoid", 1 / 6 if version >= 3 else 0.2, 0.5)
    if name not in _PLAIN:
        raise Refused(key, str(name)[:60], "it is not supported", f"use one of {', '.join(_PLAIN)}")
    return _PLAIN[name]


@dataclass(frozen=True)
class Call:
    """One call of a layer: its class, configuration, weights in order, operands, and the version of Keras.

    ``lead`` axes stand before those that the layer knows: the batch, and the time of each ``TimeDistributed`` it is in.
    ``mask`` [N, T, 1] is 1 at the steps of the first operand that count.
    """

    name: str
    config: Mapping[str, Any]
    weights: Sequence[Weight]
    xs: Sequence[str]
    version: int
    lead: int = 1
    mask: str | None = None

    @property
    def rank(self) -> int:
        """Return the number of axes of a layer of images: 1 of ``Conv1D``."""
        return next(int(mark) for mark, after in pairwise(self.name) if mark.isdigit() and after == "D")

    def pair(self, key: str, rank: int, default: Any = 1) -> tuple[int, ...]:
        value = self.config.get(key)
        value = default if value is None else value
        return (int(value),) * rank if isinstance(value, int) else tuple(int(n) for n in value)


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
