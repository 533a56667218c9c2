"""Requests of tests, served inside a worker: parameters of a loaded net, Caffe's schema and its types of layers."""

import caffe
import numpy as np
from caffe.proto import caffe_pb2

import __main__


def on_params(self, request, arrays):
    """Set parameters to the arrays of params, all or none; then return all, as params."""
    loaded = self.use(request)
    __main__.copy_into("parameter", loaded.params, arrays.get("params", {}), "data")
    return {}, {"params": {name: blob.data for name, blob in loaded.params.items()}}


__main__.Worker.on_params = on_params


def schema(args, arrays):
    return None, {"file": np.frombuffer(caffe_pb2.DESCRIPTOR.serialized_pb, np.uint8)}


def layer_types(args, arrays):
    return sorted(caffe.layer_type_list()), {}
