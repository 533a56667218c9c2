"""Runs inside the worker, by the Python that has pycaffe: steps of a solver, and how long nets take."""

# mypy: ignore-errors
import ctypes
import os
import tempfile
from timeit import default_timer

import caffe


def written(text):
    """A file with this text, which the caller deletes."""
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path


def solver_steps(args, arrays):
    """Steps of a solver on one batch; the net is then saved to ``trained``. The mode is cpu or gpu."""
    getattr(caffe, "set_mode_" + args["mode"])()
    paths = [written(args["net"])]
    try:
        paths.append(written('net: "%s" %s' % (paths[0], args["solver"])))
        solver = caffe.SGDSolver(paths[1])
    finally:
        for path in paths:
            os.unlink(path)
    solver.net.copy_from(args["weights"])
    blobs = dict(zip(solver.net._blob_names, solver.net._blobs))
    for name in arrays:
        blobs[name].data[...] = arrays[name]
    solver.step(args["steps"])
    solver.net.save(args["trained"])
    return None, {}


def finisher(mode):
    """What waits for the work that was begun: a GPU's goes on by itself."""
    return ctypes.CDLL("libcuda.so.1").cuCtxSynchronize if mode == "gpu" else lambda: None


def seconds(args, arrays):
    """The least seconds of a forward and backward pass of each net; ``args`` has mode, nets, rounds and seconds.

    They are loaded together and take turns.
    """
    getattr(caffe, "set_mode_" + args["mode"])()
    finish, nets = finisher(args["mode"]), {}
    for name in sorted(args["nets"]):
        path = written(args["nets"][name])
        nets[name] = caffe.Net(path, caffe.TRAIN)
        os.unlink(path)
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
