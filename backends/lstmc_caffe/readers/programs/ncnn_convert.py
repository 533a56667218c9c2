"""ncnn's caffe2ncnn, which no registry has: the one on the path, to which lstmc adds ~/.local/bin."""

import os
import shutil
import subprocess


def _program():
    converter = shutil.which("caffe2ncnn")
    if converter is None:
        raise RuntimeError("no caffe2ncnn on the path: docs/readers/index.md has how to build it")
    return converter


def about(args, arrays):
    _program()
    return {"version": "caffe2ncnn"}, {}


def convert(args, arrays):
    base = os.path.join(args["folder"], "net")
    command = [_program(), base + ".prototxt", base + ".caffemodel", base + ".param", base + ".bin"]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if process.returncode != 0:
        raise RuntimeError(
            "caffe2ncnn ended with %d: %s" % (process.returncode, process.stdout.decode(errors="replace"))
        )
    return {}, {}
