"""Runs inside the Caffe worker: a solver whose gradients are given."""

import caffe


def run(args, arrays):
    """The parameters after each update; from the one numbered ``restored`` on, of a solver that a snapshot began.

    ``arrays`` has the gradients of update i as ``i|j``, and the first value of parameter j as ``j``.
    """
    caffe.set_mode_cpu()
    found = {}
    solver, blobs = _solver(args["solver"], arrays)
    for j, blob in enumerate(blobs):
        blob.data[...] = arrays[str(j)]
    for i in range(args["updates"]):
        if i == args["restored"]:
            solver.snapshot()
            solver, blobs = _solver(args["solver"], arrays)
            solver.restore(f"{args['prefix']}_iter_{i}.solverstate")
        solver.step(1)
        found.update((f"{i}|{j}", blob.data.copy()) for j, blob in enumerate(blobs))
    return None, found


def _solver(path, arrays):
    solver = caffe.get_solver(path)
    blobs = [blob for layer in solver.net.layers for blob in layer.blobs]

    def give():
        for j, blob in enumerate(blobs):
            blob.diff[...] = arrays[f"{solver.iter}|{j}"]

    solver.add_callback(lambda: None, give)
    return solver, blobs
