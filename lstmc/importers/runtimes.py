"""The frameworks of the sources, if they are installed: they run the source for comparison."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.importers.frontends.keras_layers import HANDLERS
from lstmc.importers.frontends.keras_recurrent import CELLS
from lstmc.importers.frontends.keras_recurrent import HANDLERS as RECURRENT
from lstmc.importers.frontends.keras_weights import weights_by_layer
from lstmc.importers.frontends.onnx_layers import ROUNDED
from lstmc.importers.frontends.torch_state_dict import Group
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import Weight
from lstmc.importers.read.keras_file import version_of
from lstmc.importers.read.tflite_file import TfliteFile
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import Source
from lstmc.ir import Scan
from lstmc.ops import Array, Relu
from lstmc.text import brief

# Names in a configuration besides layers: none is a function of the file.
_PLAIN = (
    *("Sequential", "Functional", "Model", "InputLayer", "DTypePolicy", "__keras_tensor__", "GlorotUniform"),
    *("Orthogonal", "OrthogonalInitializer", "Zeros", "Ones", "Constant", "RandomUniform", "RandomNormal"),
    *("VarianceScaling", "GlorotNormal", "HeNormal", "HeUniform", "TruncatedNormal", "LecunNormal", "L1", "L2"),
    *("L1L2", "MaxNorm", "UnitNorm", "NonNeg", "StackedRNNCells", *CELLS),
)
BY_8_BITS = "the source rounds to 8 bits while it runs, which the imported model does not"


def not_installed(*modules: str) -> str | None:
    """Return a message about the modules that cannot be imported; None if all can."""
    missing = [module for module in modules if find_spec(module) is None]
    return f"{', '.join(missing)} cannot be imported" if missing else None


class KerasRuntime:
    """Runs a model that Keras builds from the source's configuration, with weights that lstmc read; Keras opens no
    file. The configuration must name only known classes of Keras, and no module of another package."""

    name = "Keras"

    def __init__(self, source: Source, net: Net) -> None:
        self.source, self.net = source, net

    def unavailable(self) -> str | None:
        strange = next(_strange(self.source.facts["config"]), None)
        if strange is not None:
            return f"its configuration names {strange}, which is not built from a file"
        return not_installed("keras")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs. Raises :class:`SourceError` for a model that this version of Keras does not build."""
        if not_installed("tensorflow") is not None:
            os.environ.setdefault("KERAS_BACKEND", "numpy" if not_installed("torch") else "torch")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about arguments of old configurations
                return self._run(importlib.import_module("keras"), inputs)
        except Exception as error:  # Keras raises any class for configurations that it no longer knows
            raise SourceError(f"this Keras does not build the model: {brief(error) or type(error).__name__}") from None

    def _run(self, keras: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Build the model with this version of Keras, set its weights, and return its outputs."""

        def hard_sigmoid_2(x: Any) -> Any:  # its slope is 1/6 in Keras 3
            return keras.ops.clip(0.2 * x + 0.5, 0, 1)

        name = "hard_sigmoid_2"
        own = {"class_name": "function", "config": name, "registered_name": name, "module": None}
        changed = {} if version_of(self.source) >= (3,) else {"hard_sigmoid": own}
        config = _today(self.source.facts["config"], changed)
        model_class = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
        inner = config["config"]  # a list in the first versions
        inner = {"name": "model", "layers": inner} if isinstance(inner, list) else inner
        with keras.saving.custom_object_scope(own_objects := {name: hard_sigmoid_2}):
            model = model_class.from_config(inner, own_objects)  # a layer of Keras 2 has its own scope: this argument
        stored = self.source.facts["config"]["config"]
        layers = stored if isinstance(stored, list) else stored["layers"]
        _set(model, weights_by_layer(self.source, layers), "")
        arrays = {self.net.called[name]: np.asarray(array, np.float32) for name, array in inputs.items()}
        fed = [arrays[tensor.name] for tensor in model.inputs] if len(arrays) > 1 else next(iter(arrays.values()))
        outputs = model.predict(fed, verbose=0)
        results = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(self.net.outputs, map(np.asarray, results), strict=True))


def _set(model: Any, weights: Mapping[str, Sequence[Weight]], path: str) -> None:
    """Set the weights of each layer of a Keras model, also in nested models; ``path`` prefixes the layers' names."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if hasattr(inner, "layers"):
            _set(inner, weights, f"{path}{layer.name}/")
        else:
            layer.set_weights([weight.make() for weight in weights.get(path + layer.name, [])])


def _today(config: Any, changed: Mapping[str, Any], wrapped: bool = False) -> Any:
    """Return a configuration as Keras 3 writes it: activations replaced as in ``changed``, no ``compile_config`` or
    false ``time_major``, a module for a layer ``wrapped`` in another, ``reset_after``, and first states apart."""
    if isinstance(config, list):
        return [_today(item, changed, wrapped) for item in config]
    if not isinstance(config, Mapping):
        return config
    made = dict[str, Any](module="keras.layers") if wrapped and "class_name" in config else {}
    left_out = ("compile_config", "time_major") if config.get("time_major") is False else ("compile_config",)
    kept = {key: value for key, value in config.items() if key not in left_out}
    if config.get("class_name") in ("GRU", "GRUCell"):
        kept["config"] = {"reset_after": False, **config["config"]}  # True without the key, from Keras 3 on
    if config.get("class_name") in RECURRENT and "inbound_nodes" in config:
        kept["inbound_nodes"] = [*map(_with_states, config["inbound_nodes"])]
    for key, value in kept.items():
        name = key.endswith("activation") and isinstance(value, str)
        inner = key in ("layer", "backward_layer", "cell", "cells")
        made[key] = changed.get(value, value) if name else _today(value, changed, inner)
    return made


def _with_states(node: Any) -> Any:
    """Return a recurrent layer's call in the form of Keras 3, which takes first states apart from the sequence."""
    if isinstance(node, Mapping) or len(node) < 2:
        return node
    x, *states = (
        {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": operand[:3]}}
        for operand in node
    )
    return {"args": [x], "kwargs": {"initial_state": states}}


def _strange(config: Any, depth: int = 0) -> Iterator[str]:
    """Yield in words the classes and modules in a configuration that are not known as Keras's own."""
    if depth > 50:
        yield "something nested deeper than 50"
    elif isinstance(config, Mapping):
        name, module = config.get("class_name"), config.get("module")
        if name is not None and str(name) not in _PLAIN and str(name) not in HANDLERS:
            yield f"the class {brief(name)}"
        if module is not None and str(module).partition(".")[0] != "keras":
            yield f"the module {brief(module)}"
        for value in (value for key, value in config.items() if key != "compile_config"):  # which `_today` drops
            yield from _strange(value, depth + 1)
    elif isinstance(config, list):
        for value in config:
            yield from _strange(value, depth + 1)


class OnnxRuntime:
    """Runs a graph in ONNX Runtime, from a file or bytes; ``values`` are inputs that the import made constants."""

    name = "ONNX Runtime"

    def __init__(self, model: Path | bytes, net: Net, values: Mapping[str, Array]) -> None:
        self.model, self.net, self.values = model, net, values

    def unavailable(self) -> str | None:
        return BY_8_BITS if ROUNDED in self.net.notes else not_installed("onnxruntime")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs. Raises :class:`SourceError` for a graph that ONNX Runtime does not run."""
        runtime = importlib.import_module("onnxruntime")
        arrays = {self.net.called[name]: array for name, array in inputs.items()} | dict(self.values)
        called = {name: self.net.called[name] for name in self.net.outputs}
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # keeps all digits
        try:
            model = self.model if isinstance(self.model, bytes) else str(self.model)
            session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            fed: dict[str, Array] = {}
            for entry in session.get_inputs():
                kind = entry.type[len("tensor(") : -1]
                kind = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
                shape = [size if isinstance(size, int) else 1 for size in entry.shape]
                array: Array = np.asarray(arrays.get(entry.name, np.zeros(shape)), kind)  # not read if not given
                fed[entry.name] = array if entry.shape else array.reshape(())
            results = session.run(list(called.values()), fed)
        except Exception as error:  # ONNX Runtime's errors differ from version to version
            raise SourceError(f"ONNX Runtime does not run this graph: {brief(error)}") from None
        return dict(zip(called, results, strict=True))


class LiteRtRuntime:
    """Runs a TFLite file in LiteRT; ``values`` are arrays for inputs that the import made constants."""

    name = "LiteRT"

    def __init__(self, file: TfliteFile, net: Net, values: Mapping[str, Array]) -> None:
        self.file, self.net, self.values = file, net, values

    def unavailable(self) -> str | None:
        return BY_8_BITS if ROUNDED in self.net.notes else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs. Raises :class:`SourceError` for a file that LiteRT does not run."""
        litert = importlib.import_module("ai_edge_litert.interpreter")
        arrays = {self.net.called[name]: array for name, array in inputs.items()} | dict(self.values)
        try:
            net = litert.Interpreter(
                model_content=self.file.content,
                num_threads=1,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            for name, place in self.file.inputs.items():
                if name in arrays:
                    net.resize_tensor_input(place, arrays[name].shape or (), strict=False)
            net.allocate_tensors()
            details = {each["index"]: each for each in net.get_input_details()}
            for name, place in self.file.inputs.items():
                each = details[place]
                array = np.reshape(arrays.get(name, np.zeros(each["shape"])), each["shape"])
                net.set_tensor(place, array.astype(each["dtype"]))
            net.invoke()
            return {name: net.get_tensor(self.file.outputs[self.net.called[name]]) for name in self.net.outputs}
        except (ValueError, RuntimeError, KeyError) as error:
            raise SourceError(f"LiteRT does not run this net: {brief(error)}") from None


class TorchProgram:
    """Runs a ``torch.export.ExportedProgram``."""

    name = "PyTorch"

    def __init__(self, program: Any, net: Net) -> None:
        self.program, self.net = program, net

    def unavailable(self) -> str | None:
        """Return the reason why the program's outputs differ from the imported model's, or None."""
        types = {str(getattr(node.meta.get("val"), "dtype", "")) for node in self.program.graph.nodes}
        rounded = [name for name in ("bfloat16", "float16") if f"torch.{name}" in types]
        return f"the program rounds to {rounded[0]}, which the imported model does not" if rounded else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs. Raises :class:`SourceError` for a program that PyTorch does not run on these inputs."""
        torch = importlib.import_module("torch")
        arrays = {self.net.called[name]: array for name, array in inputs.items()}
        fed = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in self.program.graph_signature.user_inputs:
                like = node.meta["val"]
                if not isinstance(like, torch.Tensor):
                    fed.append(like)
                    continue
                array = arrays.get(node.name, np.zeros(tuple(like.shape)))  # not read if not given
                fed.append(torch.from_numpy(np.array(array)).reshape(array.shape if like.shape else ()).to(like.dtype))
        try:
            with torch.no_grad():
                results = torch.utils._pytree.tree_leaves(self.program.module()(*fed))
        except Exception as error:  # an operator may raise any class
            reason = brief(str(error).partition("\n")[0])
            raise SourceError(f"PyTorch does not run this program: {reason}") from None
        given = [one for one in results if one is not None]
        found = map(np.asarray, (one.float() if isinstance(one, torch.Tensor) else one for one in given))
        return dict(zip(self.net.outputs, found, strict=True))


class TorchLayers:
    """Runs layers ``torch.nn.LSTM``, ``GRU`` and ``RNN`` with the tensors of a state dict."""

    name = "PyTorch's own layers"

    def __init__(self, groups: Sequence[Group], net: Net) -> None:
        self.groups, self.called = groups, net.called
        bodies = [step.op.body for step in net.steps if isinstance(step.op, Scan)]
        self.relu = any(node.op == Relu() for body in bodies for node in body)

    def unavailable(self) -> str | None:
        return not_installed("torch")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs and last states of each group of tensors, which runs as one layer of PyTorch."""
        torch = importlib.import_module("torch")
        outputs: dict[str, Array] = {}
        arrays = {self.called[name]: array for name, array in inputs.items()}
        many = len(self.groups) > 1
        for group in self.groups:
            layer = getattr(torch.nn, str(group.kind).upper())(**self._options(group))
            state = {
                f"{role}_l{number}{'_reverse' if back else ''}": torch.from_numpy(np.array(tensor.read(), np.float32))
                for (number, back), tensors in group.tensors.items()
                for role, tensor in tensors.items()
            }
            try:
                layer.load_state_dict(state)
            except RuntimeError as error:
                raise SourceError(f"PyTorch does not take these tensors: {str(error).splitlines()[0]}") from None
            prefix = f"{group.title}_" if many else ""
            x = torch.from_numpy(np.asarray(arrays[f"{prefix}X"], np.float32))
            with torch.no_grad():
                y, last = layer(x)
            outputs[f"{prefix}Y"] = y.numpy()
            for state_name, value in zip("hc", last if group.kind == "lstm" else (last,), strict=False):
                for number in range(len(value)):
                    suffix = f"_{number}" if len(value) > 1 else ""
                    outputs[f"{prefix}{state_name}_T{suffix}"] = value[number].numpy()
        return outputs

    def _options(self, group: Group) -> dict[str, Any]:
        """Return the arguments with which PyTorch makes the layer of a group."""
        first = group.tensors[0, False]
        projected = first["weight_hr"].shape if "weight_hr" in first else None
        options: dict[str, Any] = {
            "input_size": first["weight_ih"].shape[1],
            "hidden_size": projected[1] if projected else first["weight_hh"].shape[1],
            "num_layers": 1 + max(number for number, _ in group.tensors),
            "bidirectional": any(back for _, back in group.tensors),
            "bias": "bias_ih" in first,
        }
        options |= {"proj_size": projected[0]} if projected else {}
        return options | ({"nonlinearity": "relu"} if group.kind == "rnn" and self.relu else {})
