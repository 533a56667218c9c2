"""Generated layers in float32, bf16 and int8 against OpenVINO and ONNX Runtime: forward passes of one thread, in ms.

python -m tests.on_demand.benchmarks.low_precision    OpenVINO by python -m lstmc_caffe.readers install openvino-runtime
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

import lstmc
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.native import loops
from lstmc.loops.rows import batch_of
from lstmc_caffe import CaffeBackend
from lstmc_caffe.readers.executor import reader_python
from lstmc_caffe.readers.known import load_reader

SIZES = ((1000, 1, 32, 64), (20, 10, 128, 256), (50, 32, 256, 512))  # T, N, D, H
NUMBERS = ("float32", "cpu-bf16", "cpu-int8")
ROUNDS, SECONDS = 15, 0.03
# also run by the Python of OpenVINO, which has no lstmc
MINIMA = f"""
import time
def minima(passes):
    found = dict.fromkeys(passes, float("inf"))
    for run in passes.values(): run()
    for _ in range({ROUNDS}):
        for name, run in passes.items():
            begin, count = time.process_time(), 0
            while time.process_time() - begin < {SECONDS}:
                run(); count += 1
            found[name] = min(found[name], (time.process_time() - begin) / count * 1e3)
    return found
"""
OPENVINO = (
    MINIMA
    + """
import sys, numpy, openvino
core, shape = openvino.Core(), tuple(map(int, sys.argv[2:]))
def loaded(numbers):
    options = {"INFERENCE_PRECISION_HINT": numbers, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(sys.argv[1]), "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(numpy.random.default_rng(0).uniform(-1, 1, shape).astype("f")))
    return request.infer
for name, ms in minima({f"OpenVINO {numbers}": loaded(numbers) for numbers in ("f32", "bf16")}).items():
    print(f"{name}: {ms:.3f}")
"""
)
Pass = Callable[[], object]


def layer(net: lstmc.Net) -> Pass:
    """A forward pass of the only generated layer of a net, whose packed weights are kept, as in Caffe's phase TEST."""
    (scan,) = [node.op for node in net.compiled.expanded if isinstance(node.op, GeneratedScan)]
    (loop,) = loops([scan.plan()], "")
    sizes, rng = (scan.length, batch_of(scan)), np.random.default_rng(0)
    blobs = [
        [np.asarray(rng.uniform(-0.1, 0.1, blob.at(*sizes)), np.float32) for blob in group]
        for group in (loop.bottoms, loop.weights, loop.tops)
    ]
    memory, seen = np.zeros(loop.workspace_floats(*sizes) + 16, np.float32), np.zeros(len(loop.buffers), np.uint64)

    def run() -> object:
        bottoms, weights, tops = ([array.ctypes.data for array in group] for group in blobs)
        workspace = -(-memory.ctypes.data // 64) * 64
        return loop.forward(sizes, bottoms, weights, tops, workspace, ctypes.c_void_p(seen.ctypes.data))

    return run


def onnx(path: str, x: np.ndarray) -> Pass:
    """A forward pass of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def measured(cell: str, size: tuple[int, int, int, int], folder: Path) -> dict[str, float]:
    """The least times in ms, by what ran; layers and ONNX Runtime take turns, then OpenVINO's two."""
    sizes = dict(zip("TNDH", size, strict=True))
    passes = {
        numbers: layer(
            lstmc.compile(
                cell,
                target="caffe-fused",
                backend=CaffeBackend().with_options({"numbers": numbers}),
                outputs=["y"],
                **sizes,
            )
        )
        for numbers in NUMBERS
    }
    net, path = lstmc.compile(cell, backend="onnx", outputs=["y"], **sizes), str(folder / "net.onnx")
    Path(path).write_bytes(net.files[net.artifact.net])
    x = np.asarray(np.random.default_rng(0).uniform(-1, 1, size[:3]), np.float32)
    passes["ONNX Runtime"] = onnx(path, x)
    if cell == "lstm":  # it has no GRU in 8 bits
        quantize_dynamic(path, f"{path}.int8", ["LSTM"], per_channel=True, weight_type=QuantType.QInt8)
        passes["ONNX Runtime int8"] = onnx(f"{path}.int8", x)
    names: dict[str, Callable[[Mapping[str, Pass]], dict[str, float]]] = {}
    exec(MINIMA, names)
    found = names["minima"](passes)
    python, environment = reader_python(load_reader("openvino"))
    command = [str(python), "-c", OPENVINO, path, *map(str, size[:3])]
    said = subprocess.run(command, env=dict(environment) or None, check=True, capture_output=True, text=True).stdout
    return found | {name: float(ms) for name, _, ms in (line.partition(": ") for line in said.splitlines())}


def main() -> None:
    for cell in ("lstm", "gru", "gru_reset_after"):
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                found = measured(cell, size, Path(folder))
            print(cell, *size, *(f"{name}: {ms:.3f}" for name, ms in found.items()), sep="  ", flush=True)


if __name__ == "__main__":
    main()
