"""Run Caffe for lstmc in a process of its own, which reads requests from stdin and writes replies to the former stdout.
The runner starts this file with the interpreter that has pycaffe, whatever its age: it needs only numpy and caffe, and
runs on Python 2.7 as on 3.13: no annotations, f-strings and pathlib.
A frame, in both directions: the length of a JSON header (4 bytes, big-endian), the header, then the bytes of the arrays
that header["arrays"] lists in order, each as {group, name, dtype, shape}, C order, little-endian. A request's header
has "request" (a method on_<request> of Worker, which documents it); a reply's has "kind": "reply", or "error" with
type, message and traceback. The worker ends when its stdin closes."""

# ruff: noqa: E402
import os
import sys

# Beside this file lie lstmc's own modules; they must not be taken for modules that caffe or a user imports.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]

import ctypes
import fcntl
import io
import json
import resource
import signal
import struct
import tempfile
import traceback

import numpy as np

DTYPES = ("<f4", "<f8", "<i4", "<i8", "|u1", "|b1")


LAYER_LIBRARY = {"__name__": __name__}  # no module here, as sys.path lacks this folder
with io.open(os.path.join(_HERE, "layer_library.py"), "rb") as _source:
    exec(compile(_source.read(), _source.name, "exec"), LAYER_LIBRARY)
PROBE = "lstmc:probe:"  # begins the names of the reader layers that carry injected gradients
MOST_READ = 2**29  # bytes of a file of weights that every Caffe reads (io.cpp; some read 2**31 - 1)
FED = "lstmc:fed:"  # begins the names of the blobs that are fed in place of inputs whose gradient is wanted


class RequestError(Exception):
    """A request for something that does not exist or does not fit."""


def instrument(message, request):
    """Add a request's probes and gradients of inputs to a NetParameter."""
    tops = {str(top) for layer in message.layer for top in layer.top}.union(str(name) for name in message.input)
    for blob in request["probes"]:
        if blob not in tops:
            raise RequestError("cannot probe blob %s: no layer of the net makes it" % blob)
    if request["gradients"] is not None:
        _add_gradient_inputs(message, request["gradients"])
    # A probe reads a blob and changes nothing, so that a gradient can enter there. Caffe overwrites the gradient of a
    # blob with one reader, but sums those of several; the loss weight makes Caffe go backward from the probe.
    for blob in request["probes"]:
        message.layer.add(name=PROBE + blob, type="Power", bottom=[blob], top=[PROBE + blob], loss_weight=[1])


def _add_gradient_inputs(message, blobs):
    """Add a Bias with a learned zero after each of these inputs: Caffe computes gradients of bottoms of such layers.
    force_backward is not used: it asks for gradients of indices and labels too, where Caffe aborts. Parameters with
    lr_mult 0 get a gradient too, except blobs of a layer that passes no gradient on: for these, Scale writes a product
    into the gradient of its bottom (``scale_layer.cpp``)."""
    missing, layers = set(blobs), []
    stopped = [layer for layer in message.layer if layer.propagate_down and not any(layer.propagate_down)]
    fixed = {spec.name for layer in stopped for spec in layer.param}
    for layer in message.layer:
        copy = type(layer)()
        copy.CopyFrom(layer)
        for spec in copy.param:
            if spec.lr_mult == 0 and spec.name not in fixed:
                spec.lr_mult = 1
        layers.append(copy)
        for index, top in enumerate(layer.top):
            if str(top) in missing and not layer.bottom:
                missing.remove(str(top))
                copy.top[index] = FED + top
                bias = type(layer)(name=FED + top, type="Bias", bottom=[FED + top], top=[top])
                bias.bias_param.axis = bias.bias_param.num_axes = 0
                layers.append(bias)
    if missing:
        raise RequestError("no gradient of %s: no layer without bottoms makes it" % ", ".join(sorted(missing)))
    del message.layer[:]
    message.layer.extend(layers)


class Channel(object):
    """The two ends of the pipe, kept away from everything else that writes to stdout or reads stdin."""

    def __init__(self, source=None, sink=None):
        """Use stdin and stdout, or two named pipes by their paths."""
        self.sink = io.open(_private(1) if sink is None else sink, "wb")
        self.source = io.open(_private(0) if source is None else source, "rb")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)

    def receive(self):
        """Return the next frame as (header, {group: {name: array}}), or None if the pipe has closed."""
        length = self.source.read(4)
        if len(length) < 4:
            return None
        header = _native(json.loads(self.source.read(struct.unpack(">I", length)[0]).decode("utf-8")))
        groups = {}
        for item in header.pop("arrays"):
            array = np.empty(item["shape"], np.dtype(item["dtype"]))
            view, done = memoryview(array.reshape(-1).view(np.uint8)), 0
            while done < array.nbytes:
                count = self.source.readinto(view[done:])
                if not count:
                    return None
                done += count
            groups.setdefault(item["group"], {})[item["name"]] = array
        return header, groups

    def send(self, frame):
        for part in frame:
            self.sink.write(part)
        self.sink.flush()


def _private(descriptor):
    """Return a copy of a file descriptor that child processes do not inherit."""
    copy = os.dup(descriptor)
    fcntl.fcntl(copy, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return copy


def _native(value):
    """Return JSON data with its text as ``str``, the type of names of blobs and files on Python 2."""
    if isinstance(value, dict):
        return {_native(key): _native(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_native(item) for item in value]
    return value.encode("utf-8") if str is bytes and isinstance(value, type(b"".decode())) else value


def encode(header, groups):
    """Return the parts of a frame: the header's length, the header, and the memory of each array."""
    items, parts = [], []
    for group in groups:
        for name, array in groups[group].items():
            array = np.asarray(array)
            dtype = array.dtype.newbyteorder("<").str
            if dtype not in DTYPES:
                raise RequestError("array %r: expected a dtype of %s, found %s" % (name, DTYPES, array.dtype))
            # Through reshape(-1), as ascontiguousarray would turn the shape () into (1,).
            flat = np.ascontiguousarray(array.reshape(-1), dtype=dtype)
            items.append({"group": group, "name": name, "dtype": dtype, "shape": list(array.shape)})
            parts += [memoryview(flat.view(np.uint8))] if flat.size else []
    text = json.dumps(dict(header, arrays=items)).encode("utf-8")
    return [struct.pack(">I", len(text)), text] + parts


class LoadedNet(object):
    """A caffe.Net, its blobs without those that :func:`instrument` added, and its parameters by name."""

    def __init__(self, net, message, probes, mode):
        """Find the blobs, parameters, inputs and outputs of a net, without the layers of :func:`instrument`. ``fed``
        has the blob to write by name: for an input whose gradient is wanted, the blob that is fed in its place."""
        self.net, self.mode, self.last, self.params = net, mode, len(net.layers) - 1, {}
        # Not net.blobs, net.inputs and so on: pycaffe miscounts where a layer has unnamed tops.
        names, layer_names = list(net._blob_names), list(net._layer_names)
        self.blobs = dict(zip(names, net._blobs))
        self.probes = {name: self.blobs.pop(PROBE + name) for name in probes}
        fed = [name for name in self.blobs if name.startswith(FED)]
        self.fed = dict(self.blobs, **{name[len(FED) :]: self.blobs[name] for name in fed})
        self.blobs = {name: blob for name, blob in self.blobs.items() if name not in fed}
        outputs = {names[index] for index in net._outputs}
        specs = {_native(layer.name): layer.param for layer in message.layer}
        for index, (name, layer) in enumerate(zip(layer_names, net.layers)):
            if name.startswith(FED):
                continue
            if not name.startswith(PROBE):
                self.own_params(name, layer.blobs, specs.get(name, ()))
            elif names[net._bottom_ids(index)[0]] == name[len(PROBE) :]:
                outputs.add(name[len(PROBE) :])  # Caffe adds a Split for several readers: the probe is alone
        self.description = {
            "blobs": [[name, list(blob.shape)] for name, blob in self.blobs.items()],
            "params": [[name, list(blob.shape)] for name, blob in self.params.items()],
            "inputs": [names[index].replace(FED, "", 1) for index in net._inputs],
            "outputs": sorted(name for name in outputs if not name.startswith(PROBE)),
        }

    def own_params(self, layer, blobs, specs):
        """Add a layer's parameters by name. The first of several blobs of one name owns the parameter."""
        keys = [spec.name for spec in specs] + [""] * (len(blobs) - len(specs))
        for index, blob in enumerate(blobs):
            if not keys[index] and "%s/%d" % (layer, index) in self.params:
                raise RequestError("two parameters are called %s/%d: give layers unique names" % (layer, index))
            self.params.setdefault(_native(keys[index]) or "%s/%d" % (layer, index), blob)


def copy_into(kind, blobs, arrays, part):
    """Copy arrays into the blobs of the same names, into ``part``: data or diff. Copy none if a shape differs."""
    for name in sorted(arrays):
        expected, actual = tuple(blobs[name].shape), arrays[name].shape
        if expected != actual:
            raise RequestError("%s %s: expected shape %s, found %s" % (kind, name, expected, actual))
    for name, array in arrays.items():
        getattr(blobs[name], part)[...] = array


def copy_weights(net, path, message):
    """Copy the weights of a file into a net, in parts if Caffe cannot read so large a file: from each part Caffe copies
    the layers in it. ``message`` is an empty NetParameter."""
    with io.open(path, "rb") as file:
        if path.endswith(".h5"):  # Caffe recognizes HDF5 by this suffix
            net.copy_from(path)
        elif os.fstat(file.fileno()).st_size < MOST_READ:
            net.copy_from("/dev/fd/%d" % file.fileno())  # pycaffe takes no path that is no UTF-8
        else:
            message.ParseFromString(file.read())
    size, parts = 0, {}
    for field in ("layer", "layers"):  # the second in files of the old form
        for layer in getattr(message, field):
            size += layer.ByteSize()
            part = parts.setdefault(2 * size // MOST_READ, type(message)())
            getattr(part, field).add().CopyFrom(layer)
    for part in parts.values():
        with tempfile.TemporaryFile() as file:
            file.write(part.SerializeToString())
            file.flush()
            net.copy_from("/dev/fd/%d" % file.fileno())


class Worker(object):
    """The handlers of requests, from (header, arrays) to a reply's. The runner checks names, this class shapes."""

    def __init__(self):
        self.nets, self.count, self.modules = {}, 0, {}

    def on_hello(self, request, arrays):
        """Import caffe."""
        import caffe
        from caffe.proto import caffe_pb2
        from google.protobuf import text_format

        self.caffe, self.messages, self.text_format = caffe, caffe_pb2, text_format
        return {}, {}

    def on_open(self, request, arrays):
        """Open a library of layers, which registers them."""
        LAYER_LIBRARY["load_layers"](request["library"])
        return {}, {}

    def on_load(self, request, arrays):
        """Load a net. Request: prototxt (text) or path; weights (a path or None); phase; mode; probes; gradients.
        Reply: net, a number for later requests; blobs and params with shapes; inputs; outputs."""
        message = self.read(request)
        getattr(self.caffe, "set_mode_" + request["mode"])()
        text = self.text_format.MessageToString(message, as_utf8=True)
        # Unlinked and read through /dev/fd, so that nothing is left behind where Caffe aborts.
        with tempfile.TemporaryFile() as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
            file.seek(0)
            net = self.caffe.Net("/dev/fd/%d" % file.fileno(), getattr(self.messages, request["phase"]))
        if request["weights"] is not None:
            copy_weights(net, request["weights"], self.messages.NetParameter())
        self.count += 1
        self.nets[self.count] = LoadedNet(net, message, request["probes"], request["mode"])
        return dict(self.nets[self.count].description, net=self.count), {}

    def read(self, request):
        """Return the NetParameter of a request, instrumented."""
        text = request["prototxt"]
        if text is None:
            with io.open(request["path"], encoding="utf-8") as source:
                text = source.read()
        message = self.messages.NetParameter()
        self.text_format.Merge(text, message)
        if message.layers:
            raise RequestError("the net has old 'layers' fields; rewrite it by Caffe's upgrade_net_proto_text")
        instrument(message, request)
        return message

    def use(self, request):
        """Return the net that a request names, and set its mode: Caffe's mode belongs to the process."""
        loaded = self.nets[request["net"]]
        getattr(self.caffe, "set_mode_" + loaded.mode)()
        return loaded

    def on_unload(self, request, arrays):
        self.nets.pop(request["net"], None)
        return {}, {}

    def on_run(self, request, arrays):
        """Run a net forward, and backward if the request says so. Request: blobs, diffs (names of blobs to return);
        backward, param_diffs (booleans). Arrays: inputs, backward (gradients). Reply: blobs, diffs, param_diffs."""
        loaded = self.use(request)
        copy_into("input", loaded.fed, arrays.get("inputs", {}), "data")
        loaded.net._forward(0, loaded.last)
        reply = {"blobs": {name: loaded.blobs[name].data for name in request["blobs"]}}
        if request["backward"]:
            for blob in list(loaded.params.values()) + list(loaded.probes.values()):
                blob.diff[...] = 0
            copy_into("gradient of", loaded.probes, arrays.get("backward", {}), "diff")
            loaded.net._backward(loaded.last, 0)
            reply["diffs"] = {name: loaded.blobs[name].diff for name in request["diffs"]}
            params = loaded.params if request["param_diffs"] else {}
            reply["param_diffs"] = {name: blob.diff for name, blob in params.items()}
        return {}, reply

    def on_call(self, request, arrays):
        """Call function(args, arrays) of a Python file, which runs once; it returns (JSON data, {name: array})."""
        path, name = request["path"], request["function"]
        module = self.modules.get(path) or {"__name__": os.path.basename(path)[:-3], "__file__": path}
        if path not in self.modules:
            with io.open(path, "rb") as source:
                exec(compile(source.read(), path, "exec"), module)
        self.modules[path] = module
        if not callable(module.get(name)):
            raise RequestError("%s has no function %s" % (os.path.basename(path), name))
        result = module[name](request["args"], arrays.get("arrays", {}))
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise RequestError("%s: expected (JSON data, {name: array}), found %.80r" % (name, result))
        return {"value": result[0]}, {"arrays": result[1]}


def end_with(parent):
    """Have the kernel end this process when its parent ends, even in the middle of a computation (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def main():
    """Answer requests until the pipe closes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an abort is an everyday thing here
    channel, worker = Channel(), Worker()
    while True:
        received = channel.receive()
        if received is None:
            os._exit(0)  # not through the static destructors of Caffe and its libraries
        try:
            reply, groups = getattr(worker, "on_" + received[0]["request"])(*received)
            frame = encode(dict(reply, kind="reply"), groups)
        except (Exception, SystemExit) as error:
            message = "".join(traceback.format_exception_only(type(error), error)).strip()
            reply = {"kind": "error", "type": type(error).__name__, "message": message}
            frame = encode(dict(reply, traceback=traceback.format_exc()), {})
        channel.send(frame)


if __name__ == "__main__":
    if sys.argv[1:]:
        end_with(int(sys.argv[1]))
    main()
