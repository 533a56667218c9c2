"""Remedies of refused Keras models are tried: the model that each is for is refused, and the changed one comes in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import pytest
from keras import layers as kl

from lstmc.importers import RefusedError, import_file
from tests.importers.remedies import remedies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@keras.saving.register_keras_serializable("own")
class Own(kl.Layer):  # type: ignore[misc]
    """A layer that lstmc does not know."""

    def call(self, x: Any) -> Any:
        return keras.ops.relu(x)


@keras.saving.register_keras_serializable("own")
class OwnCell(kl.GRUCell):  # type: ignore[misc]
    """A cell that lstmc does not know."""


def picture(x: Any) -> Any:
    return kl.Reshape((6, 4, 1))(x)


def masked(x: Any) -> Any:
    return kl.Masking()(x)


def over_steps(function: Any) -> Any:
    step = kl.Input((6, 4))
    inner = keras.Model(step, function(step))
    return lambda x: kl.TimeDistributed(inner)(kl.Reshape((1, 6, 4))(x))


ELSEWHERE = [text for text in remedies("frontends/keras_", "read/keras_") if text.startswith("{")]
# By remedy: what is refused, and what is written instead, of x [N, 6, 4].
TRIED: dict[str, tuple[Any, Any]] = {
    "apply it to the steps in a model of its own, for one step, and import that": (
        lambda x: kl.TimeDistributed(kl.ConvLSTM1D(2, 2))(kl.Reshape((1, 6, 4, 1))(x)),
        lambda x: kl.ConvLSTM1D(2, 2)(picture(x)),
    ),
    "call the layer without it, and save the model again": (
        lambda x: kl.BatchNormalization()(x, training=True), lambda x: kl.BatchNormalization()(x)
    ),
    "give the axes of a step, or take it out of TimeDistributed": (
        over_steps(lambda x: keras.ops.softmax(x, axis=0)), over_steps(lambda x: keras.ops.softmax(x, axis=1))
    ),
    "if layers of Keras compute the same, replace it by them, or by a model of them, in a copy of the model's JSON, and"
    " give that by config=FILE.json; otherwise write the model without it": (
        lambda x: Own()(x), lambda x: kl.ReLU()(x)
    ),
    "keras.ops of {', '.join(OPERATIONS)} are read": (
        lambda x: keras.ops.hypot(x, x), lambda x: keras.ops.sqrt(x * x + x * x)
    ),
    "leave it to Bidirectional": (
        lambda x: kl.Bidirectional(kl.GRU(3, go_backwards=True), backward_layer=kl.GRU(3))(x),
        lambda x: kl.Bidirectional(kl.GRU(3))(x)
    ),
    "leave the mask out before it": (lambda x: kl.Softmax()(masked(x)), lambda x: kl.Softmax()(x)),
    "leave them out": (
        lambda x: kl.Conv1DTranspose(3, 2, strides=2, output_padding=1)(x),
        lambda x: kl.Conv1DTranspose(3, 2, strides=2)(x),
    ),
    "mask inside of TimeDistributed": (
        lambda x: kl.TimeDistributed(kl.GRU(3))(kl.TimeDistributed(kl.Reshape((4, 1)))(masked(x))),
        over_steps(lambda x: kl.GRU(3)(masked(x))),
    ),
    "normalize the last axis": (
        lambda x: kl.Normalization(axis=1, mean=[1.0] * 6, variance=[4.0] * 6)(x),
        lambda x: kl.Normalization(mean=[1.0] * 4, variance=[4.0] * 4)(x),
    ),
    "normalize the operands by UnitNormalization": (
        lambda x: kl.Dot(2, normalize=True)([x, kl.ReLU()(x)]),
        lambda x: kl.Dot(2)([kl.UnitNormalization()(x), kl.UnitNormalization()(kl.ReLU()(x))]),
    ),
    "put it as a layer of its own behind this one": (
        lambda x: kl.Dense(3, activation=kl.PReLU())(x), lambda x: kl.PReLU()(kl.Dense(3)(x))
    ),
    "save it with stateful=False, whose weights are the same; in the written model call scan with carry=True": (
        lambda x: kl.GRU(3, stateful=True)(x), lambda x: kl.GRU(3)(x)
    ),
    "scale and shift by Rescaling": (
        lambda x: kl.Normalization(mean=1.0, variance=4.0, invert=True)(x), lambda x: kl.Rescaling(2.0, 1.0)(x)
    ),
    "use nearest": (
        lambda x: kl.UpSampling2D(interpolation="bilinear")(picture(x)), lambda x: kl.UpSampling2D()(picture(x))
    ),
    "use one axis": (lambda x: kl.Softmax(axis=[1, 2])(x), lambda x: kl.Softmax(axis=1)(x)),
    "use one of {', '.join(_PLAIN)}": (
        lambda x: kl.Dense(3, activation="squareplus")(x), lambda x: kl.Dense(3, activation="softplus")(x)
    ),
    "use them": (
        lambda x: kl.Attention(score_mode="concat")([x, x]), lambda x: kl.Attention()([x, x])
    ),
    "write exp(y * log(x))": (lambda x: keras.ops.power(x, x), lambda x: keras.ops.exp(x * keras.ops.log(x))),
    "write it without them": (
        lambda x: kl.ConvLSTM1D(2, 2, stateful=True)(picture(x)), lambda x: kl.ConvLSTM1D(2, 2)(picture(x))
    ),
    "write layers": (
        lambda x: kl.RNN([kl.GRUCell(3), kl.GRUCell(2)], return_state=True)(x)[0],
        lambda x: kl.GRU(2, return_state=True)(kl.GRU(3, return_sequences=True)(x))[0],
    ),
    "write the layers one by one": (lambda x: kl.RNN(OwnCell(3))(x), lambda x: kl.RNN(kl.GRUCell(3))(x)),
    "write the model with channels last": (
        lambda x: kl.Conv1D(3, 2, data_format="channels_first")(x), lambda x: kl.Conv1D(3, 2)(x)
    ),
    "write two layers": (
        lambda x: kl.Bidirectional(kl.ConvLSTM1D(2, 2))(picture(x)),
        lambda x: [kl.ConvLSTM1D(2, 2)(picture(x)), kl.ConvLSTM1D(2, 2, go_backwards=True)(picture(x))],
    ),
}  # fmt: skip
UNTRIED = {
    "save the whole model again": "a damaged configuration",
    "correct the configuration": "a configuration that was changed by hand",
    "give the axes": "a configuration that was changed by hand",
    "use one of them": "a configuration that was changed by hand",
    "rebuild it so": "a subclass of Model: its files have no layers",
    "write the model without it": "an argument of a kind that Keras does not write today",
    "use slices": "Keras refuses the same",
    "give a file that has keras_version": "a file of Keras 1",
    "write it into the configuration": "a file of Keras 1",
    "mask all of them alike": "a merge whose meaning depends on the version of Keras: test_keras_models.py",
    "give the configuration that was saved with the weights": "two files that do not belong together",
    **dict.fromkeys(ELSEWHERE, "the whole text is in another test: test_keras.py, test_keras_names.py"),
}


def written(function: Any, folder: Path) -> Path:
    x = kl.Input(batch_shape=(2, 6, 4))
    keras.Model(x, function(x)).save(folder / "model.keras")
    return folder / "model.keras"


def test_every_remedy_is_known() -> None:
    assert remedies("frontends/keras_", "read/keras_") == TRIED.keys() | UNTRIED.keys()


@pytest.mark.parametrize("remedy", TRIED)
def test_a_remedy_helps(remedy: str, tmp_path: Path) -> None:
    refused, changed = TRIED[remedy]
    with pytest.raises(RefusedError) as raised:
        import_file(written(refused, tmp_path))
    (said,) = {one.mend for one in raised.value.refusals}
    assert said.startswith(remedy.partition("{")[0])
    import_file(written(changed, tmp_path))
