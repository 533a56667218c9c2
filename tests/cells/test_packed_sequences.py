"""Sequences of different lengths, both ways through an LSTM: what PyTorch computes of packed sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lstmc import Input, dims, last_valid, model, scan
from lstmc.cells import lstm
from lstmc.interp import Evaluation, backward, forward
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees

T, N, D = dims("T N D")
STEPS, BATCH, WIDTH, UNITS = 7, 5, 3, 4
LENGTHS = np.array([7, 1, 4, 6, 2])
ORDER = (0, 1, 3, 2)  # PyTorch's gates are i, f, g, o


@model
def both_ways(X=Input(T, N, D), L=Input(N)):
    fore, fore_T = scan(lstm(H=UNITS, name="fore"), X, lengths=L)
    back, back_T = scan(lstm(H=UNITS, name="back"), X, lengths=L, reverse=True)
    states = {f"{way}_{s}": last[s] for way, last in (("fore", fore_T), ("back", back_T)) for s in "hc"}
    return {"fore": fore, "back": back, **states, "at_end": last_valid(fore, L)}


def graph() -> Graph:
    return both_ways.graph(T=STEPS, N=BATCH, D=WIDTH)


def arrays() -> dict[str, Array]:
    return {"X": np.random.default_rng(0).normal(size=(STEPS, BATCH, WIDTH)), "L": LENGTHS.astype(float)}


def torch_way(run: Evaluation, weights: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The same outputs and gradients of X and W_x from a packed bidirectional ``torch.nn.LSTM``."""
    net = torch.nn.LSTM(WIDTH, UNITS, bidirectional=True).double()
    for way, suffix in (("fore", ""), ("back", "_reverse")):
        given = {"weight_ih": f"{way}/W_x", "weight_hh": f"{way}/W_h", "bias_ih": f"{way}/b"}
        for theirs, ours in given.items():
            gates = np.split(np.asarray(weights[ours], float), 4)
            getattr(net, f"{theirs}_l0{suffix}").data = torch.tensor(np.concatenate([gates[i] for i in ORDER]))
        getattr(net, f"bias_hh_l0{suffix}").data.zero_()
    x = torch.tensor(arrays()["X"], requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    y, (h, c) = net(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=STEPS)
    fore, back = y[..., :UNITS], y[..., UNITS:]
    at_end = torch.stack([fore[length - 1, n] for n, length in enumerate(LENGTHS)])
    found = {"fore": fore, "back": back, "at_end": at_end}
    found |= {"fore_h": h[0], "fore_c": c[0], "back_h": h[1], "back_c": c[1]}
    total = sum((value * torch.tensor(cotangents(run)[name])).sum() for name, value in found.items())
    total.backward()
    gradients = {"X": x.grad}
    for way, suffix in (("fore", ""), ("back", "_reverse")):
        gates = np.split(getattr(net, f"weight_ih_l0{suffix}").grad.numpy(), 4)
        gradients[f"{way}/W_x"] = np.concatenate([gates[ORDER.index(i)] for i in range(4)])
    return {n: v.detach().numpy() for n, v in found.items()}, {n: np.asarray(v) for n, v in gradients.items()}


def cotangents(run: Evaluation) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=value.shape) for name, value in sorted(run.outputs.items())}


def test_lengths_are_pytorch_s_packed_sequences() -> None:
    weights = initial_weights(graph(), 3)
    run = forward(graph(), arrays(), weights)
    values, gradients = torch_way(run, weights)
    ours = backward(run, cotangents(run))
    assert values.keys() == run.outputs.keys()
    for name, value in values.items():
        np.testing.assert_allclose(run.outputs[name], value, rtol=0, atol=1e-12, err_msg=name)
    for name, gradient in gradients.items():
        np.testing.assert_allclose((ours.inputs | ours.params)[name], gradient, rtol=0, atol=1e-11, err_msg=name)


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat", "noslice"])
def test_real_caffe_computes_them(caffe: Runner, target: str) -> None:
    assert_caffe_agrees(caffe, compile_graph(graph(), CaffeBackend(), target))
