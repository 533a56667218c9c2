"""The source archive: refused when it is another one."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lstmc_caffe.install.downloads import fetch_source, unpack_source
from lstmc_caffe.install.recipe import CPU
from lstmc_caffe.install.system import InstallError

CONTENT = b"not Caffe"
FOUND = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / CPU.archive
    path.write_bytes(CONTENT)
    return path


def pip_that_prints(monkeypatch: pytest.MonkeyPatch, returncode: int, output: str) -> list[list[str]]:
    """Replaces pip; gives the list of the commands it is called with."""
    calls: list[list[str]] = []

    def fake_run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, returncode, output)

    monkeypatch.setattr(subprocess, "run", fake_run)
    return calls


def test_another_sha256_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallError) as caught:
        fetch_source(CPU, tmp_path / "downloads", archive)
    assert str(caught.value) == (
        f"InstallError: brocolli-caffe-9.0.2.tar.gz from {archive} is not the source that this recipe was written for\n"
        f"  expected sha256 {CPU.sha256}\n"
        f"  found sha256    {FOUND}"
    )


def test_an_absent_archive(tmp_path: Path) -> None:
    with pytest.raises(InstallError) as caught:
        fetch_source(CPU, tmp_path, tmp_path / "absent.tar.gz")
    assert str(caught.value) == f"InstallError: the source archive {tmp_path / 'absent.tar.gz'} does not exist"


def test_a_kept_archive_is_not_downloaded_again(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip_that_prints(monkeypatch, 1, "ERROR: no network")
    assert fetch_source(replace(CPU, sha256=FOUND), archive.parent) == archive
    assert calls == []


def test_a_damaged_kept_archive_is_downloaded_again(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip_that_prints(monkeypatch, 0, "")
    with pytest.raises(InstallError, match="is not the source"):  # the fake pip writes nothing, so it is still there
        fetch_source(CPU, archive.parent)
    assert len(calls) == 1
    requirement = archive.with_name("requirements.txt").read_text(encoding="utf-8")
    assert requirement == f"brocolli-caffe==9.0.2 --hash=sha256:{CPU.sha256}\n"


def test_pip_refuses_another_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. [...]\n"
    said += f"        Expected sha256 {CPU.sha256}\n             Got        {FOUND}\n"
    pip_that_prints(monkeypatch, 1, said)
    with pytest.raises(InstallError) as caught:
        fetch_source(CPU, tmp_path)
    assert str(caught.value) == (
        "InstallError: brocolli-caffe-9.0.2.tar.gz from the package index is not the source that this recipe was "
        "written for\n"
        f"  expected sha256 {CPU.sha256}\n"
        f"  found sha256    {FOUND}"
    )


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: Retrying (Retry(total=0)) after connection broken by 'Error: refused': /brocolli-caffe/\n"
    said += "ERROR: No matching distribution found for brocolli-caffe==9.0.2\n\n"
    pip_that_prints(monkeypatch, 1, said)
    with pytest.raises(InstallError) as caught:
        fetch_source(CPU, tmp_path)
    assert str(caught.value) == (
        "InstallError: pip could not download brocolli-caffe==9.0.2, Caffe's source\n"
        "  pip's last line: ERROR: No matching distribution found for brocolli-caffe==9.0.2\n"
        "  its connection:  Error: refused\n"
        "  without a network: bring brocolli-caffe-9.0.2.tar.gz here and give it with --sdist FILE"
    )


def test_unpack_takes_only_what_is_built(tmp_path: Path) -> None:
    names = ["src/caffe/net.cpp", "src/caffe/proto/caffe.proto", "tools/caffe.cpp", "include/caffe/net.hpp"]
    unwanted = ["src/caffe/test/test_net.cpp", "setup.py", "include/caffe/proto/caffe.pb.h", "include/../../evil.hpp"]
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in names + unwanted:
            member = tarfile.TarInfo(f"brocolli-caffe-9.0.2/{name}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "left over").touch()
    unpack_source(archive, folder)
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(found) == sorted(names)
    assert (folder / "src/caffe/net.cpp").read_text() == "src/caffe/net.cpp"
