"""ncnn: its converter caffe2ncnn, then its runtime. No package has caffe2ncnn: it is taken from the path, to which
lstmc adds ~/.local/bin. ncnn has no batch axis: a blob [1, D] is a vector, a blob [1, C, H, W] an image."""

import os
import shutil
import subprocess
from importlib.metadata import version

import ncnn
import numpy as np


def _program():
    converter = shutil.which("caffe2ncnn")
    if converter is None:
        raise RuntimeError("no caffe2ncnn on the path: docs/readers/index.md has how to build it")
    return converter


def about(args, arrays):
    _program()
    return {"version": "caffe2ncnn + ncnn " + version("ncnn")}, {}


def convert(args, arrays):
    """Convert the folder's net into ``net.param`` and ``net.bin`` by caffe2ncnn."""
    base = os.path.join(args["folder"], "net")
    command = [_program(), base + ".prototxt", base + ".caffemodel", base + ".param", base + ".bin"]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if process.returncode != 0:
        output = process.stdout.decode(errors="replace")
        raise RuntimeError("caffe2ncnn ended with %d: %s" % (process.returncode, output))
    return {}, {}


def run(args, arrays):
    """Return the wanted blobs of the converted net on ``arrays``."""
    base = os.path.join(args["folder"], "net")
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(base + ".param") != 0 or net.load_model(base + ".bin") != 0:
        raise RuntimeError("ncnn does not load the net that caffe2ncnn wrote")
    extractor = net.create_extractor()
    for name, array in arrays.items():
        # a copy in ncnn's own memory: some of its layers end the process on an array that does not start at a
        # multiple of 16 bytes (src/layer/x86/eltwise_x86.cpp, _mm_load_ps), and ncnn.Mat(array) copies nothing
        extractor.input(name, ncnn.Mat(np.ascontiguousarray(array.reshape(array.shape[1:]))).clone())
    outputs = {}
    for name in args["wanted"]:
        status, blob = extractor.extract(name)
        if status != 0:
            raise RuntimeError("ncnn gives no blob %s: status %d" % (name, status))
        outputs[name] = np.array(blob, np.float32)
    return {}, outputs
