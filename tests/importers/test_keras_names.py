"""Weights beside a configuration: which layer has which, where the names in the two files differ."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl

from lstmc.importers import RefusedError, SourceError, import_file
from lstmc.importers.frontends.keras_layers import HANDLERS
from lstmc.importers.importer import ImportedModel
from tests.importers.imported import assert_close, imported

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch, about each other
RNG = np.random.default_rng(0)


def lstms(*names: str, **more: Any) -> dict[str, Any]:
    """The configuration of LSTMs of 3 units on one another, of a sequence of 4 steps of 3 features."""
    given = {"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid", "return_sequences": True, **more}
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 4, 3]}}
    layers = [{"class_name": "LSTM", "config": {"name": name, **given}} for name in names]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *layers]}}


def stored(path: Path, units: Mapping[str, int]) -> None:
    """The weights of LSTMs of 3 features each, as ``save_weights`` of Keras 2 writes them."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"x", *(name.encode() for name in units)]
        file.attrs["keras_version"] = b"2.2.4"
        file.create_group("x").attrs["weight_names"] = np.array([], "S1")
        for name, h in units.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{one}:0".encode() for one in ("kernel", "recurrent", "bias")]
            for one, shape in (("kernel", (3, 4 * h)), ("recurrent", (h, 4 * h)), ("bias", (4 * h,))):
                group[f"{name}/{one}:0"] = RNG.normal(size=shape).astype(np.float32)


def read(folder: Path, config: Mapping[str, Any], units: Mapping[str, int]) -> ImportedModel:
    (folder / "model.json").write_text(json.dumps(config))
    stored(folder / "w.h5", units)
    return import_file(folder / "w.h5", config=folder / "model.json")


def kernels(model: ImportedModel) -> list[str]:
    """The layers of the file whose kernels the written layers have, the first layer's first."""
    return [weight.sources[0].partition("/")[0] for name, weight in model.net.params.items() if name.endswith("/W_x")]


def test_names_of_another_session_are_matched_by_order_and_this_is_told(tmp_path: Path) -> None:
    model = read(tmp_path, lstms("lstm", "lstm_1"), {"lstm_1": 3, "lstm_2": 3})
    assert kernels(model) == ["lstm_1", "lstm_2"]
    told = (
        "The file has other layer names: weights are assigned by order, as Keras does: lstm has those of lstm_1, lstm_1"
        " has those of lstm_2."
    )
    made = model.files()
    assert json.loads(made["import.json"])["notes"] == [told]
    assert told in " ".join(made["model.py"].decode().split())


def test_equal_names_are_matched_by_name_and_nothing_is_told(tmp_path: Path) -> None:
    model = read(tmp_path, lstms("lstm_1", "lstm_2"), {"lstm_1": 3, "lstm_2": 3})
    assert kernels(model) == ["lstm_1", "lstm_2"]
    assert model.net.notes == ()


def test_keras_gives_them_to_the_same_layers(tmp_path: Path) -> None:
    def made() -> Any:
        x = kl.Input((4, 3))
        y = kl.Dropout(0.5)(kl.LSTM(3, return_sequences=True)(x))
        return keras.Model(x, kl.Dense(2)(kl.Concatenate()([kl.LSTM(3)(y), kl.Bidirectional(kl.GRU(3))(x)])))

    trained, model = made(), made()  # of one session: the second has other names
    trained.set_weights([RNG.normal(size=w.shape) for w in trained.get_weights()])
    trained.save(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file.attrs["model_config"]
    (tmp_path / "model.json").write_text(model.to_json())
    found = import_file(tmp_path / "w.h5", config=tmp_path / "model.json")
    assert len(found.net.notes) == 1
    model.load_weights(tmp_path / "w.h5")
    x = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    wanted = {"Y": model(x).detach().numpy()}
    assert_close(imported(found.described, {"N": 2}).interpreted({"X": x.astype(float)}), wanted)
    assert found.runtime is not None
    assert_close(found.runtime.run({"X": x}), wanted)


def test_the_weights_that_keras_3_saves_alone_are_held_against_the_layers_names(tmp_path: Path) -> None:
    def made(first: str, second: str) -> Any:
        return keras.Sequential(
            [kl.Input((4, 3)), kl.LSTM(3, return_sequences=True, name=first), kl.LSTM(3, name=second), kl.Dense(2)]
        )

    model = made("a", "b")
    model.set_weights([RNG.normal(size=w.shape) for w in model.get_weights()])
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "model.json").write_text(model.to_json())
    found = import_file(tmp_path / "m.weights.h5", config=tmp_path / "model.json")
    x = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    wanted = {"Y": model(x).detach().numpy()}
    assert_close(imported(found.described, {"N": 2}).interpreted({"X": x.astype(float)}), wanted)
    (tmp_path / "model.json").write_text(made("b", "a").to_json())
    with pytest.raises(SourceError) as caught:
        import_file(tmp_path / "m.weights.h5", config=tmp_path / "model.json")
    assert str(caught.value) == "SourceError: m.weights.h5: its weights of lstm are of layer a, not b"


def test_the_same_names_in_another_order_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, lstms("lstm", "lstm_1"), {"lstm_1": 3, "lstm": 3})
    assert str(caught.value) == (
        "SourceError: w.h5: its weights are of 2 layers (lstm_1, lstm), in this order; in the configuration the order"
        " is lstm, lstm_1. Keras goes by the order, and by it other layers get them than by name: give the"
        " configuration that was saved with these weights, or rename its layers as they follow each other in the file"
    )


def test_the_same_names_in_another_order_are_matched_by_name_where_order_does_not_fit(tmp_path: Path) -> None:
    config = lstms("a", "b")
    config["config"]["layers"][2]["config"]["units"] = 2
    assert kernels(read(tmp_path, config, {"b": 2, "a": 3})) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("lstm_1", "lstm_2"), "2 layers (lstm_1, lstm_2)"),
        (("lstm",), "1 layer (lstm)"),
        (("lstm", "lstm_1", "lstm_2", "lstm_3"), "4 layers (lstm, lstm_1, lstm_2, lstm_3)"),
    ],
)
def test_another_number_of_layers_is_refused(tmp_path: Path, names: Sequence[str], told: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, lstms(*names), {"lstm": 3, "lstm_1": 3, "lstm_2": 3})
    assert str(caught.value) == (
        f"SourceError: w.h5: it has weights of 3 layers (lstm, lstm_1, lstm_2); the configuration has {told} with"
        " weights: give the configuration that was saved with these weights"
    )


@pytest.mark.parametrize(
    ("more", "wanted"), [({"units": 2}, "[?, 8], [2, 8], an array"), ({"use_bias": False}, "[?, 12], [3, 12]")]
)
@pytest.mark.parametrize("name", ["lstm_1", "lstm"])
def test_other_sizes_and_other_numbers_of_arrays_are_refused(
    tmp_path: Path, name: str, more: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        read(tmp_path, lstms(name, **more), {"lstm_1": 3})
    assert str(caught.value) == (
        "RefusedError: w.h5 cannot be imported: 1 problem\n"
        f"  {name} (LSTM): weights = [3, 12], [3, 12], [12]: its configuration asks for {wanted}; give the"
        " configuration that was saved with the weights"
    )


def test_a_damaged_configuration_is_said(tmp_path: Path) -> None:
    config = lstms("lstm")
    config["config"]["layers"][1] = {"class_name": "RNN", "config": {"name": "lstm", "cell": [1]}}
    with pytest.raises(SourceError) as caught:
        read(tmp_path, config, {"lstm_1": 3})
    assert str(caught.value) == (
        "SourceError: w.h5: its configuration is damaged: expected cell of layer lstm to be an object, found [1]"
    )


def test_a_bug_of_a_handler_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(*_: Any) -> None:
        raise AttributeError("a bug")

    monkeypatch.setitem(HANDLERS, "LSTM", handler)
    with pytest.raises(AttributeError, match="a bug"):
        read(tmp_path, lstms("lstm"), {"lstm": 3})
