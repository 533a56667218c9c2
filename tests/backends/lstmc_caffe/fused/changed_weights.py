"""Runs inside the Caffe worker: a net of phase TEST whose weights are written to between passes."""

import caffe
import numpy as np


def changes(w):
    """Writes to a matrix in place, each by another way that a hash could miss."""
    yield "nothing"
    w[0, 0] += 1
    yield "the first weight"
    w[-1, -1] += 1
    yield "the last weight"
    w.flat[[1, 129]] *= -1  # of one lane, in the highest bit: lost where a hash only multiplies
    yield "two signs"
    w[[1, 2]] = w[[2, 1]]
    yield "two rows"
    w[[1, 2]] = w[[2, 1]]
    yield "back"
    w[...] = 0
    yield "zeros"
    w[...] = -0.0
    w[0, 1] = 1e-30
    yield "nearly zeros"


def run(args, arrays):
    """After each change to each parameter: the names, what the net gives, and what one gives that was never run."""
    net = caffe.Net(args["net"], caffe.TEST, weights=args["weights"])
    held = [blob.data for blob in net.params[args["layer"]]]  # pointers that Caffe does not see again
    names, kept, fresh = [], [], []
    for w in held:
        for name in changes(w) if w.ndim == 2 else ():
            other = caffe.Net(args["net"], caffe.TRAIN)
            for i, mine in enumerate(held):
                other.params[args["layer"]][i].data[...] = mine
            for one, into in ((net, kept), (other, fresh)):
                one.blobs["x"].data[...] = arrays["x"]
                one.forward()
                into.append(one.blobs["y"].data.copy())
            names.append(name)
    return names, {"kept": np.stack(kept), "fresh": np.stack(fresh)}
