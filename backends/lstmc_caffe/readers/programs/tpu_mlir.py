"""TPU-MLIR: its converter of Caffe nets, and its runner, in float32."""

import os  # noqa: I001
from importlib.metadata import version

import tpu_mlir  # noqa: F401 - before the others: it sets where they are found
import pymlir
from transform.CaffeConverter import CaffeConverter
from utils.mlir_shell import mlir_opt_for_top


def about(args, arrays):
    return {"version": "TPU-MLIR " + version("tpu_mlir")}, {}


def convert(args, arrays):
    """Convert ``net.prototxt`` and ``net.caffemodel`` of the folder into ``net.mlir``."""
    before = os.getcwd()
    os.chdir(args["folder"])  # where it leaves the weights
    try:
        CaffeConverter("net", "net.prototxt", "net.caffemodel", [], [], {}).generate_mlir("origin.mlir")
        mlir_opt_for_top("origin.mlir", "net.mlir", "", False)
    finally:
        os.chdir(before)
    return {}, {}


def run(args, arrays):
    """Return the outputs of ``net.mlir`` in the folder on ``arrays``."""
    before = os.getcwd()
    os.chdir(args["folder"])
    try:
        net = pymlir.module()
        net.load("net.mlir")
        for name, array in arrays.items():
            net.set_tensor(name, array, array.shape)
        net.invoke(True)
        tensors = net.get_all_tensor()
        return {}, {name: tensors[name].copy() for name in net.output_names}
    finally:
        os.chdir(before)
