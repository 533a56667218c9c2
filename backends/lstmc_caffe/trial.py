"""What the caffe of the Python that runs this file is worth: the last line on stdout is JSON that says so.

Without arguments {"version", "file"} or {"reason"}; with --gpu {"reason"}, empty where a GPU can be used, or
an abort by Caffe. Like worker.py, it runs on any Python from 2.7 on, and never in lstmc's own process.
"""

# mypy: ignore-errors
# ruff: noqa: E402, PLC0415, UP031
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]

import ctypes
import json
import resource


def try_import():
    """Imports caffe and looks whether it is more than PyPI's placeholder."""
    try:
        import caffe
    except Exception as error:
        return {"reason": "import caffe fails: %s: %s" % (type(error).__name__, error)}
    if not hasattr(caffe, "Net"):
        return {"reason": "its caffe has no Net: PyPI's package of that name is an empty placeholder"}
    return {"version": getattr(caffe, "__version__", "unknown"), "file": caffe.__file__}


def try_gpu():
    """Uses a GPU. The driver is asked first, as Caffe aborts without saying why there is none."""
    import caffe

    reason = ""
    try:
        status = ctypes.CDLL("libcuda.so.1").cuInit(0)
        if status != 0:
            reason = "NVIDIA's driver finds no GPU (cuInit returned %d)" % status
    except OSError:
        reason = "there is no NVIDIA driver (no libcuda.so.1)"
    print(json.dumps({"reason": reason}))
    sys.stdout.flush()
    caffe.set_mode_gpu()
    caffe.set_device(0)
    return {"reason": ""}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(try_gpu() if sys.argv[1:] == ["--gpu"] else try_import()))
    sys.stdout.flush()
    os._exit(0)
