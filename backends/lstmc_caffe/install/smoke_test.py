"""Run by the interpreter that pycaffe was built for: does the fresh Caffe load, compute, and know its layers? It needs
nothing but numpy and caffe, and prints one line of JSON."""

import json
import os
import sys
import tempfile

import caffe
import numpy as np

# force_backward, as a net without a loss is not differentiated otherwise
NET = """
force_backward: true
layer { name: "x" type: "Input" top: "x"
        input_param { shape { dim: 3 dim: 2 dim: 4 } } }
layer { name: "cont" type: "Input" top: "cont"
        input_param { shape { dim: 3 dim: 2 } } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 5 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "h" type: "LSTM" bottom: "y" bottom: "cont" top: "h"
        recurrent_param { num_output: 6 weight_filler { type: "xavier" } } }
"""


def try_backward(net: caffe.Net, x: np.ndarray) -> None:
    """Compare the gradient of the sum of h by the first parameter with NumPy, and with a difference of two runs."""
    net.backward(h=np.ones((3, 2, 6), np.float32))
    weight, dy = net.params["y"][0], net.blobs["y"].diff
    error = float(np.abs(weight.diff - np.einsum("tnh,tnd->hd", dy, x)).max())
    if not error < 1e-5:
        sys.exit(f"the gradient of InnerProduct differs from NumPy by {error:g}")
    sums = []
    for step in (0.05, -0.1):  # to the weight + 0.05, then to the weight - 0.05
        weight.data[0, 0] += step
        net.forward()
        sums.append(float(net.blobs["h"].data.sum(dtype=np.float64)))
    expected, computed = (sums[0] - sums[1]) / 0.1, float(weight.diff[0, 0])
    if not abs(computed - expected) < 1e-3 + 0.02 * abs(expected):
        sys.exit(f"the gradient through LSTM is {computed:g}, and {expected:g} by differences")


def main() -> None:
    """Run a small net, and print Caffe's version and layers. Exit with a message if a result or a gradient is wrong."""
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt", delete=False) as file:
        file.write(NET)
    try:
        net = caffe.Net(file.name, caffe.TEST)
    finally:
        os.unlink(file.name)
    x = np.random.RandomState(1).uniform(-1, 1, (3, 2, 4)).astype(np.float32)
    net.blobs["x"].data[...] = x
    net.blobs["cont"].data[...] = [[0, 0], [1, 1], [1, 1]]
    net.forward()
    weight, bias = (blob.data for blob in net.params["y"])
    error = float(np.abs(net.blobs["y"].data - (x.dot(weight.T) + bias)).max())
    h = net.blobs["h"].data
    if not error < 1e-5:
        sys.exit(f"InnerProduct differs from NumPy by {error:g}")
    if h.shape != (3, 2, 6) or not np.isfinite(h).all() or not np.abs(h).max() > 0:
        sys.exit(f"LSTM gave shape {h.shape} and {h}")
    try_backward(net, x)
    print(json.dumps({"caffe": caffe.__version__, "layers": sorted(caffe.layer_type_list())}))


main()
