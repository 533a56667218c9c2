"""Keras's layers one by one, in many settings and with each left out: read as Keras computes them, or refused."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest
from keras import layers as kl

from lstmc.importers import RefusedError
from lstmc.importers.frontends.keras_calls import _PLAIN
from lstmc.importers.frontends.keras_graph import describe_keras
from lstmc.importers.frontends.keras_layers import HANDLERS
from lstmc.importers.frontends.keras_recurrent import HANDLERS as RECURRENT
from lstmc.importers.sources import Source, StoredTensor
from tests.importers.imported import assert_close, traced
from tests.quick_sample import one_in

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch, about each other
RNG = np.random.default_rng(0)
T, P = (6, 4), (7, 6, 4)  # a sequence, a picture
Settings = dict[str, Any]
CONVS: list[Settings] = [
    {"strides": 2, "padding": "same"}, {"dilation_rate": 2}, {"use_bias": False, "activation": "softmax"},
    {"padding": "same", "activation": "relu"},
]  # fmt: skip
POOLS: list[Settings] = [{}, {"pool_size": 3, "strides": 1, "padding": "same"}]
WIDE: list[Settings] = [
    {"pool_size": 3, "strides": 2, "padding": "same"}
]  # Keras in PyTorch repeats the edge in a mean
FRAMES: list[Settings] = [{"dilation_rate": 2, "go_backwards": True, "return_sequences": True}, {"strides": 2}]
TWO: list[Settings] = [{}, {"operands": 3}]
# The shape of a layer's operand, and its settings: of all calls, and of each.
LAYERS: dict[str, tuple[tuple[int, ...], Settings, list[Settings]]] = {
    "Conv1D": (
        T, {"filters": 2, "kernel_size": 3}, [*CONVS, {"padding": "causal", "dilation_rate": 2}, {"groups": 2}]
    ),
    "Conv2D": (P, {"filters": 2, "kernel_size": (3, 2)}, [*CONVS, {"groups": 2}, {"strides": (2, 1)}]),
    "DepthwiseConv1D": (T, {"kernel_size": 3, "depth_multiplier": 2}, CONVS),
    "DepthwiseConv2D": (P, {"kernel_size": (3, 2)}, CONVS),
    "SeparableConv1D": (T, {"filters": 3, "kernel_size": 3}, CONVS),
    "SeparableConv2D": (P, {"filters": 3, "kernel_size": (3, 2), "depth_multiplier": 2}, CONVS),
    "Conv1DTranspose": (
        T, {"filters": 3, "kernel_size": 3}, [{}, {"strides": 2, "padding": "same"}, {"strides": 4, "use_bias": False}]
    ),
    "Conv2DTranspose": (
        P, {"filters": 3, "kernel_size": (4, 2)}, [{"strides": (2, 3), "padding": "same"}, {"strides": 3}]
    ),
    "ConvLSTM1D": (
        P, {"filters": 2, "kernel_size": 3}, [{}, *FRAMES, {"padding": "same", "activation": "relu", "use_bias": False}]
    ),
    "ConvLSTM2D": (
        (3, *P), {"filters": 2, "kernel_size": (3, 2)},
        [*FRAMES, {"strides": (2, 1), "padding": "same"}, {"dilation_rate": (2, 3), "recurrent_activation": "sigmoid"}],
    ),
    "SimpleRNN": (T, {"units": 3}, [{}, {"activation": "relu", "return_sequences": True, "go_backwards": True}]),
    "LSTM": (T, {"units": 3}, [{}, {"recurrent_activation": "hard_sigmoid", "use_bias": False, "go_backwards": True}]),
    "GRU": (T, {"units": 3}, [{}, {"reset_after": False, "return_sequences": True}, {"use_bias": False}]),
    "MaxPooling1D": (T, {"pool_size": 2}, [*POOLS, *WIDE]),
    "MaxPooling2D": (P, {"pool_size": 2}, [*POOLS, *WIDE, {"pool_size": (2, 3), "strides": (1, 2)}]),
    "AveragePooling1D": (T, {"pool_size": 2}, POOLS),
    "AveragePooling2D": (P, {"pool_size": 2}, POOLS),
    **{f"Global{kind}Pooling1D": (T, {}, [{}, {"keepdims": True}]) for kind in ("Max", "Average")},
    **{f"Global{kind}Pooling2D": (P, {}, [{}, {"keepdims": True}]) for kind in ("Max", "Average")},
    "ZeroPadding1D": (T, {}, [{}, {"padding": 2}, {"padding": (1, 2)}]),
    "ZeroPadding2D": (P, {}, [{}, {"padding": 2}, {"padding": (1, 2)}, {"padding": ((1, 0), (2, 1))}]),
    "Cropping1D": (T, {}, [{}, {"cropping": 2}, {"cropping": (0, 2)}]),
    "Cropping2D": (P, {}, [{"cropping": 1}, {"cropping": (1, 2)}, {"cropping": ((1, 0), (2, 1))}]),
    "UpSampling1D": (T, {}, [{}, {"size": 3}]),
    "UpSampling2D": (P, {}, [{}, {"size": (3, 1)}, {"size": 2, "interpolation": "bilinear"}]),
    "Dense": (T, {"units": 3}, [{}, {"use_bias": False, "activation": "log_softmax"}, {"activation": "gelu"}]),
    "RepeatVector": ((4,), {}, [{"n": 3}]),
    "RMSNormalization": (T, {}, [{}, {"axis": [1, 2], "epsilon": 0.1}]),
    "PReLU": (P, {}, [{}, {"shared_axes": [1, 2]}]),
    "Rescaling": (T, {}, [{"scale": 0.5, "offset": 2.0}]),
    "Normalization": (
        T, {}, [{"mean": [1.0, 2, 3, 4], "variance": [1.0, 2, 3, 4]}, {"mean": 1.0, "variance": 2.0, "axis": None}]
    ),
    "UnitNormalization": (P, {}, [{}, {"axis": 1}, {"axis": [1, 2]}]),
    "GroupNormalization": (
        P, {"groups": 2}, [{}, {"groups": -1, "scale": False}, {"axis": -1, "center": False, "epsilon": 0.1}]
    ),
    "GaussianNoise": (T, {}, [{"stddev": 0.1}]),
    **{name: (T, {}, [{"rate": 0.1}]) for name in ("GaussianDropout", "AlphaDropout")},
    "ActivityRegularization": (T, {}, [{"l1": 0.1}]),
    "BatchNormalization": (
        P, {}, [{}, {"axis": 1, "scale": False}, {"center": False, "epsilon": 0.1}, {"axis": 2}]
    ),
    "LayerNormalization": (
        P, {}, [{}, {"axis": [1, 2, 3], "scale": False}, {"axis": [2, 3], "center": False, "epsilon": 0.1}]
    ),
    "Dropout": (T, {}, [{"rate": 0.3}, {"rate": 0.0}]),
    "SpatialDropout1D": (T, {}, [{"rate": 0.3}]),
    "SpatialDropout2D": (P, {}, [{"rate": 0.3}]),
    "Activation": (
        T, {}, [{"activation": name} for name in (*_PLAIN, "hard_sigmoid", "softmax", "log_softmax")]
    ),
    "LeakyReLU": (T, {}, [{}, {"negative_slope": 0.1}]),
    "ReLU": (
        T, {}, [{}, {"max_value": 0.5}, {"negative_slope": 0.2, "threshold": 0.3}, {"max_value": 1, "threshold": 0.3}]
    ),
    "ELU": (T, {}, [{}, {"alpha": 0.4}]),
    "Softmax": (T, {}, [{}, {"axis": 1}]),
    "Flatten": (P, {}, [{}]),
    "Reshape": (P, {}, [{"target_shape": (4, -1)}, {"target_shape": (6, 7, 4)}]),
    "Permute": (P, {}, [{"dims": (3, 1, 2)}]),
    **{name: (T, {"operands": 2}, TWO) for name in ("Add", "Multiply", "Average", "Maximum", "Minimum")},
    "Subtract": (T, {"operands": 2}, [{}]),
    "Concatenate": (T, {"operands": 2}, [{}, {"operands": 3, "axis": 1}]),
    "Dot": ((4, 4), {"operands": 2}, [{"axes": 1}, {"axes": (1, -1)}]),
    "Attention": (T, {"operands": 2}, [{}, {"operands": 3, "use_scale": True}]),
    "AdditiveAttention": (T, {"operands": 2}, [{}, {"operands": 3, "use_scale": False}]),
}  # fmt: skip
# Settings that are of training, or of the layer's own name
OTHERS = ("name", "trainable", "dtype", "seed", "stddev", "l1", "l2", "momentum", "noise_shape", "synchronized")
ELSEWHERE = (
    "CuDNNLSTM",
    "CuDNNGRU",
    "Bidirectional",
    "RNN",
    "Embedding",
    "Masking",
    "MultiHeadAttention",
    "TimeDistributed",
    "TimeDistributedDense",
)


def source_of(config: Any, weights: Any) -> Source:
    """A file with this configuration, and the weights of its one layer."""
    arrays = {f"w{at}": np.asarray(array) for at, array in enumerate(weights)}
    tensors = {name: StoredTensor(name, a.shape, lambda a=a: a) for name, a in arrays.items()}  # type: ignore[misc]
    facts = {"config": config, "version": keras.__version__, "layers": {"it": [*arrays]}}
    return Source("Keras", "model.h5", tensors, facts)


def net_of(layer: Any, shape: tuple[int, ...], operands: int) -> Any:
    xs = [kl.Input(shape, name=f"x{at}") for at in range(operands)]
    return keras.Model(xs, layer(xs if operands > 1 else xs[0]))


def outcome(model: Any, config: Any, weights: Any, arrays: list[Any]) -> str:
    """ "refused", or "right": the outputs are those of the model."""
    try:
        net = describe_keras(source_of(config, weights))
    except RefusedError:
        return "refused"
    made = traced(net, {"N": 2})
    wanted = model(arrays if len(arrays) > 1 else arrays[0]).detach().numpy()
    assert_close(made.interpreted(dict(zip(made.net.inputs, arrays, strict=True))), {"Y": wanted})
    return "right"


def test_every_layer_is_in_the_table() -> None:
    assert {*LAYERS, *ELSEWHERE} == {*HANDLERS}


@pytest.mark.parametrize("name", one_in(3, LAYERS))
def test_a_layer(name: str) -> None:
    shape, common, calls = LAYERS[name]
    for number, own in enumerate(calls):
        settings = {**common, **own}
        operands = settings.pop("operands", 1)
        layer = getattr(kl, name)(**settings, name="it")
        model = net_of(layer, shape, operands)
        arrays = [RNG.normal(size=(2, *shape)).astype(np.float32) for _ in range(operands)]
        weights = [np.abs(RNG.normal(size=one.shape)) + 0.1 for one in layer.weights]
        layer.set_weights(weights)
        config = json.loads(model.to_json())
        refused = settings.get("interpolation") == "bilinear" or settings.get("axis", -1) is None
        expected = "refused" if refused else "right"
        assert outcome(model, config, weights, arrays) == expected, settings
        if (
            operands == 1 and name not in (*RECURRENT, "RepeatVector") and ("axis" in own or not number)
        ):  # and at each step of a sequence
            outer = kl.TimeDistributed(getattr(kl, name)(**settings), name="it")
            many = net_of(outer, (3, *shape), 1)
            outer.set_weights(weights)
            steps = [RNG.normal(size=(2, 3, *shape)).astype(np.float32)]
            assert outcome(many, json.loads(many.to_json()), weights, steps) == expected, settings
        if number:
            continue
        (held,) = [one for one in config["config"]["layers"] if one["name"] == "it"]
        for key in [key for key in held["config"] if not key.endswith(("er", "constraint")) and key not in OTHERS]:
            left = held["config"].pop(key)
            try:
                other = type(layer).from_config(dict(held["config"]))
                plain = net_of(other, shape, operands)
                other.set_weights(weights)
            except (KeyError, TypeError, ValueError):  # of Keras, where it has no default, or other weights
                pass
            else:
                outcome(plain, config, weights, arrays)
            held["config"][key] = left


@pytest.mark.parametrize(("axes", "shape"), [(1, (3, 4)), ((2, -1), (3, 4)), (-1, (4,))])
def test_products_at_each_step_of_a_sequence(axes: Any, shape: tuple[int, ...]) -> None:
    x = kl.Input(shape)
    product = keras.Model(x, kl.Dot(axes)([x, kl.ReLU()(x)]))
    model = net_of(kl.TimeDistributed(product, name="it"), (2, *shape), 1)
    arrays = [RNG.normal(size=(2, 2, *shape)).astype(np.float32)]
    assert outcome(model, json.loads(model.to_json()), [], arrays) == "right"
