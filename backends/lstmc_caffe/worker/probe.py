"""Probe the caffe of the Python that runs this file; the last line on stdout is the result as JSON.
Without arguments {"version", "file"} or {"reason"}; with --gpu {"device", "emulated"} if a GPU can be used, else
{"reason"}, which may quote the driver or an abort of Caffe; with --build {"file", "build"}, which file holds Caffe's
own code and the linker's id of it. It runs on any Python from 2.7 on, and never in lstmc's own process."""

# mypy: ignore-errors
# ruff: noqa: E402, PLC0415, UP031
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]

import ctypes
import io
import json
import resource
import tempfile

# layer_library.py, which is no module here as sys.path is without this folder
LAYER_LIBRARY = {"__name__": __name__ + ".layer_library"}
with io.open(os.path.join(_HERE, "layer_library.py"), "rb") as _source:
    exec(compile(_source.read(), _source.name, "exec"), LAYER_LIBRARY)


def try_import():
    """Import caffe, and return its version and file, or the reason why it is not Caffe."""
    try:
        import caffe
    except Exception as error:
        return {"reason": "import caffe fails: %s: %s" % (type(error).__name__, error)}
    if not hasattr(caffe, "Net"):
        return {"reason": "its caffe has no Net: PyPI's package of that name is an empty placeholder"}
    return {"version": getattr(caffe, "__version__", "unknown"), "file": caffe.__file__}


def driver_refusal():
    """Return why NVIDIA's driver has no GPU for this process; empty if it has one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (no libcuda.so.1)"
    status, text, count = driver.cuInit(0), ctypes.c_char_p(), ctypes.c_int()
    if status != 0:
        driver.cuGetErrorString(status, ctypes.byref(text))
        meaning = (text.value or b"an unknown error").decode()
        return "NVIDIA's driver finds no GPU (cuInit returned %d: %s)" % (status, meaning)
    driver.cuDeviceGetCount(ctypes.byref(count))
    return "" if count.value else "NVIDIA's driver finds no GPU (it counts 0)"


def device():
    """Return the name of the first GPU, and whether the CPU emulates it."""
    driver, name = ctypes.CDLL("libcuda.so.1"), ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), 0)
    return {"device": name.value.decode(), "emulated": hasattr(driver, "emulated_cuda")}


def computed():
    """Return what a small net computes wrongly on the GPU, or an empty text. Caffe aborts without code for this GPU."""
    import caffe

    caffe.set_mode_gpu()
    text = b'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
    text += b'layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }'
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.seek(0)
        net = caffe.Net("/dev/fd/%d" % file.fileno(), caffe.TEST)
    net.blobs["x"].data[...] = [1, 2]
    net.forward()
    result = net.blobs["y"].data.tolist()
    return "" if result == [2, 4] else "it computes wrongly: twice 1 and 2 is %s" % result


def try_gpu():
    """Compute on a GPU. The driver is asked first, because Caffe aborts without a reason if there is no GPU."""
    import caffe

    reason = driver_refusal()
    print(json.dumps({"reason": reason}))
    sys.stdout.flush()
    caffe.set_device(0)  # aborts without a GPU, and says so where Caffe was built for the CPU only
    reason = reason or computed()
    return {"reason": reason} if reason else device()


def caffe_build():
    """Return the file with Caffe's own code, and its linker id; or the reason why there is no Caffe."""
    report = try_import()
    if "reason" in report:
        return report
    import caffe

    path = LAYER_LIBRARY["caffe_file"](caffe._caffe.__file__)
    return {"file": path, "build": LAYER_LIBRARY["build_id"](path)}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps({"--gpu": try_gpu, "--build": caffe_build}.get("".join(sys.argv[1:]), try_import)()))
    sys.stdout.flush()
    os._exit(0)
