"""MNN: its converter for Caffe nets, then its runtime. Arrays go in and out in Caffe's order of axes."""

import os
import subprocess
import sys

import MNN
import numpy as np

# in a process of its own, which it may end; without the current folder on its path
CONVERT = "import sys; sys.path[:] = filter(None, sys.path); import _tools; _tools.mnnconvert(sys.argv)"


def about(args, arrays):
    return {"version": MNN.version()}, {}


def convert(args, arrays):
    """Convert the folder's net into ``net.mnn`` by MNN's converter. Return no arrays and no facts."""
    base = os.path.join(args["folder"], "net")
    files = ["--modelFile", base + ".caffemodel", "--prototxt", base + ".prototxt", "--MNNModel", base + ".mnn"]
    command = [sys.executable, "-c", CONVERT, "-f", "CAFFE", "--bizCode", "lstmc"] + files
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if not os.path.isfile(base + ".mnn"):
        raise RuntimeError("mnnconvert wrote no net: " + process.stdout.decode(errors="replace").strip())
    return {}, {}


def run(args, arrays):
    """Return the wanted blobs of ``net.mnn`` on ``arrays``."""
    net = MNN.Interpreter(os.path.join(args["folder"], "net.mnn"))
    net.setSessionHint(3, 0)  # WINOGRAD_MEMORY_LEVEL: without, a convolution of 5 x 5 is off by 5e-4
    session = net.createSession({"numThread": 1})  # several threads would keep waiting for each other
    for name, array in arrays.items():
        net.resizeTensor(net.getSessionInput(session, name), array.shape)
    net.resizeSession(session)
    for name, array in arrays.items():
        net.getSessionInput(session, name).copyFrom(_host(array))
    net.runSession(session)
    outputs = {}
    for name in args["wanted"]:
        tensor = net.getSessionOutput(session, name)
        array = np.zeros(tensor.getShape(), np.float32)
        host = _host(array)
        tensor.copyToHostTensor(host)
        outputs[name] = np.array(host.getData(), np.float32).reshape(array.shape)
    return {}, outputs


def _host(array):
    return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)
