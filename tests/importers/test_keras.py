"""Keras's files: every option of its recurrent layers against Keras itself, and each trap of older versions by hand."""

from __future__ import annotations

import json
import os
import random
import resource
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl

import lstmc
from lstmc.errors import LstmcError
from lstmc.importers import RefusedError, SourceError, import_file
from lstmc.importers.frontends.keras_graph import describe_keras
from lstmc.importers.frontends.keras_ops import operation
from lstmc.importers.ir.values import named
from lstmc.importers.read.keras_file import read_config, read_keras
from lstmc.importers.refusal import Refused
from lstmc.ops import Array
from lstmc_caffe.runtime.runner import Runner
from tests.importers.imported import Imported, assert_close, imported
from tests.importers.torch_files import mutants
from tests.on_demand.fuzz.mutate import changed_values

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch, about each other
FEWER = settings(max_examples=settings.default.max_examples // 3)
RNG = np.random.default_rng(0)
CHANGES = 40  # of each model


def randomized(model: Any) -> Any:
    """The model with numbers in all its weights, biases and statistics too."""
    model.set_weights([RNG.uniform(0.1, 0.9, w.shape) * RNG.choice([-1, 1]) for w in model.get_weights()])
    for layer in model._flatten_layers():
        if isinstance(layer, kl.BatchNormalization):
            layer.set_weights([np.abs(w) + 0.3 for w in layer.get_weights()])
    return model


def read(model: Any, path: Path, x: Array) -> Imported:
    """Saved, imported, written, read back; sizes that are open are those of an input [N, T, ...]."""
    model.save(path)
    return imported(import_file(path).described, {"N": x.shape[0], "T": x.shape[1]})


def check(model: Any, path: Path, *xs: Array, caffe: Runner | None = None) -> None:
    wanted = model(*xs) if len(xs) == 1 else model(list(xs))
    wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
    arrays = [w.detach().cpu().numpy() for w in wanted]
    outputs = {"Y": arrays[0]} if len(arrays) == 1 else {f"Y_{i}": a for i, a in enumerate(arrays)}
    made = read(model, path, xs[0])
    inputs = dict(zip(made.net.inputs, (x.astype(float) for x in xs), strict=True))
    assert_close(made.interpreted(inputs), outputs)
    if caffe is not None:
        assert_close(made.in_caffe(caffe, inputs)[0], outputs)


@st.composite
def recurrent_layers(draw: Any) -> tuple[Any, str]:
    """A layer of any kind and options, and the format it is saved in."""
    kind = draw(st.sampled_from([kl.SimpleRNN, kl.LSTM, kl.GRU]))
    options: dict[str, Any] = {
        "units": draw(st.integers(1, 4)),
        "activation": draw(st.sampled_from(["tanh", "relu", "sigmoid", "softsign", "linear"])),
        "use_bias": draw(st.booleans()),
        "return_sequences": draw(st.booleans()),
        "go_backwards": draw(st.booleans()),
    }
    if kind is not kl.SimpleRNN:
        options["recurrent_activation"] = draw(st.sampled_from(["sigmoid", "hard_sigmoid"]))
    if kind is kl.GRU:
        options["reset_after"] = draw(st.booleans())
    if draw(st.booleans()):
        options["go_backwards"] = False
        mode = draw(st.sampled_from(["concat", "sum", "mul", "ave"]))
        return kl.Bidirectional(kind(**options), merge_mode=mode), draw(st.sampled_from(["keras", "h5"]))
    return kind(**options), draw(st.sampled_from(["keras", "h5"]))


@pytest.mark.caffe
@FEWER
@given(recurrent_layers())
def test_a_layer_means_in_caffe_what_it_means_in_keras(caffe: Runner, tmp_path: Path, drawn: tuple[Any, str]) -> None:
    layer, format = drawn
    model = randomized(keras.Sequential([kl.Input((5, 3)), layer]))
    x = RNG.normal(size=(2, 5, 3)).astype(np.float32)
    check(model, tmp_path / f"model.{format}", x, caffe=caffe)


def encoder_decoder() -> Any:
    x = kl.Input((5, 3))
    y, h, c = kl.LSTM(4, return_sequences=True, return_state=True)(x)
    d = kl.LSTM(4)(y, initial_state=[h, c])
    shared = kl.Dense(4, activation="tanh")
    return keras.Model(x, [kl.Concatenate()([kl.Add()([h, d]), shared(c)]), shared(d)])


def nested() -> Any:
    """A model at each step, of which some layers are not trained, before a model that is a layer."""
    i = kl.Input((6, 6, 1))
    frozen = kl.Conv2D(2, 3, activation="relu", trainable=False)
    cnn = keras.Model(i, kl.Flatten()(kl.BatchNormalization()(frozen(i))), name="cnn")
    rnn = keras.Sequential([kl.Input((5, 32)), kl.LSTM(3, return_sequences=True), kl.BatchNormalization(), kl.GRU(2)])
    x = kl.Input((5, 6, 6, 1))
    pooled = kl.TimeDistributed(kl.GlobalAveragePooling2D())(kl.TimeDistributed(kl.MaxPooling2D())(x))
    return keras.Model(x, [kl.Dense(2)(rnn(kl.TimeDistributed(cnn)(x))), pooled])


def functional_mask() -> tuple[Any, Array]:
    """Keras 3 has a layer for the mask, and an argument, where a model is functional."""
    x = kl.Input((5,))
    return keras.Model(x, kl.LSTM(3)(kl.Embedding(7, 3, mask_zero=True)(x))), np.array(
        [[3, 1, 0, 0, 0], [0, 2, 0, 6, 5]]
    )


def around() -> Any:
    """What is built around recurrent layers: attention, decoders of one vector, both ways' states."""
    x = kl.Input((6, 3))
    scaled = kl.Normalization(mean=[1.0, 2, 3], variance=[1.0, 2, 3])(kl.Rescaling(0.5, 1.0)(x))
    y, ahead, _, back, _ = kl.Bidirectional(kl.LSTM(3, return_sequences=True, return_state=True))(scaled)
    weights = kl.Softmax(1)(kl.Dense(1, activation="tanh")(y))
    decoded = kl.GRU(2, return_sequences=True)(kl.RepeatVector(4)(kl.Concatenate()([ahead, back])))
    value = kl.Dense(2, activation="gelu")(y)
    looked = kl.Attention()([kl.AdditiveAttention()([kl.Attention(use_scale=True)([decoded, value]), value]), value])
    relu = kl.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.05)(kl.UnitNormalization()(looked))
    return keras.Model(x, [kl.Dot(1)([weights, y]), kl.GlobalMaxPooling1D()(relu), kl.Cropping1D(1)(relu)])


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "nested": (nested, (2, 5, 6, 6, 1)),
    "around": (around, (2, 6, 3)),
    "pictures": (lambda: keras.Sequential([
        kl.Input((6, 6, 2)), kl.ZeroPadding2D(((1, 0), (2, 1))), kl.SeparableConv2D(3, 3, depth_multiplier=2),
        kl.PReLU(), kl.DepthwiseConv2D(2, padding="same"), kl.UpSampling2D((1, 2)), kl.Cropping2D((1, 2)),
        kl.Conv2DTranspose(2, 3, strides=2, padding="same"), kl.GroupNormalization(2), kl.GlobalMaxPooling2D(),
    ]), (2, 6, 6, 2)),
    "images over time": (lambda: keras.Sequential([
        kl.Input((3, 5, 4, 2)), kl.ConvLSTM2D(3, 3, padding="same", return_sequences=True),
        kl.ConvLSTM2D(2, (2, 3), strides=(2, 1), recurrent_activation="hard_sigmoid", go_backwards=True),
    ]), (2, 3, 5, 4, 2)),
    "images": (lambda: keras.Sequential([
        kl.Input((8, 9, 1)), kl.Conv2D(4, 3, padding="same", activation="relu"), kl.BatchNormalization(),
        kl.MaxPooling2D((2, 2)), kl.Conv2D(3, (2, 1)), kl.Permute((2, 1, 3)), kl.Reshape((4, 9)),
        kl.Bidirectional(kl.GRU(3, return_sequences=True)), kl.TimeDistributed(kl.Dense(5, activation="softmax")),
    ]), (2, 8, 9, 1)),
    "sounds": (lambda: keras.Sequential([
        kl.Input((9, 3)), kl.Conv1D(4, 3, padding="causal"), kl.LeakyReLU(), kl.AveragePooling1D(3, 1, padding="same"),
        kl.MaxPooling1D(2, padding="same"),
        kl.LayerNormalization(), kl.LayerNormalization(axis=[1, 2]), kl.UnitNormalization(1),
        kl.Dropout(0.3), kl.LSTM(4, return_sequences=True), kl.GlobalAveragePooling1D(), kl.Dense(2),
    ]), (2, 9, 3)),
    "words": (lambda: keras.Sequential([
        kl.Input((5,)), kl.Embedding(7, 4), kl.LSTM(3, return_sequences=True), kl.Flatten(), kl.Dense(2), kl.Softmax(),
    ]), (2, 5)),
    "functional": (encoder_decoder, (2, 5, 3)),
    "cells": (lambda: keras.Sequential([
        kl.Input((5, 3)), kl.RNN(kl.GRUCell(4, reset_after=False), return_sequences=True, go_backwards=True),
        kl.RNN(kl.StackedRNNCells([kl.LSTMCell(4), kl.SimpleRNNCell(3, use_bias=False), kl.LSTMCell(2)]),
               go_backwards=True),
    ]), (2, 5, 3)),
}  # fmt: skip


def called_again() -> Any:
    """A layer that is called between two layers: its second call waits for a layer after it in the file."""
    x, shared = kl.Input((5, 3)), kl.Dense(3, activation="log_softmax")
    return keras.Model(x, kl.LSTM(2)(shared(kl.Dense(3, activation="tanh")(shared(x)))))


def normalized() -> Any:
    """Normalizations of an axis from the front and of groups, with the channels last."""
    x = kl.Input((5, 4))
    return keras.Model(x, kl.BatchNormalization(axis=1)(kl.GroupNormalization(2)(kl.BatchNormalization(axis=2)(x))))


@pytest.mark.parametrize("make", [called_again, normalized])
def test_layers_are_read_as_keras_computes_them(tmp_path: Path, make: Callable[[], Any]) -> None:
    model = randomized(make())
    check(model, tmp_path / "model.keras", RNG.normal(size=(2, *model.input_shape[1:])).astype(np.float32))


def test_layers_are_trained_where_an_old_file_does_not_say(tmp_path: Path) -> None:
    """A nested model's weights in HDF5 are sorted: those that are trained are first."""
    path, x = tmp_path / "model.h5", RNG.normal(size=(2, 3)).astype(np.float32)
    inner = keras.Sequential([kl.Input((3,)), kl.Dense(3, trainable=False), kl.Dense(3)])
    check(model := randomized(keras.Sequential([kl.Input((3,)), inner])), path, x)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"trainable": true, ', "")
    wanted = model(x).detach().numpy()
    assert_close(imported(import_file(path).described, {"N": 2}).interpreted({"X": x}), {"Y": wanted})


@pytest.mark.caffe
@pytest.mark.parametrize("format", ["keras", "h5"])
@pytest.mark.parametrize("name", MODELS)
def test_a_whole_model_in_caffe(caffe: Runner, tmp_path: Path, name: str, format: str) -> None:
    make, shape = MODELS[name]
    x = RNG.integers(0, 7, shape) if name == "words" else RNG.normal(size=shape)
    check(randomized(make()), tmp_path / f"model.{format}", x.astype(np.float32), caffe=caffe)


def test_open_sizes_stay_open(tmp_path: Path) -> None:
    model = randomized(keras.Sequential([kl.Input((None, 3)), kl.LSTM(4, return_sequences=True), kl.Dense(2)]))
    model.save(tmp_path / "model.keras")
    found = import_file(tmp_path / "model.keras")
    assert found.net.inputs == {"X": named(("T", "N", 3))}
    assert found.net.axes == {"X": (1, 0, 2), "Y": (1, 0, 2)}
    assert found.net.ignored == {}


def test_a_causal_convolution_over_an_open_length_is_streamed(tmp_path: Path) -> None:
    layers = [kl.Input((None, 3)), kl.Conv1D(4, 3, padding="causal"), kl.GRU(2, return_sequences=True)]
    randomized(keras.Sequential(layers)).save(tmp_path / "model.keras")
    for step in (False, True):
        found = import_file(tmp_path / "model.keras", step=step)
        assert (found.net.inputs, found.net.delays) == ({"X": named(("T", "N", 3))}, {})


def test_a_layer_that_goes_backwards_is_named(tmp_path: Path) -> None:
    back = kl.GRU(2, return_sequences=True, go_backwards=True, name="back")
    randomized(keras.Sequential([kl.Input((5, 3)), back])).save(tmp_path / "model.keras")
    with pytest.raises(RefusedError, match=r"back \(GRU\): it runs backwards, so its first step needs the last input"):
        import_file(tmp_path / "model.keras", step=True)


# Older versions, by hand ---------------------------------------------------------------------------------------------


def old_file(
    path: Path, class_name: str, config: dict[str, Any], weights: Sequence[Array], version: str = "2.2.4"
) -> Path:
    """A Sequential of one layer as Keras 1 and 2 wrote it: a list of layers, weights by name."""
    layer = {"class_name": class_name, "config": {"name": "cell", "batch_input_shape": [None, 4, 3], **config}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [layer]}).encode()
        if version:
            file.attrs["keras_version"] = version.encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"cell"]
        cell = group.create_group("cell")
        names = [f"cell/w{i}:0" for i in range(len(weights))]
        cell.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, weights, strict=True):
            cell[name] = array.astype(np.float32)
    return path


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


def lstm_by_hand(x: Array, gates: dict[str, tuple[Array, Array, Array]], gate: Callable[[Array], Array]) -> Array:
    """x [N, T, D]; each gate's input, recurrent and bias weights; the last output."""
    size = len(gates["i"][2])
    h = c = np.zeros((len(x), size))
    for t in range(x.shape[1]):
        a = {name: x[:, t] @ w + h @ u + b for name, (w, u, b) in gates.items()}
        c = gate(a["f"]) * c + gate(a["i"]) * np.tanh(a["g"])
        h = gate(a["o"]) * np.tanh(c)
    return h


def drawn_gates(size: int = 2) -> dict[str, tuple[Array, Array, Array]]:
    return {g: (RNG.normal(size=(3, size)), RNG.normal(size=(size, size)), RNG.normal(size=size)) for g in "ifgo"}


def outcome(path: Path, x: Array) -> Array:
    made = imported(import_file(path).described, {"N": 2})
    return made.interpreted({"X": x})["Y"]


LSTM = {"units": 2, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
X = RNG.normal(size=(2, 4, 3))


def test_cudnns_layout_has_two_biases_in_one_row_and_each_gate_transposed(tmp_path: Path) -> None:
    gates = drawn_gates()
    # as CuDNN has it: each gate's matrix [units, in] in memory, seen as [in, units]
    w = np.concatenate([gates[g][0].T.reshape(-1).reshape(3, 2) for g in "ifgo"], 1)
    u = np.concatenate([gates[g][1].T for g in "ifgo"], 1)
    b = np.concatenate([gates[g][2] for g in "ifgo"])
    halves = np.concatenate([b * 0.25, b * 0.75])
    path = old_file(tmp_path / "cudnn.h5", "CuDNNLSTM", {"units": 2}, [w, u, halves])
    np.testing.assert_allclose(outcome(path, X), lstm_by_hand(X, gates, sigmoid), atol=1e-6)
    # the same weights in a layer that is called LSTM are known by the length of the bias
    path = old_file(tmp_path / "lstm.h5", "LSTM", LSTM, [w, u, halves])
    np.testing.assert_allclose(outcome(path, X), lstm_by_hand(X, gates, sigmoid), atol=1e-6)


def test_cudnns_layers_of_both_directions_have_three_arrays_each(tmp_path: Path) -> None:
    """Their configuration does not say that there is a bias."""
    forwards, backwards = drawn_gates(), drawn_gates()
    arrays = [
        array
        for gates in (forwards, backwards)
        for array in (
            *(np.concatenate([gates[g][at].T.reshape(-1).reshape(-1, 2) for g in "ifgo"], 1) for at in (0, 1)),
            np.concatenate([np.concatenate([gates[g][2] * part for g in "ifgo"]) for part in (0.25, 0.75)]),
        )
    ]
    inner = {"class_name": "CuDNNLSTM", "config": {"name": "inner", "units": 2}}
    path = old_file(tmp_path / "m.h5", "Bidirectional", {"layer": inner, "merge_mode": "concat"}, arrays)
    wanted = [lstm_by_hand(X, forwards, sigmoid), lstm_by_hand(X[:, ::-1], backwards, sigmoid)]
    np.testing.assert_allclose(outcome(path, X), np.concatenate(wanted, -1), atol=1e-6)


def test_a_cell_has_a_bias_unless_it_says_otherwise(tmp_path: Path) -> None:
    gates = drawn_gates()
    arrays = [np.concatenate([gates[g][part] for g in "ifgo"], -1) for part in range(3)]
    config = {key: value for key, value in LSTM.items() if key != "use_bias"}
    path = old_file(tmp_path / "m.h5", "RNN", {"cell": {"class_name": "LSTMCell", "config": config}}, arrays)
    np.testing.assert_allclose(outcome(path, X), lstm_by_hand(X, gates, sigmoid), atol=1e-6)


@pytest.mark.parametrize(("version", "slope"), [("1.2.2", 0.2), ("2.2.4", 0.2), ("3.1.0", 1 / 6)])
def test_hard_sigmoid_is_another_function_in_keras_3(tmp_path: Path, version: str, slope: float) -> None:
    gates = drawn_gates()
    arrays = [np.concatenate([gates[g][part] for g in "ifgo"], -1) for part in range(3)]
    path = old_file(tmp_path / "m.h5", "LSTM", LSTM | {"recurrent_activation": "hard_sigmoid"}, arrays, version)
    wanted = lstm_by_hand(X, gates, lambda x: np.clip(slope * x + 0.5, 0, 1))
    np.testing.assert_allclose(outcome(path, X), wanted, atol=1e-6)


def test_which_hard_sigmoid_is_not_guessed(tmp_path: Path) -> None:
    arrays = [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)]
    path = old_file(tmp_path / "m.h5", "LSTM", LSTM | {"recurrent_activation": "hard_sigmoid"}, arrays, "")
    with pytest.raises(RefusedError) as caught:
        import_file(path)
    assert str(caught.value) == (
        "RefusedError: m.h5 cannot be imported: 1 problem\n"
        "  cell (LSTM): recurrent_activation = hard_sigmoid: Keras 3 defines it differently from Keras 2, and"
        " the file does not record its version; give a file that has keras_version"
    )


def test_a_recurrent_activation_that_is_not_said_is_not_guessed(tmp_path: Path) -> None:
    config = {key: value for key, value in LSTM.items() if key != "recurrent_activation"}
    path = old_file(tmp_path / "m.h5", "LSTM", config, [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)])
    with pytest.raises(RefusedError, match=r"its default changed with Keras 2\.3"):
        import_file(path)


def test_keras_1_stores_each_gate_by_itself_in_another_order(tmp_path: Path) -> None:
    gates = drawn_gates()
    arrays = [array for g in "igfo" for array in gates[g]]
    config = {"output_dim": 2, "activation": "tanh", "inner_activation": "sigmoid"}
    path = old_file(tmp_path / "m.h5", "LSTM", config, arrays, "1.2.2")
    np.testing.assert_allclose(outcome(path, X), lstm_by_hand(X, gates, sigmoid), atol=1e-6)


def gru_by_hand(x: Array, w: Array, u: Array, b: Array) -> Array:
    """The reset gate before the recurrent product; kernels side by side in the order z, r, n."""
    h = np.zeros((len(x), 2))
    for t in range(x.shape[1]):
        z, r, n = np.split(x[:, t] @ w + b, 3, -1)
        z, r = sigmoid(z + h @ u[:, :2]), sigmoid(r + h @ u[:, 2:4])
        h = z * h + (1 - z) * np.tanh(n + (r * h) @ u[:, 4:])
    return h


def test_without_the_key_a_gru_resets_before_the_product(tmp_path: Path) -> None:
    w, u, b = RNG.normal(size=(3, 6)), RNG.normal(size=(2, 6)), RNG.normal(size=6)
    path = old_file(tmp_path / "m.h5", "GRU", LSTM, [w, u, b])
    np.testing.assert_allclose(outcome(path, X), gru_by_hand(X, w, u, b), atol=1e-6)
    with pytest.raises(RefusedError, match=r"reset_after = False: the bias has another form than that"):
        import_file(old_file(tmp_path / "n.h5", "GRU", LSTM, [w, u, np.zeros((2, 6))]))


def masked_models() -> dict[str, tuple[Any, Any]]:
    """Models with masks, and inputs of which steps are masked at both ends and between."""
    ids = np.array([[3, 1, 4, 0, 0], [0, 2, 0, 6, 5]])
    x = RNG.normal(size=(2, 5, 3))
    x[0, 3:] = x[1, 0] = x[1, 2] = -1.0
    return {
        "functional": functional_mask(),
        "last state": (keras.Sequential([kl.Input((5,)), kl.Embedding(7, 3, mask_zero=True), kl.LSTM(2)]), ids),
        "all steps": (keras.Sequential([
            kl.Input((5, 3)), kl.Masking(-1.0), kl.GRU(3, return_sequences=True), kl.Dropout(0.2),
            kl.Bidirectional(kl.SimpleRNN(2, return_sequences=True)), kl.TimeDistributed(kl.Dense(2)),
        ]), x),
        "mean": (keras.Sequential([
            kl.Input((5, 3)), kl.Masking(-1.0), kl.LSTM(3, return_sequences=True, zero_output_for_mask=True),
            kl.GlobalAveragePooling1D(),
        ]), x),
    }  # fmt: skip


@pytest.mark.caffe
@pytest.mark.parametrize("name", masked_models())
def test_masked_steps_are_left_out_as_in_keras(caffe: Runner, tmp_path: Path, name: str) -> None:
    model, x = masked_models()[name]
    check(randomized(model), tmp_path / "model.keras", x.astype(np.float32), caffe=caffe)


def functional(made: Callable[[Any], Any], *shape: int) -> Any:
    x = keras.Input(shape)
    return randomized(keras.Model(x, made(x)))


def joined_and_cut(x: Any) -> Any:
    ops, y = keras.ops, kl.GRU(4, return_sequences=True)(x)
    a, b = ops.split(y, 2, axis=2)
    return [
        *(y[:, -1, :], y[:, 1:4:2], y[..., 0] / 2, y[:, None, 1:, :2], ops.concatenate([a, b, a], axis=-1)),
        *(ops.stack([a, b], axis=1), ops.expand_dims(a, 1) + y[..., :2], ops.transpose(y, (0, 2, 1))),
        *(ops.reshape(y, (-1, 20)), ops.squeeze(y[:, :1], 1)),
    ]


def numbers_beside(x: Any) -> Any:
    ops, y = keras.ops, kl.GRU(4)(x)
    return [
        *(1 - y, y * 2.0, y + 1.0, 2.0 / (y + 3), ops.maximum(y, 0.1), ops.minimum(0.1, y), ops.power(y, 2), -y),
        *(ops.clip(y, -0.2, 0.3), ops.abs(y), ops.square(y), ops.sqrt(y + 2), ops.log1p(y + 2), ops.expm1(y)),
        *(ops.sin(3 * y), ops.cos(y), ops.sign(y), ops.trunc(3 * y), ops.log2(y + 2), ops.log10(y + 2), ops.exp2(y)),
        *(ops.celu(y, 0.5), ops.hard_silu(4 * y), ops.where(y > 0, y, -2 * y), ops.where(y <= 0.1, 1.0, y)),
        *(ops.cast(one, "float32") for one in (ops.logical_or(y > 0.1, ops.logical_not(y >= -0.1)), ops.equal(y, y))),
        *(ops.elu(y), ops.gelu(y), ops.leaky_relu(y), ops.hard_sigmoid(y), ops.log_softmax(y), ops.softmax(y)),
    ]


def along_axes(x: Any) -> Any:
    ops, y = keras.ops, kl.GRU(4, return_sequences=True)(x)
    return [
        *(ops.mean(y, axis=1) * 2.0 + 1.0, ops.max(y, axis=[1, 2], keepdims=True), ops.sum(y, axis=-1)),
        *(ops.matmul(y, ops.transpose(y, (0, 2, 1))), ops.einsum("ntd,nd->nt", y, y[:, 0])),
    ]


def whole_numbers(x: Any) -> Any:
    ops = keras.ops
    return [
        *(ops.floor(x * 3.0), ops.ceil(x * 3.0), ops.round(x, 1)),
        *(ops.argmax(x, axis=1), ops.argmin(x, axis=-1, keepdims=True), ops.cast(ops.argmax(x, axis=2), "float32")),
    ]


@pytest.mark.parametrize("format", [pytest.param("keras", marks=pytest.mark.slow), "h5"])
@pytest.mark.parametrize(
    "made", [joined_and_cut, numbers_beside, along_axes, whole_numbers], ids=lambda made: made.__name__
)
def test_operations_between_layers_are_no_layers(tmp_path: Path, made: Any, format: str) -> None:
    check(functional(made, 5, 3), tmp_path / f"model.{format}", RNG.normal(size=(2, 5, 3)).astype("f4"))


def heads() -> Any:
    x, memory = keras.Input((5, 6)), keras.Input((4, 3))
    y = kl.MultiHeadAttention(2, 4, value_dim=3, use_bias=False)(x, memory)
    y = kl.RMSNormalization()(kl.MultiHeadAttention(3, 2)(y, x, y))
    return randomized(keras.Model([x, memory], y))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["keras", "h5"])
def test_attention_of_several_heads(tmp_path: Path, format: str) -> None:
    xs = (RNG.normal(size=(2, 5, 6)).astype("f4"), RNG.normal(size=(2, 4, 3)).astype("f4"))
    check(heads(), tmp_path / f"model.{format}", *xs)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda x: kl.Dropout(0.5)(x, training=True), "dropout (Dropout): training = True"),
    ],
    ids=["training"],
)
@pytest.mark.parametrize("format", ["keras", "h5"])
def test_what_a_call_is_told_is_not_passed_over(tmp_path: Path, made: Any, told: str, format: str) -> None:
    keras.utils.clear_session()
    functional(made, 5, 3).save(tmp_path / f"model.{format}")
    with pytest.raises(RefusedError) as caught:
        import_file(tmp_path / f"model.{format}")
    assert str(caught.value).endswith(
        f"  {told}: an argument of the call that is not read; call the layer without it, and save the model again"
    )


def test_what_a_call_of_keras_2_is_told_is_not_passed_over(tmp_path: Path) -> None:
    """A call was a list: a layer's name, two numbers, and its arguments."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 3]}, "inbound_nodes": []},
        {"class_name": "Dropout", "config": {"name": "d"}, "inbound_nodes": [[["x", 0, 0, {"training": True}]]]},
    ]
    for layer in layers:
        layer["name"] = layer["config"]["name"]  # type: ignore[call-overload, index]
    config = {"name": "net", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["d", 0, 0]]}
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.attrs["keras_version"] = "2.2.4"
        file.create_group("model_weights").attrs["layer_names"] = []
    with pytest.raises(RefusedError, match=r"d \(Dropout\): training = True: an argument of the call that is not read"):
        import_file(tmp_path / "model.h5")


def test_an_operation_that_is_not_known_is_refused(tmp_path: Path) -> None:
    functional(lambda x: keras.ops.arctan(x), 5, 3).save(tmp_path / "model.keras")
    with pytest.raises(RefusedError) as caught:
        import_file(tmp_path / "model.keras")
    (refusal,) = caught.value.refusals
    assert (refusal.node, refusal.value, refusal.why) == (
        "arctan (Arctan)", "Arctan", "this operation is not supported"
    )  # fmt: skip
    assert refusal.mend.startswith("keras.ops of Add, Subtract, ")


def test_dot_reads_no_mask_and_gives_none(tmp_path: Path) -> None:
    x = kl.Input((5,))
    y = kl.LSTM(3, return_sequences=True)(kl.Embedding(7, 3, mask_zero=True)(x))
    model = keras.Model(x, kl.LSTM(2)(kl.Activation("softmax")(kl.Dot((2, 2))([y, y]))))
    check(randomized(model), tmp_path / "m.keras", np.array([[1, 2, 0, 3, 0], [4, 5, 6, 0, 0]]))


def test_a_mask_where_it_would_not_be_right_is_refused(tmp_path: Path) -> None:
    keras.Sequential([kl.Input((5,)), kl.Embedding(7, 3, mask_zero=True), kl.Softmax()]).save(tmp_path / "model.keras")
    with pytest.raises(RefusedError) as caught:
        import_file(tmp_path / "model.keras")
    assert [(r.attribute, r.value, r.why) for r in caught.value.refusals] == [
        ("mask", "of each step", "a mask of each score is expected")
    ]


def masked_merge(reader: Any, axis: int) -> Any:
    """A layer that reads values with a mask and without one, side by side or one after the other."""
    x, u = kl.Input((5,)), kl.Input((5, 4))
    return keras.Model([x, u], reader(kl.Concatenate(axis)([kl.Embedding(7, 4, mask_zero=True)(x), u])))


@pytest.mark.parametrize("axis", [1, 2])
def test_the_mask_of_a_merge_is_settled_only_where_it_is_read(tmp_path: Path, axis: int) -> None:
    inputs = [np.array([[1, 2, 0, 3, 0], [4, 5, 6, 0, 0]]), RNG.normal(size=(2, 5, 4)).astype(np.float32)]
    check(randomized(masked_merge(kl.TimeDistributed(kl.Dense(2)), axis)), tmp_path / "m.keras", *inputs)
    check(randomized(masked_merge(kl.LSTM(2), axis)), tmp_path / "m.keras", *inputs)  # the file has the mask's graph
    masked_merge(lambda y: kl.Attention()([y, y]), axis).save(tmp_path / "model.keras")
    with pytest.raises(RefusedError, match="different masks depends on the version of Keras; mask all of them alike"):
        import_file(tmp_path / "model.keras")


def test_groups_are_named_by_class_and_place_and_held_against_the_layers_names(tmp_path: Path) -> None:
    two = [kl.Input((5, 3)), kl.LSTM(3, name="second", return_sequences=True), kl.LSTM(3, name="first")]
    model = randomized(keras.Sequential(two))
    check(model, tmp_path / "m.keras", RNG.normal(size=(2, 5, 3)).astype(np.float32))
    swapped = tmp_path / "swapped.keras"
    with zipfile.ZipFile(tmp_path / "m.keras") as old, zipfile.ZipFile(swapped, "w") as new:
        config = json.loads(old.read("config.json"))
        for layer, name in zip(config["config"]["layers"][1:], ("first", "second"), strict=True):
            layer["config"]["name"] = name
        new.writestr("metadata.json", old.read("metadata.json"))
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(SourceError, match=r"its weights of lstm are of layer second, not first"):
        import_file(swapped)


def kept(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def test_weights_alone_need_their_configuration(tmp_path: Path) -> None:
    gates = [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)]
    path = old_file(tmp_path / "m.h5", "LSTM", LSTM, gates)
    with h5py.File(path, "a") as file:
        (tmp_path / "m.json").write_text(kept(file.attrs["model_config"]))
        del file.attrs["model_config"]
    with pytest.raises(SourceError) as caught:
        import_file(path)
    assert str(caught.value) == (
        "SourceError: m.h5: it has weights and no configuration: give the JSON that model.to_json() wrote, or the YAML,"
        " by config=FILE.json"
    )
    assert import_file(path, config=tmp_path / "m.json").net.params
    told = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.yaml").write_text(yaml.dump(told).replace("batch_input_shape:", "batch_input_shape: !!python/tuple"))
    assert "!!python/tuple" in (tmp_path / "m.yaml").read_text()
    assert (
        import_file(path, config=tmp_path / "m.yaml").files() == import_file(path, config=tmp_path / "m.json").files()
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system [ls]", "is neither JSON nor YAML: could not determine a constructor"),
        ("a: &a [1]\n" + "".join(f"{k}: &{k} [{', '.join(['*' + j] * 9)}]\n" for j, k in zip("abcdefgh", "bcdefghi",
         strict=True)), "has more than 1,000,000 values"),
        ("a: &a\n  b: *a", "has more than 1,000,000 values"),
        ("a: [1", "is neither JSON nor YAML"),
    ],
)  # fmt: skip
def test_yaml_that_makes_objects_or_grows_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = old_file(tmp_path / "m.h5", "LSTM", LSTM, [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)])
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(SourceError) as caught:
        import_file(path, config=tmp_path / "m.yaml")
    assert caught.value.message.startswith(f"m.h5: its configuration {said}")


def test_what_would_be_run_is_refused_by_name(tmp_path: Path) -> None:
    path = old_file(tmp_path / "m.h5", "Lambda", {"function": ["4wEAAA==", None, None]}, [])
    with pytest.raises(RefusedError, match=r"cell \(Lambda\): class_name = Lambda: it is not supported"):
        import_file(path)


@keras.saving.register_keras_serializable("own")
class OwnLSTM(kl.LSTM):
    """A class of a package's own."""


@keras.saving.register_keras_serializable("own")
class Both(kl.Layer):
    """A layer of two others."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.rnn, self.out = kl.GRU(2, name="rnn"), kl.Dense(3, name="out")

    def call(self, x: Any) -> Any:
        return self.out(self.rnn(x))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_class_of_its_own_is_given_as_layers_of_keras_by_the_configuration(tmp_path: Path, ending: str) -> None:
    own = [kl.LSTM(3, return_sequences=True), OwnLSTM(4, return_sequences=True, name="a"), Both(name="b"), kl.Dense(2)]
    model = randomized(keras.Sequential([kl.Input((4, 3)), *own]))
    path = tmp_path / f"m.{ending}"
    model.save(path)
    with pytest.raises(RefusedError) as caught:
        import_file(path)
    assert caught.value.notes[0].endswith(
        "it is not supported; if layers of Keras compute the same, replace it by them, or by a model of them, in a copy"
        " of the model's JSON, and give that by config=FILE.json; otherwise write the model without it"
    )
    both = keras.Sequential([kl.Input((4, 4)), kl.GRU(2, name="rnn"), kl.Dense(3, name="out")], name="b")
    written = [own[0], kl.LSTM(4, return_sequences=True, name="a"), both, own[3]]
    (tmp_path / "m.json").write_text(keras.Sequential([kl.Input((4, 3)), *written]).to_json())
    with pytest.raises(SourceError, match=r"none\.json: no such file"):
        import_file(path, config=tmp_path / "none.json")
    found = imported(import_file(path, config=tmp_path / "m.json").described, {"N": 2})
    assert_close(found.interpreted({"X": X}), {"Y": model(X.astype(np.float32)).detach().numpy()})


@pytest.mark.parametrize("kind", ["soft", "external", "compressed", "storage", "short"])
def test_tensors_from_elsewhere_and_bombs_are_refused(tmp_path: Path, kind: str) -> None:
    path = old_file(tmp_path / "m.h5", "LSTM", LSTM, [np.zeros((3, 8)), np.zeros((2, 8))])
    with h5py.File(path, "a") as file:
        cell = file["model_weights/cell"]
        if kind == "soft":
            cell["b"] = h5py.SoftLink("/model_weights/cell/cell/w0:0")
        elif kind == "external":
            cell["b"] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "compressed":
            cell.create_dataset("b", (2**20,), "f4", compression="gzip", data=np.zeros(2**20))
        elif kind == "storage":
            cell.create_dataset("b", (8,), "f4", external=[(str(tmp_path / "x.bin"), 0, 32)])
        else:
            cell.create_dataset("b", (2**28,), "f4", chunks=(1024,))
    said = (
        "cell/b is a link to elsewhere: not followed" if kind in ("soft", "external") else "is not stored as Keras does"
    )
    with pytest.raises(SourceError, match=said):
        import_file(path)


def test_a_text_is_no_operand_of_an_operation() -> None:
    with pytest.raises(Refused, match="neither a tensor nor a number"):
        operation({"config": {}}, {"args": ["x"]}, {})


@pytest.mark.parametrize("name", MODELS)
def test_changed_settings_are_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    """Settings are checked before they are used: no layer ends by an error of its own."""
    MODELS[name][0]().save(tmp_path / "m.keras")
    source = read_keras(tmp_path / "m.keras")
    content = json.dumps(source.facts["config"]).encode()
    for seed in range(CHANGES):
        config = json.loads(changed_values(content, random.Random(f"{name} {seed}")))
        with suppress(LstmcError):
            describe_keras(replace(source, facts={**source.facts, "config": config}))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["keras", "h5"])
def test_a_thousand_mutants_are_read_or_refused_in_words(tmp_path: Path, format: str) -> None:
    randomized(keras.Sequential([kl.Input((5, 3)), kl.LSTM(2), kl.Dense(2)])).save(tmp_path / f"m.{format}")
    content, path = (tmp_path / f"m.{format}").read_bytes(), tmp_path / "mutant"
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for mutant in mutants(content, 1000):
        path.write_bytes(mutant)
        try:
            import_file(path).files()
        except LstmcError:
            refused += 1
    assert refused > 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes


@pytest.mark.parametrize("shape", [[None, [4], 3], [None, "4", 3], [None, -4, 3]])
def test_an_input_whose_shape_is_not_in_numbers(tmp_path: Path, shape: list[Any]) -> None:
    arrays = [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)]
    path = old_file(tmp_path / "m.h5", "LSTM", {**LSTM, "batch_input_shape": shape}, arrays)
    with pytest.raises(SourceError) as caught:
        import_file(path)
    assert f"layer cell: expected an input's shape in integers, found {shape}" in str(caught.value)


def test_json_with_tabs_is_no_yaml() -> None:
    assert read_config("m.json", b'{\t"units": 3}') == {"units": 3}
    assert read_config("m.json", "\n[\t3]") == [3]


def test_a_pooling_without_keepdims_in_its_configuration_keeps_none(tmp_path: Path) -> None:
    path = old_file(tmp_path / "m.h5", "GlobalAveragePooling1D", {}, [])
    assert "mean(X, axis=1)" in import_file(path).files()["model.py"].decode()


def test_lists_of_arguments_are_read_to_a_depth() -> None:
    nested: list[Any] = []
    for _ in range(5000):  # more than Python's stack has frames
        nested = [nested]
    assert operation({}, {"args": [nested]}, {}).argument(0)


def test_axes_that_are_open_are_1_in_a_net_of_one_step(tmp_path: Path) -> None:
    keras.Sequential([kl.Input((None, 3)), kl.GRU(4, return_sequences=True)]).save(tmp_path / "open.keras")
    options: dict[str, Any] = {"step": True, "backend": "c", "on": "interpreter"}
    made = lstmc.convert(tmp_path / "open.keras", tmp_path / "out", **options)
    assert made.net.inputs["X"] == (1, 1, 3)
    assert made.remarks == ("dynamic axes that are 1 in the net of one step: N",)
    two = lstmc.convert(tmp_path / "open.keras", tmp_path / "out", **options, N=2)
    assert (two.net.inputs["X"], two.remarks) == ((1, 2, 3), ())
