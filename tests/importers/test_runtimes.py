"""What runs the source: ONNX Runtime, Keras, PyTorch. Each compared with what is written, or why it is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import lstmc
from lstmc.api.models import model_in
from lstmc.files.output import write_files
from lstmc.importers import ImportedModel, SourceCheck, check_source, import_file, runtimes
from lstmc.verification.differential import ill_conditioned
from lstmc.verification.report import LEAST_TOLERANCE, VALUE_TOLERANCE
from tests.importers.torch_files import save, tagger

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch, about each other


def checked(model: ImportedModel, folder: Path, sizes: dict[str, int] | None = None) -> SourceCheck:
    write_files(folder / "out", model.files())
    written = model_in(str(folder / "out" / "model.py")).model
    net = lstmc.compile(written, weights=folder / "out" / "weights.npz", sizes=sizes)
    found = check_source(model, net.compiled, net.weights)
    assert found is not None
    return found


def lstm_graph(layout: int = 0, *, shape: tuple[int | str, ...] = (5, 2, 3)) -> Any:
    draw = np.random.default_rng(0)
    weights = {"W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32)}
    held = [numpy_helper.from_array(draw.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    node = helper.make_node("LSTM", ["x y", *weights], ["all", "last"], hidden_size=4, layout=layout)
    x = helper.make_tensor_value_info("x y", TensorProto.FLOAT, shape)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("all", "last")]
    graph = helper.make_graph([node], "g", [x], outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnx_runtime_runs_a_graph_from_its_file_and_from_memory(tmp_path: Path) -> None:
    onnx.save(lstm_graph(), tmp_path / "m.onnx")
    for model in (import_file(tmp_path / "m.onnx"), lstmc.from_onnx(lstm_graph())):
        found = checked(model, tmp_path)
        assert found.runtime == "ONNX Runtime"
        assert [d.name for d in found.differences] == ["all", "last"]
        assert found.passed
        assert found.not_run is None


def test_open_sizes_have_the_names_of_the_source_behind_a_recurrent_layer_too(tmp_path: Path) -> None:
    model = lstmc.from_onnx(lstm_graph(shape=("frames", "rows", 3)))
    assert checked(model, tmp_path, {"frames": 3, "rows": 2}).passed


def test_what_onnx_runtime_does_not_run_is_told(tmp_path: Path) -> None:
    found = checked(lstmc.from_onnx(lstm_graph(layout=1)), tmp_path)
    assert found.not_run is not None
    assert found.not_run.startswith("ONNX Runtime does not run this graph: ")
    assert found.passed  # nothing was compared, so nothing is off


def test_a_program_and_the_layers_of_a_state_dict_run_in_pytorch(tmp_path: Path) -> None:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.GRU(3, 4, bidirectional=True)
            self.out = torch.nn.Linear(8, 2)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            y, last = self.rnn(x * scale)
            return {"y": self.out(y), "last": last}

    torch.manual_seed(0)
    found = checked(lstmc.from_torch(Both(), torch.zeros(5, 2, 3), torch.zeros(5, 2, 3)), tmp_path)
    assert (found.runtime, found.passed, len(found.differences)) == ("PyTorch", True, 2)
    save(tagger(), tmp_path / "tagger.pt", "zip")
    found = checked(import_file(tmp_path / "tagger.pt", recurrent_only=True), tmp_path, {"T": 3, "N": 2})
    assert (found.runtime, found.passed, len(found.differences)) == ("PyTorch's own layers", True, 3)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
        torch.nn.GRU(3, 4, bias=False),
        torch.nn.RNN(3, 4, nonlinearity="relu"),
        torch.nn.LSTMCell(3, 4),
    ],
    ids=str,
)
def test_layers_of_a_state_dict_are_made_with_their_sizes(tmp_path: Path, layer: torch.nn.Module) -> None:
    torch.save(layer.state_dict(), tmp_path / "m.pt")
    found = checked(import_file(tmp_path / "m.pt", activation="relu"), tmp_path, {"T": 3, "N": 2})
    assert found.passed
    assert found.not_run is None


def functional() -> Any:
    text = keras.Input((6,), name="text")
    more = keras.Input((3,), name="more")
    x = keras.layers.Embedding(5, 4)(text)
    x = keras.layers.Bidirectional(keras.layers.GRU(3))(x)
    x = keras.layers.Concatenate()([x, more])
    return keras.Model([text, more], [keras.layers.Dense(2)(x), keras.layers.Dense(3)(x)])


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_keras_builds_the_model_and_gets_the_weights_that_were_read(tmp_path: Path, ending: str) -> None:
    trained = functional()
    trained.compile("adam", "mse")
    trained.save(tmp_path / f"m.{ending}")
    found = checked(import_file(tmp_path / f"m.{ending}"), tmp_path, {"N": 1})
    assert found.not_run is None
    assert (found.runtime, found.passed, len(found.differences)) == ("Keras", True, 2)


def test_keras_builds_a_model_of_keras_2_with_layers_in_layers(tmp_path: Path) -> None:
    kl = keras.layers
    gru = kl.GRU(3, return_sequences=True, recurrent_activation="hard_sigmoid")
    layers = [kl.Bidirectional(gru), kl.TimeDistributed(kl.Dense(4, "hard_sigmoid"))]
    model = keras.Sequential([keras.Input((6, 2)), *layers, kl.RNN([kl.LSTMCell(3), kl.GRUCell(2)])])
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["model_config"] = json.dumps(without_modules(json.loads(file.attrs["model_config"]))).encode()
    found = checked(import_file(tmp_path / "m.h5"), tmp_path, {"N": 1})
    assert (found.runtime, found.passed, found.not_run) == ("Keras", True, None)


def without_modules(config: Any) -> Any:
    """A configuration as Keras 2 has it."""
    if isinstance(config, dict):
        new = {"module", "registered_name", "build_config"}
        old = {key: without_modules(value) for key, value in config.items() if key not in new}
        nodes = old.get("inbound_nodes", [])
        return old | ({"inbound_nodes": [[*operands(node)] for node in nodes]} if nodes else {})
    return [*map(without_modules, config)] if isinstance(config, list) else config


def operands(node: Any) -> Iterator[Any]:
    """The tensors of a call, as Keras 2 lists them: first states behind the sequence."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        yield [*node["config"]["keras_history"], {}]
    elif isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from operands(inner)


@pytest.mark.parametrize("version", ["3", "2.4.0", "1.2.2"])
def test_keras_is_given_the_first_states_of_recurrent_layers(tmp_path: Path, version: str) -> None:
    kl = keras.layers
    x, *states = keras.Input((6, 3), name="x"), *(keras.Input((4,), name=f"s{number}") for number in range(4))
    gate = "hard_sigmoid"
    y, *last = kl.LSTM(4, recurrent_activation=gate, return_sequences=True, return_state=True)(
        x, initial_state=states[:2]
    )
    y = kl.Bidirectional(kl.GRU(4, recurrent_activation=gate, reset_after=False, return_sequences=True))(
        y, initial_state=states[2:]
    )
    model = keras.Model([x, *states], [kl.SimpleRNN(4)(y, initial_state=states[0]), *last])
    model.save(tmp_path / "m.h5")
    if version != "3":
        with h5py.File(tmp_path / "m.h5", "r+") as file:
            config = without_modules(json.loads(file.attrs["model_config"]))
            for layer in config["config"]["layers"]:
                layer["config"].pop("reset_after", None)
                layer["config"].get("layer", {}).get("config", {}).pop("reset_after", None)
            file.attrs["keras_version"], file.attrs["model_config"] = version.encode(), json.dumps(config).encode()
    found = checked(import_file(tmp_path / "m.h5"), tmp_path, {"N": 2})
    assert (found.not_run, found.passed, len(found.differences)) == (None, True, 3)


def test_a_configuration_that_names_other_things_is_not_built(tmp_path: Path) -> None:
    functional().save(tmp_path / "m.keras")
    model = import_file(tmp_path / "m.keras")
    runtime: Any = model.runtime
    strange = {"class_name": "GRU", "module": "os", "config": {"kernel_initializer": {"class_name": "system"}}}
    layers = {"class_name": "Functional", "config": {"layers": [strange]}}
    runtime.source = replace(runtime.source, facts={**runtime.source.facts, "config": layers})
    assert runtime.unavailable() == "its configuration names the module os, which is not built from a file"
    strange["module"] = "keras.layers"
    assert runtime.unavailable() == "its configuration names the class system, which is not built from a file"
    found = checked(model, tmp_path, {"N": 1})
    assert found.not_run == runtime.unavailable()
    deep: Any = []
    for _ in range(50):
        deep = [deep]
    runtime.source.facts["config"] = deep
    assert runtime.unavailable() is None
    runtime.source.facts["config"] = [deep]
    assert "something nested deeper than 50" in runtime.unavailable()
    for damaged in ({"class_name": "GRU"}, {"class_name": "LSTM", "inbound_nodes": [5]}):
        runtime.source.facts["config"] = {"class_name": "Functional", "config": {"layers": [damaged]}}
        assert runtime.unavailable() is None
        assert checked(model, tmp_path, {"N": 1}).not_run.startswith("this Keras does not build the model: ")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (lambda folder: lstmc.from_onnx(lstm_graph()), "onnxruntime"),
        (
            lambda folder: (save(tagger(), folder / "t.pt", "zip"), import_file(folder / "t.pt", recurrent_only=True))[
                1
            ],
            "torch",
        ),
    ],
)
def test_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], ImportedModel], package: str
) -> None:
    model = make(tmp_path)
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    found = checked(model, tmp_path, {"T": 2, "N": 1} if package == "torch" else None)
    assert found.not_run == f"{package} cannot be imported"


def test_another_result_of_the_source_does_not_pass(tmp_path: Path) -> None:
    model = lstmc.from_onnx(lstm_graph())
    runtime: Any = model.runtime
    first = runtime.run
    runtime.run = lambda inputs: {name: array * 1.001 for name, array in first(inputs).items()}
    assert not checked(model, tmp_path).passed


def test_the_limit_follows_the_conditioning_of_the_model(tmp_path: Path) -> None:
    def gru(scale: float) -> ImportedModel:
        torch.manual_seed(0)
        module = torch.nn.GRU(8, 16)
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(scale)
        return lstmc.from_torch(module, torch.zeros(16, 1, 8))

    (usual, _), (chaotic, _) = (checked(gru(scale), tmp_path / str(scale)).differences for scale in (1, 40))
    assert usual.relative < usual.tolerance == LEAST_TOLERANCE
    assert VALUE_TOLERANCE < chaotic.tolerance < 1e-2
    assert chaotic.passed
    assert ill_conditioned(chaotic, "float32").startswith(
        "output Y_0 is ill-conditioned: rounding to float32 alone moves it by "
    )
    wrong, runtime = gru(1), gru(1).runtime
    with torch.no_grad():
        runtime.program.state_dict["weight_ih_l0"][0, 0] += 1e-4  # type: ignore[union-attr]
    (off, _) = checked(replace(wrong, runtime=runtime), tmp_path / "wrong").differences
    assert LEAST_TOLERANCE < off.relative < 5e-5
    assert not off.passed


def test_layers_of_one_name_in_two_owners_are_two_models(tmp_path: Path) -> None:
    both = torch.nn.ModuleDict({"low": torch.nn.Module(), "high": torch.nn.Module()})
    both["low"].rnn, both["high"].rnn = torch.nn.GRU(3, 4), torch.nn.GRU(3, 4)
    torch.save(both.state_dict(), tmp_path / "m.pt")
    model = import_file(tmp_path / "m.pt")
    assert [*model.net.inputs] == ["low_rnn_X", "high_rnn_X"]
    assert [*model.net.outputs] == ["low_rnn_Y", "low_rnn_h_T", "high_rnn_Y", "high_rnn_h_T"]
    assert checked(model, tmp_path, {"T": 3, "N": 2}).passed
