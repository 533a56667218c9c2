"""A function by others, for targets that have no layer of it: in text, and how exact it is in float32."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from lstmc.interp import forward
from lstmc_caffe.targets.load import load_target
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of
from tests.backends.lstmc_caffe.rows.test_narrow import NOSLICE, narrowed

OPENVINO = load_target("openvino")  # has ReLU, Sigmoid and TanH, and neither AbsVal, Exp nor Log
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


ABS = """\
%z/negated: f32[6,4] = caffe.Power(%x/rows, scale=-1.0)
%z/above: f32[6,4] = caffe.ReLU(%x/rows)
%z/below: f32[6,4] = caffe.ReLU(%z/negated)
%z: f32[6,4] = caffe.Eltwise(%z/above, %z/below)
"""


def test_abs_by_others() -> None:
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = abs(%x)"), OPENVINO)) == ROWS + ABS + Z


SOFTPLUS = """\
%z/twice_positive: f32[6,4] = caffe.Eltwise(%x/rows, %z/abs)
%z/positive: f32[6,4] = caffe.Power(%z/twice_positive, scale=0.5)
%z/moved: f32[6,4] = caffe.Power(%z/abs, scale=-1.0, shift=-0.6931471805599453)
%z/ratio: f32[6,4] = caffe.Sigmoid(%z/moved)
%z/square: f32[6,4] = caffe.Eltwise(%z/ratio, %z/ratio, operation='PROD')
"""


def test_softplus_by_others() -> None:
    lines = lines_of(narrowed(graph_of("%z: f32[2,3,4] = softplus(%x)"), OPENVINO))
    assert lines.startswith(ROWS + ABS.replace("%z", "%z/abs") + SOFTPLUS)
    assert lines.endswith(
        "%z/polynomial_0/product: f32[6,4] = caffe.Eltwise(%z/polynomial_1, %z/square, operation='PROD')\n"
        "%z/polynomial_0: f32[6,4] = caffe.Power(%z/polynomial_0/product, shift=2.000000000000001)\n"
        "%z/log: f32[6,4] = caffe.Eltwise(%z/polynomial_0, %z/ratio, operation='PROD')\n"
        "%z: f32[6,4] = caffe.Eltwise(%z/positive, %z/log)\n" + Z
    )


def test_softplus_is_exact_in_float32() -> None:
    graph = narrowed(graph_of("%z: f32[2,3,4] = softplus(%x)"), OPENVINO)
    above = np.array([0, 1e-6, 1e-3, 0.1, 0.5, 1, 2, 5, 10, 20, 80, 1e4])
    x = np.concatenate((-above[::-1], above))
    found = forward(graph, {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs["z"].ravel()
    assert_allclose(found, np.logaddexp(x, 0), rtol=1e-6, atol=1e-7)
