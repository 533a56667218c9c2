"""TPU-MLIR: its converter of Caffe nets, and its runner, in float32. Each net in a process of its own."""

import os
import subprocess
import sys
from importlib.metadata import version

import numpy as np

RUN = """
import os, sys
import numpy as np
from transform.CaffeConverter import CaffeConverter
from utils.mlir_shell import mlir_opt_for_top
import pymlir
os.chdir(sys.argv[1])
CaffeConverter("net", "net.prototxt", "net.caffemodel", [], [], {}).generate_mlir("origin.mlir")
mlir_opt_for_top("origin.mlir", "net.mlir", "", False)
net = pymlir.module()
net.load("net.mlir")
for name, array in np.load("in.npz").items():
    net.set_tensor(name, array, array.shape)
net.invoke(True)
tensors = net.get_all_tensor()
np.savez("out.npz", **{name: tensors[name] for name in net.output_names})
"""


def about(args, arrays):
    return {"version": "TPU-MLIR " + version("tpu_mlir")}, {}


def run(args, arrays):
    import tpu_mlir  # noqa: F401, PLC0415 - it sets the variables with which its libraries are found

    np.savez(os.path.join(args["folder"], "in.npz"), **arrays)
    command = [sys.executable, "-c", RUN, args["folder"]]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    path = os.path.join(args["folder"], "out.npz")
    if said.returncode != 0 or not os.path.isfile(path):
        lines = said.stdout.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise RuntimeError(lines[-1])
    return {}, dict(np.load(path))
