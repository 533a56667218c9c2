"""Which Caffe is for work on a GPU, and what is said where none can be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lstmc_caffe import CaffeBackend
from lstmc_caffe.install.record import Installed
from lstmc_caffe.processes.process import CaffeLocation, CaffeRequestError, GpuState, gpu_state
from lstmc_caffe.runtime import locate as locating
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.locate import CaffeNotFound, locate, locate_for_gpu
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.runtime.pythons import ABORTING, GOOD, caffe_package, script


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("""echo '{"device": "a GPU", "emulated": false}'""", GpuState(True, True, "", "", "a GPU")),
        ("""echo '{"device": "none", "emulated": true}'""", GpuState(True, True, "", "", "none", True)),
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
    ids=["usable", "emulated", "cpu-only", "cpu-only-with-a-gpu", "wrong", "no-driver", "busy"],
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
        self.emulated: Installed | None = None
        monkeypatch.setattr(locating, "installed", lambda cache: self.cpu)
        monkeypatch.setattr(locating, "installed_with_cuda", lambda cache: self.cuda)
        monkeypatch.setattr(locating, "installed_emulated", lambda cache: self.emulated)
        monkeypatch.setattr(locating, "_common_pythons", lambda path: [])

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


@pytest.mark.parametrize(("usable", "taken"), [(True, "cuda"), (False, "emulated")])
def test_an_emulated_device_is_used_where_there_is_no_gpu(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: bool, taken: str
) -> None:
    builds.emulated = builds.build(tmp_path / "emulated", "emulated")
    monkeypatch.setattr(locating, "gpu_state", lambda location: GpuState(True, usable, ""))
    assert locate_for_gpu({}, tmp_path) == builds.location(taken)
    builds.cuda = None
    assert locate_for_gpu({}, tmp_path) == builds.location("emulated")


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
        "  tried lstmc_caffe.install (key-cuda): import caffe fails: exit status 1\n"
        "  fix: python -m lstmc_caffe.install --cuda --force"
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


def fake_driver(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int, text: str) -> None:
    """Has processes load a libcuda.so.1 whose cuInit gives ``status``, and which counts no GPU."""
    (folder / "driver.c").write_text(DRIVER)
    command = ["g++", "-x", "c", f"-DSTATUS={status}", f"-DTEXT={text}", "-shared", "-fPIC", "driver.c"]
    subprocess.run([*command, "-o", "libcuda.so.1"], cwd=folder, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))


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
    fake_driver(tmp_path, monkeypatch, status, text)
    package = caffe_package(tmp_path / "site", UNUSABLE)
    state = gpu_state(CaffeLocation(Path(sys.executable), str(package), None, "setting"))
    assert state == GpuState(True, False, f"NVIDIA's driver finds no GPU ({reason})")


@pytest.mark.caffe
def test_real_caffe_refuses_a_gpu_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a build for the CPU, and with one that has CUDA where that is installed."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which an emulated device reads, with a driver of its own
    fake_driver(tmp_path, monkeypatch, 100, '"no CUDA-capable device is detected"')
    reason = "NVIDIA's driver finds no GPU (cuInit returned 100: no CUDA-capable device is detected)"
    for executor in CaffeBackend().executors():
        python, gpu = executor.runner.location.python, executor.runner.gpu
        refusal = CaffeExecutor(executor.runner, "gpu").unavailable()
        if gpu.built:
            assert refusal == f"{python}: {reason}"
        else:
            mend = "where there is a GPU: python -m lstmc_caffe.install --cuda"
            assert refusal == f"{python}: this Caffe was built without CUDA, and {reason}; {mend}"
        asked = "cannot load a net without a name (TEST, gpu): no GPU can be used: "
        with pytest.raises(CaffeRequestError) as caught:
            executor.runner.load("", mode="gpu")
        assert str(caught.value) == f"CaffeRequestError: {asked}{gpu.reason}"
        executor.close()


def test_what_mends_it_is_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = script(tmp_path / "python", f'echo \'{{"reason": ""}}\'; {ABORTING % "Cannot use GPU in CPU-only Caffe"}')
    executor = CaffeExecutor(Runner(CaffeLocation(python, None, None, "setting")), "gpu")
    assert executor.unavailable() == (
        f"{python}: this Caffe was built without CUDA\nfix: python -m lstmc_caffe.install --cuda"
    )


def doctor(monkeypatch: pytest.MonkeyPatch, builds: Builds, state: GpuState) -> list[tuple[str, bool, str, str]]:
    monkeypatch.setattr("lstmc_caffe.runtime.locate.gpu_state", lambda location: state)
    for name in ("LSTMC_CAFFE_PYTHON", "LSTMC_CAFFE_PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    found = CaffeBackend().doctor()
    return [(f.subject, f.found, f.detail, f.fix) for f in found if "GPU" in f.subject]


@pytest.mark.slow
def test_doctor_says_which_caffe_is_for_gpus_and_what_is_missing(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    caffe = ("Caffe for GPUs", True, f"{builds.python} {builds.python.parent / 'cuda'}", "")
    usable = doctor(monkeypatch, builds, GpuState(True, True, "", "", "a GPU"))
    assert usable == [caffe, ("GPU", True, "usable: a GPU", "")]
    emulated = doctor(monkeypatch, builds, GpuState(True, True, "", "", "no GPU: emulated by the CPU", True))
    assert emulated == [caffe, ("GPU", True, "none; the CPU emulates one", "")]
    no_driver = doctor(monkeypatch, builds, GpuState(True, False, "there is no NVIDIA driver"))
    assert no_driver == [caffe, ("GPU", False, "there is no NVIDIA driver", "")]
    without = doctor(monkeypatch, builds, GpuState(False, False, "built without CUDA", "install --cuda"))
    assert without == [("GPU", False, "built without CUDA", "install --cuda")]


def test_doctor_says_when_the_build_with_cuda_is_broken(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = script(builds.python.parent / "broken", "exit 1")
    builds.cuda = Installed(broken, Path("/cuda"), Path("/cuda/caffe"), "source==1", "key-cuda", ("sm_90",))
    (found,) = doctor(monkeypatch, builds, GpuState(True, True, ""))
    assert found == (
        "GPU",
        False,
        "the Caffe that was built with CUDA does not work: import caffe fails: exit status 1",
        "python -m lstmc_caffe.install --cuda --force",
    )
