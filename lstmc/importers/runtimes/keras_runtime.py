"""Keras, for files whose configuration names only known layers."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstmc.importers.frontends.keras_layers import HANDLERS
from lstmc.importers.frontends.keras_weights import weights_by_layer
from lstmc.importers.ir.net import Net
from lstmc.importers.read.source import Source
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtimes.installed import not_installed
from lstmc.importers.weight import Weight
from lstmc.ops import Array

# What a configuration names besides layers: nothing of it is a function of the file's own.
_PLAIN = frozenset(
    {
        *("Sequential", "Functional", "Model", "InputLayer", "DTypePolicy", "__keras_tensor__", "GlorotUniform"),
        *("Orthogonal", "OrthogonalInitializer", "Zeros", "Ones", "Constant", "RandomUniform", "RandomNormal"),
        *("VarianceScaling", "GlorotNormal", "HeNormal", "HeUniform", "TruncatedNormal", "LecunNormal", "L1", "L2"),
        *("L1L2", "MaxNorm", "UnitNorm", "NonNeg"),
        *("SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"),
    }
)


class KerasRuntime:
    """Runs a model that Keras builds from the configuration, with the weights read here; it never opens the file.

    The configuration must name no class that is not known here, and no module of another package.
    """

    name = "Keras"

    def __init__(self, source: Source, net: Net) -> None:
        self.source, self.net = source, net

    def unavailable(self) -> str | None:
        """Return the reason why it cannot run here, or None."""
        strange = next(_strange(self.source.facts["config"]), None)
        if strange is not None:
            return f"its configuration names {strange}, which is not built from a file"
        return not_installed("keras")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raises :class:`SourceError` for a model that this Keras does not build, as some old ones."""
        if not_installed("tensorflow") is not None:
            os.environ.setdefault("KERAS_BACKEND", "numpy" if not_installed("torch") else "torch")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of arguments that old configurations have
                return self._run(importlib.import_module("keras"), inputs)
        except Exception as error:  # whatever Keras raises for what it does not know any more
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise SourceError(f"this Keras does not build the model: {text[:200]}") from None

    def _run(self, keras: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
        config = _today(self.source.facts["config"])
        model_class = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
        inner = config["config"]  # a list in the first versions
        model = model_class.from_config({"name": "model", "layers": inner} if isinstance(inner, list) else inner)
        stored_layers = self.source.facts["config"]["config"]
        weights = weights_by_layer(
            self.source, stored_layers if isinstance(stored_layers, list) else stored_layers["layers"]
        )
        _set(model, weights, "")
        arrays = {self.net.called[name]: np.asarray(array, np.float32) for name, array in inputs.items()}
        fed = [arrays[tensor.name] for tensor in model.inputs] if len(arrays) > 1 else next(iter(arrays.values()))
        outputs = model.predict(fed, verbose=0)
        results = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(self.net.outputs, map(np.asarray, results), strict=True))


def _set(model: Any, weights: Mapping[str, Sequence[Weight]], path: str) -> None:
    """Set the weights of each layer, also in nested models."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if hasattr(inner, "layers"):
            _set(inner, weights, f"{path}{layer.name}/")
        else:
            layer.set_weights([weight.make() for weight in weights.get(path + layer.name, [])])


def _today(config: Any) -> Any:
    """Return a configuration without ``time_major = False``, which Keras 3 rejects."""
    if isinstance(config, Mapping):
        return {k: _today(v) for k, v in config.items() if not (k == "time_major" and v is False)}
    return [*map(_today, config)] if isinstance(config, list) else config


def _strange(config: Any, depth: int = 0) -> Iterator[str]:
    """Yield the classes and modules of a configuration that are not known."""
    if depth > 50:
        yield "something nested deeper than 50"
    elif isinstance(config, Mapping):
        name, module = config.get("class_name"), config.get("module")
        if name is not None and str(name) not in _PLAIN and str(name) not in HANDLERS:
            yield f"the class {str(name)[:60]}"
        if module is not None and str(module).partition(".")[0] != "keras":
            yield f"the module {str(module)[:60]}"
        for value in config.values():
            yield from _strange(value, depth + 1)
    elif isinstance(config, list):
        for value in config:
            yield from _strange(value, depth + 1)
