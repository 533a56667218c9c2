"""The recipes of a build: sources and flags for the CPU, and for CUDA without cuDNN and NCCL. CUDA's libraries come as
wheels from the package index, and so does nvcc where no toolkit is installed."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from lstmc_caffe.install.system import InstallError

ADDED = "lstmc"  # the folder beside Caffe's own that files of ours are compiled from


@dataclass(frozen=True)
class Wheel:
    """A package that holds files to compile and link with, fixed by version and hash."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The requirement for pip, with the hash that the file must have."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True)
class Recipe:
    """The recipe of a build of Caffe. Two recipes that differ in what they produce have different keys.
    ``flags`` go to every compilation, ``file_flags`` (source path, flags) to single files after those; ``added`` are
    files of this folder that are compiled, or included, with Caffe's own; ``libraries`` are linked into everything,
    ``python_libraries`` into pycaffe alone, where ``{major}`` and ``{minor}`` stand for the interpreter's version.
    ``needed_mb`` is the free disk space a build takes at its peak, in 10^6 bytes. ``revision`` counts changes to the
    build that the other fields do not show.
    Only a build for GPUs has: ``architectures`` to compile for, as ``sm_90``; ``gpu_flags``, which replace ``flags``
    for CUDA sources; ``cuda_libraries`` and ``cuda_compiler``, the wheels of the linked libraries and of nvcc. For an
    emulated device ``emulation`` replaces all wheels: the SHA-256 of its source files, which no package has."""

    distribution: str
    version: str
    sha256: str
    flags: tuple[str, ...]
    libraries: tuple[str, ...]
    python_libraries: tuple[str, ...]
    file_flags: tuple[tuple[str, tuple[str, ...]], ...] = ()
    added: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    interpreter: str = "/usr/bin/python3"
    compiler: str = "g++"
    protoc: str = "protoc"
    needed_mb: int = 150
    revision: int = 1
    architectures: tuple[str, ...] = ()
    gpu_flags: tuple[str, ...] = ()
    cuda_libraries: tuple[Wheel, ...] = ()
    cuda_compiler: tuple[Wheel, ...] = ()
    emulation: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The source package and its version, as pip writes it."""
        return f"{self.distribution}=={self.version}"

    @property
    def archive(self) -> str:
        return f"{self.distribution}-{self.version}.tar.gz"

    def flags_for(self, path: str) -> tuple[str, ...]:
        """Return the flags that compile the source file at ``path`` (relative to the source folder)."""
        return (self.gpu_flags if path.endswith(".cu") else self.flags) + dict(self.file_flags).get(path, ())

    def libraries_for_python(self, version: str) -> tuple[str, ...]:
        """Return the libraries of pycaffe for an interpreter of ``version`` (as in ``3.13``)."""
        major, minor = version.split(".")
        return self.libraries + tuple(name.format(major=major, minor=minor) for name in self.python_libraries)

    @cached_property
    def added_content(self) -> dict[str, bytes]:
        """The contents of the ``added`` files, by name."""
        return {name: (Path(__file__).parent / name).read_bytes() for name in self.added}

    def key(self, platform: Platform) -> str:
        """Return the name of the folder that holds this build on ``platform``."""
        inputs: tuple[object, ...] = (
            *(self.sha256, self.compiler, self.flags, self.file_flags, self.libraries, self.python_libraries),
            *(self.revision, platform.system, platform.machine, platform.python),
        )
        if self.added:
            inputs += ([hashlib.sha256(content).hexdigest() for content in self.added_content.values()],)
        if self.architectures:
            inputs += (self.architectures, self.gpu_flags, [wheel.requirement for wheel in self.cuda_libraries])
        if self.emulation:
            inputs += (self.emulation,)
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        return f"{self.version}{'-cuda' if self.architectures else ''}-py{platform.python}-{digest[:12]}"


@dataclass(frozen=True)
class Platform:
    """The platform of a build: ``system`` as ``debian-13``, ``machine`` as ``x86_64``, ``python`` as ``3.13``."""

    system: str
    machine: str
    python: str

    @classmethod
    def current(cls, python: str) -> Self:
        """Return this machine's platform, with an interpreter of version ``python``."""
        try:
            release = platform.freedesktop_os_release()
        except OSError:
            release = {"ID": platform.system().lower()}
        system = f"{release['ID']}-{release.get('VERSION_ID', 'rolling')}"
        return cls(system, platform.machine(), python)


# The layers whose time is all exp and tanh. Compiled so, they use single precision, and their loops call libmvec's
# vector functions: a wide CPU does eight at a time. Not -ffast-math: without -ffinite-math-only NaN and infinity keep
# their meaning. The macro is what glibc's headers look at before they declare the vector functions, and what
# -ffast-math would define.
LSTM_UNIT = "src/caffe/layers/lstm_unit_layer.cpp"
VECTORISED = (*(f"src/caffe/layers/{name}_layer.cpp" for name in ("sigmoid", "tanh")), LSTM_UNIT)
VECTOR_FLAGS = (
    *("-O3", "-include", "math.h", "-fsingle-precision-constant", "-fno-math-errno", "-fno-trapping-math"),
    *("-funsafe-math-optimizations", "-D__FAST_MATH__"),
)
# LSTMUnit's loops read and write by many pointers, which g++ compares with each other before it takes many elements at
# a time: more than 12 comparisons forward, more than 50 backward, where by itself it makes ten at most.
COUNTERS = "lstm_unit_counters.h"
LSTM_UNIT_FLAGS = ("-include", f"{ADDED}/{COUNTERS}", "--param=vect-max-version-for-alias-checks=100")
# While it loads a net, this copy of Caffe composes log lines, the whole net's text among them, even where nobody reads
# them, unless NDEBUG is defined. Caffe's Makefile defines it for all files; here the others keep their checks (Embed's
# that there is a row for an index).
QUIET = (("src/caffe/net.cpp", ("-DNDEBUG",)),)
X86_64_V3 = frozenset(("avx2", "bmi2", "f16c", "fma", "movbe"))


def processor_flags(cpuinfo: str) -> tuple[str, ...]:
    """Return the flag for code with AVX2 (x86-64-v3) if the machine of this ``/proc/cpuinfo`` runs it; else no flag."""
    features = {word for line in cpuinfo.splitlines() if line.startswith("flags") for word in line.split()}
    return ("-march=x86-64-v3",) if features >= X86_64_V3 else ()


def vector_file_flags() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the compiler flags of each activation layer's file, with this machine's vector instructions."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    own = {LSTM_UNIT: LSTM_UNIT_FLAGS}
    return tuple((path, VECTOR_FLAGS + processor_flags(cpuinfo) + own.get(path, ())) for path in VECTORISED)


# Debian and Ubuntu split Boost by library, and build Boost.Python for their own python3 only.
CPU = Recipe(
    distribution="brocolli-caffe",
    version="9.0.2",
    sha256="c6410cc60bdd6db685d441b66be7df05410f8850ac88d6b75d48ef9b2315c08a",
    flags=(
        *("-std=c++17", "-O2", "-fPIC", "-w", "-pipe"),
        # Caffe uses FLT_MAX without including its header, which older compilers let pass.
        *("-include", "cfloat"),
        *("-DCPU_ONLY", "-DCAFFE_VERSION=1.0.0", "-DUSE_HDF5"),
        # Boost no longer puts _1, _2 in the global namespace by itself.
        "-DBOOST_BIND_GLOBAL_PLACEHOLDERS",
        "-I/usr/include/hdf5/serial",
    ),
    file_flags=vector_file_flags() + QUIET,
    added=(COUNTERS,),
    libraries=(
        *("glog", "gflags", "protobuf", "boost_thread", "boost_filesystem", "boost_regex"),
        *("hdf5_serial_hl", "hdf5_serial", "openblas", "pthread"),
    ),
    python_libraries=("boost_python{major}{minor}",),
    revision=2,  # a library of its own, which others can link
    packages=(
        *("g++", "libboost-filesystem-dev", "libboost-python-dev", "libboost-regex-dev", "libboost-thread-dev"),
        *("libgflags-dev", "libgoogle-glog-dev", "libhdf5-dev", "libopenblas-dev", "libprotobuf-dev"),
        *("protobuf-compiler", "python3", "python3-dev", "python3-numpy", "python3-protobuf", "python3-scipy"),
        *("python3-six", "python3-skimage"),
    ),
)

# Code for one architecture also runs on those of the same first digit, and GPUs later than all run its PTX: so all GPUs
# that CUDA 13 knows are covered.
DEFAULT_ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
OLDEST = 75  # that CUDA 13 compiles for
EMULATED = "emulated"  # the architecture of a device that the CPU emulates, for tests without a GPU
# the source files of the emulated device in ``tools/emulated_cuda`` of the repository, with their SHA-256
EMULATION = {
    "nvcc.py": "ab5e3df31de07e10c5a9410cd93c137c5f9dbc5606b05561e9dd457888dde0f0",
    "cuda.h": "a95e0590bfe5981f623bd2e6e6ed4f97bef2763fef63b7db56985743483e5d00",
    "cuda_runtime.h": "27e82529225bdf5949f5f15212b457c7145966b54c5f03f061ca7d22ed3c1e94",
    "cublas_v2.h": "5ae66266d23afb43d9d58354cb90115d24cd29a2d67719a866be5689e69b5e48",
    "curand.h": "9933f927788526fa235179230415dce8dcea10accd9a848b780736954ca679c3",
    "thrust.h": "53775993afe7b3c64bd7c3b5f27b6e4e4228cd5c446cdbcabfcec221d29ad8aa",
    "cuda.cpp": "9bf9b4631a30e3b66a1dfbff3e6b3e30c86e2e943e355e4e702dbef776358d67",
    "cudart.cpp": "76c5c8869a1ac088e4ad1cb9cd65eb754e87f2cd5350666c016d9e82df5e4f5a",
    "cublas.cpp": "13db77dbe0dfdd6115198e9f006c30c6ed5c461f1c0bf3b7e2ae9dffd4753ec6",
    "curand.cpp": "4fbb33944bccaa20e4426b5dd12c11c69c9ab704493805b83b9cd048f1c8b405",
}
# what a Caffe with CUDA loads, next to the driver's own library; the first loads the second
LIBRARIES = ("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudart.so.13")
# the same for an emulated device: it has a driver's library of its own
EMULATED_LIBRARIES = ("libcuda.so.1", "libcudart.so.13", "libcublas.so.13", "libcurand.so.10")
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
    """Return ``sm_80,sm_90`` as a tuple, the oldest first. Raises InstallError for GPUs that nvcc 13 does not know."""
    names = [name.strip() for name in text.split(",")]
    if EMULATED in names:
        raise InstallError(
            "--arch takes GPUs; the build for a device that the CPU emulates is made in a clone of lstmc's repository:"
            " python -m tools.emulated_cuda"
        )
    for name in names:
        match = re.fullmatch(r"sm_(\d{2,3})", name)
        if match is None:
            raise InstallError(f"--arch takes architectures of GPUs as in sm_80,sm_90: found {name!r}")
        if int(match[1]) < OLDEST:
            raise InstallError(f"--arch {name}: CUDA 13 compiles for sm_{OLDEST} and later only")
    return tuple(sorted(dict.fromkeys(names), key=_number))


def cuda_recipe(architectures: tuple[str, ...] = DEFAULT_ARCHITECTURES) -> Recipe:
    """Return the recipe of a Caffe that runs on GPUs of ``architectures`` (sorted), and, by PTX, on all later ones. The
    recipe for ``(EMULATED,)`` runs on a device that the CPU emulates."""
    emulated = architectures == (EMULATED,)
    flags = tuple(flag for flag in CPU.flags if flag != "-DCPU_ONLY")
    # in nvcc's form: -Xcompiler passes on to g++ the flags that nvcc does not know
    for_nvcc = (f"-Xcompiler={flag}" if flag in ("-fPIC", "-pipe") else flag for flag in flags)
    own = (
        ("src/caffe/common.cpp", ("-include", f"{ADDED}/{PROPERTIES}")),
        ("src/caffe/layers/proposal_layer.cu", ("-include", f"{ADDED}/{PROPOSAL}")),
        ("src/caffe/layers/inner_product_layer.cu", ("-include", f"{ADDED}/{INNER_PRODUCT}")),
    )
    return replace(
        CPU,
        flags=flags,
        gpu_flags=(*for_nvcc, *(() if emulated else _generate(architectures))),
        file_flags=CPU.file_flags + own,
        architectures=architectures,
        added=(*CPU.added, PROPERTIES, PROPOSAL, INNER_PRODUCT, ON_CPU),
        cuda_libraries=() if emulated else CUDA_LIBRARIES,
        cuda_compiler=() if emulated else CUDA_COMPILER,
        emulation=tuple(EMULATION.values()) if emulated else (),
        needed_mb=CPU.needed_mb if emulated else 1300,
    )


def _generate(architectures: tuple[str, ...]) -> tuple[str, ...]:
    codes = [(_number(name), name) for name in architectures]
    codes.append((codes[-1][0], f"compute_{codes[-1][0]}"))  # PTX, which the driver compiles for later GPUs
    return tuple(f"-gencode=arch=compute_{number},code={code}" for number, code in codes)


def _number(architecture: str) -> int:
    return int(architecture.removeprefix("sm_"))
