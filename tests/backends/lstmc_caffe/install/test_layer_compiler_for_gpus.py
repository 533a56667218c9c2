"""Libraries for a Caffe with CUDA, made by commands that are real against an nvcc and headers that only pretend."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import platformdirs
import pytest

from lstmc.errors import BackendError
from lstmc.loops.code import Source, source
from lstmc_caffe import layers
from lstmc_caffe.install import downloads, record
from lstmc_caffe.install.layer_compiler import library
from lstmc_caffe.install.recipe import LIBRARIES, Platform, cuda_recipe
from lstmc_caffe.processes.process import CaffeLocation
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz.sanitized import CUDA

pytestmark = pytest.mark.caffe

# As much of NVIDIA's headers as Caffe's own use.
PRETENDED = """
#pragma once
#include <cstddef>
typedef int cudaError_t;
typedef int cublasStatus_t;
typedef int curandStatus_t;
typedef struct cublasContext* cublasHandle_t;
typedef struct curandGenerator_st* curandGenerator_t;
typedef struct CUstream_st* cudaStream_t;
enum { cudaSuccess = 0, CUBLAS_STATUS_SUCCESS = 0, CURAND_STATUS_SUCCESS = 0 };
const char* cudaGetErrorString(cudaError_t);
extern "C" cudaError_t cudaPeekAtLastError();
cudaError_t cudaMemset(void*, int, size_t);
cudaError_t cudaMallocHost(void**, size_t);
cudaError_t cudaFreeHost(void*);
"""
# It says what it was asked, and has g++ compile kernels as ordinary functions.
NVCC = """#!/bin/sh
[ "$1" = --version ] && echo 'Cuda compilation tools, release 13.0' && exit
echo "$@" > {log}
exec g++ -std=c++17 -fPIC -w {flags} -x c++ -c layers.cu -o layers_gpu.o
"""


@pytest.fixture
def with_cuda(caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CaffeLocation:
    """A Caffe as the installer leaves it with CUDA: Caffe's real headers and library, the rest pretended."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.setattr(downloads, "system_compilers", list)
    assert caffe.location.pythonpath is not None
    real, build = Path(caffe.location.pythonpath).parent, tmp_path / "build"
    for name in ("include", "cuda/include", "cuda/compiler/bin", "lib", "python"):
        (build / name).mkdir(parents=True)
    (build / "include/caffe").symlink_to(real / "include/caffe")
    (build / record.LIBRARY).symlink_to(real / record.LIBRARY)
    for name in ("cublas_v2.h", "cuda.h", "cuda_runtime.h", "curand.h", "driver_types.h"):
        (build / "cuda/include" / name).write_text(PRETENDED)
    for name in LIBRARIES:
        command = ["g++", "-shared", "-x", "c++", "/dev/null", f"-Wl,-soname,{name}", "-o", str(build / "cuda" / name)]
        subprocess.run(command, check=True)
    nvcc = build / "cuda/compiler/bin/nvcc"
    nvcc.write_text(NVCC.format(log=tmp_path / "log", flags=shlex.join(CUDA[:1])))
    nvcc.chmod(0o755)
    recipe = cuda_recipe(("sm_80", "sm_90"))
    when = datetime.now(UTC).isoformat(timespec="seconds")
    record.write(build, recipe, Platform.current("3.13"), Path(sys.executable), caffe="1.0.0", built=when, seconds=1.0)
    return CaffeLocation(Path(sys.executable), str(build / "python"), None, "installed")


def test_a_library_for_a_caffe_with_cuda_has_both(with_cuda: CaffeLocation, tmp_path: Path) -> None:
    made = library(source("net", []), with_cuda)
    asked = (tmp_path / "log").read_text().split()
    assert asked[0] == "-ccbin"
    assert {"-Xcompiler=-fPIC", "-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=compute_90"} <= (
        set(asked)
    )
    assert f"-I{tmp_path}/build/cuda/include" in asked
    assert not [flag for flag in asked if "CPU_ONLY" in flag]
    assert asked[-4:] == ["-c", "layers.cu", "-o", "layers_gpu.o"]
    symbols = subprocess.run(["nm", "-C", str(made)], check=True, capture_output=True, text=True).stdout
    for function in ("GeneratedLayer::Forward_gpu(", "GeneratedLayer::Backward_gpu("):
        assert function in symbols
    (tmp_path / "log").unlink()
    assert library(source("net", []), with_cuda) == made
    assert not (tmp_path / "log").exists(), "it is remembered"
    net = source("net", [])
    assert library(Source(net.cpp, f"{net.cu}// other"), with_cuda) != made


def test_without_the_cuda_of_a_net(with_cuda: CaffeLocation) -> None:
    with pytest.raises(BackendError) as caught:
        library(Source("", None), with_cuda)
    assert caught.value.message == (
        "generated layers for a Caffe with CUDA: expected NAME.layers.cu beside NAME.layers.cpp, found none"
    )
    assert caught.value.notes == (
        "files compiled for target caffe-fused have both, unless they were compiled with -O numbers=:"
        " products in low precision are for the CPU alone",
    )


def test_a_library_for_gpus_is_asked_for_where_no_caffe_has_cuda(
    caffe: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(layers, "installed_with_cuda", lambda: None)
    monkeypatch.setattr(layers, "installed_emulated", lambda: None)
    monkeypatch.setattr(layers, "locate_for_gpu", lambda: caffe.location)
    (tmp_path / "net.layers.cpp").touch()
    code = layers.main([str(tmp_path / "net.layers.cpp"), "-o", str(tmp_path / "net.layers.so"), "--gpu"])
    assert code == 2
    assert capsys.readouterr().err == (
        "BackendError: --gpu: expected the Caffe that lstmc builds with CUDA, found another\n"
        "  python -m lstmc_caffe.install --cuda\n"
    )
