"""Which Caffe is for work on a GPU, and what is said where none can be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lstmc_caffe import CaffeBackend
from lstmc_caffe import locate as locating
from lstmc_caffe.install.record import Installed
from lstmc_caffe.locate import CaffeLocation, CaffeNotFound, GpuState, gpu_state, locate, locate_for_gpu
from lstmc_caffe.runner import Runner
from tests.backends.lstmc_caffe.pythons import ABORTING, GOOD, caffe_package, script


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("""echo '{"reason": ""}'""", GpuState(True, True, "")),
        (
            'echo \'{"reason": "there is no NVIDIA driver"}\'; '
            + ABORTING % "Cannot use GPU in CPU-only Caffe: check mode.",
            GpuState(
                False,
                False,
                "this Caffe was built without CUDA, and there is no NVIDIA driver; where there is a GPU:"
                " python -m lstmc_caffe.install --cuda",
            ),
        ),
        (
            'echo \'{"reason": ""}\'; ' + ABORTING % "Cannot use GPU in CPU-only Caffe: check mode.",
            GpuState(False, False, "this Caffe was built without CUDA", "python -m lstmc_caffe.install --cuda"),
        ),
        (
            """echo '{"reason": "it computes wrongly: twice 1 and 2 is [0, 0]"}'""",
            GpuState(True, False, "it computes wrongly: twice 1 and 2 is [0, 0]"),
        ),
        (
            'echo \'{"reason": "there is no NVIDIA driver"}\'; ' + ABORTING % "Check failed: error",
            GpuState(True, False, "there is no NVIDIA driver"),
        ),
        (
            'echo \'{"reason": ""}\'; ' + ABORTING % "Check failed: error == cudaSuccess (46 vs. 0)",
            GpuState(True, False, "SIGABRT: common.cpp:70] Check failed: error == cudaSuccess (46 vs. 0)"),
        ),
    ],
    ids=["usable", "cpu-only", "cpu-only-with-a-gpu", "wrong", "no-driver", "busy"],
)
def test_what_is_said_of_a_gpu(tmp_path: Path, body: str, state: GpuState) -> None:
    python = script(tmp_path / "python", f'test "$2" = --gpu || exit 9; {body}')
    assert gpu_state(CaffeLocation(python, None, None, "setting")) == state


class Builds:
    """An installer's cache with a build for the CPU and one with CUDA, either of which may be taken away."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.python = script(folder / "python", GOOD)
        self.cpu: Installed | None = self.build(folder / "cpu")
        self.cuda: Installed | None = self.build(folder / "cuda", "sm_90")
        monkeypatch.setattr(locating, "installed", lambda cache: self.cpu)
        monkeypatch.setattr(locating, "installed_with_cuda", lambda cache: self.cuda)
        monkeypatch.setattr(locating, "_usual_pythons", lambda path: [])

    def build(self, folder: Path, *architectures: str) -> Installed:
        return Installed(self.python, folder, folder / "caffe", "source==1", f"key-{folder.name}", architectures)

    def location(self, name: str) -> CaffeLocation:
        folder = self.python.parent / name
        return CaffeLocation(self.python, str(folder), folder / "caffe", "installed")


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    return Builds(tmp_path, monkeypatch)


def test_each_kind_of_work_has_its_build(builds: Builds, tmp_path: Path) -> None:
    assert locate({}, tmp_path) == builds.location("cpu")
    assert locate_for_gpu({}, tmp_path) == builds.location("cuda")


def test_a_build_for_the_cpu_is_found_for_a_gpu_too_and_then_says_what_it_lacks(builds: Builds, tmp_path: Path) -> None:
    builds.cuda = None
    assert locate_for_gpu({}, tmp_path) == builds.location("cpu")


def test_a_build_with_cuda_alone_does_the_cpu_s_work(builds: Builds, tmp_path: Path) -> None:
    builds.cpu = None
    assert locate({}, tmp_path) == builds.location("cuda")


def test_a_setting_is_for_gpus_too(builds: Builds, tmp_path: Path) -> None:
    settings = {"LSTMC_CAFFE_PYTHON": str(builds.python), "LSTMC_CAFFE_PYTHONPATH": str(tmp_path)}
    assert locate_for_gpu(settings, tmp_path) == CaffeLocation(builds.python, str(tmp_path), None, "setting")


def test_a_broken_build_with_cuda_is_not_passed_over(builds: Builds, tmp_path: Path) -> None:
    script(builds.python, "exit 1")
    with pytest.raises(CaffeNotFound) as caught:
        locate_for_gpu({}, tmp_path)
    assert str(caught.value) == (
        "CaffeNotFound: the Caffe that was built with CUDA does not work\n"
        "  tried the installer's record (key-cuda): import caffe fails: exit status 1\n"
        "  to mend it: python -m lstmc_caffe.install --cuda --force"
    )


def test_a_runner_for_a_gpu_takes_the_build_with_cuda(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LSTMC_CAFFE_PYTHON", raising=False)
    monkeypatch.delenv("LSTMC_CAFFE_PYTHONPATH", raising=False)
    assert Runner().location == builds.location("cpu")
    assert Runner(for_gpu=True).location == builds.location("cuda")
    places = [executor.runner.location for executor in CaffeBackend().executors()]
    assert places == [builds.location("cpu"), builds.location("cuda")]


DRIVER = """
#include <stddef.h>
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGetCount(int* count) { *count = 0; return 0; }
int cuGetErrorString(int status, const char** text) { *text = TEXT; return 0; }
"""
UNUSABLE = """
import os
class Net: pass
def set_device(number): os.abort()
"""


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (100, '"no CUDA-capable device is detected"', "cuInit returned 100: no CUDA-capable device is detected"),
        (999, "NULL", "cuInit returned 999: an unknown error"),
        (0, "NULL", "it counts 0"),
    ],
)
def test_a_driver_without_a_gpu_says_what_it_found(
    status: int, text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    command = ["g++", "-x", "c", f"-DSTATUS={status}", f"-DTEXT={text}", "-shared", "-fPIC", "driver.c"]
    subprocess.run([*command, "-o", "libcuda.so.1"], cwd=tmp_path, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    package = caffe_package(tmp_path / "site", UNUSABLE)
    state = gpu_state(CaffeLocation(Path(sys.executable), str(package), None, "setting"))
    assert state == GpuState(True, False, f"NVIDIA's driver finds no GPU ({reason})")
