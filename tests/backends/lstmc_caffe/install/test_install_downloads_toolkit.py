"""CUDA's compiler and libraries: a toolkit that is installed, or wheels that pip takes from a folder."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lstmc_caffe.install.downloads import Toolkit, installed_toolkit, keep_toolkit, prepare_toolkit
from lstmc_caffe.install.recipe import LIBRARIES, Recipe, Wheel, cuda_recipe
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import InstallError

HEADER = "include/crt/host_defines.h"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
OFFLINE = "without a network: put the wheels into a folder, and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"


def nvcc(folder: Path, release: str = "13.0", header: bool = True) -> Path:
    """A toolkit whose nvcc says its version and does no more."""
    path = folder / "bin/nvcc"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")
    path.chmod(0o755)
    if header:
        (folder / HEADER).parent.mkdir(parents=True)
        (folder / HEADER).touch()
    return path


def wheel(folder: Path, name: str, *files: str) -> Wheel:
    """A wheel of NVIDIA's kind in ``folder``."""
    stem = name.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{stem}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{stem}-1.0.dist-info/RECORD", "")
        for file in files:
            archive.writestr(f"nvidia/cu13/{file}", name)
    return Wheel(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe whose wheels lie in a folder, and a pip that looks nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(folder)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)
    libraries = (wheel(folder, "nvidia-cublas", "include/cublas_v2.h", *(f"lib/{name}" for name in LIBRARIES)),)
    compiler = (wheel(folder, "nvidia-cuda-nvcc", "bin/nvcc"), wheel(folder, "nvidia-cuda-crt", HEADER))
    return replace(cuda_recipe(), cuda_libraries=libraries, cuda_compiler=compiler)


def prepare(recipe: Recipe, folder: Path, compilers: list[Path], output: io.StringIO | None = None) -> Toolkit:
    return prepare_toolkit(recipe, folder, Report(Console(file=output or io.StringIO(), width=200)), compilers)


def test_an_installed_toolkit_compiles_and_wheels_are_linked(recipe: Recipe, tmp_path: Path) -> None:
    compiler, output = nvcc(tmp_path / "cuda"), io.StringIO()
    found = prepare(recipe, tmp_path, [tmp_path / "absent/bin/nvcc", compiler], output)
    inside = tmp_path / "cuda-libraries/nvidia/cu13"
    assert found == Toolkit(
        compiler,
        (f"{inside}/include", f"{inside}/include/cccl", f"{tmp_path}/cuda/include"),
        tuple(inside / "lib" / name for name in LIBRARIES),
    )
    assert found.libraries[0].read_text() == "nvidia-cublas"
    assert output.getvalue() == "fetching nvidia-cublas==1.0\n"


@pytest.mark.slow
@pytest.mark.parametrize(("release", "header"), [("12.9", True), ("13.0", False)], ids=["older", "no headers"])
def test_without_a_fitting_toolkit_nvcc_is_a_wheel_too(
    recipe: Recipe, tmp_path: Path, release: str, header: bool
) -> None:
    output = io.StringIO()
    found = prepare(recipe, tmp_path, [nvcc(tmp_path / "cuda", release, header)], output)
    inside = tmp_path / "cuda-compiler/nvidia/cu13"
    assert (found.nvcc, found.includes[-1]) == (inside / "bin/nvcc", f"{inside}/include")
    assert output.getvalue().splitlines()[-1] == "fetching nvidia-cuda-nvcc==1.0 nvidia-cuda-crt==1.0"


@pytest.mark.slow
def test_what_a_killed_build_fetched_is_not_fetched_again(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "cuda-libraries.partial").mkdir()  # of one that was killed while it fetched
    first = prepare(recipe, tmp_path, [])
    output = io.StringIO()
    assert prepare(recipe, tmp_path, [], output) == first
    assert output.getvalue() == ""


@pytest.mark.slow
def test_a_build_keeps_what_compiles_for_it_later(recipe: Recipe, tmp_path: Path) -> None:
    work, build = tmp_path / "work", tmp_path / "build"
    for folder in (work, build):
        folder.mkdir()
    fetched = prepare(recipe, work, [])
    keep_toolkit(fetched, work, build)
    found = installed_toolkit(build, [])
    assert found == Toolkit(
        build / "cuda/compiler/bin/nvcc",
        tuple(f"{build}/cuda/{folder}" for folder in ("include", "include/cccl", "compiler/include")),
        tuple(build / "cuda" / name for name in LIBRARIES),
    )
    assert (build / "cuda/include/cublas_v2.h").is_file()
    installed = nvcc(tmp_path / "cuda")
    assert installed_toolkit(build, [installed]).nvcc == installed, "what was fetched here is no compiler"
    shutil.rmtree(build / "cuda/compiler")
    own = nvcc(build / "cuda/compiler")
    assert installed_toolkit(build, [installed]).nvcc == own


def test_an_installed_nvcc_is_not_kept(recipe: Recipe, tmp_path: Path) -> None:
    work, build, installed = tmp_path / "work", tmp_path / "build", nvcc(tmp_path / "cuda")
    for folder in (work, build):
        folder.mkdir()
    keep_toolkit(prepare(recipe, work, [installed]), work, build)
    assert [path.name for path in (build / "cuda").iterdir()] == ["include"]
    with pytest.raises(InstallError) as caught:
        installed_toolkit(build, [])
    assert caught.value.message == f"code for GPUs is compiled with nvcc of CUDA 13: {build} has none"
    assert caught.value.notes == ("build it again: python -m lstmc_caffe.install --cuda --force",)


def test_a_build_without_headers(tmp_path: Path) -> None:
    with pytest.raises(InstallError) as caught:
        installed_toolkit(tmp_path, [nvcc(tmp_path / "toolkit")])
    assert caught.value.message == f"code for GPUs is compiled with NVIDIA's headers: {tmp_path} has none"


def test_wheels_that_cannot_be_had(recipe: Recipe, tmp_path: Path) -> None:
    absent = replace(recipe, cuda_libraries=(Wheel("nvidia-curand", "10.4", "0" * 64),))
    with pytest.raises(InstallError) as caught:
        prepare(absent, tmp_path, [])
    assert str(caught.value) == (
        "InstallError: pip could not install nvidia-curand==10.4\n"
        "  pip's last line: ERROR: No matching distribution found for nvidia-curand==10.4\n"
        f"  {OFFLINE}"
    )
    assert not (tmp_path / "cuda-libraries").exists()


def test_a_wheel_that_is_another_one(recipe: Recipe, tmp_path: Path) -> None:
    (given,) = recipe.cuda_libraries
    with pytest.raises(InstallError) as caught:
        prepare(replace(recipe, cuda_libraries=(replace(given, sha256="0" * 64),)), tmp_path, [])
    assert str(caught.value) == (
        "InstallError: pip could not install nvidia-cublas==1.0\n"
        f"  pip's last line: Got        {given.sha256}\n"
        f"  {OFFLINE}"
    )


@pytest.mark.slow
def test_wheels_without_the_files_that_are_needed(recipe: Recipe, tmp_path: Path) -> None:
    empty = replace(recipe, cuda_libraries=(wheel(tmp_path / "wheels", "nvidia-empty"),))
    with pytest.raises(InstallError) as caught:
        prepare(empty, tmp_path, [])
    missing = tmp_path / "cuda-libraries/nvidia/cu13/lib/libcublas.so.13"
    assert str(caught.value) == f"InstallError: the wheels of CUDA do not hold {missing}"


def test_another_machine_is_refused(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(InstallError) as caught:
        prepare(recipe, tmp_path, [])
    assert str(caught.value) == "InstallError: Caffe with CUDA is built on x86_64 only: this machine is aarch64"
