"""Batches through one net in a row, forward or in Caffe's own solver; runs in the worker, on the worker's Python."""

import os
import tempfile

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


def solve(args, arrays):
    """As many solver steps as ``arrays`` have rows, each on a row; the trained net is saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "solver.prototxt")
        with open(path, "w") as file:
            file.write(f'net: "{args["prototxt"]}" {args["solver"]}')
        solver = caffe.get_solver(path)
    solver.net.copy_from(args["weights"])
    losses = []
    for batch in range(args["batches"]):
        fill(solver.net, arrays, batch)
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    solver.net.save(args["to"])
    return losses, {}


def fill(net, arrays, batch):
    """Feed a batch."""
    for name, array in arrays.items():
        net.blobs[name].data[...] = array[batch]
