"""Runs in the Python that has Caffe: a few steps of its own solver on a net, and the caffemodel that it saves."""

import os
import tempfile

LOSS = """
layer {{ name: "wanted" type: "DummyData" top: "wanted" dummy_data_param {{ shape {{ {} }}
  data_filler {{ type: "uniform" min: -1 max: 1 }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "{}" bottom: "wanted" top: "loss" }}
"""


def train(args, arrays):
    """``args``: the net's text, the blob to train towards random numbers, its sizes, steps, where to save."""
    import caffe  # noqa: PLC0415 - there is none in the Python of the tests

    caffe.set_random_seed(1)
    folder = tempfile.mkdtemp()
    net, solver = os.path.join(folder, "net.prototxt"), os.path.join(folder, "solver.prototxt")
    sizes = " ".join(f"dim: {size}" for size in args["shape"])
    with open(net, "w") as file:
        file.write(args["text"] + LOSS.format(sizes, args["blob"]))
    with open(solver, "w") as file:
        file.write(f'net: "{net}" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 100')
    trained = caffe.SGDSolver(solver)
    for _ in range(args["steps"]):
        for name in trained.net.inputs:
            trained.net.blobs[name].data[...] = arrays[name]
        trained.step(1)
    trained.net.save(str(args["save"]))
    return {"loss": float(trained.net.blobs["loss"].data)}, {}


def draw(args, arrays):
    """``args``: the net's text, the blobs wanted, where to save. Its parameters become random numbers of 0.5 to 1.5."""
    import caffe  # noqa: PLC0415 - there is none in the Python of the tests
    import numpy as np  # noqa: PLC0415

    net_file = str(args["save"]) + ".prototxt"
    with open(net_file, "w") as file:
        file.write(args["text"])
    net = caffe.Net(net_file, caffe.TEST)
    random = np.random.RandomState(1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.uniform(0.5, 1.5, blob.data.shape)
    for name, array in arrays.items():
        net.blobs[name].data[...] = array
    net.save(str(args["save"]))
    net.forward()
    return {}, {name: np.array(net.blobs[name].data) for name in args["wanted"]}
