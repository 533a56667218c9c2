"""The archive itself, and the command line that makes it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from lstmc_caffe.install.recipe import cuda_recipe
from lstmc_caffe.install.record import Installed
from lstmc_caffe.install.system import InstallError
from tools.bundle import __main__ as program
from tools.bundle import make as making


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "stage/lstmc-gpu"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/libcaffe.so").write_bytes(os.urandom(5000))
    (folder / "gpu_check.sh").write_text("#!/bin/sh\n")
    (folder / "gpu_check.sh").chmod(0o755)
    return folder


def test_the_archive_has_one_folder_and_nobody_s_name(stage: Path, tmp_path: Path) -> None:
    found = making.pack(stage, tmp_path / "a.tar.xz")
    with tarfile.open(found) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == ["lstmc-gpu/gpu_check.sh", "lstmc-gpu/lib", "lstmc-gpu/lib/libcaffe.so"]
    assert {(m.uid, m.uname, m.mtime) for m in members} == {(0, "root", 0)}
    assert members[0].mode & 0o111
    assert making.pack(stage, tmp_path / "b.tar.xz").read_bytes() == found.read_bytes()


def test_an_archive_that_is_too_large_is_not_written(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage / "large").write_bytes(os.urandom(11 * 2**20 // 10))
    monkeypatch.setattr(making, "LIMIT", 2**20)
    with pytest.raises(InstallError) as caught:
        making.pack(stage, tmp_path / "a.tar.xz")
    assert str(caught.value) == "InstallError: the bundle has 1.1 MiB: expected at most 1"
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_the_command_line_builds_caffe_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = Installed(Path("/python"), Path("/path"), Path("/caffe"), "source", "key", ("sm_90",))
    python, target = tmp_path / "python3.12", tmp_path / "bundle.tar.xz"
    python.write_text("#!/bin/sh\necho 3.12\n")
    python.chmod(0o755)

    def install(**options: object) -> Installed:
        assert options["recipe"] == cuda_recipe(("sm_90",))
        return built

    def make(plan: making.Plan) -> Path:
        assert (plan.installed, plan.python, plan.target, plan.jobs) == (built, python, target, 3)
        target.write_bytes(bytes(1536 * 1024))
        return target

    monkeypatch.setattr(program, "install", install)
    monkeypatch.setattr(program, "make", make)
    assert program.main(["-o", str(target), "--python", str(python), "--arch", "sm_90", "--jobs", "3"]) == 0
    assert capsys.readouterr().out == f"{target}  1.5 MiB\n"


def test_the_command_line_s_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python3.12"
    assert program.main(["--python", str(python)]) == 2
    assert capsys.readouterr().err == (
        f"InstallError: --python {python}: expected a Python 3.12, found none that runs\n"
    )
    python.write_text("#!/bin/sh\necho 3.12\n")
    python.chmod(0o755)
    assert program.main(["--python", str(python), "--arch", "90"]) == 2
    assert capsys.readouterr().err == (
        "InstallError: --arch takes architectures of GPUs as in sm_80,sm_90: found '90'\n"
    )

    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "install", interrupted)
    assert program.main(["--python", str(python)]) == 130
    assert capsys.readouterr().err == ("interrupted: a build of Caffe goes on the next time, the bundle begins anew\n")
