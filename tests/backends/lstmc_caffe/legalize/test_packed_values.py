"""Packed parameters that a step computes with: values of the scan, so that the parameters may be blobs elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

import lstmc
from lstmc import Input, Param, State, cell, concat, dims, linear, model, outer, scan, tanh, uniform, xavier
from lstmc.ir import parse_graph
from lstmc_caffe.legalize.legalize import pass_packed_values

T, N, D, H = dims("T N D H")


@cell
def packing(
    x: Any = Input(N, D),
    h: Any = State(N, H),
    *,
    W: Any = Param(H, D, fill=xavier()),
    b: Any = Param(H, fill=uniform(-0.6, 0.6)),
) -> Any:
    y = linear(x, W, b)
    h = tanh(h + y)
    return {"y": y, "b": concat(b, b)}, {"h": h}


@model
def net(X: Any = Input(T, N, 4), c: Any = Input(T, 2)) -> Any:
    y, last = scan(packing(H=2, name="packing"), X)
    return {"y": y["y"], "b": y["b"], "outer": outer(c, y["b"]), "h": last["h"]}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat", "caffe-fused"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_bias_may_be_packed_into_what_a_step_returns(target: str, steps: int) -> None:
    verification = lstmc.compile(net, T=steps, N=2, target=target).verify()
    assert verification, str(verification)


@pytest.mark.caffe
@pytest.mark.parametrize("steps", [1, 3])
def test_a_bias_may_be_packed_of_parameters_that_are_trained_otherwise_or_used_elsewhere(steps: int) -> None:
    @cell
    def biased(
        x: Any = Input(N, H),
        h: Any = State(N, H),
        *,
        U: Any = Param(H, H, fill=xavier()),
        a: Any = Param(1, fill=uniform(-0.6, 0.6), lr_mult=2, decay_mult=0),
        b: Any = Param(1, fill=uniform(-0.6, 0.6)),
    ) -> Any:
        return h, {"h": linear(tanh(h * b + x), U, concat(a, b))}

    @model
    def of(X: Any = Input(T, N, 2)) -> Any:
        return scan(biased(H=2, name="biased"), X)[1]["h"]

    verification = lstmc.compile(of, T=steps, N=2).verify()
    assert verification, str(verification)


def test_what_a_layer_of_the_step_has_as_its_matrix_stays_a_weight() -> None:
    @cell
    def twice(x: Any = Input(N, D), h: Any = State(N, H), *, U: Any = Param(1, H), V: Any = Param(1, H)) -> Any:
        h = tanh(x + linear(h, concat(U, V, axis=0)))
        return h, {"h": h}

    @model
    def of(X: Any = Input(3, 2, 2)) -> Any:
        return scan(twice(H=2, name="twice"), X)[0]

    types = [layer.type for layer in lstmc.compile(of, target="caffe").layers]
    assert "InnerProduct" in types
    assert "Bias" not in types


SCAN_IN_A_SCAN = """graph g {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = full()
  %V: f32[2,4] = param()
  %W: f32[2,4] = param()
  %packed: f32[4,4] = concat(%V, %W, axis=0)
  %y: f32[2,4] = scan(%X, %h0, %packed, length=3) {
    body outer {
      %x: f32[2,4] = arg()
      %h: f32[2,4] = arg(role='state')
      %M: f32[4,4] = arg(role='weight')
      %z: f32[2,4] = scan(%h, %M, length=2) {
        body inner {
          %s: f32[2,4] = arg(role='state')
          %K: f32[4,4] = arg(role='weight')
          %p: f32[2,4] = linear(%s, %K)
          return next s=%p
        }
      }
      %sum: f32[2,4] = add(%x, %z)
      return next h=%sum
    }
  }
  return y=%y
}
"""


def test_the_matrix_of_a_scan_in_a_scan_is_a_blob() -> None:
    graph = parse_graph(SCAN_IN_A_SCAN)
    assert not pass_packed_values.run(graph).modified
