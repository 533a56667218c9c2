"""Time nets in turns. Runs inside the worker, by the Python that has pycaffe."""

import ctypes
import os
import tempfile
from timeit import default_timer

import caffe


def load(text):
    """A net from its prototxt's text, in phase TRAIN."""
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        return caffe.Net(path, caffe.TRAIN)
    finally:
        os.unlink(path)


def finisher(mode):
    """Return a function that waits for the end of work on a GPU, which is asynchronous."""
    return ctypes.CDLL("libcuda.so.1").cuCtxSynchronize if mode == "gpu" else lambda: None


def nets_seconds(args, arrays):
    """The least seconds of a forward and backward pass of each net; ``args`` has mode, nets, rounds and seconds."""
    getattr(caffe, "set_mode_" + args["mode"])()
    finish = finisher(args["mode"])
    nets = dict((name, load(text)) for name, text in args["nets"].items())
    best = dict.fromkeys(nets, float("inf"))
    started = default_timer()
    for done in range(args["rounds"]):
        for name, net in nets.items():
            last = len(net.layers) - 1
            start = default_timer()
            net._forward(0, last)
            net._backward(last, 0)
            finish()
            if done:  # the first pass allocates
                best[name] = min(best[name], default_timer() - start)
        if done > 2 and default_timer() - started > args["seconds"]:
            break
    return best, {}
