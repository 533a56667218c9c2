"""The key that names a build."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lstmc_caffe.install.recipe import CPU, Platform, Recipe, Wheel, cuda_recipe, parse_architectures
from lstmc_caffe.install.system import InstallError

CUDA = cuda_recipe(("sm_80", "sm_90"))
HERE = Platform("debian-13", "x86_64", "3.13")


def test_key_is_readable_and_stable() -> None:
    key = CPU.key(HERE)
    assert key == CPU.key(HERE)
    assert key.startswith("9.0.2-py3.13-")


@pytest.mark.parametrize(
    "other",
    [
        replace(CPU, flags=(*CPU.flags, "-O3")),
        replace(CPU, file_flags=(("src/caffe/net.cpp", ("-O3",)),)),
        replace(CPU, libraries=CPU.libraries[1:]),
        replace(CPU, python_libraries=()),
        replace(CPU, sha256="0" * 64),
        replace(CPU, version="9.0.3"),
        replace(CPU, revision=CPU.revision + 1),
        replace(CPU, added=()),
    ],
)
def test_key_changes_with_what_is_built(other: Recipe) -> None:
    assert other.key(HERE) != CPU.key(HERE)


@pytest.mark.parametrize(
    "other", [replace(HERE, python="3.12"), replace(HERE, machine="aarch64"), replace(HERE, system="ubuntu-24.04")]
)
def test_key_changes_with_the_platform(other: Platform) -> None:
    assert CPU.key(other) != CPU.key(HERE)


def test_key_does_not_change_with_what_is_only_needed_to_build() -> None:
    assert replace(CPU, packages=(), needed_mb=1).key(HERE) == CPU.key(HERE)


def test_file_flags_come_after_the_common_ones() -> None:
    recipe = replace(CPU, flags=("-O2",), file_flags=(("a.cpp", ("-O3",)),))
    assert recipe.flags_for("a.cpp") == ("-O2", "-O3")
    assert recipe.flags_for("b.cpp") == ("-O2",)


def test_only_the_loading_of_nets_is_compiled_without_checks_for_developers() -> None:
    assert "-DNDEBUG" not in CPU.flags
    assert [path for path, flags in CPU.file_flags if "-DNDEBUG" in flags] == ["src/caffe/net.cpp"]


def test_boost_python_is_the_interpreter_s() -> None:
    assert CPU.libraries_for_python("3.13")[-1] == "boost_python313"


def test_a_build_with_cuda_has_a_key_of_its_own() -> None:
    assert CUDA.key(HERE).startswith("9.0.2-cuda-py3.13-")
    keys = {cuda_recipe(names).key(HERE) for names in (("sm_80",), ("sm_90",), ("sm_80", "sm_90"))}
    assert len(keys) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(CUDA, gpu_flags=()),
        replace(CUDA, added=CUDA.added[1:]),
        replace(CUDA, cuda_libraries=(Wheel("nvidia-cublas", "13.1", "0" * 64), *CUDA.cuda_libraries[1:])),
    ],
)
def test_the_key_of_a_build_with_cuda_changes_with_what_it_adds(other: Recipe) -> None:
    assert other.key(HERE) != CUDA.key(HERE)
    assert replace(other, architectures=()).key(HERE) != other.key(HERE)


def test_the_key_of_a_build_for_the_cpu_does_not_depend_on_cuda() -> None:
    assert replace(CPU, gpu_flags=("-O3",), cuda_libraries=CUDA.cuda_libraries).key(HERE) == CPU.key(HERE)


def test_nvcc_gets_the_same_flags_in_its_own_form() -> None:
    assert "-DCPU_ONLY" in CPU.flags
    assert CUDA.flags_for("src/caffe/blob.cpp") == tuple(flag for flag in CPU.flags if flag != "-DCPU_ONLY")
    found = CUDA.flags_for("src/caffe/net.cu")
    assert found[-3:] == (
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    )
    assert "-Xcompiler=-fPIC" in found
    assert "-fPIC" not in found
    assert set(CUDA.flags) - set(found) == {"-fPIC", "-pipe"}


def test_files_are_compiled_with_what_they_lack() -> None:
    assert CUDA.flags_for("src/caffe/common.cpp")[-1] == "lstmc/cuda_device_properties.h"
    assert CUDA.flags_for("src/caffe/layers/proposal_layer.cu")[-1] == "lstmc/cuda_proposal_backward.h"
    assert [name for name in CUDA.added_content if name.endswith(".cpp")] == ["cuda_layers_on_cpu.cpp"]


def test_architectures_are_sorted_and_taken_once() -> None:
    assert parse_architectures("sm_100, sm_75,sm_90,sm_75") == ("sm_75", "sm_90", "sm_100")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "--arch takes architectures of GPUs as in sm_80,sm_90: found ''"),
        ("sm_90,h100", "--arch takes architectures of GPUs as in sm_80,sm_90: found 'h100'"),
        ("90", "--arch takes architectures of GPUs as in sm_80,sm_90: found '90'"),
        ("sm_70", "--arch sm_70: CUDA 13 compiles for sm_75 and later only"),
    ],
)
def test_what_is_no_architecture_is_refused(text: str, error: str) -> None:
    with pytest.raises(InstallError) as caught:
        parse_architectures(text)
    assert str(caught.value) == f"InstallError: {error}"
