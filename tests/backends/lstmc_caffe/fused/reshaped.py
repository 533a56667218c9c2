"""Runs inside the Caffe worker: a net whose inputs are given other sizes than its prototxt has."""

import caffe


def run(args, arrays):
    """The blob ``read`` of the net in the file ``net``, with the shapes that ``arrays`` have."""
    net = caffe.Net(args["net"], caffe.TEST, weights=args["weights"])
    for name, array in arrays.items():
        net.blobs[name].reshape(*array.shape)
        net.blobs[name].data[...] = array
    net.forward()
    return None, {args["read"]: net.blobs[args["read"]].data}
