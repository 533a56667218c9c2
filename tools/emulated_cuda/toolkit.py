"""The toolkit of the emulated device, in the place of NVIDIA's, and the build of Caffe with it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from lstmc_caffe.install.build import Order, build
from lstmc_caffe.install.downloads import Toolkit
from lstmc_caffe.install.installer import Steps
from lstmc_caffe.install.recipe import CPU, EMULATED, EMULATION, cuda_recipe
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import InstallError, run

RECIPE = cuda_recipe((EMULATED,))

# CUDA's other headers -> the one of the emulation that each of them includes
_FORWARDED = {
    **dict.fromkeys(
        (
            *("cooperative_groups.h", "cuda_runtime_api.h", "device_functions.h"),
            *("driver_types.h", "math_functions.h"),
        ),
        "cuda_runtime.h",
    ),
    "crt/host_defines.h": "cuda_runtime.h",
    **dict.fromkeys((f"thrust/{name}.h" for name in ("device_vector", "functional", "reduce", "sort")), "thrust.h"),
}
# library -> what it is linked with
_LINKED = {
    "libcuda.so.1": (),
    "libcudart.so.13": ("libcuda.so.1",),
    "libcublas.so.13": ("libcudart.so.13", "-lopenblas"),
    "libcurand.so.10": ("libcudart.so.13",),
}


def emulated_toolkit(work: Path, report: Report) -> Toolkit:
    """Return the toolkit of the emulated device, compiled below ``work``.

    Raises InstallError where the files are not those by which lstmc knows the build.
    """
    sources = {name: Path(__file__).with_name(name) for name in EMULATION}
    for name, source in sources.items():
        if (found := sha256(source.read_bytes()).hexdigest()) != EMULATION[name]:
            raise InstallError(
                f"lstmc looks for the build of another {name}: found SHA-256 {found}",
                notes=[f"if you changed {source}, put its SHA-256 into lstmc_caffe/install/recipe.py"],
            )
    report.step("compiling the emulated device")
    folder = work / "emulated"
    shutil.rmtree(folder, ignore_errors=True)
    include, nvcc, lib = (folder / path for path in ("compiler/include", "compiler/bin/nvcc", "lib"))
    for path in (include / "thrust", include / "crt", nvcc.parent, lib):
        path.mkdir(parents=True)
    shutil.copy(sources["nvcc.py"], nvcc)
    for name, source in sources.items():
        if source.suffix == ".h":
            shutil.copy(source, include / name)
    for name, header in _FORWARDED.items():
        (include / name).write_text(f"#pragma once\n#include <{header}>\n")
    for name, linked in _LINKED.items():
        source = sources[name.removeprefix("lib").partition(".")[0] + ".cpp"]
        command = [
            *(CPU.compiler, "-std=c++17", "-O2", "-g1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", f"-I{include}"),
            *(str(source), *(each if each.startswith("-l") else str(lib / each) for each in linked)),
            *(f"-Wl,-soname,{name}", "-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN", "-Wl,-z,defs"),
            *("-o", str(lib / name)),
        ]
        run(command, f"compiling {name} of the emulated device")
    return Toolkit(nvcc, (str(include),), tuple(lib / name for name in _LINKED))


def _build(order: Order) -> None:
    build(replace(order, toolkit=emulated_toolkit(order.work, order.report)))


STEPS = Steps(build=_build)
