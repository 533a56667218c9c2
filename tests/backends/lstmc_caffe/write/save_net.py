"""Saving a net as Caffe saves it after training; runs in the worker, on the worker's Python."""

import caffe


def save(args, arrays):
    """Load a net with its weights, change some parameters, save it."""
    net = caffe.Net(args["prototxt"], caffe.TEST, weights=args["weights"])
    for layer, index, name in args["change"]:
        net.params[layer][index].data[...] = arrays[name]
    net.save(args["to"])
    return [[layer, len(blobs)] for layer, blobs in net.params.items()], {}
