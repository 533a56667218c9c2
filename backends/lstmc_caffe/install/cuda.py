"""The second recipe: Caffe with CUDA, for the GPUs that are asked for. Without cuDNN and NCCL.

CUDA's libraries come as wheels from the package index, and so does nvcc where no toolkit is installed. Where the
architecture is ``emulated``, lstmc's own sources take the place of both, and kernels run on the CPU.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lstmc_caffe.install.errors import InstallError
from lstmc_caffe.install.recipe import ADDED, CPU, Recipe, Wheel

DEFAULT_ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
"""Code for one architecture runs on those of the same first digit too, and what is later than all runs its PTX: so
these are all GPUs that CUDA 13 knows."""

OLDEST = 75  # that CUDA 13 compiles for

EMULATED = "emulated"
"""The architecture of a device that the CPU emulates: for tests on machines without a GPU."""

EMULATION = tuple(
    f"emulated_cuda/{name}"
    for name in (
        *("nvcc.py", "cuda.h", "cuda_runtime.h", "cublas_v2.h", "curand.h", "thrust.h"),
        *("cuda.cpp", "cudart.cpp", "cublas.cpp", "curand.cpp"),
    )
)

LIBRARIES = ("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudart.so.13")
"""What a Caffe with CUDA loads, next to the driver's own library; the first loads the second."""

EMULATED_LIBRARIES = ("libcuda.so.1", "libcudart.so.13", "libcublas.so.13", "libcurand.so.10")
"""The same for an emulated device: it has a driver's library of its own."""

CUDA_LIBRARIES = (
    Wheel("nvidia-cublas", "13.0.2.14", "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c"),
    Wheel("nvidia-curand", "10.4.0.35", "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
    Wheel("nvidia-cuda-runtime", "13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    Wheel("nvidia-cuda-cccl", "13.0.85", "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649"),
)
CUDA_COMPILER = (
    Wheel("nvidia-cuda-nvcc", "13.0.88", "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03"),
    Wheel("nvidia-cuda-crt", "13.0.88", "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4"),
    Wheel("nvidia-nvvm", "13.0.88", "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0"),
)

PROPERTIES, PROPOSAL, ON_CPU = "cuda_device_properties.h", "cuda_proposal_backward.h", "cuda_layers_on_cpu.cpp"
INNER_PRODUCT = "cuda_inner_product.h"


def libraries(architectures: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the libraries that a Caffe for these architectures is linked with."""
    return EMULATED_LIBRARIES if architectures == (EMULATED,) else LIBRARIES


def parse_architectures(text: str) -> tuple[str, ...]:
    """``sm_80,sm_90`` as a tuple, the oldest first. Raises InstallError for what nvcc 13 does not compile for."""
    names = [name.strip() for name in text.split(",")]
    if names == [EMULATED]:
        return (EMULATED,)
    for name in names:
        if name == EMULATED:
            raise InstallError(f"--arch {EMULATED} is a build of its own: found {text!r}")
        match = re.fullmatch(r"sm_(\d{2,3})", name)
        if match is None:
            raise InstallError(f"--arch takes architectures of GPUs as in sm_80,sm_90: found {name!r}")
        if int(match[1]) < OLDEST:
            raise InstallError(f"--arch {name}: CUDA 13 compiles for sm_{OLDEST} and later only")
    return tuple(sorted(dict.fromkeys(names), key=_number))


def cuda_recipe(architectures: tuple[str, ...] = DEFAULT_ARCHITECTURES) -> Recipe:
    """The recipe of a Caffe that runs on GPUs of ``architectures`` (sorted), and, by PTX, on all later ones.

    That for ``(EMULATED,)`` runs on no GPU but on the device that the CPU emulates.
    """
    emulated = architectures == (EMULATED,)
    flags = tuple(flag for flag in CPU.flags if flag != "-DCPU_ONLY")
    own = (
        ("src/caffe/common.cpp", ("-include", f"{ADDED}/{PROPERTIES}")),
        ("src/caffe/layers/proposal_layer.cu", ("-include", f"{ADDED}/{PROPOSAL}")),
        ("src/caffe/layers/inner_product_layer.cu", ("-include", f"{ADDED}/{INNER_PRODUCT}")),
    )
    return replace(
        CPU,
        flags=flags,
        gpu_flags=(*_for_nvcc(flags), *(() if emulated else _generate(architectures))),
        file_flags=CPU.file_flags + own,
        architectures=architectures,
        added=(*CPU.added, PROPERTIES, PROPOSAL, INNER_PRODUCT, ON_CPU),
        cuda_libraries=() if emulated else CUDA_LIBRARIES,
        cuda_compiler=() if emulated else CUDA_COMPILER,
        emulation=EMULATION if emulated else (),
        needed_mb=CPU.needed_mb if emulated else 1300,
    )


def _for_nvcc(flags: tuple[str, ...]) -> tuple[str, ...]:
    """The same flags as nvcc takes them: those that it does not know itself are handed on to g++."""
    return tuple(f"-Xcompiler={flag}" if flag in ("-fPIC", "-pipe") else flag for flag in flags)


def _generate(architectures: tuple[str, ...]) -> tuple[str, ...]:
    codes = [(_number(name), name) for name in architectures]
    codes.append((codes[-1][0], f"compute_{codes[-1][0]}"))  # PTX, which the driver compiles for later GPUs
    return tuple(f"-gencode=arch=compute_{number},code={code}" for number, code in codes)


def _number(architecture: str) -> int:
    return int(architecture.removeprefix("sm_"))
