"""TVM's relay, by its front end for Caffe nets. The net runs as C: T-Head's build generates no code for this
processor."""

import functools
import os

import numpy as np
import tvm
from google.protobuf import text_format
from tvm import relay
from tvm.contrib import graph_executor
from tvm.relay.backend import te_compiler
from tvm.relay.frontend import caffe_pb2

# What its generator of C does not know by itself.
for _name in ("exp", "tanh", "sqrt", "pow", "log"):
    tvm.ir.register_intrin_lowering(
        "tir." + _name,
        target="c",
        f=lambda op, called=_name + "f": tvm.tir.call_pure_extern("float32", called, *op.args),
        level=99,
    )

te_compiler.libinfo = functools.lru_cache(None)(te_compiler.libinfo)  # it asks for each size of each shape


def about(args, arrays):
    return {"version": "TVM " + tvm.__version__}, {}


def run(args, arrays):
    """Import the folder's net into TVM, compile it as C, and return its outputs on ``arrays``."""
    base = os.path.join(args["folder"], "net")
    net, weights = caffe_pb2.NetParameter(), caffe_pb2.NetParameter()
    with open(base + ".prototxt") as file:
        text_format.Merge(file.read(), net)
    with open(base + ".caffemodel", "rb") as file:
        weights.ParseFromString(file.read())
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    module, params, outputs = relay.frontend.from_caffe(weights, net, shapes, dict.fromkeys(shapes, "float32"))
    with tvm.transform.PassContext(opt_level=1, config={"tir.disable_vectorize": True}):
        library = relay.build(module, target="c", params=params)
    path = base + ".so"
    library.export_library(path, cc="cc")  # TVM itself takes g++, three times as slow
    executor = graph_executor.GraphModule(tvm.runtime.load_module(path)["default"](tvm.cpu()))
    for name, array in arrays.items():
        executor.set_input(name, tvm.nd.array(np.ascontiguousarray(array)))
    executor.run()
    return {}, {name: executor.get_output(number).numpy() for number, name in enumerate(outputs)}
