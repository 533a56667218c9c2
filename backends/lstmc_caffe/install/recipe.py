"""What is built, from what, and with which flags: the one place to change any of it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

ADDED = "lstmc"
"""The folder beside Caffe's own that files of ours are compiled from."""


@dataclass(frozen=True)
class Wheel:
    """A package that holds files to compile and link with, of one version, to the byte."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip reads it, with the hash that the file must have."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True)
class Recipe:
    """How one build of Caffe is made. Two recipes that differ in what they produce have different keys.

    ``flags`` go to every compilation, ``file_flags`` (source path, flags) to single files after those;
    ``added`` are files of this folder that are compiled, or included, with Caffe's own; ``libraries`` are linked into
    everything, ``python_libraries`` into pycaffe alone, where ``{major}`` and ``{minor}`` stand for the interpreter's
    version. ``needed_mb`` is the free disk space a build takes at its peak, in 10^6 bytes. ``revision`` counts
    changes to the build that the other fields do not show.

    ``architectures`` are those of the GPUs that it is compiled for, as in ``sm_90``: none is a Caffe for the CPU
    alone, and the other fields of this paragraph are then empty too. ``gpu_flags`` take the place of ``flags`` for
    CUDA sources; ``cuda_libraries`` are the wheels of what is linked, ``cuda_compiler`` those of nvcc, and
    ``emulation`` the files of this folder that an emulated device is made from, in place of both.
    """

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
        """The file name of the source package."""
        return f"{self.distribution}-{self.version}.tar.gz"

    def flags_for(self, path: str) -> tuple[str, ...]:
        """The flags that compile the source file at ``path`` (relative to the source folder)."""
        common = self.gpu_flags if path.endswith(".cu") else self.flags
        return common + dict(self.file_flags).get(path, ())

    def libraries_for_python(self, version: str) -> tuple[str, ...]:
        """What pycaffe is linked with for an interpreter of ``version`` (as in ``3.13``)."""
        major, minor = version.split(".")
        own = tuple(name.format(major=major, minor=minor) for name in self.python_libraries)
        return self.libraries + own

    @cached_property
    def added_content(self) -> dict[str, bytes]:
        """What is in the files that are ``added``, by their names."""
        return _content(self.added)

    def key(self, platform: Platform) -> str:
        """The name of the folder that holds this build on ``platform``."""
        made_of: tuple[object, ...] = (
            self.sha256,
            self.compiler,
            self.flags,
            self.file_flags,
            self.libraries,
            self.python_libraries,
            self.revision,
            platform.system,
            platform.machine,
            platform.python,
        )
        if self.added:
            made_of += ([hashlib.sha256(content).hexdigest() for content in self.added_content.values()],)
        if self.architectures:
            wheels = [wheel.requirement for wheel in self.cuda_libraries]
            made_of += (self.architectures, self.gpu_flags, wheels)
        if self.emulation:
            made_of += ([hashlib.sha256(content).hexdigest() for content in _content(self.emulation).values()],)
        digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        return f"{self.version}{'-cuda' if self.architectures else ''}-py{platform.python}-{digest[:12]}"


def _content(names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (Path(__file__).parent / name).read_bytes() for name in names}


@dataclass(frozen=True)
class Platform:
    """What a build is good for.

    ``system`` as in ``debian-13``, ``machine`` as in ``x86_64``, ``python`` (its version) as in ``3.13``.
    """

    system: str
    machine: str
    python: str

    @classmethod
    def current(cls, python: str) -> Self:
        """This machine, with an interpreter of version ``python``."""
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
    "-O3",
    *("-include", "math.h"),
    "-fsingle-precision-constant",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-funsafe-math-optimizations",
    "-D__FAST_MATH__",
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
    """The -march flag that a machine with this ``/proc/cpuinfo`` can run, if it is wider than the common one."""
    found = {word for line in cpuinfo.splitlines() if line.startswith("flags") for word in line.split()}
    return ("-march=x86-64-v3",) if found >= X86_64_V3 else ()


def vector_file_flags() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The flags of the activation layers for this machine."""
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
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-w",
        "-pipe",
        # Caffe uses FLT_MAX without including its header, which older compilers let pass.
        *("-include", "cfloat"),
        "-DCPU_ONLY",
        "-DCAFFE_VERSION=1.0.0",
        "-DUSE_HDF5",
        # Boost no longer puts _1, _2 in the global namespace by itself.
        "-DBOOST_BIND_GLOBAL_PLACEHOLDERS",
        "-I/usr/include/hdf5/serial",
    ),
    file_flags=vector_file_flags() + QUIET,
    added=(COUNTERS,),
    libraries=(
        "glog",
        "gflags",
        "protobuf",
        "boost_thread",
        "boost_filesystem",
        "boost_regex",
        "hdf5_serial_hl",
        "hdf5_serial",
        "openblas",
        "pthread",
    ),
    python_libraries=("boost_python{major}{minor}",),
    revision=2,  # a library of its own, which others can link
    packages=(
        "g++",
        "libboost-filesystem-dev",
        "libboost-python-dev",
        "libboost-regex-dev",
        "libboost-thread-dev",
        "libgflags-dev",
        "libgoogle-glog-dev",
        "libhdf5-dev",
        "libopenblas-dev",
        "libprotobuf-dev",
        "protobuf-compiler",
        "python3",
        "python3-dev",
        "python3-numpy",
        "python3-protobuf",
        "python3-scipy",
        "python3-six",
        "python3-skimage",
    ),
)
