"""Functions by others, for targets that have no layer of theirs: in text, and how exact they are in float32."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc.interp import forward
from lstmc_caffe.targets.target import Target
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of
from tests.backends.lstmc_caffe.rows.test_narrow import FLAT, NOSLICE, narrowed

ROWS = "%x/rows: f32[6,4] = host.view(%x, shape=(6, 4))\n"
Z = "%z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))\nreturn z=%z_2"
EXP = (
    ROWS
    + """\
%z/half: f32[6,4] = caffe.Power(%x/rows, scale=0.03125)
%z/tanh: f32[6,4] = caffe.TanH(%z/half)
%z/above: f32[6,4] = caffe.Power(%z/tanh, shift=1.0)
%z/below: f32[6,4] = caffe.Power(%z/tanh, power=-1.0, scale=-1.0, shift=1.0)
%z/root: f32[6,4] = caffe.Eltwise(%z/above, %z/below, operation='PROD')
%z: f32[6,4] = caffe.Power(%z/root, power=16.0, shift=1.1754943508222875e-38)
"""
    + Z
)
SOFTPLUS = (
    ROWS
    + """\
%z/abs: f32[6,4] = caffe.AbsVal(%x/rows)
%z/negated: f32[6,4] = caffe.Power(%z/abs, scale=-1.0)
%z/exp: f32[6,4] = caffe.Exp(%z/negated)
%z/plus: f32[6,4] = caffe.Power(%z/exp, shift=1.0)
%z/log: f32[6,4] = caffe.Log(%z/plus)
%z/relu: f32[6,4] = caffe.ReLU(%x/rows)
%z: f32[6,4] = caffe.Eltwise(%z/relu, %z/log)
"""
    + Z
)


@pytest.mark.parametrize(
    ("line", "target", "after"),
    [("%z: f32[2,3,4] = exp(%x)", NOSLICE, EXP), ("%z: f32[2,3,4] = softplus(%x)", FLAT, SOFTPLUS)],
)
def test_a_function_by_others(line: str, target: Target, after: str) -> None:
    assert lines_of(narrowed(graph_of(line), target)) == after


@pytest.mark.parametrize(
    ("op", "target", "rtol", "atol"),
    [("exp", NOSLICE, 2e-4, 1e-37), ("softplus", FLAT, 1e-6, 1e-7)],
)
def test_it_is_exact_in_float32_as_far_as_the_numbers_go(op: str, target: Target, rtol: float, atol: float) -> None:
    graph = narrowed(graph_of(f"%z: f32[2,3,4] = {op}(%x)"), target)
    x = np.array(
        [-200, -100, -60, -30, -20, -10, -5, -2, -1, -0.1, 0, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80.0]
    )
    inputs = {node.name: np.zeros(node.types[0].shape) for node in graph if node.op.name == "host.input"}
    found = forward(graph, inputs | {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs["z"].ravel()
    wanted = np.exp(x) if op == "exp" else np.logaddexp(0, x)
    assert_allclose(found, wanted, rtol, atol)
