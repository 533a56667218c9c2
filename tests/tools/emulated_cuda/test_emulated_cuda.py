"""The emulated device by itself: what it computes, and the mistakes that it finds."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lstmc_caffe.install import record
from lstmc_caffe.install.recipe import EMULATION
from lstmc_caffe.install.system import InstallError
from tools.emulated_cuda import __main__ as command
from tools.emulated_cuda import toolkit as making
from tools.emulated_cuda.toolkit import RECIPE, emulated_toolkit

FAULTS = Path(__file__).with_name("emulated_faults.cu")


class Silent:
    def step(self, text: str) -> None:
        assert text == "compiling the emulated device"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emulated")
    toolkit = emulated_toolkit(folder, Silent())
    command = [toolkit.nvcc, *RECIPE.gpu_flags, f"-I{toolkit.includes[0]}", "-c", FAULTS, "-o", folder / "faults.o"]
    subprocess.run(command, check=True)
    libraries = [*toolkit.libraries, f"-Wl,-rpath,{toolkit.libraries[0].parent}"]
    subprocess.run(["g++", folder / "faults.o", *libraries, "-o", folder / "faults"], check=True)
    return folder / "faults"


def ended(program: Path, mistake: str, visible: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    return subprocess.run([program, mistake], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.caffe
@pytest.mark.slow
def test_kernels_and_library_functions(program: Path) -> None:
    found = ended(program, "none")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0] == "127 0 128 128", "each block is reversed, and 1 is added to its first element"
    assert lines[1] == "first 0, status 0, 10 13 28 40", "the last thread ran first"
    assert lines[2] == "105", "cuRAND has normal numbers in pairs"
    assert lines[3] == "36 36; too many blocks in cooperative launch; invalid argument"
    assert lines[4] == "no error", "more shared memory was asked for"
    assert lines[5] == "3 3 0, 8 4 0, recorded"
    assert lines[6:8] == ["invalid configuration argument", "invalid configuration argument"]
    assert lines[8:-1] == [
        *("1 cublasSgemm", "2 cudaGraphLaunch", "0 half_waits", "0 never_launched", "0 one_block_waits", "1 order"),
        *("0 reads", "1 reverse", "0 second_wait", "2 sums", "1 twice"),
    ]
    assert lines[-1] == "no GPU: emulated by the CPU"
    assert ended(program, "new memory is not zero").stdout == "-nan\n"


MISTAKES = {
    "the host reads": "the host accessed device memory",
    "the host writes": "the host accessed device memory",
    "a host pointer": "twice: argument 1, 0x[0-9a-f]+, is not device memory",
    "a freed pointer": "twice: argument 1, 0x[0-9a-f]+, is not device memory",
    "writes one element too many": "twice: wrote behind an allocation of 400 bytes",
    "reads far behind": "reads: accessed memory outside of any allocation",
    "reads far before": "reads: accessed memory outside of any allocation",
    "half a block waits": "half_waits: 32 of a block's 64 threads wait at a barrier",
    "half a block waits again": "second_wait: 32 of a block's 64 threads wait at a barrier",
    "not all blocks wait": "one_block_waits: 1 of 2 blocks wait for the others",
    "blocks wait that may not be there": "one_block_waits: waits for other blocks, and its launch is not cooperative",
    "writes behind shared memory": "sums: wrote behind 256 bytes of shared memory",
    "a graph with freed memory": "twice: argument 1, 0x[0-9a-f]+, is not device memory",
    "freed twice": "cudaFree: 0x[0-9a-f]+ is not a live allocation of device memory",
    "a copy of the wrong kind": "cudaMemcpy: kind 1 for a copy from the device to the host",
    "a copy that is too long": ("cudaMemcpy: the source has 512 bytes, of which an allocation of 512 has 508"),
    "a copy onto itself": "cudaMemcpy: source and target overlap",
    "memory set too far": "cudaMemset: the target has 401 bytes, of which an allocation of 400 has 400",
    "a matrix that is too large": "cublasSgemm: a has 440 bytes, of which an allocation of 400 has 400",
    "a host vector": "cublasSaxpy: x at 0x[0-9a-f]+ is not device memory",
    "a device scalar": "cublasSscal: alpha at 0x[0-9a-f]+ is device memory",
    "random numbers for the host": "curandGenerateUniform: the target at 0x[0-9a-f]+ is not device memory",
}


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_the_process_with_its_name(program: Path, mistake: str) -> None:
    found = ended(program, mistake)
    assert found.returncode < 0
    line = found.stderr.splitlines()[0]
    assert re.fullmatch(rf"F0101 00:00:00\.000000 +\d+ emulated_cuda\] {MISTAKES[mistake]}", line), line


@pytest.mark.caffe
@pytest.mark.slow
def test_no_device_is_visible_where_cuda_has_none_either(program: Path) -> None:
    assert ended(program, "count").returncode == 1
    found = ended(program, "count", "")
    assert (found.returncode, found.stdout) == (0, "no CUDA-capable device is detected\n")


def test_a_build_is_of_the_sources_that_lstmc_knows_it_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(making.__file__).parent
    assert set(EMULATION) == {path.name for path in folder.glob("*.*")} - {"__init__.py", "__main__.py", "toolkit.py"}
    assert not [flag for flag in RECIPE.gpu_flags if "gencode" in flag]
    changed = folder / "cudart.cpp"
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"//" if path == changed else b""))
    with pytest.raises(InstallError, match="lstmc looks for the build of another cudart") as caught:
        emulated_toolkit(tmp_path, Silent())
    assert caught.value.notes[0].startswith(f"if you changed {changed}, put its SHA-256 into")
    assert not [*tmp_path.iterdir()]


def test_the_command_finds_the_build_or_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(cache: Path, jobs: int, **settings: object) -> record.Installed:
        assert (cache, jobs, settings) == (tmp_path, 3, {"force": False, "recipe": RECIPE, "steps": making.STEPS})
        return record.Installed(
            Path("/python"), tmp_path / "key/python", Path("/caffe"), "source", "key", ("emulated",)
        )

    monkeypatch.setattr(command, "install", install)
    assert command.main(["--cache", str(tmp_path), "--jobs", "3"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'key'}\n"
