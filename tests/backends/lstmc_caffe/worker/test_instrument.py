"""Gradients of chosen inputs, in nets where others have none: Caffe would abort at Embed, labels and Accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstmc_caffe.processes.process import CaffeRequestError
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.in_worker import set_params

pytestmark = pytest.mark.caffe

# s = (W[ids] + x + f + m) U', read by a loss, by a score, and by a probe
NET = """
name: "net"
layer { name: "ids" type: "Input" top: "ids" input_param { shape { dim: 3 } } }
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 3 } } }
layer { name: "two" type: "DummyData" top: "f" top: "m" dummy_data_param { shape { dim: 3 dim: 2 }
        data_filler { value: 0.25 } } }
layer { name: "e" type: "Embed" bottom: "ids" top: "e" param { name: "W" lr_mult: 0 }
        embed_param { num_output: 2 input_dim: 4 bias_term: false } }
layer { name: "z" type: "Eltwise" bottom: "e" bottom: "x" bottom: "f" bottom: "m" top: "z" }
layer { name: "s" type: "InnerProduct" bottom: "z" top: "s" param { name: "U" lr_mult: 0 }
        inner_product_param { num_output: 2 bias_term: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" top: "loss" loss_weight: 0 }
layer { name: "acc" type: "Accuracy" bottom: "s" bottom: "label" top: "acc" }
"""
W = np.arange(8).reshape(4, 2) / 4
U = np.array([[0.5, -1], [2, 0.25]])
IDS, X, LABEL = np.array([3, 0, 3]), np.array([[0.5, -0.25], [1, 0.75], [0, -1]]), np.array([1, 0, 1])
D = np.array([[1, 0], [0.5, 2], [-1, 3]])


def test_what_is_asked_for_is_computed_and_nothing_else(caffe: Runner) -> None:
    with caffe.load(NET, probes=["s", "loss"], gradients=["x", "f", "x"]) as net:
        assert net.inputs == ("ids", "x", "label")
        assert net.outputs == ("acc", "loss")
        assert set(net.blobs) >= {"ids", "x", "label", "f", "m", "e", "z", "s", "loss", "acc"}
        assert not [name for name in (*net.blobs, *net.params) if "lstmc" in name]
        assert net.params == {"W": (4, 2), "U": (2, 2)}
        set_params(caffe, net, {"W": W, "U": U})
        fed = {"ids": IDS, "x": X, "label": LABEL}
        found = net.run(fed, want=net.blobs, backward={"s": D}, want_diffs=["x", "f"], want_param_diffs=True)
        scores = (W[IDS] + X + 0.5) @ U.T
        assert_allclose(found.blobs["s"], scores, rtol=1e-6)
        assert_array_equal(found.blobs["x"], X)
        assert_allclose(found.diffs["x"], D @ U, rtol=1e-6)
        assert_allclose(found.diffs["f"], D @ U, rtol=1e-6)
        rows = np.zeros((4, 2))
        np.add.at(rows, IDS, D @ U)
        assert_allclose(found.param_diffs["W"], rows, rtol=1e-6)  # in spite of lr_mult 0
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        loss = net.run(fed, backward={"loss": np.asarray(3)}, want_diffs=["x"]).diffs["x"]
        assert_allclose(loss, (p - np.eye(2)[LABEL]) @ U, rtol=1e-5, atol=1e-6)


def test_gradients_of_values_that_are_no_inputs_are_refused(caffe: Runner) -> None:
    with pytest.raises(CaffeRequestError) as caught:
        caffe.load(NET, gradients=["x", "z", "y"])
    assert str(caught.value).endswith(" (TEST, cpu): no gradient of y, z: no layer without bottoms makes it")
