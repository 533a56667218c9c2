"""The key that names a build."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lstmc_caffe.install.recipe import CPU, Platform, Recipe

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


def test_boost_python_is_the_interpreter_s() -> None:
    assert CPU.libraries_for_python("3.13")[-1] == "boost_python313"
