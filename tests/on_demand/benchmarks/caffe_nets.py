"""Runs inside the Caffe worker (its Python has pycaffe): the nets to compare with, and the clock.

Every function takes JSON arguments and arrays, and returns JSON and arrays, as ``Runner.call`` wants it.
"""

import ctypes
import os
import re
import tempfile
import time

import caffe
import numpy as np
from caffe import layers as L
from caffe import params as P

FILLER = {"type": "uniform", "min": -0.05, "max": 0.05}


def unrolled_by_hand(steps, batch, width, units):
    """The post's net, by NetSpec: every step its own two products, Slice, gates in place, Eltwise, all at axis 2."""
    net = caffe.NetSpec()
    zeros = {"shape": {"dim": [1, batch, units]}, "data_filler": {"type": "constant", "value": 0}}
    h = net.h0 = L.DummyData(dummy_data_param=zeros)
    c = net.c0 = L.DummyData(dummy_data_param=zeros)
    net.X = L.Input(input_param={"shape": {"dim": [steps, batch, width]}})
    xs = [net.X]
    if steps > 1:
        xs = L.Slice(net.X, ntop=steps, slice_param={"axis": 0, "slice_point": list(range(1, steps))})
    hs = []
    for t in range(steps):
        pre = f"t{t}/"
        x_product = L.InnerProduct(
            xs[t],
            param=[{"name": "W_x"}, {"name": "b", "lr_mult": 2, "decay_mult": 0}],
            inner_product_param={"num_output": 4 * units, "axis": 2, "weight_filler": FILLER},
        )
        h_product = L.InnerProduct(
            h,
            param=[{"name": "W_h"}],
            inner_product_param={"num_output": 4 * units, "axis": 2, "bias_term": False, "weight_filler": FILLER},
        )
        gates = L.Eltwise(x_product, h_product, operation=P.Eltwise.SUM)
        cuts = [units, 2 * units, 3 * units]
        i, f, o, g = L.Slice(gates, ntop=4, slice_param={"axis": 2, "slice_point": cuts})
        i, f, o = (L.Sigmoid(gate, in_place=True) for gate in (i, f, o))
        g = L.TanH(g, in_place=True)
        kept = L.Eltwise(f, c, operation=P.Eltwise.PROD)
        new = L.Eltwise(i, g, operation=P.Eltwise.PROD)
        c = L.Eltwise(kept, new, operation=P.Eltwise.SUM)
        h = L.Eltwise(o, L.TanH(c), operation=P.Eltwise.PROD)
        net[pre + "c"], net[pre + "h"] = c, h
        hs.append(h)
    net.H = L.Concat(*hs, concat_param={"axis": 0})
    return str(net.to_proto())


def native(steps, batch, width, units, layers=1):
    """Caffe's own LSTM layer, or several of them, each on the one below."""
    net = caffe.NetSpec()
    net.X = L.Input(input_param={"shape": {"dim": [steps, batch, width]}})
    net.cont = L.DummyData(
        dummy_data_param={"shape": {"dim": [steps, batch]}, "data_filler": {"type": "constant", "value": 1}}
    )
    h = net.X
    for _ in range(layers):
        recurrent = {"num_output": units, "weight_filler": FILLER, "bias_filler": {"value": 0}}
        h = L.LSTM(h, net.cont, recurrent_param=recurrent)
    net.H = h
    return str(net.to_proto())


def native_two(*size):
    """Two of Caffe's own LSTM layers."""
    return native(*size, layers=2)


def netspec_seconds(args, arrays):
    """Seconds to build and print the post's net, the least of ``rounds``."""
    best = float("inf")
    for _ in range(args["rounds"]):
        start = time.process_time()
        unrolled_by_hand(*args["size"])
        best = min(best, time.process_time() - start)
    return best, {}


class Gemms:
    """The matrix products of one LSTM forward, and of forward and backward, alone: cblas_sgemm on the same sizes.

    Calling it from here takes longer than the product of one step where N is 1, so ``run`` gives the seconds of the
    calls less the least that as many take that have nothing to multiply.
    """

    def __init__(self, steps, batch, width, units):
        self.blas = self._library()
        floats = max(steps * batch * max(width, 4 * units), 4 * units * max(width, units))
        self.buffers = [(ctypes.c_float * floats)() for _ in range(3)]
        gates, rows = 4 * units, steps * batch
        # as inner_product_layer.cpp calls them: which of the two is transposed, m, n, k, and how often
        self.forward_products = [((False, True), rows, gates, width, 1), ((False, True), batch, gates, units, steps)]
        # dW_x; then a step: the gradient of h, and dW_h, which is added up
        self.backward_products = [
            ((True, False), gates, width, rows, 1),
            ((False, False), batch, units, gates, steps),
            ((True, False), gates, units, batch, steps),
        ]
        self.calling = {backward: self._least_calling(self._products(backward)) for backward in (False, True)}

    @staticmethod
    def _library():
        # the one that this process has loaded for Caffe
        with open("/proc/self/maps") as maps:
            found = re.search(r"\S*(?:openblas|libblas)\S*\.so\S*", maps.read())
        return ctypes.CDLL(found.group(0))

    def _products(self, backward):
        return self.forward_products + (self.backward_products if backward else [])

    def _least_calling(self, products):
        nothing = [(transposed, 0, n, k, times) for transposed, _, n, k, times in products]
        return min(self._seconds(nothing) for _ in range(50))

    def run(self, backward):
        return self._seconds(self._products(backward)) - self.calling[backward]

    def _seconds(self, products):
        a, b, c = self.buffers
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        start = time.process_time()
        for transposed, m, n, k, times in products:
            which = [112 if is_so else 111 for is_so in transposed]
            strides = (m if transposed[0] else k), (k if transposed[1] else n)
            added = one if transposed[0] else zero
            for _ in range(times):
                self.blas.cblas_sgemm(101, *which, m, n, k, one, a, max(strides[0], 1), b, strides[1], added, c, n)
        return time.process_time() - start


def load_net(text, phase=caffe.TRAIN):
    """A net with random inputs, and the seconds that Caffe took to load it."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt", delete=False) as file:
        file.write(text)
    try:
        start = time.process_time()
        net = caffe.Net(file.name, phase)
        seconds = time.process_time() - start
        rng = np.random.RandomState(0)
        for name in net.inputs:
            net.blobs[name].data[...] = rng.normal(size=net.blobs[name].data.shape)
        return net, seconds
    finally:
        os.unlink(file.name)


def with_loss(text, outputs):
    """A net's text with a layer that makes a loss of each output, so that Caffe goes backward."""
    for i, blob in enumerate(outputs):
        text += f'\nlayer {{ name: "loss{i}" type: "Power" bottom: "{blob}" top: "loss{i}" loss_weight: 1 }}\n'
    return text


def layer_seconds(args, arrays):
    """For each type of layer: how many, and the sums of their least forward and backward seconds, one by one."""
    net, _ = load_net(with_loss(args["net"], args["outputs"]))
    count = len(net.layers)
    forward, backward = [1e9] * count, [1e9] * count
    for _ in range(args["rounds"]):
        for i in range(count):
            start = time.process_time()
            net._forward(i, i)
            forward[i] = min(forward[i], time.process_time() - start)
        for i in reversed(range(count)):
            start = time.process_time()
            net._backward(i, i)
            backward[i] = min(backward[i], time.process_time() - start)
    found = {}
    for i, layer in enumerate(net.layers):
        number, ahead, back = found.get(layer.type, (0, 0.0, 0.0))
        found[layer.type] = (number + 1, ahead + forward[i], back + backward[i])
    return found, {}


def measure(args, arrays):
    """Interleaved times of several nets and of the bare products.

    ``nets`` maps names to prototxt text, or to the name of a function above; ``outputs`` to the blobs whose sum is
    the loss. Returns, for each: seconds to load, forward, forward and backward (all rounds), and its layers; of those
    in ``alone`` also what they take one after the other, with nothing else between and without the layers of losses, as
    other programs are measured: forward alone in phase TEST, as these have their weights packed when a net is loaded.
    """
    size = args["size"]
    makers = {"unrolled_by_hand": unrolled_by_hand, "native": native, "native_two": native_two}
    loaded, texts, found = {}, {}, {}
    for name, text in args["nets"].items():
        whole = makers[text](*size) if text in makers else text
        whole = texts[name] = with_loss(whole, args["outputs"][name])
        loads = []
        for _ in range(args["loads"]):
            loaded[name], seconds = load_net(whole)
            loads.append(seconds)
        found[name] = {"load": loads, "forward": [], "both": [], "layers": len(loaded[name].layers)}
    gemms = Gemms(*size)
    found["gemms"] = {"load": [0.0], "forward": [], "both": [], "layers": 0}
    for _ in range(args["rounds"]):
        for name, net in loaded.items():
            last = len(net.layers) - 1
            start = time.process_time()
            net._forward(0, last)
            middle = time.process_time()
            net._forward(0, last)
            net._backward(last, 0)
            found[name]["forward"].append(middle - start)
            found[name]["both"].append(time.process_time() - middle)
        found["gemms"]["forward"].append(gemms.run(False))
        found["gemms"]["both"].append(gemms.run(True))
    for name in args.get("alone", ()):
        for what, net in (("forward alone", load_net(texts[name], caffe.TEST)[0]), ("both alone", loaded[name])):
            last = len(net.layers) - 1 - len(args["outputs"][name])
            net.forward()
            if what == "both alone":
                net.backward()  # from here on the gradients of the outputs are there
            found[name][what] = []
            for _ in range(args["rounds"]):
                start = time.process_time()
                net._forward(0, last)
                if what == "both alone":
                    net._backward(last, 0)
                found[name][what].append(time.process_time() - start)
    return found, {}
