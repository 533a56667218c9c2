"""A function by others, for targets that have no layer of it: in text, and how exact it is in float32."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from lstmc.interp import forward
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of
from tests.backends.lstmc_caffe.rows.test_narrow import NOSLICE, narrowed

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


def test_exp_by_others() -> None:
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = exp(%x)"), NOSLICE)) == EXP


def test_softplus_has_a_layer_of_its_own_on_noslice() -> None:
    after = ROWS + "%z: f32[6,4] = caffe.BNLL(%x/rows)\n" + Z
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = softplus(%x)"), NOSLICE)) == after


def test_exp_is_exact_in_float32_as_far_as_the_numbers_go() -> None:
    graph = narrowed(graph_of("%z: f32[2,3,4] = exp(%x)"), NOSLICE)
    x = np.array(
        [-200, -100, -60, -30, -20, -10, -5, -2, -1, -0.1, 0, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80.0]
    )
    inputs = {node.name: np.zeros(node.types[0].shape) for node in graph if node.op.name == "host.input"}
    found = forward(graph, inputs | {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs["z"].ravel()
    assert_allclose(found, np.exp(x), rtol=1e-4, atol=1e-37)
