"""Keras's activations by name, with the numbers that they had in each version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.importers.describe.pointwise import Activation
from lstmc.importers.frontends.refused import Refused

_PLAIN: Mapping[str, Activation] = {
    "linear": Activation("affine", 1.0),
    "tanh": Activation("tanh"),
    "sigmoid": Activation("sigmoid"),
    "relu": Activation("relu"),
    "relu6": Activation("clip", 0.0, 6.0),
    "elu": Activation("elu", 1.0),
    "selu": Activation("selu", 1.6732632423543772, 1.0507009873554805),
    "softplus": Activation("softplus"),
    "softsign": Activation("softsign"),
    "swish": Activation("silu"),
    "silu": Activation("silu"),
    "exponential": Activation("exp"),
    "mish": Activation("mish"),
    "gelu": Activation("gelu"),
    "leaky_relu": Activation("leaky_relu", 0.2),  # the slope in keras/src/activations/activations.py
    "hard_tanh": Activation("clip", -1.0, 1.0),
}


def activation(told: Any, version: int, key: str) -> Activation:
    """``told`` is a name, or a serialized function of that name."""
    name = told.get("config", told.get("class_name")) if isinstance(told, Mapping) else told
    if name in ("hard_sigmoid",):
        if not version:
            why = "Keras 3 defines it differently from Keras 2, and the file does not record its version"
            raise Refused(key, "hard_sigmoid", why, "give a file that has keras_version")
        # clip(0.2 x + 0.5) until Keras 2, clip(x / 6 + 0.5) from Keras 3 on
        return Activation("hard_sigmoid", 1 / 6 if version >= 3 else 0.2, 0.5)
    if name not in _PLAIN:
        raise Refused(key, str(name)[:60], "it is not supported", f"use one of {', '.join(_PLAIN)}")
    return _PLAIN[name]
