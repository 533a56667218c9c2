"""One of Caffe's own solvers, one iteration at a time; and the time that an iteration takes. Runs inside the worker, by
the Python that has pycaffe.
Each function is called as ``function(args, arrays)`` and returns (JSON data, {name: array}). ``snapshot`` returns the
whole state of a run, from which ``start`` resumes it; nothing here writes into a folder of the user."""

import ctypes
import os
import shutil
import tempfile
import timeit
import zlib

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

NEVER = 2**31 - 1
_RUNS = {}  # {"now": Run}: a worker trains one net at a time


class Run(object):
    """A solver with its nets, and which blobs carry state from one batch to the next."""

    def __init__(self, args):
        """Make the solver and its nets from the arguments of :func:`start`."""
        self.mode, self.carried, self.scores = args["mode"], args["carried"], args["scores"]
        message, trained = solver_message(args)
        self.use()
        self.solver = through_file(caffe.get_solver, text_format.MessageToString(message, as_utf8=True))
        self.net = self.solver.net
        self.blobs = blobs_of(self.net)  # of training, by name
        self.weighted = [(blob, w) for blob, w in zip(self.net._blobs, self.net._blob_loss_weights) if w]  # losses
        self.layers, self.params = layers_of(self.net, trained)
        self.ranks = Ranks(self, args["ranks"]) if args["ranks"] else None
        self.watched = {} if self.mode == "gpu" else self.params  # to read a blob of a GPU copies it
        self.before = {}  # arrays by name, from before the last update: see keep
        self.test_net = self.solver.test_nets[0] if args["test"] else None
        if self.test_net is not None:
            self.test_net.share_with(self.net)

    def use(self):
        """Set the mode, which belongs to the process and not to the net."""
        getattr(caffe, "set_mode_" + self.mode)()

    def keep(self):
        """Copy the parameters and states before the next update, on the CPU."""
        if self.watched:
            sources = dict(("param:" + name, blob.data) for name, blob in self.watched.items())
            sources.update(("carried:" + target, self.blobs[target].data) for _, target in self.carried)
            for name, array in sources.items():
                np.copyto(self.before.setdefault(name, np.empty_like(array)), array)

    def not_finite(self):
        """Return the name of a parameter with NaN or infinity; None without one, and on a GPU. The sum is checked
        first: the sum of finite elements is infinite only near the largest float32."""
        for name in sorted(self.watched):
            array = self.watched[name].data
            if not np.isfinite(np.sum(array)) and not np.isfinite(array).all():
                return name
        return None


def solver_message(args):
    """Return the SolverParameter of a run that lstmc tests and saves, and the training net in it."""
    message = caffe_pb2.SolverParameter()
    text_format.Merge(args["solver"], message)
    message.ClearField("net")
    trained = message.net_param
    if args["ranks"]:  # each rank trains on a part of a batch; the net of whole batches is for tests
        trained = message.train_net_param
        if args["test"]:
            text_format.Merge(args["ranks"]["test_net"], message.test_net_param.add())
    text_format.Merge(args["net"], trained)
    message.snapshot, message.display, message.snapshot_prefix = 0, 0, "lstmc"
    del message.test_iter[:]
    message.test_interval, message.test_initialization = 0, False
    if args["test"]:  # Caffe makes a test net only if a number of batches and an interval are given
        message.test_iter.append(1)
        message.test_interval = NEVER
    return message, trained


class Ranks(object):
    """One of several processes, each with a part of every batch: gradients are added up before each update. They
    exchange one message a step: all gradients and the loss in one array."""

    def __init__(self, run, config):
        """Join the other processes by MPI, and have Caffe call :meth:`add_up` at each update."""
        from mpi4py import MPI

        self.comm, self.in_place, self.masks, self.axes = MPI.COMM_WORLD, MPI.IN_PLACE, config["masks"], config["axes"]
        self.run, self.loss = run, 0.0
        self.learned = [run.params[name] for name in sorted(run.params)]
        counts = [blob.count for blob in self.learned]
        self.message = np.empty(sum(counts) + 1, np.float32)
        self.parts = np.split(self.message, np.cumsum(counts, dtype=int))  # views; the last one is the loss
        run.solver.add_callback(lambda: None, self.add_up)

    def add_up(self):
        """Add up the gradients and losses of all ranks; Caffe calls this between the backward pass and the update."""
        diffs = [blob.diff for blob in self.learned]  # asked for anew: a GPU's gradients are copied then
        for part, diff in zip(self.parts, diffs):
            part[:] = diff.reshape(-1)
        self.message[-1] = own_loss(self.run)
        self.comm.Allreduce(self.in_place, self.message)
        for part, diff in zip(self.parts, diffs):
            diff[...] = part.reshape(diff.shape)
        self.loss = float(self.message[-1])

    def draw(self, seed, blobs):
        """Draw the masks of all dropouts as Caffe draws them for the whole batch, and set this rank's part of each.
        Each element takes one number of the Mersenne twister, in the order of layers: dropout_layer.cpp and
        caffe_rng_bernoulli, by boost::bernoulli_distribution."""
        if not self.masks:
            return
        twister = np.random.RandomState(seed)
        for name, ratio, shape, axis, start, stop in self.masks:
            count = int(np.prod(shape))
            drawn = np.frombuffer(twister.bytes(4 * count), "<u4").astype(np.float32).reshape(shape)
            keep = np.float32(1.0 - np.float64(np.float32(ratio)))
            mask = (drawn <= keep * np.float32(2**32 - 1)).astype(np.float32) * np.float32(1.0 / (1.0 - ratio))
            if axis is not None:
                mask = mask[(slice(None),) * axis + (slice(start, stop),)]
            blobs[name].data[...] = mask

    def gather_states(self, states):
        """Return the carried states of all examples on rank 0; on other ranks, the rank's own states."""
        all_ranks = self.comm.gather(states, 0)
        if all_ranks is None:
            return states
        whole = {}
        for name, array in states.items():
            axis = self.axes[name[len("carried:") :]]
            parts = [each[name] for each in all_ranks]
            whole[name] = array if axis is None else np.concatenate(parts, axis)
        return whole


def own_loss(run):
    """Return this rank's loss: the sum of loss_weight * top, as in Caffe."""
    return sum(weight * float(np.sum(blob.data)) for blob, weight in run.weighted)


def unnamed_file():
    """Return a temporary file without a name: in memory if this Python can, so that no disk can be full."""
    memory = getattr(os, "memfd_create", None)
    return os.fdopen(memory("lstmc"), "w+b") if memory else tempfile.TemporaryFile()


def through_file(function, content):
    """Return ``function(path)`` for the path of a file with this content, bytes or text."""
    with unnamed_file() as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
        file.flush()
        return function("/dev/fd/%d" % file.fileno())


def blobs_of(net):
    """Return {name: blob}; net.blobs miscounts if a layer has tops without names."""
    return dict(zip(net._blob_names, net._blobs))


def layers_of(net, message):
    """Return [[name, type, parameters]] of layers that own parameters, and {parameter: blob of its first layer}."""
    specs, layers, params = {}, [], {}
    for layer in message.layer:
        specs.setdefault(str(layer.name), [str(spec.name) for spec in layer.param])
    for name, layer in zip(net._layer_names, net.layers):
        names = specs.get(name, [])
        keys = [(names[i] if i < len(names) else "") or "%s/%d" % (name, i) for i in range(len(layer.blobs))]
        if any(key not in params for key in keys):
            layers.append([name, layer.type, keys])
        for key, blob in zip(keys, layer.blobs):
            params.setdefault(key, blob)
    return layers, params


def start(args, arrays):
    """Make the solver and its nets. Return the layers that own parameters, all parameters' shapes, and the iteration.
    args: solver and net (texts), mode, test (whether there is a test net), carried ([[from, to]]), scores, ranks (None,
    or for one of several ranks: test_net, masks, axes), and restored, if a run is resumed. arrays: ``param:NAME``;
    ``carried:NAME`` and ``state`` of a resumed run."""
    end(args, arrays)
    run = Run(args)
    copy(run.params, with_prefix(arrays, "param:"))
    if args["restored"]:
        copy(run.blobs, with_prefix(arrays, "carried:"))
        through_file(run.solver.restore, arrays["state"].tobytes())
    _RUNS["now"] = run
    shapes = dict((name, list(blob.data.shape)) for name, blob in run.params.items())
    return {"layers": run.layers, "params": shapes, "iteration": run.solver.iter}, {}


def with_prefix(arrays, prefix):
    return dict((name[len(prefix) :], array) for name, array in arrays.items() if name.startswith(prefix))


def copy(blobs, arrays):
    """Copy arrays into the blobs of the same names. Copy none if a name is unknown or a shape differs."""
    for name in sorted(arrays):
        if name not in blobs:
            raise ValueError("the net has no %s" % name)
        if tuple(blobs[name].data.shape) != arrays[name].shape:
            shape = list(arrays[name].shape)
            raise ValueError("%s: expected shape %s, found %s" % (name, list(blobs[name].data.shape), shape))
    for name, array in arrays.items():
        blobs[name].data[...] = array


def carry(blobs, pairs):
    """Copy carried values to the next batch's inputs. All are read before any is written: pairs may form a chain."""
    values = [(target, blobs[source].data.copy()) for source, target in pairs]
    for target, value in values:
        blobs[target].data[...] = value.reshape(blobs[target].data.shape)


def step(args, arrays):
    """Make one update by the batch in arrays. args: seed, the run's, or None if the net draws nothing. Return the
    number of iterations done, the loss before the update (the sum of loss_weight * top, as in Caffe), and the name of a
    parameter that is not finite after the update, or None."""
    run = _RUNS["now"]
    run.use()
    if args["seed"] is not None:
        seed = zlib.crc32(("%d %d" % (args["seed"], run.solver.iter)).encode("ascii")) & 0xFFFFFFFF
        caffe.set_random_seed(seed)
        if run.ranks:
            run.ranks.draw(seed, run.blobs)
    copy(run.blobs, arrays)
    run.keep()
    run.solver.step(1)
    loss = run.ranks.loss if run.ranks else own_loss(run)
    carry(run.blobs, run.carried)
    return {"iteration": run.solver.iter, "loss": loss, "not_finite": run.not_finite()}, {}


def before(args, arrays):
    """Return ``param:NAME`` and ``carried:NAME`` with their values before the last update; nothing on a GPU."""
    run = _RUNS["now"]
    if not run.ranks:
        return None, run.before
    values = dict(run.before)
    values.update(run.ranks.gather_states(dict(pair for pair in values.items() if pair[0].startswith("carried:"))))
    return None, values


def test(args, arrays):
    """Return the scores of one batch in phase TEST. args: first, whether carried states start from zeros."""
    run = _RUNS["now"]
    if run.test_net is None:  # only rank 0 tests
        return {}, {}
    run.use()
    blobs = blobs_of(run.test_net)
    if args["first"]:
        for _, target in run.carried:
            blobs[target].data[...] = 0
    copy(blobs, arrays)
    run.test_net._forward(0, len(run.test_net.layers) - 1)
    scores = dict((name, float(np.mean(blobs[name].data))) for name in run.scores)
    carry(blobs, run.carried)
    return scores, {}


def snapshot(args, arrays):
    """Return all that the next iterations depend on: ``param:NAME``, ``carried:NAME``, and Caffe's solverstate."""
    run = _RUNS["now"]
    arrays_out = dict(("carried:" + target, run.blobs[target].data) for _, target in run.carried)
    if run.ranks:
        arrays_out = run.ranks.gather_states(arrays_out)
    arrays_out.update(blobs(args, arrays)[1])
    arrays_out["state"] = np.frombuffer(solver_state(run.solver), np.uint8)
    return {"iteration": run.solver.iter}, arrays_out


def solver_state(solver):
    """Return the bytes of the solverstate that Caffe writes. Caffe names its two files after a relative prefix, and
    overwrites any file of that name. So the solverstate is written into a file without a name, and the caffemodel, with
    a copy of a parameter for each layer that shares it, is discarded."""
    before, folder = os.getcwd(), tempfile.mkdtemp(prefix="lstmc-")
    try:
        os.chdir(folder)
        with unnamed_file() as file:
            stem = "lstmc_iter_%d" % solver.iter
            os.symlink(os.devnull, stem + ".caffemodel")
            os.symlink("/dev/fd/%d" % file.fileno(), stem + ".solverstate")
            solver.snapshot()
            file.seek(0)
            return file.read()
    finally:
        os.chdir(before)
        shutil.rmtree(folder)


def blobs(args, arrays):
    """Return the values of all parameters, each named ``param:NAME``."""
    return None, dict(("param:" + name, blob.data) for name, blob in _RUNS["now"].params.items())


def end(args, arrays):
    """Free the nets."""
    _RUNS.clear()
    return None, {}


def nets_seconds(args, arrays):
    """Return the least seconds of a forward and backward pass of each net. args: mode, nets, rounds, seconds."""
    getattr(caffe, "set_mode_" + args["mode"])()
    # waits for the end of work on a GPU, which is asynchronous
    finish = ctypes.CDLL("libcuda.so.1").cuCtxSynchronize if args["mode"] == "gpu" else lambda: None
    nets = dict((n, through_file(lambda path: caffe.Net(path, caffe.TRAIN), text)) for n, text in args["nets"].items())
    best = dict.fromkeys(nets, float("inf"))
    started = timeit.default_timer()
    for done in range(args["rounds"]):
        for name, net in nets.items():
            last = len(net.layers) - 1
            start = timeit.default_timer()
            net._forward(0, last)
            net._backward(last, 0)
            finish()
            if done:  # the first pass allocates
                best[name] = min(best[name], timeit.default_timer() - start)
        if done > 2 and timeit.default_timer() - started > args["seconds"]:
            break
    return best, {}
