"""The record of a build: written, read back, refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lstmc_caffe.install import record
from lstmc_caffe.install.recipe import CPU, LIBRARIES, Platform, Recipe, cuda_recipe

HERE = Platform.current("3.13")
KEY = CPU.key(HERE)
CUDA = cuda_recipe(("sm_90",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recorded build in the cache ``tmp_path``, whose interpreter is the file ``tmp_path/python3.13``."""
    folder = tmp_path / "caffe" / KEY
    files = (record.BINDING, record.PROGRAM, record.LIBRARY)
    for path in (*(folder / file for file in files), tmp_path / "python3.13"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write(folder, tmp_path)
    return folder


@pytest.fixture
def cuda(tmp_path: Path) -> Path:
    """A recorded build with CUDA in the same cache."""
    folder = tmp_path / "caffe" / CUDA.key(HERE)
    files = (record.BINDING, record.PROGRAM, record.LIBRARY, *(record.CUDA / name for name in LIBRARIES))
    for path in (*(folder / file for file in files), tmp_path / "python3.13"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write(folder, tmp_path, recipe=CUDA)
    return folder


def write(folder: Path, cache: Path, built: str = "2026-01-02T03:04:05+00:00", recipe: Recipe = CPU) -> None:
    record.write(folder, recipe, HERE, cache / "python3.13", caffe="1.0.0", built=built, seconds=12.345)


def test_round_trip(folder: Path, tmp_path: Path) -> None:
    assert record.installed(tmp_path) == record.Installed(
        python=tmp_path / "python3.13",
        pythonpath=folder / "python",
        caffe_binary=folder / "bin/caffe",
        source="brocolli-caffe==9.0.2",
        key=KEY,
    )
    assert record.refusals(tmp_path) == ()
    fields = json.loads((folder / "install.json").read_text(encoding="utf-8"))
    assert (fields["seconds"], fields["caffe"]) == (12.3, "1.0.0")
    assert "boost_python313" in fields["libraries"]


def test_nothing_installed(tmp_path: Path) -> None:
    assert record.installed(tmp_path / "absent") is None
    assert record.refusals(tmp_path / "absent") == ()


@pytest.mark.parametrize("name", ["python/caffe/_caffe.so", "bin/caffe", "lib/libcaffe.so"])
def test_refuses_a_record_whose_files_are_gone(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).unlink()
    assert record.installed(tmp_path) is None
    assert record.refusals(tmp_path) == (f"{folder}: {folder / name} is gone",)


def test_refuses_a_record_whose_interpreter_is_gone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "python3.13").unlink()
    assert record.installed(tmp_path) is None
    assert record.refusals(tmp_path) == (f"{folder}: {tmp_path / 'python3.13'} is gone",)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "expected JSON, found something else: EOF while parsing a value at line 1 column 0"),
        ("[]", "expected an object, found []"),
        ('{"key": 3}', "key: expected a valid string, found 3"),
        ("[" * 100_000, "expected JSON, found something else: recursion limit exceeded at line 1 column 202"),
    ],
)
def test_refuses_a_damaged_record(folder: Path, tmp_path: Path, text: str, wrong: str) -> None:
    (folder / "install.json").write_text(text, encoding="utf-8")
    assert record.installed(tmp_path) is None
    assert record.refusals(tmp_path) == (f"{folder}: install.json: {wrong}",)


def test_refuses_another_recipe(folder: Path, tmp_path: Path) -> None:
    other = replace(CPU, flags=("-O3",))
    assert record.installed(tmp_path, other) is None
    assert record.refusals(tmp_path, other) == (
        f"{folder}: built as {KEY}, but this machine and this version of lstmc need {other.key(HERE)}",
    )


def test_a_build_in_progress_is_not_looked_at(folder: Path, tmp_path: Path) -> None:
    folder.rename(folder.with_name(f".work-{KEY}"))
    assert record.installed(tmp_path) is None


def test_the_latest_of_several_counts(folder: Path, tmp_path: Path) -> None:
    newer = folder.with_name("newer")
    for path in (newer / record.BINDING, newer / record.PROGRAM, newer / record.LIBRARY):
        path.parent.mkdir(parents=True)
        path.touch()
    write(newer, tmp_path, built="2026-01-03T00:00:00+00:00")
    found = record.installed(tmp_path)
    assert found is not None
    assert found.pythonpath == newer / "python"


@pytest.mark.slow
def test_reading_the_record_is_cheap() -> None:
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import lstmc_caffe\n"
        "before = set(sys.modules)\n"
        "import lstmc_caffe.install.record\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert {"rich", "filelock", "concurrent"}.isdisjoint(loaded)


def test_a_build_with_cuda_stands_beside_the_other(folder: Path, cuda: Path, tmp_path: Path) -> None:
    ours, gpu = record.installed(tmp_path), record.installed_with_cuda(tmp_path)
    assert ours is not None
    assert gpu is not None
    assert (ours.pythonpath, ours.architectures) == (folder / "python", ())
    assert (gpu.pythonpath, gpu.architectures) == (cuda / "python", ("sm_90",))
    assert record.installed(tmp_path, CUDA) == gpu
    assert record.refusals(tmp_path) == record.refusals(tmp_path, CUDA) == ()


def test_a_build_with_cuda_alone_is_none_for_the_cpu(cuda: Path, tmp_path: Path) -> None:
    assert record.installed(tmp_path) is None
    assert record.refusals(tmp_path) == ()
    assert record.installed(tmp_path, cuda_recipe(("sm_80",))) is None


@pytest.mark.parametrize("name", ["lib/libcaffe.so", "cuda/libcublas.so.13", "cuda/libcurand.so.10"])
def test_refuses_a_build_with_cuda_whose_libraries_are_gone(cuda: Path, tmp_path: Path, name: str) -> None:
    (cuda / name).unlink()
    assert record.installed_with_cuda(tmp_path) is None
    assert record.refusals(tmp_path, CUDA) == (f"{cuda}: {cuda / name} is gone",)


@pytest.mark.parametrize("found", [["h100"], "sm_90", [90], None])
def test_a_record_of_unknown_architectures_is_of_no_use(cuda: Path, tmp_path: Path, found: object) -> None:
    path = cuda / record.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": found}))
    assert record.installed_with_cuda(tmp_path) is None
    assert record.installed(tmp_path) is None
