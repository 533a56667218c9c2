"""Make the files here: `python make.py` in an environment with tensorflow-cpu 2.21.0 and tf-keras 2.21.0."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

HERE = Path(__file__).parent


def model_of(framework: Any, layer: Any, batch: int | None = 1) -> Any:
    """The layer over three frames of three numbers, and a dense one; weights are drawn."""
    x = framework.Input(batch_shape=(batch, 3, 3), name="x")
    model = framework.Model(x, framework.layers.Dense(2, activation="relu", name="dense")(layer(x)))
    rng = np.random.RandomState(0)
    model.set_weights([rng.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


class Step(tf.Module):
    """One frame: a convolution over two frames before and this one, and a recurrent layer."""

    def __init__(self) -> None:
        rng = np.random.RandomState(1)
        self.kernel = tf.Variable(rng.normal(0, 0.5, (3, 3, 4)).astype("f"), name="kernel")
        self.weights = tf.Variable(rng.normal(0, 0.5, (8, 4)).astype("f"), name="weights")

    @tf.function(
        input_signature=[
            tf.TensorSpec((1, 3), name="x"),
            tf.TensorSpec((1, 2, 3), name="past"),
            tf.TensorSpec((1, 4), name="h"),
        ]
    )
    def step(self, x: Any, past: Any, h: Any) -> Any:
        frames = tf.concat([past, x[:, None]], 1)
        seen = tf.nn.relu(tf.nn.conv1d(frames, self.kernel, 1, "VALID"))[:, 0]
        h = 0.5 * h + 0.5 * tf.tanh(tf.concat([seen, h], 1) @ self.weights)
        return {"y": tf.nn.softmax(h), "past_out": frames[:, 1:], "h_out": h}


def write(name: str, converter: Any, **settings: Any) -> None:
    for key, value in settings.items():
        setattr(converter, key, value)
    (HERE / f"{name}.tflite").write_bytes(converter.convert())


def main() -> None:
    unrolled = {"unroll": True, "return_sequences": True}
    small = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    half = {**small, "target_spec": tf.lite.TargetSpec(supported_types=[tf.float16])}
    of = tf.lite.TFLiteConverter.from_keras_model
    write("gru_unrolled", of(model_of(keras, keras.layers.GRU(4, **unrolled))))
    write("gru_half", of(model_of(keras, keras.layers.GRU(4, unroll=True))), **half)
    write("gru_while", of(model_of(keras, keras.layers.GRU(4))))
    write("lstm_fused", of(model_of(tf_keras, tf_keras.layers.LSTM(4, return_sequences=True))))
    step = Step()
    write("step", tf.lite.TFLiteConverter.from_concrete_functions([step.step.get_concrete_function()], step))


if __name__ == "__main__":
    main()
