"""What CUDA sources are compiled and linked with: nvcc, headers, and NVIDIA's libraries."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstmc_caffe.install.cuda import LIBRARIES
from lstmc_caffe.install.errors import InstallError
from lstmc_caffe.install.pip import failure, pip
from lstmc_caffe.install.progress import Report
from lstmc_caffe.install.recipe import Recipe, Wheel

INSIDE = Path("nvidia/cu13")  # where these wheels put everything
_HEADER = Path("include/crt/host_defines.h")  # that the wheel of the run-time library lacks
_OFFLINE = "without a network: put the wheels into a folder, and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"


@dataclass(frozen=True)
class Toolkit:
    """``nvcc``, the header folders for every compilation, and the files to link, by their full paths."""

    nvcc: Path
    includes: tuple[str, ...]
    libraries: tuple[Path, ...]


def system_compilers() -> list[Path]:
    """The places where a toolkit puts nvcc."""
    known = [Path("/usr/local/cuda/bin/nvcc"), *sorted(Path("/usr/local").glob("cuda-13*/bin/nvcc"))]
    found = shutil.which("nvcc")
    return known + ([Path(found).resolve()] if found else [])


def prepare(recipe: Recipe, folder: Path, report: Report, compilers: Sequence[Path] | None = None) -> Toolkit:
    """The toolkit for a build below ``folder``, where wheels are unpacked unless they are there from a killed build.

    ``compilers`` are nvccs to look at, by default the system's: the first of CUDA 13 that has its own headers is
    used, and where there is none it comes as a wheel too. Raises InstallError where pip cannot get a wheel.
    """
    if platform.machine() != "x86_64":
        raise InstallError(f"Caffe with CUDA is built on x86_64 only: this machine is {platform.machine()}")
    candidates = system_compilers() if compilers is None else compilers
    nvcc = next((path for path in candidates if _is_usable(path)), None)
    libraries = _unpacked(recipe.cuda_libraries, folder / "cuda-libraries", report)
    if nvcc is None:
        nvcc = _unpacked(recipe.cuda_compiler, folder / "cuda-compiler", report) / "bin/nvcc"
    includes = [libraries / "include", libraries / "include/cccl", nvcc.parents[1] / "include"]
    files = tuple(libraries / "lib" / name for name in LIBRARIES)
    for file in (nvcc, nvcc.parents[1] / _HEADER, *files):
        if not file.is_file():
            raise InstallError(f"the wheels of CUDA do not hold {file}")
    return Toolkit(nvcc, tuple(map(str, includes)), files)


def _is_usable(nvcc: Path) -> bool:
    """Whether it is one of CUDA 13, with the headers that g++ needs beside it."""
    if not (nvcc.parents[1] / _HEADER).is_file():
        return False
    try:
        said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, errors="replace").stdout
    except OSError:
        return False
    return re.search(r"release 13\.", said) is not None


def _unpacked(wheels: Sequence[Wheel], folder: Path, report: Report) -> Path:
    """The folder that holds what is in the wheels."""
    names = " ".join(f"{wheel.name}=={wheel.version}" for wheel in wheels)
    if not folder.exists():
        report.step(f"fetching {names}")
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        requirements = folder.with_name(f"{folder.name}.txt")
        requirements.write_text("".join(f"{wheel.requirement}\n" for wheel in wheels), encoding="utf-8")
        returncode, output = pip(
            *("install", "--no-deps", "--disable-pip-version-check", "--only-binary", ":all:"),
            *("--target", str(partial), "--requirement", str(requirements)),
        )
        if returncode != 0:
            raise failure(f"pip could not install {names}", output, [_OFFLINE])
        partial.rename(folder)
    return folder / INSIDE
