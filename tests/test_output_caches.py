"""Folders of the cache: nothing that somebody else could have written is executed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from lstmc.errors import BackendError
from lstmc.files.output import check_private, foreign, private_folder
from lstmc.loops import native
from lstmc.loops.code import source
from lstmc.loops.native import keep
from lstmc_caffe.install import layer_compiler
from lstmc_caffe.install.layer_compiler import library
from lstmc_caffe.readers.executor import interpreter
from lstmc_caffe.readers.known import Environment
from lstmc_caffe.runtime.runner import Runner

pytestmark = pytest.mark.posix
NOBODY = 65534


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(params=[0o002, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a file belong to somebody else: to nobody, or, where only root may do that, let this user be another one."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    return path.owner()


def test_folders_are_made_for_this_user_alone_whatever_the_umask(cache: Path, umask: None) -> None:
    folder = private_folder(cache / "layers")
    assert [oct(each.stat().st_mode & 0o777) for each in (cache, folder)] == ["0o700", "0o700"]
    (cache / "made").write_bytes(b"code")
    keep(cache / "made", folder / "a.so")
    assert foreign(folder / "a.so") is None
    assert (folder / "a.so").stat().st_mode & 0o777 == 0o600


def test_what_belongs_to_somebody_else_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = private_folder(cache / "layers")
    (folder / "a.so").write_bytes(b"code")
    check_private(folder / "a.so")
    owner = give_away(folder / "a.so", monkeypatch)
    with pytest.raises(BackendError) as refused:
        check_private(folder / "a.so")
    assert f" belongs to {owner}, and its files are executed" in refused.value.message
    assert refused.value.notes[1] == "or set XDG_CACHE_HOME to a folder of your own"


@pytest.mark.parametrize(("mode", "who"), [(0o775, "its group"), (0o757, "everybody"), (0o777, "everybody")])
@pytest.mark.parametrize("place", ["", "cache", "cache/layers", "cache/layers/a.so"])
def test_what_others_can_write_is_refused(cache: Path, tmp_path: Path, mode: int, who: str, place: str) -> None:
    target = private_folder(cache / "layers") / "a.so"
    target.write_bytes(b"code")
    (tmp_path / place).chmod(mode)
    with pytest.raises(BackendError) as refused:
        check_private(target)
    assert str(refused.value) == (
        f"BackendError: {tmp_path / place} may be written by {who}, and its files are executed\n"
        f"  remove it if somebody else wrote there; if not: chmod go-w {tmp_path / place}\n"
        "  or set XDG_CACHE_HOME to a folder of your own"
    )


def test_a_folder_with_the_sticky_bit_may_be_shared(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    check_private(private_folder(shared / "cache"))
    assert foreign(shared) is not None  # itself nobody's own


def test_links_are_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache").symlink_to(elsewhere)
    check_private(private_folder(tmp_path / "cache"))
    tmp_path.chmod(0o777)
    assert foreign(tmp_path / "cache") is not None
    tmp_path.chmod(0o700)
    elsewhere.chmod(0o777)
    assert foreign(tmp_path / "cache") is not None


def test_an_environment_that_others_can_write_is_not_used(cache: Path) -> None:
    folder = private_folder(cache / "readers" / "of")
    environment = Environment("of", "3.11", ())
    assert interpreter(environment) is None
    folder.chmod(0o777)
    with pytest.raises(BackendError, match="may be written by everybody"):
        interpreter(environment)


@pytest.mark.caffe
def test_a_library_that_somebody_else_put_into_the_cache_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caffe: Runner
) -> None:
    made = library(source("net", []), caffe.location)
    assert library(source("net", []), caffe.location) == made
    give_away(made, monkeypatch)
    with pytest.raises(BackendError, match=r"belongs to .*, and its files are executed"):
        library(source("net", []), caffe.location)


@pytest.mark.caffe
def test_a_full_disk_is_named_and_not_the_assembler_s_message_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caffe: Runner
) -> None:
    monkeypatch.setattr(layer_compiler, "FLAGS", ("-no-such-flag",))
    with pytest.raises(BackendError, match="compiling generated layers failed"):
        library(source("net", []), caffe.location)
    monkeypatch.setattr(native, "ENOUGH_BYTES", 2**80)
    with pytest.raises(BackendError) as refused:
        library(source("net", []), caffe.location)
    assert refused.value.message == f"generated layers cannot be compiled: {cache / 'layers'} is full"
    assert refused.value.notes[-1] == "free space there, or set XDG_CACHE_HOME (TMPDIR) to a folder of another disk"
