"""PyTorch's recurrent layers from their state dicts alone: outputs, last states and gradients, in real Caffe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmc.importers.frontends.torch_state_dict import describe_state_dict
from lstmc.importers.sources import Source, StoredTensor
from lstmc.ops import Array
from lstmc_caffe.runtime.runner import Runner
from tests.importers.imported import assert_close, imported

pytestmark = pytest.mark.caffe
FEWER = settings(max_examples=settings.default.max_examples * 2 // 5)


@dataclass(frozen=True)
class Layer:
    """One torch layer's options, and the sizes it is run with."""

    kind: str
    layers: int
    both: bool
    bias: bool
    batch_first: bool
    inputs: int
    units: int
    proj: int
    T: int
    N: int
    seed: int

    def module(self) -> torch.nn.RNNBase:
        torch.manual_seed(self.seed)
        options: dict[str, Any] = {"proj_size": self.proj} if self.kind == "LSTM" else {}
        options |= {"nonlinearity": self.kind[4:].lower()} if self.kind.startswith("RNN") else {}
        made: torch.nn.RNNBase = getattr(torch.nn, self.kind[:4].rstrip("_"))(
            self.inputs, self.units, self.layers, bias=self.bias, batch_first=self.batch_first,
            bidirectional=self.both, **options,
        )  # fmt: skip
        return made


@st.composite
def layers(draw: Any) -> Layer:
    units = draw(st.integers(1, 4))
    return Layer(
        kind=draw(st.sampled_from(["LSTM", "GRU", "RNN_TANH", "RNN_RELU"])),
        layers=draw(st.integers(1, 3)),
        both=draw(st.booleans()),
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        inputs=draw(st.integers(1, 4)),
        units=units,
        proj=draw(st.integers(0, units - 1)),
        T=draw(st.integers(1, 5)),
        N=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**31)),
    )


def source(arrays: Mapping[str, Array]) -> Source:
    tensors = {n: StoredTensor(n, a.shape, lambda a=a: a) for n, a in arrays.items()}
    return Source("a state dict", "layer.pt", tensors)


@FEWER
@given(layers())
def test_a_layer_means_in_caffe_what_it_means_in_pytorch(caffe: Runner, layer: Layer) -> None:
    module = layer.module()
    state = {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}
    module.double()
    rnn = "relu" if layer.kind == "RNN_RELU" else "tanh"
    made = imported(describe_state_dict(source(state), {}, rnn), {"T": layer.T, "N": layer.N})

    x = torch.randn(layer.T, layer.N, layer.inputs).double()
    y, last = module(x.transpose(0, 1) if layer.batch_first else x)
    y = y.transpose(0, 1) if layer.batch_first else y
    states = dict(zip("hc", last if isinstance(last, tuple) else (last,), strict=False))
    wanted = {"Y": y}
    for name, stacked in states.items():
        many = len(stacked) > 1
        wanted |= {f"{name}_T_{i}" if many else f"{name}_T": value for i, value in enumerate(stacked)}
    cotangents = {name: torch.randn_like(value) for name, value in wanted.items()}
    sum((value * cotangents[name]).sum() for name, value in wanted.items()).backward()  # type: ignore[union-attr]

    outputs, run = made.in_caffe(caffe, {"X": x.numpy()}, {name: ct.numpy() for name, ct in cotangents.items()})
    assert outputs.keys() == wanted.keys()
    assert_close(outputs, {name: value.detach().numpy() for name, value in wanted.items()})
    assert run.param_gradients is not None
    found = {name: run.param_gradients.get(name, np.zeros_like(array)) for name, array in made.weights.items()}
    assert_close(found, expected_gradients(module, rnn), 1e-4)


def expected_gradients(module: torch.nn.RNNBase, rnn: Any) -> dict[str, Array]:
    """Autograd's, brought into the written model's form by the very recipes of its weights.

    Where two biases became one, each has the gradient of their sum.
    """
    whole = {name: _gradient(parameter) for name, parameter in module.named_parameters()}
    alone = {name: np.zeros_like(g) if "bias_hh" in name else g for name, g in whole.items()}
    found, single = (describe_state_dict(source(arrays), {}, rnn).params for arrays in (whole, alone))
    return {name: (single if name.endswith("/b") else found)[name].array() for name in found}


def _gradient(parameter: torch.nn.Parameter) -> Array:
    assert parameter.grad is not None
    gradient: Array = parameter.grad.numpy()
    return gradient
