"""One use of a layer of Keras, as its handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstmc.importers.frontends.keras_activations import activation
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.weight import Weight


@dataclass(frozen=True)
class Call:
    """One use of a layer: its class, configuration, weights in order, operands, and the version of Keras.

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

    def pair(self, key: str, rank: int, default: Any = 1) -> tuple[int, ...]:
        found = self.config.get(key)
        found = default if found is None else found
        return (int(found),) * rank if isinstance(found, int) else tuple(int(n) for n in found)


Handler = Callable[[Layers, Call], list[str]]


def activated(layers: Layers, call: Call, y: str) -> str:
    told = call.config.get("activation", "linear") or "linear"
    if told == "softmax":
        return layers.softmax(y, -1)
    if told in ("log_softmax", "hard_silu", "hard_swish"):
        if told == "log_softmax":
            return layers.softmax(y, -1, log=True)
        return layers.binary("mul", y, layers.apply("hard_sigmoid", y, 1 / 6, 0.5))
    found = activation(told, call.version, "activation")
    return y if found.function == "affine" else layers.apply(found.function, y, found.a, found.b)
