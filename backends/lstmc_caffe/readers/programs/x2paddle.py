"""x2paddle, from a Caffe net to PaddlePaddle's code, which is then run."""

import importlib.util
import os
import re
from importlib.metadata import version

import numpy as np
import paddle
from x2paddle.convert import caffe2paddle


def about(args, arrays):
    return {"version": "x2paddle %s, PaddlePaddle %s" % (version("x2paddle"), paddle.__version__)}, {}


def run(args, arrays):
    """Convert the folder's net into PaddlePaddle's code, run it on ``arrays``, and return the wanted blobs."""
    base = os.path.join(args["folder"], "net")
    folder = os.path.join(args["folder"], "made")
    caffe2paddle(base + ".prototxt", base + ".caffemodel", folder, None, disable_feedback=True)
    code = os.path.join(folder, "x2paddle_code.py")
    spec = importlib.util.spec_from_file_location("x2paddle_code", code)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with open(code) as file:
        # the names of the parameters and results of forward are only in the text
        parameters, gives = re.search(r"def forward\(self, (.*?)\):.*?return (.*?)\n", file.read(), re.DOTALL).groups()
    paddle.disable_static()
    net = next(value for value in vars(module).values() if isinstance(value, type))()
    net.set_dict(paddle.load(os.path.join(folder, "model.pdparams")), use_structured_name=True)
    net.eval()
    tensors = {_called(name): paddle.to_tensor(np.ascontiguousarray(array)) for name, array in arrays.items()}
    results = net(*[tensors[name] for name in parameters.split(", ")])
    outputs = dict(zip(gives.split(", "), results if isinstance(results, (list, tuple)) else [results]))
    return {}, {name: outputs[_called(name)].numpy() for name in args["wanted"]}


def _called(name):
    """Return a blob's name as x2paddle writes it."""
    return name.replace("/", "_").replace("-", "_").lower()
