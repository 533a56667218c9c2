"""Products of computed values, and matrices turned, in real Caffe: forward and all gradients."""

from __future__ import annotations

import pytest

from lstmc import Input, Param, State, cell, dims, einsum, linear, matmul, model, outer, scan, sigmoid, tanh, uniform
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.ops.test_layers import assert_right

N, A, B, D = dims("N A B D")
SPREAD = uniform(-0.6, 0.6)


@cell
def memory(x=Input(N, D), C=State(N, A, B), *, K=Param(B, D, fill=SPREAD), V=Param(D, A, fill=SPREAD)):
    """A matrix memory: the value is written at the key, and read with the query (as in an mLSTM, without its gates)."""
    k, v = tanh(linear(x, K)), x @ V
    C = 0.5 * C + outer(v, k)
    read = einsum("nab,nb->na", C, k)
    return read + matmul(C, k[..., None])[..., 0] * sigmoid(einsum("nab,na->na", C, v)), {"C": C}


@model
def memories(x=Input(3, 2, 4)):
    y, last = scan(memory(A=3, B=2, D=4, name="memory"), x)
    return {"y": y, "C": matmul(last["C"], einsum("nab,nc->nbc", last["C"], y[0]))}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_products_of_computed_values_are_right(caffe: Runner, target: str) -> None:
    assert_right(caffe, memories, {"x"}, target)
