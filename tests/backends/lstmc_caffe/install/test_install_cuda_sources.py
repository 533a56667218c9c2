"""The files that a build with CUDA adds, compiled for real against headers that only pretend."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lstmc_caffe.install.recipe import ON_CPU, PROPERTIES, PROPOSAL, cuda_recipe

pytestmark = pytest.mark.caffe  # where Caffe was built there is a g++

# As in CUDA 13: three fields are gone, and are attributes.
RUNTIME = """
#pragma once
#include <cstring>
typedef int cudaError_t;
enum { cudaSuccess = 0 };
struct cudaDeviceProp { char name[8]; int major; };
enum cudaDeviceAttr { cudaDevAttrClockRate = 13, cudaDevAttrGpuOverlap = 15, cudaDevAttrKernelExecTimeout = 17 };
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int device) {
  if (device > 1) return 101;
  std::strcpy(found->name, "card");
  found->major = 9 + device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* found, cudaDeviceAttr attribute, int device) {
  *found = 100 * attribute + device;
  return cudaSuccess;
}
"""
QUERY = """
#include <cstdio>
int main() {
  cudaDeviceProp found;
  std::printf("%d ", cudaGetDeviceProperties(&found, 2));
  std::printf("%d ", cudaGetDeviceProperties(&found, 1));
  std::printf("%s %d %d %d %d", found.name, found.major, found.clockRate, found.deviceOverlap,
              found.kernelExecTimeoutEnabled);
}
"""
# A layer as Caffe declares it, without what calls it.
LAYER = """
#pragma once
#include <cstdio>
#include <vector>
#ifndef FUNCTIONS
#define FUNCTIONS
#define INSTANTIATE_LAYER_GPU_FUNCS(name) \\
  template void name<float>::Forward_gpu(const vector<Blob<float>*>&, const vector<Blob<float>*>&); \\
  template void name<float>::Backward_gpu( \\
      const vector<Blob<float>*>&, const vector<bool>&, const vector<Blob<float>*>&)
namespace caffe {
using std::vector;
template <typename Dtype> struct Blob {};
}
#endif
namespace caffe {
template <typename Dtype> struct NAME {
  typedef const vector<Blob<Dtype>*>& Blobs;
  void Forward_cpu(Blobs, Blobs) { std::puts("NAME forward"); }
  void Backward_cpu(Blobs, const vector<bool>&, Blobs) { std::puts("NAME backward"); }
  virtual void Forward_gpu(Blobs, Blobs);
  virtual void Backward_gpu(Blobs, const vector<bool>&, Blobs);
};
}
"""


def ran(folder: Path, main: str, *added: str) -> str:
    """What a program prints that is compiled with one of our files."""
    for name, content in cuda_recipe().added_content.items():
        (folder / name).write_bytes(content)
    (folder / "main.cpp").write_text(main)
    command = ["g++", "-std=c++17", f"-I{folder}", *added, "main.cpp", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return subprocess.run([folder / "main"], check=True, capture_output=True, text=True).stdout


def layer(folder: Path, name: str) -> None:
    header = folder / f"caffe/layers/{name.lower()}_layer.hpp"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text(LAYER.replace("NAME", f"{name}Layer"))


def test_properties_of_a_device_have_their_fields_again(tmp_path: Path) -> None:
    (tmp_path / "cuda_runtime.h").write_text(RUNTIME)
    assert ran(tmp_path, QUERY, "-include", PROPERTIES) == "101 0 card 10 1301 1501 1701"


def test_layers_without_a_kernel_compute_on_the_cpu(tmp_path: Path) -> None:
    names = ("HardSigmoid", "HardSwish", "MaxUnPool", "PixelShuffle", "ReLU6", "Upsample")
    for name in names:
        layer(tmp_path, name)
    calls = " ".join(f"call(caffe::{name}Layer<float>());" for name in names)
    call = "template <typename L> void call(L layer) { layer.Forward_gpu({}, {}); layer.Backward_gpu({}, {}, {}); }"
    includes = "".join(f'#include "caffe/layers/{name.lower()}_layer.hpp"\n' for name in names)
    found = ran(tmp_path, f"{includes}{call}\nint main() {{ {calls} }}", ON_CPU)
    assert found.splitlines() == [f"{name}Layer {way}" for name in names for way in ("forward", "backward")]


def test_the_backward_pass_of_proposals_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "caffe/layers/proposal_layer.hpp"
    layer(tmp_path, "Proposal")
    path.write_text(path.read_text().replace("virtual void Forward_gpu(Blobs, Blobs);", ""))
    main = "int main() { caffe::ProposalLayer<float> layer; layer.Backward_gpu({}, {}, {}); }"
    assert ran(tmp_path, main, "-include", PROPOSAL) == ""
