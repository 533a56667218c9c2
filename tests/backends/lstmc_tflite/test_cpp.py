"""The program for TFLite Micro, built and run, its interpreter being that of TFLite Micro's wheel in this process.

TFLite Micro's own headers are in no package. ``INTERPRETER`` declares what the program uses of them, as their
documentation does, and sends what ``Invoke`` reads and writes through pipes. That places outputs over inputs.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from lstmc.api import Net
from lstmc.manifest import parse_manifest
from lstmc.ops import Array
from lstmc_tflite.backend import targets
from lstmc_tflite.net import read_net, words
from lstmc_tflite.runtime import Micro
from tests.backends.lstmc_tflite.streams import streaming_lstm

INTERPRETER = r"""
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
typedef enum { kTfLiteFloat32 = 1, kTfLiteInt16 = 7, kTfLiteInt8 = 9 } TfLiteType;
struct TfLiteIntArray { int size; int data[8]; };
struct TfLiteQuantizationParams { float scale; int32_t zero_point; };
union TfLitePtrUnion { float* f; int16_t* i16; int8_t* int8; char* raw; };
struct TfLiteTensor {
  TfLiteType type;
  TfLitePtrUnion data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  size_t bytes;
};
namespace tflite {
struct Model {};
inline const Model* GetModel(const void* data) { return static_cast<const Model*>(data); }
inline void InitializeTarget() {}
class MicroOpResolver {
 protected:
  unsigned added = 0;
};
template <unsigned int most>
class MicroMutableOpResolver : public MicroOpResolver {
  TfLiteStatus add() {
    if (++added > most) std::exit(9);
    return kTfLiteOk;
  }
 public:
%s};
class MicroInterpreter {
  TfLiteTensor tensors[2][16] = {};
  TfLiteIntArray shapes[2][16] = {};
  int counts[2] = {0, 0};
  std::FILE *out = nullptr, *in = nullptr;
 public:
  MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t* arena, size_t size) {
    out = std::fopen("to_net", "wb"), in = std::fopen("from_net", "rb");
    for (int side = 0; side < 2; ++side) {
      uint8_t* at = arena;  // of outputs too: they lie over inputs
      if (std::fscanf(in, "%%d", &counts[side]) != 1) std::exit(9);
      for (int i = 0; i < counts[side]; ++i) {
        TfLiteTensor& tensor = tensors[side][i];
        int type, rank, zero;
        if (std::fscanf(in, "%%d %%f %%d %%d", &type, &tensor.params.scale, &zero, &rank) != 4) std::exit(9);
        tensor.type = static_cast<TfLiteType>(type), tensor.params.zero_point = zero;
        tensor.bytes = type == kTfLiteFloat32 ? 4 : type == kTfLiteInt16 ? 2 : 1;
        tensor.dims = &shapes[side][i], tensor.dims->size = rank;
        for (int axis = 0; axis < rank; ++axis) {
          if (std::fscanf(in, "%%d", &tensor.dims->data[axis]) != 1) std::exit(9);
          tensor.bytes *= static_cast<size_t>(tensor.dims->data[axis]);
        }
        tensor.data.raw = reinterpret_cast<char*>(at);
        at += (tensor.bytes + 15) / 16 * 16;
        if (at > arena + size) std::exit(9);
      }
    }
    std::fgetc(in);
  }
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteTensor* input(size_t i) { return &tensors[0][i]; }
  TfLiteTensor* output(size_t i) { return &tensors[1][i]; }
  TfLiteStatus Invoke() {
    for (int i = 0; i < counts[0]; ++i) std::fwrite(input(i)->data.raw, 1, input(i)->bytes, out);
    std::fflush(out);
    for (int i = 0; i < counts[1]; ++i)
      if (std::fread(output(i)->data.raw, 1, output(i)->bytes, in) != output(i)->bytes) return kTfLiteError;
    return kTfLiteOk;
  }
};
}  // namespace tflite
"""
HEADERS = (
    "micro/micro_interpreter.h",
    "micro/micro_mutable_op_resolver.h",
    "micro/system_setup.h",
    "schema/schema_generated.h",
)
# The methods of TFLite Micro's resolver, of those that the backend may write.
# fmt: off
RESOLVER = (
    "Abs", "Add", "AveragePool2D", "BroadcastTo", "Cast", "Concatenation", "Conv2D", "Cos", "DepthwiseConv2D",
    "Dequantize", "Div", "Exp", "FullyConnected", "Gather", "Greater", "LeakyRelu", "Log", "Logistic", "MaxPool2D",
    "Maximum", "Mul", "Pad", "PadV2", "Quantize", "ReduceMax", "Relu", "Reshape", "Rsqrt", "Sin", "Slice", "Softmax",
    "Split", "Sqrt", "Square", "Sub", "Sum", "Tanh", "Transpose",
)
# fmt: on
TYPES = {np.dtype(np.float32): 1, np.dtype(np.int16): 7, np.dtype(np.int8): 9}


def test_each_operator_has_the_method_that_registers_it() -> None:
    operators = {code for rule in targets()["tflite-micro"].rule for code in rule.operators}
    assert {words(code) for code in operators} == set(RESOLVER)


def build(folder: Path, net: Net) -> None:
    for name, content in net.example("cpp").items():
        (folder / name).write_bytes(content)
    methods = "".join(f"  TfLiteStatus Add{name}() {{ return add(); }}\n" for name in RESOLVER)
    for header in HEADERS:
        path = folder / "tensorflow/lite" / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(INTERPRETER % methods if header == HEADERS[0] else f'#include "tensorflow/lite/{HEADERS[0]}"\n')
    flags = ("-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-I.")
    command = ["g++", *flags, f"{net.name}_stream.cc", "-o", "program"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[:3000]


def serve(folder: Path, micro: Micro) -> None:
    """Be the program's interpreter until it ends."""
    net = micro._net
    ends = [(net.get_input_details, micro._inputs), (net.get_output_details, micro._outputs)]
    with open(folder / "to_net", "rb") as given, open(folder / "from_net", "wb") as results:
        for details, names in ends:
            results.write(f"{len(names)}\n".encode())
            for each in map(details, range(len(names))):
                numbers, shape = each["quantization_parameters"], [int(size) for size in each["shape"]]
                scale, zero = [*numbers["scales"][:1], 0.0][0], [*numbers["zero_points"][:1], 0][0]
                line = [TYPES[np.dtype(each["dtype"])], float(scale), int(zero), len(shape), *shape]
                results.write((" ".join(map(str, line)) + "\n").encode())
        results.flush()
        while True:
            for i in range(len(micro._inputs)):
                details = net.get_input_details(i)
                dtype, shape = np.dtype(details["dtype"]), tuple(details["shape"])
                content = given.read(dtype.itemsize * int(np.prod(shape)))
                if not content:
                    return
                net.set_input(np.frombuffer(content, dtype).reshape(shape), i)
            net.invoke()
            for i in range(len(micro._outputs)):
                results.write(np.ascontiguousarray(net.get_output(i)).tobytes())
            results.flush()


def expected(net: Net, x: Array) -> Array:
    """The output y of a stream in TFLite Micro, its states fed by hand."""
    content = net.artifact.files[net.artifact.net]
    manifest, micro = parse_manifest(net.artifact.files[f"{net.name}.manifest.json"]), Micro(content)
    assert manifest.states is not None
    shapes = {name: entry.place.shape for name, entry in manifest.inputs.items()}
    states = {each.input: np.zeros(shapes[each.input]) for each in manifest.states.values()}
    found = []
    for frame in x:
        blobs = micro.forward(manifest.fed({"x": frame[None], **states}), manifest.output_blobs)
        results = {name: place.read(blobs) for name, place in manifest.outputs.items()}
        states = {each.input: results[each.output] for each in manifest.states.values()}
        found.append(results["y"].ravel())
    return np.array(found)


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("numbers", ["float32", "a8w8", "a8w8-s16"])
def test_the_program_in_cpp_streams_as_the_net_does(numbers: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(9, 1, 3)).astype(np.float32)
    net = streaming_lstm(numbers, x, tmp_path)
    build(tmp_path, net)
    for pipe in ("to_net", "from_net"):
        os.mkfifo(tmp_path / pipe)
    server = threading.Thread(target=serve, args=(tmp_path, Micro(net.artifact.files[net.artifact.net])), daemon=True)
    server.start()
    lines = "".join(" ".join(map(repr, map(float, step.ravel()))) + "\n" for step in x)
    ended = subprocess.run(
        ["./program"], cwd=tmp_path, input=lines, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    server.join(timeout=60)
    assert not server.is_alive()
    printed = np.array([line.split() for line in ended.stdout.splitlines()], float)
    wanted = expected(net, x)
    assert np.abs(printed[:, : wanted.shape[1]] - wanted).max() < 1e-6
    assert np.abs(np.diff(wanted, axis=0)).max() > 1e-2
    types = {each.dtype for each in read_net(net.artifact.files[net.artifact.net]).outputs.values()}
    assert types == {"float32": {"float32"}, "a8w8": {"int8"}, "a8w8-s16": {"int16"}}[numbers]
