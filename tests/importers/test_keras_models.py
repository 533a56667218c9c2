"""Models of Keras as people write them: each is imported, and gives Keras's own numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from lstmc.importers import SourceError, import_file
from lstmc.ops import Array
from tests.importers.imported import assert_close, traced
from tests.importers.test_keras import randomized

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch, about each other
RNG = np.random.default_rng(1)
WORDS = np.array([[3, 1, 0, 0, 0, 4], [0, 2, 0, 6, 5, 1]])
TRUTH = np.array([[1, 1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0]], bool)


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def masked_by_an_argument() -> tuple[Any, list[Any]]:
    x, mask = kl.Input((7, 4)), kl.Input((7,), dtype="bool")
    y = kl.Bidirectional(kl.GRU(3, return_sequences=True))(x, mask=mask)
    return keras.Model([x, mask], [kl.LSTM(5)(x, mask=mask), kl.GlobalAveragePooling1D()(y)]), [numbers(2, 7, 4), TRUTH]


def masked_by_numbers() -> tuple[Any, list[Any]]:
    x, mask = kl.Input((7, 4)), kl.Input((7,))
    return keras.Model([x, mask], kl.LSTM(5)(x, mask=mask)), [numbers(2, 7, 4), 3.0 * TRUTH]


def attention_with_masks() -> tuple[Any, list[Any]]:
    x, mask = kl.Input((6,)), kl.Input((6,), dtype="bool")
    y = kl.LSTM(4, return_sequences=True)(kl.Embedding(7, 3, mask_zero=True)(x))
    seen = kl.Attention()([y, y])
    added, scores = kl.AdditiveAttention()([y, y], mask=[None, mask], return_attention_scores=True)
    heads = kl.MultiHeadAttention(2, 3)(y, y)
    past = kl.MultiHeadAttention(2, 3)(added, added, use_causal_mask=True)
    return keras.Model([x, mask], [kl.GlobalAveragePooling1D()(seen), added, scores, heads, past]), [
        WORDS,
        np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0]], bool),
    ]


def attention_over_pairs() -> tuple[Any, list[Any]]:
    x, pairs = kl.Input((5, 4)), kl.Input((5, 5), dtype="bool")
    heads = kl.MultiHeadAttention(2, 3, dropout=0.1)(x, x, attention_mask=pairs)
    scores = kl.Softmax()(kl.Dot((2, 2))([x, x]), mask=pairs)
    return keras.Model([x, pairs], [heads, scores]), [
        numbers(2, 5, 4),
        np.tri(5, dtype=bool)[None] * np.ones((2, 1, 1), bool),
    ]


def merges_of_masked_values() -> tuple[Any, list[Any]]:
    """From Keras 3.4 on a product leaves out what is masked, and so do the larger and the smaller of two values."""
    x = kl.Input((6,))
    e, f = kl.Embedding(8, 3, mask_zero=True)(x), kl.Embedding(8, 3)(x)
    both = [kl.Multiply()([e, f]), kl.Multiply()([e, e]), kl.Maximum()([e, f]), kl.Minimum()([f, e])]
    return keras.Model(x, [*both, kl.LSTM(2)(kl.Add()([e, f])), kl.GRU(2)(kl.Average()([e, kl.Dense(3)(e)]))]), [WORDS]


def documents() -> tuple[Any, list[Any]]:
    """Words of sentences of documents, each with a layer of its own."""
    words = keras.Sequential([kl.Input((5,)), kl.Embedding(9, 3, mask_zero=True), kl.Bidirectional(kl.LSTM(3))])
    layers = [
        kl.Input((4, 5)),
        kl.TimeDistributed(words),
        kl.Bidirectional(kl.LSTM(2)),
        kl.Dense(2, activation="softmax"),
    ]
    return keras.Sequential(layers), [RNG.integers(0, 9, (2, 4, 5))]


def layers_in_time_distributed() -> tuple[Any, list[Any]]:
    x = kl.Input((4, 5, 3))
    y = kl.TimeDistributed(kl.Bidirectional(kl.GRU(4, return_sequences=True)))(x)
    y = kl.TimeDistributed(kl.RNN([kl.LSTMCell(3), kl.GRUCell(2)], go_backwards=True))(y)
    return keras.Model(x, [kl.LSTM(2)(y), kl.TimeDistributed(kl.RepeatVector(3))(y)]), [numbers(2, 4, 5, 3)]


def operations_in_time_distributed() -> tuple[Any, list[Any]]:
    """Axes of a model's operations are those of one step."""
    x = kl.Input((5, 3))
    y = kl.LSTM(3, return_sequences=True)(x)
    a = ops.softmax(ops.einsum("btd,bd->bt", y, y[:, -1]))
    most = ops.squeeze(ops.max(ops.transpose(y, (0, 2, 1)), axis=2, keepdims=True), -1)
    parts = [ops.einsum("bt,btd->bd", a, y), ops.mean(y, axis=1), most, ops.reshape(y, (-1, 15))]
    step, whole = keras.Model(x, ops.concatenate(parts, axis=-1)), kl.Input((4, 5, 3))
    return keras.Model(whole, kl.GRU(3)(kl.TimeDistributed(step)(whole))), [numbers(2, 4, 5, 3)]


def both_ways() -> tuple[Any, list[Any]]:
    x = kl.Input((5, 3))
    stacked = kl.Bidirectional(kl.RNN([kl.LSTMCell(3), kl.GRUCell(2)]))(x)
    other = kl.GRU(5, return_sequences=True, go_backwards=True, use_bias=False)
    unlike = kl.Bidirectional(kl.LSTM(3, return_sequences=True), backward_layer=other)(x)
    return keras.Model(x, [stacked, unlike]), [numbers(2, 5, 3)]


def layers_as_activations() -> tuple[Any, list[Any]]:
    x = kl.Input((5, 3))
    y = kl.GRU(3, activation=kl.LeakyReLU(negative_slope=0.1), return_sequences=True)(x)
    y = kl.Dense(4, activation=kl.ReLU(max_value=2.0))(kl.Conv1D(4, 3, activation=kl.ELU())(y))
    return keras.Model(x, kl.Dense(3, activation=kl.Softmax())(y)), [numbers(2, 5, 3)]


MODELS: dict[str, Callable[[], tuple[Any, list[Any]]]] = {
    model.__name__: model
    for model in (
        *(
            masked_by_an_argument,
            masked_by_numbers,
            attention_with_masks,
            attention_over_pairs,
            merges_of_masked_values,
        ),
        *(documents, layers_in_time_distributed, operations_in_time_distributed, both_ways, layers_as_activations),
    )
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_numbers_of_keras(tmp_path: Path, name: str) -> None:
    model, xs = MODELS[name]()
    format = "h5" if len(name) % 2 else "keras"
    randomized(model).save(path := tmp_path / f"m.{format}")
    wanted = model(xs if len(xs) > 1 else xs[0])
    wanted = wanted if isinstance(wanted, list) else [wanted]
    made = traced(import_file(path).described, {"N": 2})
    found = made.interpreted(dict(zip(made.net.inputs, (x.astype(float) for x in xs), strict=True)))
    names = ["Y"] if len(wanted) == 1 else [f"Y_{place}" for place in range(len(wanted))]
    assert_close(found, {name: y.detach().numpy() for name, y in zip(names, wanted, strict=True)})


def test_an_input_of_which_no_output_depends_is_told(tmp_path: Path) -> None:
    x, other = kl.Input((5, 3)), kl.Input((2,), name="other")
    keras.Model([x, other], kl.LSTM(2)(x)).save(tmp_path / "m.keras")
    net = import_file(tmp_path / "m.keras").net
    assert [*net.inputs] == ["X"]
    assert net.notes == ("No output depends on input other: it is left out.",)


@pytest.mark.parametrize(("layer", "shape"), [(kl.LSTM(2), None), (kl.Dense(2), None), (kl.Dense(2), [None, 5, 3])])
def test_the_shape_of_a_first_layer_is_found_or_asked_for(tmp_path: Path, layer: Any, shape: list[int] | None) -> None:
    """Keras 2 saves a model that was built by calling it without an input layer."""
    model = randomized(keras.Sequential([kl.Input((5, 3), batch_size=2), layer]))
    model.save(path := tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        del config["config"]["layers"][0], config["config"]["build_input_shape"]
        config["config"] |= {} if shape is None else {"build_input_shape": shape}
        file.attrs["model_config"] = json.dumps(config)
    given = {} if shape or isinstance(layer, kl.LSTM) else {layer.name: (2, 5, 3)}
    if given:
        with pytest.raises(SourceError, match=rf"its input shape is missing: give it by shapes={layer.name}=SIZES"):
            import_file(path)
    made = traced(import_file(path, shapes=given).described, {"N": 2, "T": 5})
    x = numbers(2, 5, 3)
    assert_close(made.interpreted({"X": x.astype(float)}), {"Y": model(x).detach().numpy()})
