"""Saving a net as Caffe saves it after training; runs in the worker, on the worker's Python."""

import caffe
from caffe.proto import caffe_pb2


def save(args, arrays):
    """Load a net with its weights, change some parameters, save it."""
    net = caffe.Net(args["prototxt"], caffe.TEST, weights=args["weights"])
    for layer, index, name in args["change"]:
        net.params[layer][index].data[...] = arrays[name]
    net.save(args["to"])
    return [[layer, len(blobs)] for layer, blobs in net.params.items()], {}


def save_old(args, arrays):
    """Rewrite a file of weights with layers of the old form; all are InnerProducts."""
    net = caffe_pb2.NetParameter()
    with open(args["weights"], "rb") as file:
        net.ParseFromString(file.read())
    for layer in net.layer:
        if layer.blobs:
            net.layers.add(name=layer.name, type=caffe_pb2.V1LayerParameter.INNER_PRODUCT).blobs.extend(layer.blobs)
    del net.layer[:]
    with open(args["weights"], "wb") as file:
        file.write(net.SerializeToString())
    return len(net.layers), {}
