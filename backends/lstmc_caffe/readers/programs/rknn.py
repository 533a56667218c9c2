"""RKNN toolkit 2: load_caffe, and its simulator, which computes in float16."""

import os
from importlib.metadata import version

from rknn.api import RKNN


def about(args, arrays):
    return {"version": "RKNN toolkit " + version("rknn-toolkit2")}, {}


def run(args, arrays):
    """Convert the folder's net for RKNN's simulator, and return its outputs on ``arrays``."""
    os.chdir(args["folder"])  # where it leaves an output that is a constant, as NAME.npy
    base = os.path.join(args["folder"], "net")
    net = RKNN(verbose=False)
    try:
        net.config(target_platform="rk3588")
        _done("load_caffe", net.load_caffe(model=base + ".prototxt", blobs=base + ".caffemodel"))
        names = [name for name, attributes in net.rknn_base.inputs_meta["attrs"].items() if not attributes["is_output"]]
        _done("build", net.build(do_quantization=False))
        outputs = list(net.rknn_base.ir.outputs)  # build removes outputs that depend on no input
        _done("init_runtime", net.init_runtime())
        inputs = [arrays[name] for name in names]
        results = net.inference(inputs=inputs, data_format=["nchw"] * len(inputs))
        return {}, dict(zip(outputs, results))
    finally:
        net.release()


def _done(what, status):
    if status != 0:
        raise RuntimeError("%s gave %r" % (what, status))
