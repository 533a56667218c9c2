"""Batches through one net in a row; runs in the worker, on the worker's Python."""

import caffe


def forward(args, arrays):
    """Forward passes of one net on the rows of ``arrays``; ``carried`` says which blob takes which after each."""
    net = caffe.Net(args["prototxt"], caffe.TEST, weights=args["weights"])
    found = {}
    for batch in range(args["batches"]):
        fill(net, arrays, batch)
        net.forward()
        found.update({f"{name}/{batch}": net.blobs[name].data.copy() for name in args["outputs"]})
        for before, after in args["carried"].items():
            net.blobs[before].data[...] = net.blobs[after].data
    return None, found


def fill(net, arrays, batch):
    """Feed a batch."""
    for name, array in arrays.items():
        net.blobs[name].data[...] = array[batch]
